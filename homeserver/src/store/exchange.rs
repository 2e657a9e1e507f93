//! `x`: what proves the last exchanges with each peer: the origin's signature over a transaction, and the
//! destination's receipt.
//!
//! Each has a slot by the first byte of its transaction's root, which is as good as random: so what is kept
//! is bounded, a new one takes the place of some old one, and nobody has to count. Receipts are cumulative:
//! a later one of a lane says what an earlier one said.

use bytes::Bytes;
use federation_proto::hash::Digest;
use federation_proto::ids::ServerName;
use serde::{Deserialize, Serialize};

use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Store, StoreError};

const FAMILY: &str = "exchange";
const VERSION: u8 = 1;
const EXCHANGE: u8 = b'x';
/// Kept of each direction with each peer, one in each slot.
pub const KEPT_MAX: usize = 256;
/// A longer proof is not kept: so many refusals at length are in the audit log.
pub const PROOF_BYTES_MAX: usize = 256 * 1024;

/// Who sent the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// This homeserver; the peer's receipt.
    Outbound,
    /// The peer; our receipt.
    Inbound,
}

/// One exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeRecord {
    /// The proof, encoded.
    pub proof: Bytes,
}

/// Keeps the proof of the transaction with this root.
pub fn put(
    part: &mut Part,
    direction: Direction,
    peer: &ServerName,
    root: &Digest,
    record: &ExchangeRecord,
) -> Result<(), StoreError> {
    if record.proof.len() > PROOF_BYTES_MAX {
        return Ok(());
    }
    let slot = root.as_bytes().first().copied().unwrap_or_default();
    let key = [prefix(direction, peer).as_ref(), &[slot]].concat();
    part.put(key.into(), encode(FAMILY, VERSION, record)?);
    Ok(())
}

/// All that are kept, in no order.
pub async fn all(
    store: &Store,
    direction: Direction,
    peer: &ServerName,
) -> Result<Vec<ExchangeRecord>, StoreError> {
    let prefix = prefix(direction, peer);
    store
        .range(&prefix, &prefix_end(&prefix), KEPT_MAX, Order::Ascending)
        .await?
        .iter()
        .map(|(_, value)| decode(FAMILY, VERSION, value))
        .collect()
}

fn prefix(direction: Direction, peer: &ServerName) -> Key {
    let direction = match direction {
        Direction::Outbound => b'o',
        Direction::Inbound => b'i',
    };
    let name = peer.as_str().as_bytes();
    // A server name has at most 253 bytes.
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    [&[EXCHANGE, direction, length], name].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the stored form never changes unseen, and nothing long is kept; by fixed bytes.
    #[test]
    fn stored_form() {
        let mut part = Part::default();
        let peer: ServerName = "a.example".parse().unwrap();
        let mut record = ExchangeRecord {
            proof: Bytes::from_static(b"x"),
        };
        let root = Digest::from_bytes([7; 32]);
        put(&mut part, Direction::Inbound, &peer, &root, &record).unwrap();
        let key = [&[b'x', b'i', 9][..], b"a.example", &[7]].concat();
        let value = Bytes::from_static(&[1, 1, b'x']);
        assert_eq!(part.writes, [super::super::Write::Put(key.into(), value)]);
        record.proof = vec![0; PROOF_BYTES_MAX + 1].into();
        put(&mut part, Direction::Inbound, &peer, &root, &record).unwrap();
        assert_eq!(part.writes.len(), 1);
    }
}
