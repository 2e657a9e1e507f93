//! Receipts: decoded strictly, and checked against the key that the server's manifest names.

use ring::signature::{ED25519, UnparsedPublicKey};

use crate::transaction::RECEIPT_LABEL;
use crate::wire::{Decoder, Encoder};

/// What became of one envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Accepted,
    Duplicate,
    Refused { code: u16, reason: String },
    Deferred { code: u16, retry_after_ms: u32 },
}

/// How far a lane has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) lane: [u8; 16],
    pub(crate) sequence: u64,
    pub(crate) chain_hash: [u8; 32],
}

/// A receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) origin: String,
    pub(crate) destination: String,
    pub(crate) key_id: [u8; 8],
    pub(crate) link_epoch: u64,
    pub(crate) root: [u8; 32],
    pub(crate) answers: Vec<Answer>,
    pub(crate) lanes: Vec<Lane>,
    signed: Vec<u8>,
    signature: [u8; 64],
}

impl Receipt {
    /// The receipt that these bytes are, all of them.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Decoder::new(bytes);
        if input.u16()? != 1 || input.u8()? != 1 {
            return None;
        }
        let origin = input.text(1)?;
        let destination = input.text(1)?;
        let key_id = input.fixed()?;
        let link_epoch = input.u64()?;
        let root = input.fixed()?;
        let _answered_at = input.u64()?;
        let answers = all(input.vector(4)?, answer)?;
        let lanes = all(input.vector(4)?, lane)?;
        let signature = input.fixed()?;
        let body = bytes.get(..bytes.len().checked_sub(64)?)?;
        input.is_empty().then(|| Self {
            origin,
            destination,
            key_id,
            link_epoch,
            root,
            answers,
            lanes,
            signed: Encoder::new().vector(1, RECEIPT_LABEL).fixed(body).finish(),
            signature,
        })
    }

    /// Whether the holder of this key signed it.
    pub(crate) fn is_signed_by(&self, public: &[u8; 32]) -> bool {
        UnparsedPublicKey::new(&ED25519, public)
            .verify(&self.signed, &self.signature)
            .is_ok()
    }

    /// The position of a lane that the receipt states.
    pub(crate) fn position(&self, lane: &[u8; 16]) -> Option<u64> {
        self.lanes
            .iter()
            .find(|stated| stated.lane == *lane)
            .map(|stated| stated.sequence)
    }
}

fn all<'a, T>(bytes: &'a [u8], one: impl Fn(&mut Decoder<'a>) -> Option<T>) -> Option<Vec<T>> {
    let mut input = Decoder::new(bytes);
    let mut found = Vec::new();
    while !input.is_empty() {
        found.push(one(&mut input)?);
    }
    Some(found)
}

fn answer(input: &mut Decoder<'_>) -> Option<Answer> {
    Some(match input.u8()? {
        1 => Answer::Accepted,
        2 => Answer::Duplicate,
        3 => Answer::Refused {
            code: input.u16()?,
            reason: input.text(2)?,
        },
        4 => Answer::Deferred {
            code: input.u16()?,
            retry_after_ms: input.u32()?,
        },
        _ => return None,
    })
}

fn lane(input: &mut Decoder<'_>) -> Option<Lane> {
    Some(Lane {
        lane: input.fixed()?,
        sequence: input.u64()?,
        chain_hash: input.fixed()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    fn answers() -> impl Strategy<Value = Vec<Answer>> {
        let one = prop_oneof![
            Just(Answer::Accepted),
            Just(Answer::Duplicate),
            any::<(u16, String)>().prop_map(|(code, reason)| Answer::Refused { code, reason }),
            any::<(u16, u32)>().prop_map(|(code, retry_after_ms)| Answer::Deferred {
                code,
                retry_after_ms
            }),
        ];
        prop::collection::vec(one, 0..6)
    }

    fn lanes() -> impl Strategy<Value = Vec<Lane>> {
        let one =
            any::<([u8; 16], u64, [u8; 32])>().prop_map(|(lane, sequence, chain_hash)| Lane {
                lane,
                sequence,
                chain_hash,
            });
        prop::collection::vec(one, 0..4)
    }

    fn signed(
        key: &Ed25519KeyPair,
        root: &[u8; 32],
        answers: &[Answer],
        lanes: &[Lane],
    ) -> Vec<u8> {
        let answers = answers
            .iter()
            .fold(Encoder::new(), |list, answer| match answer {
                Answer::Accepted => list.u8(1),
                Answer::Duplicate => list.u8(2),
                Answer::Refused { code, reason } => {
                    list.u8(3).u16(*code).vector(2, reason.as_bytes())
                }
                Answer::Deferred {
                    code,
                    retry_after_ms,
                } => list.u8(4).u16(*code).u32(*retry_after_ms),
            });
        let lanes = lanes.iter().fold(Encoder::new(), |list, lane| {
            list.fixed(&lane.lane)
                .u64(lane.sequence)
                .fixed(&lane.chain_hash)
        });
        let body = Encoder::new()
            .u16(1)
            .u8(1)
            .vector(1, b"a.example")
            .vector(1, b"b.example")
            .fixed(&[7; 8])
            .u64(1)
            .fixed(root)
            .u64(2)
            .vector(4, &answers.finish())
            .vector(4, &lanes.finish())
            .finish();
        let covered = Encoder::new()
            .vector(1, RECEIPT_LABEL)
            .fixed(&body)
            .finish();
        Encoder::new()
            .fixed(&body)
            .fixed(key.sign(&covered).as_ref())
            .finish()
    }

    proptest! {
        /// Goal: a receipt says what was written and who signed it; one bit more, less or other is no such
        /// receipt. Method: any answers and lanes, signed; the bytes cut, lengthened and changed.
        #[test]
        fn exactly_what_was_signed(
            seed: [u8; 32],
            root: [u8; 32],
            answers in answers(),
            lanes in lanes(),
            at in any::<prop::sample::Index>(),
            bit in 0..8_u32,
        ) {
            let key = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
            let public = key.public_key().as_ref().try_into().unwrap();
            let mut bytes = signed(&key, &root, &answers, &lanes);
            let receipt = Receipt::decode(&bytes).unwrap();
            prop_assert!(receipt.is_signed_by(&public));
            prop_assert_eq!((&receipt.origin[..], &receipt.destination[..]), ("a.example", "b.example"));
            prop_assert_eq!((receipt.root, receipt.answers, receipt.lanes), (root, answers, lanes));

            let at = at.index(bytes.len());
            prop_assert_eq!(Receipt::decode(&bytes[..at]), None);
            bytes[at] ^= 1 << bit;
            if let Some(other) = Receipt::decode(&bytes) {
                prop_assert!(!other.is_signed_by(&public));
            }
            bytes[at] ^= 1 << bit;
            bytes.push(0);
            prop_assert_eq!(Receipt::decode(&bytes), None);
        }

        /// Goal: any bytes are a receipt or none. Method: any bytes.
        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let _ = Receipt::decode(&bytes);
        }
    }
}
