//! Keys and what they seal: a data key one content, a wrapping key many data keys. ChaCha20-Poly1305 throughout.
//!
//! | bytes of a content as it is stored | |
//! |---|---|
//! | 1 | version: 1 |
//! | … | the content, sealed by its data key under a nonce of zeros: a data key seals nothing else |
//!
//! | bytes of a wrapped key | |
//! |---|---|
//! | 1 | version: 1 |
//! | 8 | the generation that wraps it; 0 in a backup |
//! | 12 | nonce: random |
//! | 48 | the data key, sealed |
//!
//! Authenticated with both is what they belong to ([`super::bound`]): neither counts in another place.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey};
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use crate::store::{StoreError, Value};

const CONTENT_VERSION: u8 = 1;
const ROW_VERSION: u8 = 1;
/// Bytes of every key.
pub(super) const KEY_BYTES: usize = 32;
/// Bytes of every nonce.
pub(super) const NONCE_BYTES: usize = NONCE_LEN;
const TAG_BYTES: usize = 16;
/// Bytes of a key that is sealed.
pub(super) const WRAPPED_BYTES: usize = KEY_BYTES + TAG_BYTES;
/// What a content grows by when it is sealed.
pub(super) const SEAL_BYTES: usize = 1 + TAG_BYTES;

/// A key's bytes.
pub(super) type Secret = Zeroizing<[u8; KEY_BYTES]>;

/// A key that seals other keys.
pub struct WrappingKey(Secret);

impl WrappingKey {
    /// The key with these bytes.
    pub fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        Self(bytes)
    }

    /// A new key.
    pub fn draw(random: &dyn SecureRandom) -> Result<Self, StoreError> {
        drawn(random).map(Self)
    }

    /// The key's bytes.
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Seals a key under this one; `bound` has to be told again to open it.
    pub(super) fn wrap(
        &self,
        nonce: [u8; NONCE_BYTES],
        bound: &[u8],
        secret: &[u8; KEY_BYTES],
    ) -> Result<[u8; WRAPPED_BYTES], StoreError> {
        let mut wrapped = [0; WRAPPED_BYTES];
        let (body, tag) = wrapped.split_at_mut(KEY_BYTES);
        body.copy_from_slice(secret);
        tag.copy_from_slice(seal(&self.0, nonce, bound, body)?.as_ref());
        Ok(wrapped)
    }

    /// Opens what [`Self::wrap`] has sealed; `None`: it is of another key, or bound to something else.
    pub(super) fn open(
        &self,
        nonce: [u8; NONCE_BYTES],
        bound: &[u8],
        wrapped: &[u8; WRAPPED_BYTES],
    ) -> Option<Secret> {
        let mut opened = Zeroizing::new(*wrapped);
        let secret = open(&self.0, nonce, bound, opened.as_mut_slice())?;
        let secret: [u8; KEY_BYTES] = (&*secret).try_into().ok()?;
        Some(Zeroizing::new(secret))
    }
}

/// A data key as its row has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// The generation that wraps it; 0 in a backup.
    pub generation: u64,
    nonce: [u8; NONCE_BYTES],
    wrapped: [u8; WRAPPED_BYTES],
}

impl WrappedKey {
    /// Wraps a data key under a nonce that was drawn for that.
    pub(super) fn wrap(
        (secret, nonce): (&[u8; KEY_BYTES], [u8; NONCE_BYTES]),
        bound: &[u8],
        (generation, key): (u64, &WrappingKey),
    ) -> Result<Self, StoreError> {
        Ok(Self {
            generation,
            nonce,
            wrapped: key.wrap(nonce, bound, secret)?,
        })
    }

    /// The data key; `None`: another key wraps it, or it belongs to something else.
    pub(super) fn open(&self, bound: &[u8], key: &WrappingKey) -> Option<Secret> {
        key.open(self.nonce, bound, &self.wrapped)
    }

    /// The stored form.
    pub fn encode(&self) -> Value {
        let generation = self.generation.to_be_bytes();
        [&[ROW_VERSION][..], &generation, &self.nonce, &self.wrapped]
            .concat()
            .into()
    }

    /// What is stored; `None`: it is no wrapped key.
    pub fn decode(value: &[u8]) -> Option<Self> {
        let (version, rest) = value.split_first()?;
        let (generation, rest) = rest.split_first_chunk::<8>()?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let wrapped = rest.try_into().ok()?;
        (*version == ROW_VERSION).then(|| Self {
            generation: u64::from_be_bytes(*generation),
            nonce: *nonce,
            wrapped,
        })
    }
}

/// Seals a content by its data key, which seals nothing else.
pub(super) fn seal_content(
    secret: &[u8; KEY_BYTES],
    bound: &[u8],
    content: &[u8],
) -> Result<Value, StoreError> {
    let mut sealed = Vec::with_capacity(content.len().saturating_add(SEAL_BYTES));
    sealed.push(CONTENT_VERSION);
    sealed.extend_from_slice(content);
    let (_, body) = sealed.split_at_mut(1);
    let tag = seal(secret, [0; NONCE_BYTES], bound, body)?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed.into())
}

/// The content; `None`: it was sealed by another key, or for another place.
pub(super) fn open_content(secret: &[u8; KEY_BYTES], bound: &[u8], sealed: &[u8]) -> Option<Value> {
    let (version, body) = sealed.split_first()?;
    if *version != CONTENT_VERSION {
        return None;
    }
    let mut body = body.to_vec();
    let length = open(secret, [0; NONCE_BYTES], bound, &mut body)?.len();
    body.truncate(length);
    Some(body.into())
}

/// A new key's bytes.
pub(super) fn drawn(random: &dyn SecureRandom) -> Result<Secret, StoreError> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    fill(random, bytes.as_mut_slice())?;
    Ok(bytes)
}

/// A new key's bytes, and a nonce to wrap them with: drawn together, for each drawing asks the system.
pub(super) fn drawn_with_nonce(
    random: &dyn SecureRandom,
) -> Result<(Secret, [u8; NONCE_BYTES]), StoreError> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES + NONCE_BYTES]);
    fill(random, bytes.as_mut_slice())?;
    let (first, rest) = bytes.split_at(KEY_BYTES);
    let (mut secret, mut nonce) = (Zeroizing::new([0; KEY_BYTES]), [0; NONCE_BYTES]);
    secret.copy_from_slice(first);
    nonce.copy_from_slice(rest);
    Ok((secret, nonce))
}

/// A nonce that no other use of its key has.
pub(super) fn drawn_nonce(random: &dyn SecureRandom) -> Result<[u8; NONCE_BYTES], StoreError> {
    let mut nonce = [0; NONCE_BYTES];
    fill(random, &mut nonce)?;
    Ok(nonce)
}

fn fill(random: &dyn SecureRandom, bytes: &mut [u8]) -> Result<(), StoreError> {
    random
        .fill(bytes)
        .map_err(|_| StoreError::Keys("the system has no randomness".to_owned()))
}

fn seal(
    key: &[u8; KEY_BYTES],
    nonce: [u8; NONCE_BYTES],
    bound: &[u8],
    in_out: &mut [u8],
) -> Result<Tag, StoreError> {
    let nonce = Nonce::assume_unique_for_key(nonce);
    cipher(key)
        .and_then(|key| {
            key.seal_in_place_separate_tag(nonce, Aad::from(bound), in_out)
                .ok()
        })
        .ok_or_else(|| StoreError::Keys("sealing failed".to_owned()))
}

fn open<'a>(
    key: &[u8; KEY_BYTES],
    nonce: [u8; NONCE_BYTES],
    bound: &[u8],
    in_out: &'a mut [u8],
) -> Option<&'a mut [u8]> {
    let nonce = Nonce::assume_unique_for_key(nonce);
    cipher(key)?
        .open_in_place(nonce, Aad::from(bound), in_out)
        .ok()
}

fn cipher(key: &[u8; KEY_BYTES]) -> Option<LessSafeKey> {
    UnboundKey::new(&CHACHA20_POLY1305, key)
        .map(LessSafeKey::new)
        .ok()
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;

    /// Goal: a content opens with its own key and for its own place, and not once anything of it has changed. Method:
    /// another key, another place, every bit flipped, every cut.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test draws its own randomness")]
    fn only_its_own_key_opens_a_content() {
        let random = SystemRandom::new();
        let (key, other) = (drawn(&random).unwrap(), drawn(&random).unwrap());
        let sealed = seal_content(&key, b"Pid", b"words").unwrap();
        assert_eq!(sealed.len(), b"words".len() + SEAL_BYTES);
        assert_eq!(open_content(&key, b"Pid", &sealed).unwrap(), &b"words"[..]);
        assert_eq!(open_content(&other, b"Pid", &sealed), None);
        assert_eq!(open_content(&key, b"Pie", &sealed), None);
        for at in 0..sealed.len() {
            let mut flipped = sealed.to_vec();
            flipped[at] ^= 1;
            assert_eq!(open_content(&key, b"Pid", &flipped), None, "{at}");
            assert_eq!(open_content(&key, b"Pid", &sealed[..at]), None, "{at}");
        }
    }

    /// Goal: a wrapped key opens under the key that wraps it and for its own place alone, and its form never changes
    /// unseen. Method: the fields at their places, another key, another place, another length.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test draws its own randomness")]
    fn only_its_generation_opens_a_data_key() {
        let random = SystemRandom::new();
        let draw = || WrappingKey::draw(&random).unwrap();
        let (generation, other, secret) = (draw(), draw(), drawn(&random).unwrap());
        let nonce = drawn_nonce(&random).unwrap();
        let row = WrappedKey::wrap((&*secret, nonce), b"Pid", (258, &generation)).unwrap();
        assert_eq!(*row.open(b"Pid", &generation).unwrap(), *secret);
        assert!(row.open(b"Pid", &other).is_none());
        assert!(row.open(b"Pie", &generation).is_none());

        let value = row.encode();
        assert_eq!(value.len(), 69);
        assert_eq!(value[..9], [1, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(value[9..21], nonce);
        assert_eq!(value[21..], row.wrapped);
        assert_eq!(WrappedKey::decode(&value), Some(row));
        assert_eq!(WrappedKey::decode(&value[..68]), None);
        assert_eq!(WrappedKey::decode(&[&value[..], &[0]].concat()), None);
        assert_eq!(WrappedKey::decode(&[&[2], &value[1..]].concat()), None);
    }
}
