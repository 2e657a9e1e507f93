//! `5`: the organisation's keys as all nodes of a cluster have them, sealed by the secret that the nodes share.
//!
//! A node that changes keys writes them here, unless another has since, and uses them only then; the others take them
//! from here.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::record::{decode, encode};
use super::{Key, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "shared keys";
const VERSION: u8 = 1;
const KEY: &[u8] = b"5";

/// The keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedKeys {
    /// The serial of the manifest among them: the higher is the newer.
    pub manifest_serial: u64,
    /// The files of the keys folder, sealed.
    pub sealed: Bytes,
}

/// The keys, with their stored form.
pub async fn get(store: &Store) -> Result<Option<(SharedKeys, Value)>, StoreError> {
    let Some(value) = store.get(KEY).await? else {
        return Ok(None);
    };
    Ok(Some((decode(FAMILY, VERSION, &value)?, value)))
}

/// Writes the keys, unless somebody else has since `read`; how they are stored.
pub fn put(part: &mut Part, keys: &SharedKeys, read: Option<Value>) -> Result<Value, StoreError> {
    let value = encode(FAMILY, VERSION, keys)?;
    part.require(Precondition::unchanged(Key::from_static(KEY), read));
    part.put(Key::from_static(KEY), value.clone());
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the stored form never changes unseen; by comparing with fixed bytes.
    #[test]
    fn stored_form() {
        let keys = SharedKeys {
            manifest_serial: 300,
            sealed: Bytes::from_static(&[7, 8]),
        };
        let value = encode(FAMILY, VERSION, &keys).unwrap();
        assert_eq!(value.as_ref(), [1, 0xac, 2, 2, 7, 8]);
        assert_eq!(decode::<SharedKeys>(FAMILY, VERSION, &value).unwrap(), keys);
    }
}
