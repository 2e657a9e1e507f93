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
