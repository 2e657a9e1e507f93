//! How the store's master key is had: the file `unlock` holds it, sealed under a passphrase
//! (Argon2id) or under a key that something else keeps.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::Error;

const VERSION: u8 = 1;
const SALT_BYTES: usize = 16;
const AAD: &[u8] = b"entente sdk store unlock 1";
/// Argon2id: RFC 9106's second recommendation (64 MiB, three passes), one lane.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 1;
/// What a hostile file may ask for at most.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const PASSES_MAX: u32 = 64;

/// What opens a device's store.
#[derive(Clone)]
pub enum StoreKey {
    /// A passphrase; the key is derived from it with Argon2id.
    Passphrase(String),
    /// A key with full entropy, such as one that the operating system's key ring holds.
    Key([u8; 32]),
}

impl std::fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "StoreKey::Passphrase",
            Self::Key(_) => "StoreKey::Key",
        })
    }
}

impl StoreKey {
    /// The key in a key file: 64 hexadecimal digits.
    ///
    /// # Errors
    /// When the file can't be read or holds something else.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let file_error = |reason: String| Error::File {
            path: path.to_owned(),
            reason,
        };
        let text = Zeroizing::new(fs::read_to_string(path).map_err(|e| file_error(e.to_string()))?);
        Self::from_text(&text)
            .ok_or_else(|| file_error("a key file holds 64 hexadecimal digits".to_owned()))
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let mut key = [0; 32];
        hex::decode_to_slice(text.trim(), &mut key).ok()?;
        Some(Self::Key(key))
    }
}

/// The key that everything in the store hangs on.
pub(super) type MasterKey = Zeroizing<[u8; 32]>;

#[derive(Serialize, Deserialize)]
enum Method {
    Passphrase {
        salt: [u8; SALT_BYTES],
        memory_kib: u32,
        passes: u32,
        lanes: u32,
    },
    Key {
        salt: [u8; SALT_BYTES],
    },
}

#[derive(Serialize, Deserialize)]
struct UnlockFile {
    version: u8,
    method: Method,
    nonce: [u8; NONCE_LEN],
    sealed: Vec<u8>,
}

/// Makes a new master key and writes the file that holds it.
pub(super) fn create(path: &Path, key: &StoreKey) -> Result<MasterKey, Error> {
    let random = SystemRandom::new();
    let mut master = Zeroizing::new([0; 32]);
    let mut salt = [0; SALT_BYTES];
    let mut nonce = [0; NONCE_LEN];
    for bytes in [master.as_mut_slice(), &mut salt, &mut nonce] {
        random
            .fill(bytes)
            .map_err(|_| Error::Store("no random bytes".to_owned()))?;
    }
    let method = match key {
        StoreKey::Passphrase(_) => Method::Passphrase {
            salt,
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
        },
        StoreKey::Key(_) => Method::Key { salt },
    };
    let mut sealed = master.to_vec();
    wrapping_key(key, &method)?
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(AAD),
            &mut sealed,
        )
        .map_err(|_| Error::Store("the master key can't be sealed".to_owned()))?;
    let bytes = postcard::to_stdvec(&UnlockFile {
        version: VERSION,
        method,
        nonce,
        sealed,
    })
    .map_err(|e| Error::Store(e.to_string()))?;
    write_durably(path, &bytes)?;
    Ok(master)
}

/// The master key in the file.
pub(super) fn open(path: &Path, key: &StoreKey) -> Result<MasterKey, Error> {
    let bytes = fs::read(path).map_err(|e| Error::File {
        path: path.to_owned(),
        reason: e.to_string(),
    })?;
    open_bytes(&bytes, key)
}

/// The master key in the file's bytes.
pub(super) fn open_bytes(bytes: &[u8], key: &StoreKey) -> Result<MasterKey, Error> {
    let damaged = || Error::Store("the file `unlock` is damaged".to_owned());
    let (mut file, rest): (UnlockFile, _) =
        postcard::take_from_bytes(bytes).map_err(|_| damaged())?;
    if file.version != VERSION || !rest.is_empty() {
        return Err(damaged());
    }
    let master = wrapping_key(key, &file.method)?
        .open_in_place(
            Nonce::assume_unique_for_key(file.nonce),
            Aad::from(AAD),
            &mut file.sealed,
        )
        .map_err(|_| Error::WrongKey)?;
    let mut key = Zeroizing::new([0; 32]);
    if master.len() != key.len() {
        return Err(damaged());
    }
    key.copy_from_slice(master);
    zeroize::Zeroize::zeroize(&mut file.sealed);
    Ok(key)
}

fn wrapping_key(key: &StoreKey, method: &Method) -> Result<LessSafeKey, Error> {
    let mut wrapping = Zeroizing::new([0; 32]);
    match (key, method) {
        (
            StoreKey::Passphrase(passphrase),
            Method::Passphrase {
                salt,
                memory_kib,
                passes,
                lanes,
            },
        ) => {
            if *memory_kib > MEMORY_KIB_MAX || *passes > PASSES_MAX || *lanes > 16 {
                return Err(Error::Store(
                    "the file `unlock` asks for an unreasonable effort".to_owned(),
                ));
            }
            let params = Params::new(*memory_kib, *passes, *lanes, Some(32))
                .map_err(|e| Error::Store(e.to_string()))?;
            Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                .hash_password_into(passphrase.as_bytes(), salt, wrapping.as_mut())
                .map_err(|e| Error::Store(e.to_string()))?;
        }
        (StoreKey::Key(key), Method::Key { salt }) => {
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), salt);
            wrapping.copy_from_slice(tag.as_ref());
        }
        _ => return Err(Error::WrongKey),
    }
    let key = UnboundKey::new(&AES_256_GCM, wrapping.as_ref())
        .map_err(|_| Error::Store("the key has the wrong length".to_owned()))?;
    Ok(LessSafeKey::new(key))
}

fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = path.with_extension("new");
    let written = (|| {
        let mut file = super::private_file(&temporary)?;
        file.set_len(0)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(folder) => fs::File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    })();
    written.map_err(|e: std::io::Error| Error::File {
        path: path.to_owned(),
        reason: e.to_string(),
    })
}
