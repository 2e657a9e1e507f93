//! MLS's states and key packages in the device's store.
//!
//! What mls-rs writes goes into the store's current batch and becomes durable with everything else
//! in it: a ratchet's step together with the message that used it, a joined group together with
//! the delivery number that brought the welcome, a spent key package together with the group. So a
//! crash can neither use a ratchet's step twice nor lose one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mls_rs::group::ExportedTree;
use mls_rs::mls_rs_codec::{MlsDecode as _, MlsEncode as _};
use mls_rs::{GroupStateStorage, KeyPackageStorage};
use mls_rs_core::group::{EpochRecord, GroupState};
use mls_rs_core::key_package::KeyPackageData;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::error::Error;
use crate::store::{Family, Store};

/// How many earlier epochs of a room are kept, to read what was sent before a commit.
pub(crate) const EPOCHS_KEPT_MAX: u64 = 32;
/// How long an earlier epoch is kept at most.
pub(crate) const EPOCH_KEPT_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;

/// The store as mls-rs sees it.
#[derive(Debug, Clone)]
pub(crate) struct MlsStorage {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    /// Whether the key packages being made are last-resort ones, which outlive their use.
    making_last_resort: Arc<AtomicBool>,
    /// Whether groups are those that this device comes back into: each is kept beside the one that it was
    /// in, and without earlier epochs.
    pending: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredEpoch {
    ended_ms: u64,
    #[serde(with = "serde_bytes")]
    data: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct StoredKeyPackage {
    reference: Vec<u8>,
    last_resort: bool,
    expires_seconds: u64,
    #[serde(with = "serde_bytes")]
    data: Vec<u8>,
}

impl MlsStorage {
    pub(crate) fn new(store: Arc<Store>, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            clock,
            making_last_resort: Arc::default(),
            pending: false,
        }
    }

    /// The same store, for groups that this device comes back into.
    pub(crate) fn pending(&self) -> Self {
        Self {
            pending: true,
            ..self.clone()
        }
    }

    /// Puts the group that this device came back into in the place of the one that it was in.
    pub(crate) fn install_pending(&self, group: &[u8]) -> Result<(), Error> {
        let state = self
            .store
            .get_bytes(Family::PendingGroup, group, 0)?
            .ok_or_else(|| Error::Store("the group to come back into is gone".to_owned()))?;
        self.delete_group(group)?;
        self.store.put_bytes(Family::GroupState, group, 0, state);
        Ok(())
    }

    /// Keeps the public tree of a group, which its state is then written without.
    pub(crate) fn put_tree(&self, group: &[u8], tree: &ExportedTree<'_>) -> Result<(), Error> {
        let bytes = tree.to_bytes().map_err(|e| Error::Store(e.to_string()))?;
        self.store
            .put_bytes(Family::GroupTree, group, 0, Zeroizing::new(bytes));
        Ok(())
    }

    /// The public tree of a group, unless its state holds it.
    pub(crate) fn tree(&self, group: &[u8]) -> Result<Option<ExportedTree<'static>>, Error> {
        self.store
            .get_bytes(Family::GroupTree, group, 0)?
            .map(|bytes| ExportedTree::from_bytes(&bytes).map_err(|e| Error::Store(e.to_string())))
            .transpose()
    }

    /// Forgets the group that this device was about to come back into.
    pub(crate) fn delete_pending(&self, group: &[u8]) {
        self.store.delete(Family::PendingGroup, group, 0);
    }

    /// Marks the key packages that are made from now on.
    pub(crate) fn set_making_last_resort(&self, last_resort: bool) {
        self.making_last_resort
            .store(last_resort, Ordering::Release);
    }

    /// Deletes key packages that nobody can use any more.
    pub(crate) fn delete_expired_key_packages(&self) -> Result<(), Error> {
        let now = self.clock.now_ms() / 1000;
        for number in self.store.numbers(Family::KeyPackage, b"")? {
            let stored: Option<StoredKeyPackage> =
                self.store.get(Family::KeyPackage, b"", number)?;
            if stored.is_some_and(|stored| stored.expires_seconds < now) {
                self.store.delete(Family::KeyPackage, b"", number);
            }
        }
        Ok(())
    }

    /// Deletes the earlier epochs of a group that are kept no longer.
    pub(crate) fn delete_old_epochs(&self, group: &[u8]) -> Result<(), Error> {
        let numbers = self.store.numbers(Family::GroupEpoch, group)?;
        let Some(last) = numbers.last().copied() else {
            return Ok(());
        };
        let now = self.clock.now_ms();
        for number in numbers {
            let too_many = last - number >= EPOCHS_KEPT_MAX;
            let old = || -> Result<bool, Error> {
                let stored: Option<StoredEpoch> =
                    self.store.get(Family::GroupEpoch, group, number)?;
                Ok(stored.is_some_and(|s| s.ended_ms.saturating_add(EPOCH_KEPT_MS_MAX) < now))
            };
            if too_many || old()? {
                self.store.delete(Family::GroupEpoch, group, number);
            }
        }
        Ok(())
    }

    /// Deletes everything of a group.
    pub(crate) fn delete_group(&self, group: &[u8]) -> Result<(), Error> {
        self.store.delete(Family::GroupState, group, 0);
        self.store.delete(Family::GroupTree, group, 0);
        self.delete_pending(group);
        for number in self.store.numbers(Family::GroupEpoch, group)? {
            self.store.delete(Family::GroupEpoch, group, number);
        }
        Ok(())
    }

    const fn state_family(&self) -> Family {
        if self.pending {
            Family::PendingGroup
        } else {
            Family::GroupState
        }
    }

    /// Where a key package is kept: by the first bytes of its reference, which is a hash.
    fn key_package_number(reference: &[u8]) -> u64 {
        reference
            .first_chunk::<8>()
            .map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    fn key_package(&self, reference: &[u8]) -> Result<Option<StoredKeyPackage>, Error> {
        let stored: Option<StoredKeyPackage> =
            self.store
                .get(Family::KeyPackage, b"", Self::key_package_number(reference))?;
        Ok(stored.filter(|stored| stored.reference == reference))
    }
}

impl GroupStateStorage for MlsStorage {
    type Error = Error;

    fn state(&self, group_id: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        self.store.get_bytes(self.state_family(), group_id, 0)
    }

    fn epoch(&self, group_id: &[u8], epoch_id: u64) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        if self.pending {
            return Ok(None);
        }
        let stored: Option<StoredEpoch> = self.store.get(Family::GroupEpoch, group_id, epoch_id)?;
        Ok(stored.map(|stored| Zeroizing::new(stored.data)))
    }

    fn write(
        &mut self,
        state: GroupState,
        epoch_inserts: Vec<EpochRecord>,
        epoch_updates: Vec<EpochRecord>,
    ) -> Result<(), Error> {
        self.store
            .put_bytes(self.state_family(), &state.id, 0, state.data);
        // The epoch that an external commit starts from has no secrets to keep.
        if self.pending {
            return Ok(());
        }
        let ended_ms = self.clock.now_ms();
        let inserted = !epoch_inserts.is_empty();
        for record in epoch_inserts {
            let stored = StoredEpoch {
                ended_ms,
                data: record.data.to_vec(),
            };
            self.store
                .put(Family::GroupEpoch, &state.id, record.id, &stored)?;
        }
        for record in epoch_updates {
            let before: Option<StoredEpoch> =
                self.store.get(Family::GroupEpoch, &state.id, record.id)?;
            let stored = StoredEpoch {
                ended_ms: before.map_or(ended_ms, |before| before.ended_ms),
                data: record.data.to_vec(),
            };
            self.store
                .put(Family::GroupEpoch, &state.id, record.id, &stored)?;
        }
        if inserted {
            self.delete_old_epochs(&state.id)?;
        }
        Ok(())
    }

    fn max_epoch_id(&self, group_id: &[u8]) -> Result<Option<u64>, Error> {
        if self.pending {
            return Ok(None);
        }
        Ok(self
            .store
            .numbers(Family::GroupEpoch, group_id)?
            .last()
            .copied())
    }
}

impl KeyPackageStorage for MlsStorage {
    type Error = Error;

    fn delete(&mut self, id: &[u8]) -> Result<(), Error> {
        // A last-resort key package serves until it expires.
        if self
            .key_package(id)?
            .is_some_and(|stored| !stored.last_resort)
        {
            self.store
                .delete(Family::KeyPackage, b"", Self::key_package_number(id));
        }
        Ok(())
    }

    fn insert(&mut self, id: Vec<u8>, pkg: KeyPackageData) -> Result<(), Error> {
        let number = Self::key_package_number(&id);
        let stored = StoredKeyPackage {
            reference: id,
            last_resort: self.making_last_resort.load(Ordering::Acquire),
            expires_seconds: pkg.expiration,
            data: pkg
                .mls_encode_to_vec()
                .map_err(|e| Error::Store(e.to_string()))?,
        };
        self.store.put(Family::KeyPackage, b"", number, &stored)
    }

    fn get(&self, id: &[u8]) -> Result<Option<KeyPackageData>, Error> {
        self.key_package(id)?
            .map(|stored| {
                KeyPackageData::mls_decode(&mut stored.data.as_slice())
                    .map_err(|e| Error::Store(e.to_string()))
            })
            .transpose()
    }
}

/// Reads bytes as what is kept of a group and of a key package.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_any(bytes: &[u8]) {
    use crate::store::survives_writing;
    survives_writing::<StoredEpoch>(bytes);
    survives_writing::<StoredKeyPackage>(bytes);
    let _ = KeyPackageData::mls_decode(&mut &*bytes);
    let _ = ExportedTree::from_bytes(bytes);
}
