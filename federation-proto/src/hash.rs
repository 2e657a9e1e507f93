//! SHA-256 digests and the byte that separates the uses of the hash function.

use std::fmt;

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// Prefix of a Merkle leaf (RFC 9162, section 2.1.1).
pub(crate) const LEAF: u8 = 0x00;
/// Prefix of a Merkle node (RFC 9162, section 2.1.1).
pub(crate) const NODE: u8 = 0x01;
/// Prefix of an envelope's position hash.
pub(crate) const POSITION: u8 = 0x02;
/// Prefix of a lane's chain hash.
pub(crate) const CHAIN: u8 = 0x03;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Thirty-two zero bytes: the chain hash of a lane that has carried nothing.
    pub const ZERO: Self = Self([0; 32]);

    /// The digest with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// SHA-256 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::of_parts(&[bytes])
    }

    /// SHA-256 of the parts one after another.
    #[must_use]
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(part);
        }
        let mut bytes = [0; 32];
        for (target, source) in bytes.iter_mut().zip(context.finish().as_ref()) {
            *target = *source;
        }
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}
