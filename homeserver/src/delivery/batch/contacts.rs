//! What a batch knows of people's contacts.

use std::collections::hash_map::Entry;

use federation_proto::ids::AccountId;

use super::undo::Undo;
use super::{Batch, TrackedContacts};
use crate::store::StoreError;
use crate::store::contacts::{self, Contacts};

impl Batch<'_> {
    /// The contacts of an own account as of now, to which the part is bound from now on.
    pub(in crate::delivery) async fn contacts(
        &mut self,
        account: AccountId,
    ) -> Result<&Contacts, StoreError> {
        let tracked = match self.contacts.entry(account) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let (now, read) = contacts::get(&self.node.store, account, self.now_ms).await?;
                new.insert(TrackedContacts {
                    read,
                    now,
                    changed: false,
                })
            }
        };
        Ok(&tracked.now)
    }

    /// The account's contacts are from now on as given. Read them before.
    pub(in crate::delivery) fn set_contacts(&mut self, account: AccountId, contacts: Contacts) {
        if let Some(tracked) = self.contacts.get_mut(&account) {
            let changed = tracked.changed;
            tracked.changed |= tracked.now != contacts;
            let now = std::mem::replace(&mut tracked.now, contacts);
            self.undo.push(Undo::Contacts {
                account,
                now,
                changed,
            });
        }
    }
}
