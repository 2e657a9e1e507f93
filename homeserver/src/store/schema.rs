//! `m`: which version of the records a store holds.

use super::{Key, Part, Store, StoreError, Value};

/// The version that this program reads and writes.
const VERSION: u8 = 9;
const KEY: &[u8] = b"mschema";

/// Where the version lies.
pub fn key() -> Key {
    Key::from_static(KEY)
}

/// Marks a new store as one of this version.
pub fn put(part: &mut Part) {
    part.put(key(), Value::from_static(&[VERSION]));
}

/// Whether this is the version that this program reads and writes.
pub fn is_known(value: &Value) -> bool {
    value.as_ref() == [VERSION]
}

/// Whether this program can work on `store`.
pub async fn check(store: &Store) -> Result<(), StoreError> {
    match store.get(KEY).await?.as_deref() {
        Some([VERSION]) => Ok(()),
        Some([found]) => Err(StoreError::Schema {
            found: *found,
            known: VERSION,
        }),
        Some(_) => Err(StoreError::Corrupt { family: "schema" }),
        None => Err(StoreError::Empty),
    }
}
