//! `m|policy`: grows with every change of a user type and of an account's type, state or devices.
//!
//! Whoever accepts anything makes it a precondition: nothing is accepted under rules that had ended
//! by the moment of the commit, and records of accounts may be cached under the serial they were
//! read with.

use super::{Key, Part, Precondition, Store, StoreError, Value};

const KEY: &[u8] = b"mpolicy";

/// The serial now, as stored; `None` before the first change.
pub async fn get(store: &Store) -> Result<Option<Value>, StoreError> {
    store.get(KEY).await
}

/// The part holds only while the serial is `read`.
pub fn require(part: &mut Part, read: Option<Value>) {
    part.require(Precondition::unchanged(Key::from_static(KEY), read));
}

/// Moves the serial on; call with what [`get`] read, in the part that changes the rules.
pub fn advance(part: &mut Part, read: Option<Value>) -> Result<(), StoreError> {
    let last = number(read.as_ref())?;
    require(part, read);
    let next = last
        .checked_add(1)
        .ok_or(StoreError::Corrupt { family: "policy" })?;
    part.put(Key::from_static(KEY), next.to_be_bytes().to_vec().into());
    Ok(())
}

/// The serial as a number.
pub fn number(value: Option<&Value>) -> Result<u64, StoreError> {
    match value {
        None => Ok(0),
        Some(value) => value
            .as_ref()
            .try_into()
            .map(u64::from_be_bytes)
            .map_err(|_| StoreError::Corrupt { family: "policy" }),
    }
}
