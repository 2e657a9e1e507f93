//! Transactions as the protocol's text defines them, with every field open to be wrong.

use ring::digest::{SHA256, digest};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::wire::Encoder;

/// What an envelope key signs for a transaction starts with this.
pub(crate) const TRANSACTION_LABEL: &[u8] = b"entente transaction";
/// What an envelope key signs for a receipt starts with this.
pub(crate) const RECEIPT_LABEL: &[u8] = b"entente receipt";

/// One envelope, field by field.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    pub(crate) version: u16,
    pub(crate) suite: u8,
    pub(crate) kind: u8,
    pub(crate) origin: String,
    pub(crate) destination: String,
    pub(crate) key_id: [u8; 8],
    pub(crate) link_epoch: u64,
    pub(crate) lane: [u8; 16],
    pub(crate) sequence: u64,
    pub(crate) created_ms: u64,
    pub(crate) expires_ms: u64,
    pub(crate) payload: Vec<u8>,
    /// Stated instead of the payload's own hash.
    pub(crate) claimed_hash: Option<[u8; 32]>,
}

impl Envelope {
    fn header(&self) -> Vec<u8> {
        let hash = self.claimed_hash.unwrap_or_else(|| sha256(&self.payload));
        Encoder::new()
            .u16(self.version)
            .u8(self.suite)
            .u8(self.kind)
            .vector(1, self.origin.as_bytes())
            .vector(1, self.destination.as_bytes())
            .fixed(&self.key_id)
            .u64(self.link_epoch)
            .fixed(&self.lane)
            .u64(self.sequence)
            .u64(self.created_ms)
            .u64(self.expires_ms)
            .u32(u32::try_from(self.payload.len()).unwrap_or(u32::MAX))
            .fixed(&hash)
            .finish()
    }
}

/// A transaction and the Merkle root that its receipt must name.
#[derive(Debug, Clone)]
pub(crate) struct Transaction {
    pub(crate) bytes: Vec<u8>,
    pub(crate) root: [u8; 32],
}

/// Signs the envelopes under a label; version, suite and link are those of the first.
pub(crate) fn sign(key: &Ed25519KeyPair, label: &[u8], envelopes: &[Envelope]) -> Transaction {
    let mut body = Vec::new();
    let mut leaves = Vec::new();
    for envelope in envelopes {
        let header = envelope.header();
        leaves.push(sha256(&[&[0], header.as_slice()].concat()));
        body.extend(header);
        body.extend(&envelope.payload);
    }
    let root = merkle_root(&leaves);
    let mut whole = Encoder::new();
    if let Some(first) = envelopes.first() {
        let signed = Encoder::new()
            .vector(1, label)
            .u16(first.version)
            .u8(first.suite)
            .vector(1, first.origin.as_bytes())
            .vector(1, first.destination.as_bytes())
            .u64(first.link_epoch)
            .u32(u32::try_from(envelopes.len()).unwrap_or(u32::MAX))
            .fixed(&root)
            .finish();
        whole = whole
            .u16(first.version)
            .u8(first.suite)
            .fixed(key.sign(&signed).as_ref());
    }
    Transaction {
        bytes: whole.vector(4, &body).finish(),
        root,
    }
}

/// RFC 9162, section 2.1.1, word for word.
pub(crate) fn merkle_root(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [] => sha256(&[]),
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            sha256(
                &[
                    &[1],
                    merkle_root(left).as_slice(),
                    merkle_root(right).as_slice(),
                ]
                .concat(),
            )
        }
    }
}

/// The name of an envelope key: the first eight bytes of its SHA-256.
pub(crate) fn key_id(key: &Ed25519KeyPair) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = sha256(key.public_key().as_ref());
    [a, b, c, d, e, f, g, h]
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(digest(&SHA256, bytes).as_ref()) {
        *to = *from;
    }
    out
}
