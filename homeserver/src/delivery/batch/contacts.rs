//! What a batch knows of people's contacts, and of how often they ask.

use std::collections::hash_map::Entry;

use federation_proto::ids::AccountId;

use super::{Batch, TrackedAsks, TrackedContacts};
use crate::delivery::limits::CONTACT_ASKS_MS;
use crate::store::StoreError;
use crate::store::contacts::{self, Asks, Contacts, Counted};

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
            tracked.changed |= tracked.now != contacts;
            tracked.now = contacts;
        }
    }

    /// Counts one more ask, if there were fewer than `max` within the time that they are counted.
    pub(in crate::delivery) async fn count_ask(
        &mut self,
        counted: Counted,
        max: u32,
    ) -> Result<bool, StoreError> {
        let now_ms = self.now_ms;
        let tracked = match self.asks.entry(counted) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let (asks, read) = contacts::asks(&self.node.store, new.key()).await?.unzip();
                let ends_ms = |asks: &Asks| asks.since_ms.saturating_add(CONTACT_ASKS_MS);
                let counting = asks.filter(|asks| now_ms < ends_ms(asks));
                new.insert(TrackedAsks {
                    read,
                    now: counting.unwrap_or(Asks {
                        since_ms: now_ms,
                        count: 0,
                    }),
                    changed: false,
                })
            }
        };
        if tracked.now.count >= max {
            return Ok(false);
        }
        tracked.now.count += 1;
        tracked.changed = true;
        Ok(true)
    }
}
