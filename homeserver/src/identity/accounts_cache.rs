//! Accounts as the message path needs them, kept in memory under the policy's serial.
//!
//! Whoever uses an answer binds its part to the same serial, so a stale answer can't be acted on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use federation_proto::ids::{AccountId, DeviceId, Handle};
use homeserver_api::policy::UserTypePolicy;

use crate::policy::Party;
use crate::policy::barriers::segments_of;
use crate::store::barriers::{self, BarriersRecord};
use crate::store::{Store, StoreError, account, device, user_type};

/// More than this many entries are dropped all at once: the store still has them.
const ENTRIES_MAX: usize = 200_000;

/// An own account and the rules that it is under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalAccount {
    /// Its handle.
    pub handle: Handle,
    /// Its user type's name.
    pub user_type: String,
    /// What that allows, and its owner leaves of it.
    pub policy: UserTypePolicy,
    /// The segments that it is in,
    pub segments: Vec<String>,
    /// by the rules between segments of this serial.
    pub barriers: u64,
    /// Whether it is suspended.
    pub suspended: bool,
}

impl LocalAccount {
    /// The account as policy sees it.
    pub fn party(&self) -> Party<'_> {
        Party {
            user_type: &self.user_type,
            policy: &self.policy,
            suspended: self.suspended,
        }
    }
}

#[derive(Debug, Default)]
struct Entries {
    serial: u64,
    accounts: HashMap<AccountId, Arc<LocalAccount>>,
    devices: HashMap<DeviceId, AccountId>,
    barriers: Option<Arc<BarriersRecord>>,
}

/// The accounts in memory.
#[derive(Debug, Default)]
pub struct AccountsCache {
    entries: Mutex<Entries>,
}

impl AccountsCache {
    /// The account as of the policy's serial.
    pub async fn get(
        &self,
        store: &Store,
        id: AccountId,
        serial: u64,
    ) -> Result<Option<Arc<LocalAccount>>, StoreError> {
        if let Some(found) = self.at(serial).and_then(|e| e.accounts.get(&id).cloned()) {
            return Ok(Some(found));
        }
        let Some((record, _)) = account::get(store, id).await? else {
            return Ok(None);
        };
        let policy =
            user_type::get(store, &record.user_type)
                .await?
                .ok_or(StoreError::Corrupt {
                    family: "user type",
                })?;
        let barriers = self.barriers(store, serial).await?;
        let segments = segments_of(&barriers.barriers, &record.handle, &record.user_type);
        let account = Arc::new(LocalAccount {
            policy: record.own.tighten(&policy),
            segments,
            barriers: barriers.serial,
            handle: record.handle,
            user_type: record.user_type,
            suspended: record.suspended,
        });
        if let Some(mut entries) = self.at(serial) {
            entries.accounts.insert(id, Arc::clone(&account));
        }
        Ok(Some(account))
    }

    /// Segments and the rules between them as of the policy's serial.
    pub async fn barriers(
        &self,
        store: &Store,
        serial: u64,
    ) -> Result<Arc<BarriersRecord>, StoreError> {
        if let Some(found) = self.at(serial).and_then(|e| e.barriers.clone()) {
            return Ok(found);
        }
        let stored = barriers::get(store).await?;
        let found = Arc::new(stored.map(|(record, _)| record).unwrap_or_default());
        if let Some(mut entries) = self.at(serial) {
            entries.barriers = Some(Arc::clone(&found));
        }
        Ok(found)
    }

    /// The account of a device that exists as of the policy's serial.
    pub async fn account_of(
        &self,
        store: &Store,
        id: DeviceId,
        serial: u64,
    ) -> Result<Option<AccountId>, StoreError> {
        if let Some(found) = self.at(serial).and_then(|e| e.devices.get(&id).copied()) {
            return Ok(Some(found));
        }
        let found = device::account_of(store, id).await?;
        if let (Some(account), Some(mut entries)) = (found, self.at(serial)) {
            entries.devices.insert(id, account);
        }
        Ok(found)
    }

    /// The entries, if they are or can become those of `serial`.
    fn at(&self, serial: u64) -> Option<MutexGuard<'_, Entries>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let crowded = entries.accounts.len() + entries.devices.len() > ENTRIES_MAX;
        if entries.serial < serial || crowded {
            *entries = Entries {
                serial: serial.max(entries.serial),
                ..Entries::default()
            };
        }
        (entries.serial == serial).then_some(entries)
    }
}
