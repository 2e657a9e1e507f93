//! The root's private key as a text file: sealed by a passphrase, meant to leave the machine.
//!
//! The lines between `-----BEGIN ENTENTE ROOT KEY-----` and its end are base64 of: version (1 byte,
//! 1), Argon2id memory in KiB (4), passes (4), lanes (4), salt (16), nonce (12), then the PKCS#8 key
//! sealed by ChaCha20-Poly1305; integers big-endian. The sealing key is Argon2id over the passphrase
//! and the salt; everything before the sealed key is authenticated with it.

use argon2::{Algorithm, Argon2, Params, Version};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use super::{OrganisationError, pem};

const LABEL: &str = "ENTENTE ROOT KEY";
const VERSION: u8 = 1;
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 1;
/// What a file may ask for, so that a hostile one can't exhaust the machine that reads it.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
const HEADER_BYTES: usize = 1 + 3 * 4 + SALT_BYTES + NONCE_BYTES;
/// Shortest passphrase: it is all that protects the key of the whole organisation.
pub const PASSPHRASE_BYTES_MIN: usize = 12;

/// Seals the root's private key (PKCS#8) with `passphrase`.
pub fn seal(
    pkcs8: &[u8],
    passphrase: &str,
    random: &dyn SecureRandom,
) -> Result<String, OrganisationError> {
    let mut drawn = [0_u8; SALT_BYTES + NONCE_BYTES];
    random
        .fill(&mut drawn)
        .map_err(|_| OrganisationError::Crypto("no randomness".to_owned()))?;
    let mut header = vec![VERSION];
    for number in [MEMORY_KIB, PASSES, LANES] {
        header.extend(number.to_be_bytes());
    }
    header.extend(drawn);
    let (key, nonce) = sealing_key(&header, passphrase)?;
    let mut sealed = Zeroizing::new(pkcs8.to_vec());
    key.seal_in_place_append_tag(nonce, Aad::from(&header), &mut *sealed)
        .map_err(|_| OrganisationError::Crypto("sealing failed".to_owned()))?;
    header.extend_from_slice(&sealed);
    Ok(pem::encode(LABEL, &header).to_string())
}

/// Opens what [`seal`] made.
pub fn open(text: &str, passphrase: &str) -> Result<Zeroizing<Vec<u8>>, OrganisationError> {
    let bytes = armoured(text)?;
    let (header, sealed) = parts(&bytes)?;
    let (key, nonce) = sealing_key(header, passphrase)?;
    let mut sealed = Zeroizing::new(sealed.to_vec());
    let length = key
        .open_in_place(nonce, Aad::from(header), &mut sealed)
        .map_err(|_| unusable("the passphrase is wrong, or the file is damaged"))?
        .len();
    sealed.truncate(length);
    Ok(sealed)
}

/// Whether a text is a root key file, as far as that shows without the passphrase.
#[doc(hidden)]
pub fn is_well_formed(text: &str) -> bool {
    armoured(text).is_ok_and(|bytes| {
        parts(&bytes)
            .and_then(|(header, _)| demands(header))
            .is_ok()
    })
}

fn armoured(text: &str) -> Result<Zeroizing<Vec<u8>>, OrganisationError> {
    pem::decode(LABEL, text).ok_or_else(|| unusable("it is not a root key file"))
}

/// The header and the sealed key.
fn parts(bytes: &[u8]) -> Result<(&[u8], &[u8]), OrganisationError> {
    bytes
        .split_at_checked(HEADER_BYTES)
        .filter(|(header, _)| header.first() == Some(&VERSION))
        .ok_or_else(|| unusable("it is of an unknown version"))
}

/// What `header` says, and what it asks of the machine.
fn demands(header: &[u8]) -> Result<(Header<'_>, Params), OrganisationError> {
    let header = Header::read(header)
        .filter(Header::is_bearable)
        .ok_or_else(|| unusable("its header is not acceptable"))?;
    let parameters = Params::new(header.memory_kib, header.passes, header.lanes, Some(32))
        .map_err(|error| unusable(&error.to_string()))?;
    Ok((header, parameters))
}

/// The key and the nonce that `header` and `passphrase` name.
fn sealing_key(header: &[u8], passphrase: &str) -> Result<(LessSafeKey, Nonce), OrganisationError> {
    let (header, parameters) = demands(header)?;
    let mut key = Zeroizing::new([0_u8; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
        .hash_password_into(passphrase.as_bytes(), header.salt, &mut *key)
        .map_err(|error| OrganisationError::Crypto(error.to_string()))?;
    let key = UnboundKey::new(&CHACHA20_POLY1305, &*key)
        .map_err(|_| OrganisationError::Crypto("sealing key".to_owned()))?;
    let nonce = Nonce::try_assume_unique_for_key(header.nonce)
        .map_err(|_| unusable("its header is not acceptable"))?;
    Ok((LessSafeKey::new(key), nonce))
}

/// What stands before the sealed key.
struct Header<'a> {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: &'a [u8],
    nonce: &'a [u8],
}

impl<'a> Header<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let number = |at: usize| -> Option<u32> {
            Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
        };
        let (salt, nonce) = bytes.get(13..)?.split_at_checked(SALT_BYTES)?;
        Some(Self {
            memory_kib: number(1)?,
            passes: number(5)?,
            lanes: number(9)?,
            salt,
            nonce,
        })
    }

    fn is_bearable(&self) -> bool {
        self.memory_kib <= MEMORY_KIB_MAX && self.passes <= PASSES_MAX && self.lanes <= LANES_MAX
    }
}

fn unusable(problem: &str) -> OrganisationError {
    OrganisationError::Unusable {
        what: "root key file".to_owned(),
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;

    /// Goal: the right passphrase opens it, a wrong one, any flipped bit or a cut does not; by trying.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test draws its own randomness")]
    fn only_the_passphrase_opens_it() {
        let random = SystemRandom::new();
        let sealed = seal(b"private key", "correct horse battery", &random).unwrap();
        assert_eq!(
            *open(&sealed, "correct horse battery").unwrap(),
            b"private key"
        );
        assert!(open(&sealed, "correct horse batterz").is_err());

        let bytes = pem::decode(LABEL, &sealed).unwrap();
        // A byte of the salt, the nonce, the sealed key and the tag each.
        for at in [13, 30, HEADER_BYTES, bytes.len() - 1] {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(
                open(&pem::encode(LABEL, &flipped), "correct horse battery").is_err(),
                "{at}"
            );
        }
        let cut = pem::encode(LABEL, &bytes[..HEADER_BYTES - 1]);
        assert!(open(&cut, "correct horse battery").is_err());
        let greedy = [&[VERSION], &[0xff; 12][..], &[0; 60]].concat();
        assert!(open(&pem::encode(LABEL, &greedy), "correct horse battery").is_err());
        assert!(!is_well_formed(&pem::encode(LABEL, &greedy)));
        assert!(!is_well_formed(&cut));
        assert!(is_well_formed(&sealed));
    }
}
