//! One entry of an audit log, as its leaf has it. Everything in it is shown to whoever may read the log, so that the
//! leaf can be made again from what was read.

use crate::codec::{EncodeError, Writer};
use crate::hash::Digest;
use crate::limits::AUDIT_TEXT_BYTES_MAX;
use crate::merkle;

const FORMAT: u8 = 1;

/// What a leaf is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its number, from 1: its leaf is the one before that place.
    pub number: u64,
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Who.
    pub actor: &'a str,
    /// What.
    pub action: &'a str,
    /// On what.
    pub subject: &'a str,
    /// More, in words.
    pub detail: &'a str,
}

impl Entry<'_> {
    /// The hash of its leaf.
    ///
    /// # Errors
    /// When a text is over its limit.
    pub fn leaf(&self) -> Result<Digest, EncodeError> {
        let mut writer = Writer::with_capacity(256);
        writer.u8(FORMAT);
        writer.u64(self.number);
        writer.u64(self.at_ms);
        for (what, text) in [
            ("actor", self.actor),
            ("action", self.action),
            ("subject", self.subject),
            ("detail", self.detail),
        ] {
            writer.opaque16(what, AUDIT_TEXT_BYTES_MAX, text.as_bytes());
        }
        Ok(merkle::leaf(&writer.finish()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the leaf is the one that the protocol's text describes, and no field can run into the next. Method: bytes
    /// written by hand, and entries whose texts are divided otherwise.
    #[test]
    fn leaves_are_of_these_bytes() {
        let entry = Entry {
            number: 2,
            at_ms: 3,
            actor: "system",
            action: "user.created",
            subject: "ab",
            detail: "c",
        };
        let bytes = [
            &[1][..],
            &2_u64.to_be_bytes(),
            &3_u64.to_be_bytes(),
            &[0, 6],
            b"system",
            &[0, 12],
            b"user.created",
            &[0, 2],
            b"ab",
            &[0, 1],
            b"c",
        ];
        let leaf = entry.leaf().unwrap();
        assert_eq!(leaf, merkle::leaf(&bytes.concat()));
        let divided = Entry {
            subject: "a",
            detail: "bc",
            ..entry
        };
        assert_ne!(leaf, divided.leaf().unwrap());
        let long = "x".repeat(AUDIT_TEXT_BYTES_MAX + 1);
        let long = Entry {
            detail: &long,
            ..entry
        };
        assert!(long.leaf().is_err());
    }
}
