//! `z`: consortia, and of each the newest charter that was signed here.

use bytes::Bytes;
use federation_proto::ids::ConsortiumId;
use serde::{Deserialize, Serialize};

use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "consortium";
const VERSION: u8 = 1;
const CONSORTIUM: u8 = b'z';
/// More consortia than one organisation is in.
pub const CONSORTIA_MAX: usize = 1000;

/// A consortium.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsortiumRecord {
    /// The newest charter that was signed here, with its introductions and the signatures known here.
    pub charter: Bytes,
    /// When it was signed here, milliseconds since the Unix epoch.
    pub signed_ms: u64,
}

/// The consortium, and its stored bytes (for [`put`]).
pub async fn get(
    store: &Store,
    id: ConsortiumId,
) -> Result<Option<(ConsortiumRecord, Value)>, StoreError> {
    match store.get(&key(id)).await? {
        Some(value) => Ok(Some((decode(FAMILY, VERSION, &value)?, value))),
        None => Ok(None),
    }
}

/// Writes the consortium; the part fails when it is no longer what was read.
pub fn put(
    part: &mut Part,
    id: ConsortiumId,
    record: &ConsortiumRecord,
    read: Option<Value>,
) -> Result<(), StoreError> {
    part.require(Precondition::unchanged(key(id), read));
    part.put(key(id), encode(FAMILY, VERSION, record)?);
    Ok(())
}

/// All consortia, by id.
pub async fn all(store: &Store) -> Result<Vec<ConsortiumRecord>, StoreError> {
    store
        .range(
            &[CONSORTIUM],
            &prefix_end(&[CONSORTIUM]),
            CONSORTIA_MAX,
            Order::Ascending,
        )
        .await?
        .iter()
        .map(|(_, value)| decode(FAMILY, VERSION, value))
        .collect()
}

fn key(id: ConsortiumId) -> Key {
    [&[CONSORTIUM][..], id.as_bytes()].concat().into()
}
