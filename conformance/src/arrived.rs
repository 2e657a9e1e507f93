//! What the server under test sends: read strictly, taken in the order of its lanes, and answered with receipts.

use std::collections::{BTreeMap, BTreeSet};

use ring::signature::{ED25519, UnparsedPublicKey};

use crate::transaction::{RECEIPT_LABEL, TRANSACTION_LABEL, merkle_root, sha256};
use crate::wire::{Decoder, Encoder};

/// The kind that stands for positions which will never come.
const TOMBSTONE: u8 = 8;
/// The highest kind.
const KIND_MAX: u8 = 21;
/// Most envelopes of a transaction.
const ENVELOPES_MAX: usize = 1024;
/// `lane-gap`.
const LANE_GAP: u16 = 25;

/// One envelope that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) kind: u8,
    pub(crate) lane: [u8; 16],
    pub(crate) sequence: u64,
    pub(crate) payload: Vec<u8>,
    position_hash: [u8; 32],
}

/// A transaction that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) origin: String,
    pub(crate) destination: String,
    pub(crate) link_epoch: u64,
    pub(crate) root: [u8; 32],
    pub(crate) envelopes: Vec<Arrival>,
    key_id: [u8; 8],
    signed: Vec<u8>,
    signature: [u8; 64],
}

/// A header, as far as it must be the same in the whole transaction.
#[derive(Clone, PartialEq, Eq)]
struct Common {
    origin: String,
    destination: String,
    key_id: [u8; 8],
    link_epoch: u64,
}

impl Sent {
    /// The transaction that these bytes are, all of them, with every payload of its hash and each lane in its order.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Decoder::new(bytes);
        if input.u16()? != 1 || input.u8()? != 1 {
            return None;
        }
        let signature = input.fixed()?;
        let mut rest = Decoder::new(input.vector(4)?);
        if !input.is_empty() {
            return None;
        }
        let (mut all, mut leaves) = (Vec::new(), Vec::new());
        let mut common: Option<Common> = None;
        let mut last: BTreeMap<[u8; 16], u64> = BTreeMap::new();
        while !rest.is_empty() {
            let (one, leaf, arrival) = envelope(&mut rest)?;
            if *common.get_or_insert_with(|| one.clone()) != one {
                return None;
            }
            let before = last.insert(arrival.lane, arrival.sequence);
            if before.is_some_and(|before| before >= arrival.sequence) {
                return None;
            }
            leaves.push(leaf);
            all.push(arrival);
        }
        let common = common.filter(|_| all.len() <= ENVELOPES_MAX)?;
        let root = merkle_root(&leaves);
        let signed = Encoder::new()
            .vector(1, TRANSACTION_LABEL)
            .u16(1)
            .u8(1)
            .vector(1, common.origin.as_bytes())
            .vector(1, common.destination.as_bytes())
            .u64(common.link_epoch)
            .u32(u32::try_from(all.len()).ok()?)
            .fixed(&root)
            .finish();
        Some(Self {
            origin: common.origin,
            destination: common.destination,
            link_epoch: common.link_epoch,
            root,
            envelopes: all,
            key_id: common.key_id,
            signed,
            signature,
        })
    }

    /// Whether the holder of this key signed it, and names it.
    pub(crate) fn is_signed_by(&self, public: &[u8; 32]) -> bool {
        sha256(public).starts_with(&self.key_id)
            && UnparsedPublicKey::new(&ED25519, public)
                .verify(&self.signed, &self.signature)
                .is_ok()
    }
}

/// The next envelope: what its header has in common with the others, its leaf, and itself.
fn envelope(input: &mut Decoder<'_>) -> Option<(Common, [u8; 32], Arrival)> {
    let start = input.rest();
    let version = input.u16()?;
    let suite = input.u8()?;
    let kind = input.u8()?;
    let origin = input.text(1)?;
    let destination = input.text(1)?;
    let before_key = start.len().checked_sub(input.rest().len())?;
    let key_id: [u8; 8] = input.fixed()?;
    let link_epoch = input.u64()?;
    let lane = input.fixed()?;
    let sequence = input.u64()?;
    let _created_ms = input.u64()?;
    let expires_ms = input.u64()?;
    let length = usize::try_from(input.u32()?).ok()?;
    let hash: [u8; 32] = input.fixed()?;
    let header = start.get(..start.len().checked_sub(input.rest().len())?)?;
    let payload = input.take(length)?.to_vec();
    let is_right = (version, suite) == (1, 1)
        && (1..=KIND_MAX).contains(&kind)
        && sequence > 0
        && (kind != TOMBSTONE || expires_ms == 0)
        && hash == sha256(&payload);
    if !is_right {
        return None;
    }
    // Without the version and the key id (LINK-010).
    let front = header.get(2..before_key)?;
    let back = header.get(before_key.checked_add(key_id.len())?..)?;
    let position_hash = sha256(&[&[2], front, back].concat());
    let common = Common {
        origin,
        destination,
        key_id,
        link_epoch,
    };
    let arrival = Arrival {
        kind,
        lane,
        sequence,
        payload,
        position_hash,
    };
    Some((common, sha256(&[&[0], header].concat()), arrival))
}

/// How far the lanes of the server under test have come here.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    link_epoch: u64,
    heads: BTreeMap<[u8; 16], (u64, [u8; 32])>,
}

impl Lanes {
    /// Takes what is next in its lane, and says so of each: the unsigned receipt, and what is new.
    pub(crate) fn take(
        &mut self,
        sent: &Sent,
        key_id: [u8; 8],
        now_ms: u64,
    ) -> (Vec<u8>, Vec<Arrival>) {
        if sent.link_epoch > self.link_epoch {
            self.link_epoch = sent.link_epoch;
            self.heads.clear();
        }
        let mut taken = Vec::new();
        let mut results = Encoder::new();
        for arrival in &sent.envelopes {
            let (position, chain) = self.heads.entry(arrival.lane).or_default();
            let last = last_of(arrival);
            results = if last <= *position {
                results.u8(2)
            } else if arrival.sequence > position.saturating_add(1) {
                results.u8(4).u16(LANE_GAP).u32(0)
            } else {
                *position = last;
                *chain = sha256(&[&[3], chain.as_slice(), &arrival.position_hash].concat());
                taken.push(arrival.clone());
                results.u8(1)
            };
        }
        let lanes: BTreeSet<_> = sent.envelopes.iter().map(|one| one.lane).collect();
        let heads = lanes.iter().fold(Encoder::new(), |heads, lane| {
            let (position, chain) = self.heads.get(lane).copied().unwrap_or_default();
            heads.fixed(lane).u64(position).fixed(&chain)
        });
        let body = Encoder::new()
            .u16(1)
            .u8(1)
            .vector(1, sent.origin.as_bytes())
            .vector(1, sent.destination.as_bytes())
            .fixed(&key_id)
            .u64(sent.link_epoch)
            .fixed(&sent.root)
            .u64(now_ms)
            .vector(4, &results.finish())
            .vector(4, &heads.finish());
        (body.finish(), taken)
    }
}

/// The last position that an envelope stands for.
fn last_of(arrival: &Arrival) -> u64 {
    let count = match arrival.kind {
        TOMBSTONE => Decoder::new(&arrival.payload).u32().unwrap_or(1),
        _ => 1,
    };
    arrival
        .sequence
        .saturating_add(u64::from(count).saturating_sub(1))
}

/// What is signed of a receipt with this body.
pub(crate) fn signed_receipt(body: &[u8]) -> Vec<u8> {
    Encoder::new().vector(1, RECEIPT_LABEL).fixed(body).finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;
    use crate::receipt::{Answer, Receipt};
    use crate::transaction::{Envelope, key_id, sign};

    fn key() -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
    }

    fn envelope(kind: u8, lane: u8, sequence: u64, payload: Vec<u8>) -> Envelope {
        Envelope {
            version: 1,
            suite: 1,
            kind,
            origin: "a.example".to_owned(),
            destination: "b.example".to_owned(),
            key_id: key_id(&key()),
            link_epoch: 5,
            lane: [lane; 16],
            sequence,
            created_ms: 1,
            expires_ms: 0,
            payload,
            claimed_hash: None,
        }
    }

    fn sent(envelopes: &[Envelope]) -> Sent {
        Sent::decode(&sign(&key(), TRANSACTION_LABEL, envelopes).bytes).unwrap()
    }

    fn answers(lanes: &mut Lanes, sent: &Sent) -> (Vec<Answer>, Receipt) {
        let (body, _) = lanes.take(sent, key_id(&key()), 9);
        let signature = key().sign(&signed_receipt(&body));
        let receipt = Receipt::decode(&[&body, signature.as_ref()].concat()).unwrap();
        let public = key().public_key().as_ref().try_into().unwrap();
        assert!(receipt.is_signed_by(&public));
        assert_eq!(receipt.root, sent.root);
        (receipt.answers.clone(), receipt)
    }

    /// Goal: each lane is taken in its order and once, tombstones with their range, and a new link epoch begins anew.
    /// Method: transactions with a hole, a repetition and a tombstone, and the receipts for them.
    #[test]
    fn lanes_are_taken_in_order() {
        let mut lanes = Lanes::default();
        let first = sent(&[envelope(1, 1, 1, vec![1]), envelope(1, 2, 2, vec![2])]);
        let gap = Answer::Deferred {
            code: LANE_GAP,
            retry_after_ms: 0,
        };
        let (got, receipt) = answers(&mut lanes, &first);
        assert_eq!(got, [Answer::Accepted, gap]);
        assert_eq!(receipt.position(&[1; 16]), Some(1));
        assert_eq!(receipt.position(&[2; 16]), Some(0));
        let range = Encoder::new().u32(3).u16(19).finish();
        let second = sent(&[
            envelope(1, 1, 1, vec![1]),
            envelope(TOMBSTONE, 2, 1, range),
            envelope(1, 2, 4, vec![2]),
        ]);
        let (got, receipt) = answers(&mut lanes, &second);
        assert_eq!(got, [Answer::Duplicate, Answer::Accepted, Answer::Accepted]);
        assert_eq!(receipt.position(&[2; 16]), Some(4));
        let mut later = envelope(1, 1, 1, vec![1]);
        later.link_epoch = 6;
        assert_eq!(answers(&mut lanes, &sent(&[later])).0, [Answer::Accepted]);
    }

    /// Goal: what is not as section 3 says is no transaction: a payload of another hash, lanes out of order, two
    /// origins, a mortal tombstone, nothing at all. Method: one of each.
    #[test]
    fn wrong_transactions() {
        let good = envelope(1, 1, 1, vec![1]);
        let mut hash = good.clone();
        hash.claimed_hash = Some([0; 32]);
        let mut origin = envelope(1, 1, 2, vec![1]);
        origin.origin = "c.example".to_owned();
        let mut mortal = envelope(TOMBSTONE, 1, 1, vec![]);
        mortal.expires_ms = 1;
        for wrong in [
            vec![hash],
            vec![good.clone(), origin],
            vec![good.clone(), good],
            vec![mortal],
            vec![envelope(KIND_MAX + 1, 1, 1, vec![])],
            vec![envelope(1, 1, 0, vec![])],
            vec![],
        ] {
            let bytes = sign(&key(), TRANSACTION_LABEL, &wrong).bytes;
            assert_eq!(Sent::decode(&bytes), None, "{wrong:?}");
        }
    }

    proptest! {
        /// Goal: a transaction is read whole, under its signature alone; any bytes are one or none. Method: payloads of any
        /// kind; the bytes cut, lengthened and changed.
        #[test]
        fn transactions_are_read_whole(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..9),
            at in any::<prop::sample::Index>(),
            noise: Vec<u8>,
        ) {
            let envelopes: Vec<Envelope> = payloads
                .iter()
                .zip(1..)
                .map(|(payload, n)| envelope(1, 1, n, payload.clone()))
                .collect();
            let mut bytes = sign(&key(), TRANSACTION_LABEL, &envelopes).bytes;
            let public: [u8; 32] = key().public_key().as_ref().try_into().unwrap();
            let read = Sent::decode(&bytes).unwrap();
            prop_assert!(read.is_signed_by(&public) && !read.is_signed_by(&[1; 32]));
            let got: Vec<_> = read.envelopes.iter().map(|one| one.payload.clone()).collect();
            prop_assert_eq!(got, payloads);
            prop_assert_eq!(Sent::decode(&bytes[..at.index(bytes.len())]), None);
            let index = at.index(bytes.len());
            bytes[index] ^= 1;
            prop_assert!(Sent::decode(&bytes).is_none_or(|read| !read.is_signed_by(&public)));
            bytes[index] ^= 1;
            bytes.push(0);
            prop_assert_eq!(Sent::decode(&bytes), None);
            let _ = Sent::decode(&noise);
        }
    }
}
