//! The generations that are at hand, and what they open.

use std::cmp;
use std::sync::Arc;

use ring::rand::SecureRandom;

use super::generations::{Generation, GenerationFolder};
use super::wrapping::{WrappedKey, WrappingKey, drawn_nonce, open_content};
use super::{InUse, bound, content_of, in_use_key, is_wrapped_key};
use crate::store::{StoreError, Value};

/// The generation of keys in a backup.
pub(super) const BACKUP: u64 = 0;

/// The generations that keys in the store are wrapped under, as of one moment.
pub struct KeyRing {
    /// The one in use.
    pub(super) newest: Arc<Generation>,
    /// Those whose keys are being wrapped anew.
    pub(super) older: Vec<Arc<Generation>>,
}

impl KeyRing {
    /// Of what lies in a folder, with the generation of this number in use. It waits for the disk.
    pub fn of_folder(folder: &GenerationFolder, in_use: u64) -> Result<Self, StoreError> {
        Self::of(in_use, folder.look()?)
    }

    /// Of what lies in the folder, with this one in use.
    pub(super) fn of(in_use: u64, generations: Vec<Generation>) -> Result<Self, StoreError> {
        let (mut newest, mut older) = (None, Vec::new());
        for generation in generations {
            match generation.number.cmp(&in_use) {
                cmp::Ordering::Less => older.push(Arc::new(generation)),
                cmp::Ordering::Equal => newest = Some(Arc::new(generation)),
                // Made, and not taken into use: it will be.
                cmp::Ordering::Greater => {}
            }
        }
        let newest = newest.ok_or_else(|| nowhere(in_use))?;
        Ok(Self { newest, older })
    }

    /// Of the generation in use and those before it.
    pub(super) fn with(newest: Generation, older: Vec<Generation>) -> Self {
        Self {
            newest: Arc::new(newest),
            older: older.into_iter().map(Arc::new).collect(),
        }
    }

    /// Whether it has no generation that the other one lacks.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        let mut all = std::iter::once(&self.newest).chain(&self.older);
        all.all(|generation| other.get(generation.number).is_some())
    }

    /// With another generation in use.
    pub(super) fn followed_by(&self, generation: Generation) -> Self {
        let mut older = self.older.clone();
        older.push(Arc::clone(&self.newest));
        Self {
            newest: Arc::new(generation),
            older,
        }
    }

    fn get(&self, number: u64) -> Option<&Generation> {
        std::iter::once(&self.newest)
            .chain(&self.older)
            .map(|generation| &**generation)
            .find(|generation| generation.number == number)
    }

    /// The generation that a content's key is wrapped under, if it is missing here: then nothing is known of the content, and
    /// it may be whole. What names one that there can't be yet, or none, is damaged.
    pub(super) fn missing(&self, wrapped: Option<&Value>) -> Option<u64> {
        let number = WrappedKey::decode(wrapped?)?.generation;
        let is_possible = number != BACKUP && number <= self.newest.number;
        (is_possible && self.get(number).is_none()).then_some(number)
    }

    /// The content at `key`; `None`: it does not open.
    pub(super) fn content(
        &self,
        key: &[u8],
        sealed: &Value,
        wrapped: Option<&Value>,
    ) -> Option<Value> {
        let wrapped = WrappedKey::decode(wrapped?)?;
        let generation = self.get(wrapped.generation)?;
        let bound = bound(key);
        let secret = wrapped.open(bound, &generation.key)?;
        open_content(&secret, bound, sealed)
    }

    /// The wrapped key at `row`, wrapped under the generation in use. `None`: no generation here opens it.
    pub(super) fn renewed(
        &self,
        row: &[u8],
        wrapped: &WrappedKey,
        random: &dyn SecureRandom,
    ) -> Result<Option<Value>, StoreError> {
        let to = (self.newest.number, &self.newest.key);
        match self.get(wrapped.generation) {
            Some(from) => rewrap(row, wrapped, &from.key, to, random),
            None => Ok(None),
        }
    }

    /// What a backup has at `key` in the place of `value`: keys of contents are wrapped under the backup's own. A damaged one
    /// stays what it is: it opens nothing there either.
    pub fn backed_up(
        &self,
        key: &[u8],
        value: Value,
        backup: &WrappingKey,
        random: &dyn SecureRandom,
    ) -> Result<Value, StoreError> {
        if !is_wrapped_key(key) {
            return Ok(value);
        }
        let wrapped = self.for_backup(key, &value, backup, random)?;
        Ok(wrapped.unwrap_or_else(|| damaged(key, value)))
    }

    /// What a store with this ring has at `key` in the place of what [`Self::backed_up`] has made: keys of contents are
    /// wrapped under the generation in use, and that is the one which is said to be.
    pub fn restored(
        &self,
        key: &[u8],
        value: Value,
        backup: &WrappingKey,
        random: &dyn SecureRandom,
    ) -> Result<Value, StoreError> {
        if in_use_key().as_ref() == key {
            return Ok(InUse::of(&self.newest).value());
        }
        if !is_wrapped_key(key) {
            return Ok(value);
        }
        let wrapped = self.of_backup(key, &value, backup, random)?;
        Ok(wrapped.unwrap_or_else(|| damaged(key, value)))
    }

    /// The wrapped key that a backup has in the place of `value`, which lies at `row`: it opens under the backup's key
    /// alone, and no generation is needed for it, nor may be in the backup. `None`: `value` is damaged.
    pub(super) fn for_backup(
        &self,
        row: &[u8],
        value: &[u8],
        backup: &WrappingKey,
        random: &dyn SecureRandom,
    ) -> Result<Option<Value>, StoreError> {
        let Some(wrapped) = WrappedKey::decode(value) else {
            return Ok(None);
        };
        match self.get(wrapped.generation) {
            Some(from) => rewrap(row, &wrapped, &from.key, (BACKUP, backup), random),
            None => Ok(None),
        }
    }

    /// The wrapped key that a store with this ring has in the place of what [`Self::for_backup`] has made.
    pub(super) fn of_backup(
        &self,
        row: &[u8],
        value: &[u8],
        backup: &WrappingKey,
        random: &dyn SecureRandom,
    ) -> Result<Option<Value>, StoreError> {
        let to = (self.newest.number, &self.newest.key);
        match WrappedKey::decode(value) {
            Some(wrapped) => rewrap(row, &wrapped, backup, to, random),
            None => Ok(None),
        }
    }
}

/// The generation that the store is sealed under is nowhere.
pub(super) fn nowhere(in_use: u64) -> StoreError {
    StoreError::Keys(format!(
        "the store is sealed under generation {in_use}, which is not in the folder of generation keys: put that folder back \
         as it was when the homeserver ran last, or name the one that belongs to this store (store_keys.folder)"
    ))
}

/// A key of a content that does not open.
fn damaged(row: &[u8], value: Value) -> Value {
    let family = row.get(1).copied().map(char::from);
    tracing::error!(
        ?family,
        "the key of a content is damaged: the content can't be read"
    );
    value
}

fn rewrap(
    row: &[u8],
    wrapped: &WrappedKey,
    from: &WrappingKey,
    to: (u64, &WrappingKey),
    random: &dyn SecureRandom,
) -> Result<Option<Value>, StoreError> {
    let bound = bound(content_of(row));
    let Some(secret) = wrapped.open(bound, from) else {
        return Ok(None);
    };
    let nonce = drawn_nonce(random)?;
    WrappedKey::wrap((&*secret, nonce), bound, to).map(|wrapped| Some(wrapped.encode()))
}
