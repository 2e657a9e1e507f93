//! Backup keys: whoever makes backups has the public half alone; the private one is needed to restore, and lies elsewhere.

use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use super::sealing::{KEY_BYTES, SealError, draw_keys};
use crate::organisation::pem;

/// What the file of a private half calls itself.
pub const KEY_LABEL: &str = "ENTENTE BACKUP KEY";
/// What the file of a public half calls itself.
pub const PUBLIC_KEY_LABEL: &str = "ENTENTE BACKUP PUBLIC KEY";

/// Both halves of a new backup key, as the texts of their files.
pub struct KeyPair {
    /// Opens backups.
    pub private: Zeroizing<String>,
    /// Seals them.
    pub public: Zeroizing<String>,
}

impl KeyPair {
    /// A new one.
    pub fn draw(random: &dyn SecureRandom) -> Result<Self, SealError> {
        let (private, public) = draw_keys(random)?;
        Ok(Self {
            private: pem::encode(KEY_LABEL, &*private),
            public: pem::encode(PUBLIC_KEY_LABEL, &public),
        })
    }
}

/// The public half in a file's text.
pub fn public_key(text: &str) -> Result<[u8; KEY_BYTES], SealError> {
    let bytes = pem::decode(PUBLIC_KEY_LABEL, text).ok_or(SealError::NotAKey)?;
    bytes.as_slice().try_into().map_err(|_| SealError::NotAKey)
}

/// The private half in a file's text.
pub fn private_key(text: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, SealError> {
    let bytes = pem::decode(KEY_LABEL, text).ok_or(SealError::NotAKey)?;
    bytes
        .as_slice()
        .try_into()
        .map(Zeroizing::new)
        .map_err(|_| SealError::NotAKey)
}
