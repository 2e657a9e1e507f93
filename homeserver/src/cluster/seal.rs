//! The secret that all nodes share, and what it seals.

use bytes::Bytes;
use federation_proto::ids::ServerName;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use crate::store::node_row::Incarnation;

/// What keeps this secret's uses apart from those of another program.
const SALT: &[u8] = b"entente cluster";
const FOR_KEYS: &[u8] = b"keys";
const FOR_HINTS: &[u8] = b"hints";

/// Something could not be sealed, or was not sealed with this secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it was not sealed with this cluster's secret")]
pub struct SealError;

/// The secret that all nodes share.
pub struct Secret(Prk);

impl Secret {
    /// The secret in a file's content. What an editor leaves at its end is no part of it.
    pub fn new(content: &[u8]) -> Self {
        Self(Salt::new(HKDF_SHA256, SALT).extract(content.trim_ascii_end()))
    }

    /// Seals the organisation's keys.
    pub fn seal_keys(
        &self,
        server: &ServerName,
        plain: &[u8],
        random: &dyn SecureRandom,
    ) -> Result<Bytes, SealError> {
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce).map_err(|_| SealError)?;
        let key = self.key(&[FOR_KEYS, server.as_str().as_bytes()])?;
        seal(&key, nonce, plain).map(|sealed| [&nonce[..], &sealed].concat().into())
    }

    /// Opens the organisation's keys.
    pub fn open_keys(
        &self,
        server: &ServerName,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(SealError)?;
        let key = self.key(&[FOR_KEYS, server.as_str().as_bytes()])?;
        open(&key, *nonce, sealed)
    }

    /// Seals a hint. No two of one process have the same number.
    pub(super) fn seal_hint(
        &self,
        by: Incarnation,
        number: u64,
        plain: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        // A key for each process: so the number alone makes the nonce.
        let key = self.key(&[FOR_HINTS, &by.0])?;
        seal(&key, numbered(number), plain)
    }

    /// Opens a hint.
    pub(super) fn open_hint(
        &self,
        by: Incarnation,
        number: u64,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let key = self.key(&[FOR_HINTS, &by.0])?;
        open(&key, numbered(number), sealed)
    }

    fn key(&self, purpose: &[&[u8]]) -> Result<LessSafeKey, SealError> {
        let key = self.0.expand(purpose, &CHACHA20_POLY1305);
        key.map(|key| LessSafeKey::new(UnboundKey::from(key)))
            .map_err(|_| SealError)
    }
}

fn numbered(number: u64) -> [u8; NONCE_LEN] {
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    [0, 0, 0, 0, a, b, c, d, e, f, g, h]
}

fn seal(key: &LessSafeKey, nonce: [u8; NONCE_LEN], plain: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut sealed = plain.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce, Aad::empty(), &mut sealed)
        .map_err(|_| SealError)?;
    Ok(sealed)
}

fn open(
    key: &LessSafeKey,
    nonce: [u8; NONCE_LEN],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let mut plain = Zeroizing::new(sealed.to_vec());
    let nonce = Nonce::assume_unique_for_key(nonce);
    let length = key
        .open_in_place(nonce, Aad::empty(), &mut plain)
        .map_err(|_| SealError)?
        .len();
    plain.truncate(length);
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what one node has sealed opens with the same secret, whatever its file ends with, and with no other, nor for
    /// another organisation, process or number, nor changed. Method: keys and a hint, opened rightly and wrongly.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test draws its own randomness")]
    fn only_the_secret_opens() {
        let random = ring::rand::SystemRandom::new();
        let secret = Secret::new(b"0123456789abcdef0123456789abcdef\n");
        let same = Secret::new(b"0123456789abcdef0123456789abcdef");
        let other = Secret::new(b"another one, as long as the first");
        let a: ServerName = "a.example".parse().unwrap();
        let b: ServerName = "b.example".parse().unwrap();
        let keys = secret.seal_keys(&a, b"keys", &random).unwrap();
        assert_eq!(same.open_keys(&a, &keys).unwrap().as_slice(), b"keys");
        assert!(other.open_keys(&a, &keys).is_err());
        assert!(same.open_keys(&b, &keys).is_err());
        assert!(same.open_keys(&a, b"short").is_err());

        let one = Incarnation([1; 16]);
        let mut hint = secret.seal_hint(one, 7, b"hint").unwrap();
        assert_eq!(same.open_hint(one, 7, &hint).unwrap().as_slice(), b"hint");
        assert!(same.open_hint(one, 8, &hint).is_err());
        assert!(same.open_hint(Incarnation([2; 16]), 7, &hint).is_err());
        hint[0] ^= 1;
        assert!(same.open_hint(one, 7, &hint).is_err());
    }
}
