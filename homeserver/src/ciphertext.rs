//! The only types that hold a message or a handshake: bytes that this homeserver can't read.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Encrypted bytes of a room's members. Shows its length when printed, never its contents.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ciphertext(Bytes);

impl Ciphertext {
    /// Takes what a device or a peer sent.
    pub const fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The bytes, to frame, store or pass on.
    pub const fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The bytes themselves.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Bytes> for Ciphertext {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Ciphertext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ciphertext({} bytes)", self.0.len())
    }
}
