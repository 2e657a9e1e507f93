//! `3|name`: the nodes of a cluster, each with a row that it writes again and again while it lives.
//!
//! Others take a node for gone when they have looked at its row for a while and it has not changed: by their own clock
//! alone, so that no two clocks are compared.

use serde::{Deserialize, Serialize};

use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "node";
const VERSION: u8 = 1;
const NODE: u8 = b'3';
/// Whoever has written so lately may be at work still.
const SEEN_LATELY_MS: u64 = 60_000;
/// Most nodes that are read.
const NODES_MAX: usize = 1000;

/// One process in the life of a node: drawn at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Incarnation(pub [u8; 16]);

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// The process.
    pub incarnation: Incarnation,
    /// Its version of the homeserver.
    pub version: String,
    /// When it started, milliseconds since the Unix epoch by its clock: for administrators.
    pub started_ms: u64,
    /// When the row was written, likewise.
    pub at_ms: u64,
    /// Counts how often that was.
    pub beats: u64,
    /// The number of its last notices to the others; 0: none.
    pub notices: u64,
    /// Up to which number it has acted on the notices of others.
    pub heard: Vec<(Incarnation, u64)>,
    /// The number of its last hint: whoever meets it takes no earlier one, which somebody may send again.
    pub hints: u64,
}

/// All nodes, by their names, each with its stored form.
pub async fn all(store: &Store) -> Result<Vec<(String, NodeRecord, Value)>, StoreError> {
    let end = prefix_end(&[NODE]);
    let rows = store
        .range(&[NODE], &end, NODES_MAX, Order::Ascending)
        .await?;
    rows.into_iter()
        .map(|(key, value)| {
            let name = key.get(1..).unwrap_or_default().to_vec();
            let name =
                String::from_utf8(name).map_err(|_| StoreError::Corrupt { family: FAMILY })?;
            Ok((name, decode(FAMILY, VERSION, &value)?, value))
        })
        .collect()
}

/// The names of nodes that have written their rows within the last minute. By two machines' clocks: for mistakes of operators
/// alone.
pub async fn seen_lately(store: &Store, now_ms: u64) -> Result<Vec<String>, StoreError> {
    let nodes = all(store).await?.into_iter();
    let lately = nodes.filter(|(_, record, _)| now_ms.abs_diff(record.at_ms) < SEEN_LATELY_MS);
    Ok(lately.map(|(name, ..)| name).collect())
}

/// The row of one node, with its stored form.
pub async fn get(store: &Store, name: &str) -> Result<Option<(NodeRecord, Value)>, StoreError> {
    let Some(value) = store.get(&key(name)).await? else {
        return Ok(None);
    };
    Ok(Some((decode(FAMILY, VERSION, &value)?, value)))
}

/// Writes the row, unless somebody else has since `read`; how it is stored.
pub fn put(
    part: &mut Part,
    name: &str,
    record: &NodeRecord,
    read: Option<Value>,
) -> Result<Value, StoreError> {
    let value = encode(FAMILY, VERSION, record)?;
    part.require(Precondition::unchanged(key(name), read));
    part.put(key(name), value.clone());
    Ok(value)
}

/// Deletes the row, unless somebody else has written it since `read`.
pub fn delete(part: &mut Part, name: &str, read: Value) {
    part.require(Precondition::Equals(key(name), read));
    part.delete(key(name));
}

fn key(name: &str) -> Key {
    [&[NODE], name.as_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the stored form never changes unseen; by comparing with fixed bytes.
    #[test]
    fn stored_form() {
        let record = NodeRecord {
            incarnation: Incarnation([7; 16]),
            version: "v".to_owned(),
            started_ms: 1,
            at_ms: 2,
            beats: 3,
            notices: 4,
            heard: vec![(Incarnation([8; 16]), 5)],
            hints: 6,
        };
        let value = encode(FAMILY, VERSION, &record).unwrap();
        let expected = [
            &[1][..],
            &[7; 16],
            &[1, b'v', 1, 2, 3, 4, 1],
            &[8; 16],
            &[5, 6],
        ]
        .concat();
        assert_eq!(value.as_ref(), expected);
    }
}
