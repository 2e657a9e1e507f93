//! `m|barriers`: segments and the rules between them, all in one record. Who changes it moves the policy's serial on.

use homeserver_api::policy::Barriers;
use serde::{Deserialize, Serialize};

use super::record::{decode, encode};
use super::{Key, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "segments";
const VERSION: u8 = 1;
const KEY: &[u8] = b"mbarriers";

/// Segments and rules.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BarriersRecord {
    /// Grows with each change; 0: there never was one.
    pub serial: u64,
    /// What holds.
    pub barriers: Barriers,
}

/// What holds, and its stored bytes (for [`put`]); `None` before the first change.
pub async fn get(store: &Store) -> Result<Option<(BarriersRecord, Value)>, StoreError> {
    match store.get(KEY).await? {
        Some(value) => Ok(Some((decode(FAMILY, VERSION, &value)?, value))),
        None => Ok(None),
    }
}

/// Writes what holds from now on; the part fails when it is no longer what was read.
pub fn put(
    part: &mut Part,
    record: &BarriersRecord,
    read: Option<Value>,
) -> Result<(), StoreError> {
    let key = Key::from_static(KEY);
    part.require(Precondition::unchanged(key.clone(), read));
    part.put(key, encode(FAMILY, VERSION, record)?);
    Ok(())
}
