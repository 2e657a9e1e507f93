//! The outer layer of a backup: a header that says how its key is found, and chunks of 64 KiB, each sealed under its number
//! and whether it is the last.
//!
//! A chunk that is not the last holds exactly [`CHUNK_BYTES`], the last one less, perhaps nothing: so its length says which
//! it is, and the seal holds it to that. Every chunk is bound to the header.

use argon2::{Algorithm, Argon2, Params, Version};
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, OpModeR, OpModeS, Serializable as _};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

/// What a backup begins with.
const MAGIC: &[u8; 8] = b"ent-bak\n";
const VERSION: u8 = 1;
const BY_PASSPHRASE: u8 = 1;
const BY_KEY: u8 = 2;
/// What tells how long the header is.
pub const START_BYTES: usize = MAGIC.len() + 2;
/// Plaintext of a chunk that is not the last.
pub const CHUNK_BYTES: usize = 64 * 1024;
const TAG_BYTES: usize = 16;
/// A chunk that is not the last, as it stands in the file.
pub const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;
const FILE_KEY_BYTES: usize = 32;
const WRAPPED_BYTES: usize = FILE_KEY_BYTES + TAG_BYTES;
const SALT_BYTES: usize = 16;
const KEY_ID_BYTES: usize = 8;
/// Length of a backup key, of either half.
pub const KEY_BYTES: usize = 32;
const PASSPHRASE_HEADER_BYTES: usize = START_BYTES + 3 * 4 + SALT_BYTES + WRAPPED_BYTES;
const KEY_HEADER_BYTES: usize = START_BYTES + KEY_ID_BYTES + KEY_BYTES + WRAPPED_BYTES;
/// What is sealed for a key says what it is for.
const KEY_PURPOSE: &[u8] = b"entente backup";
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 1;
/// What a file may ask for, so that a hostile one can't exhaust the machine that reads it.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;
/// Shortest passphrase: it is all that protects the organisation's keys.
pub const PASSPHRASE_BYTES_MIN: usize = 12;
/// Longest passphrase, so that whatever was made with one can be opened: it has to fit into a file of secrets, with what
/// follows its line.
pub const PASSPHRASE_BYTES_MAX: usize = 1024;

type Kem = X25519HkdfSha256;
type PrivateKey = <Kem as hpke::Kem>::PrivateKey;
type PublicKey = <Kem as hpke::Kem>::PublicKey;
type Encapsulated = <Kem as hpke::Kem>::EncappedKey;

/// Whom a backup is sealed for.
pub enum Recipient {
    /// Whoever knows a passphrase.
    Passphrase(Zeroizing<String>),
    /// Whoever has the private half of a key.
    Key([u8; KEY_BYTES]),
}

/// What opens a backup.
pub enum Secret {
    /// A passphrase.
    Passphrase(Zeroizing<String>),
    /// The private half of a key.
    Key(Zeroizing<[u8; KEY_BYTES]>),
}

/// Why a backup could not be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It begins otherwise.
    #[error("it is no backup")]
    NotABackup,
    /// It was made by a newer program.
    #[error("it is a backup of a version that this program does not know")]
    Version,
    /// It asks too much of the machine.
    #[error("its header is not acceptable")]
    Header,
    /// It is sealed for a key.
    #[error("it is sealed for a backup key: name that with --key")]
    NeedsKey,
    /// It is sealed by a passphrase.
    #[error("it is sealed by a passphrase, not for a key")]
    NeedsPassphrase,
    /// It does not open.
    #[error("the passphrase is wrong, or the file is damaged")]
    WrongPassphrase,
    /// It does not open.
    #[error("it was made for another key, or the file is damaged")]
    WrongKey,
    /// No such key can be.
    #[error("it is no backup key")]
    NotAKey,
    /// A chunk is not what was written there.
    #[error("chunk {0} is damaged, or not in its place")]
    Chunk(u64),
    /// Randomness or a computation failed.
    #[error("the cryptographic library refused to work")]
    Crypto,
}

/// Seals a backup.
pub struct Sealer {
    chunks: Chunks,
    waiting: Vec<u8>,
}

impl Sealer {
    /// The header of a new backup, and what seals what follows it. Takes a while for a passphrase.
    pub fn new(
        recipient: &Recipient,
        random: &dyn SecureRandom,
    ) -> Result<(Vec<u8>, Self), SealError> {
        let mut file_key = Zeroizing::new([0_u8; FILE_KEY_BYTES]);
        random.fill(&mut *file_key).map_err(|_| SealError::Crypto)?;
        let header = match recipient {
            Recipient::Passphrase(passphrase) => seal_by_passphrase(&file_key, passphrase, random)?,
            Recipient::Key(public) => seal_for_key(&file_key, public)?,
        };
        let chunks = Chunks::new(&file_key, &header)?;
        let waiting = Vec::with_capacity(CHUNK_BYTES);
        Ok((header, Self { chunks, waiting }))
    }

    /// Takes plaintext, and adds the chunks that are full to `into`.
    pub fn seal(&mut self, mut plain: &[u8], into: &mut Vec<u8>) -> Result<(), SealError> {
        while !plain.is_empty() {
            let room = CHUNK_BYTES.saturating_sub(self.waiting.len());
            let (now, later) = plain.split_at(room.min(plain.len()));
            self.waiting.extend_from_slice(now);
            plain = later;
            if self.waiting.len() == CHUNK_BYTES {
                self.seal_chunk(false, into)?;
            }
        }
        Ok(())
    }

    /// Adds the last chunk to `into`.
    pub fn finish(mut self, into: &mut Vec<u8>) -> Result<(), SealError> {
        self.seal_chunk(true, into)
    }

    fn seal_chunk(&mut self, is_last: bool, into: &mut Vec<u8>) -> Result<(), SealError> {
        let (nonce, binding) = (self.chunks.nonce(is_last), Aad::from(self.chunks.binding));
        let tag = self
            .chunks
            .key
            .seal_in_place_separate_tag(nonce, binding, &mut self.waiting)
            .map_err(|_| SealError::Crypto)?;
        into.extend_from_slice(&self.waiting);
        into.extend_from_slice(tag.as_ref());
        self.waiting.clear();
        self.chunks.number = self.chunks.number.saturating_add(1);
        Ok(())
    }
}

/// Opens a backup's chunks, in their order.
pub struct Opener {
    chunks: Chunks,
    has_ended: bool,
}

impl Opener {
    /// By a whole header. Takes a while for a passphrase.
    pub fn new(header: &[u8], secret: &Secret) -> Result<Self, SealError> {
        let file_key = Header::read(header)?.open(header, secret)?;
        Ok(Self {
            chunks: Chunks::new(&file_key, header)?,
            has_ended: false,
        })
    }

    /// The plaintext of the next chunk, which is the last when it is short.
    pub fn open<'c>(&mut self, chunk: &'c mut [u8]) -> Result<&'c [u8], SealError> {
        let wrong = SealError::Chunk(self.chunks.number);
        if self.has_ended || chunk.len() > SEALED_CHUNK_BYTES {
            return Err(wrong);
        }
        let is_last = chunk.len() < SEALED_CHUNK_BYTES;
        let (nonce, binding) = (self.chunks.nonce(is_last), Aad::from(self.chunks.binding));
        let plain = self.chunks.key.open_in_place(nonce, binding, chunk);
        let plain = plain.map_err(|_| wrong)?;
        self.chunks.number = self.chunks.number.saturating_add(1);
        self.has_ended = is_last;
        Ok(plain)
    }

    /// Whether the last chunk was opened.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }
}

/// What seals and opens chunks.
struct Chunks {
    key: LessSafeKey,
    /// SHA-256 of the header.
    binding: [u8; 32],
    number: u64,
}

impl Chunks {
    fn new(file_key: &[u8; FILE_KEY_BYTES], header: &[u8]) -> Result<Self, SealError> {
        let header = digest(&SHA256, header);
        Ok(Self {
            key: chacha(file_key)?,
            binding: header.as_ref().try_into().map_err(|_| SealError::Crypto)?,
            number: 0,
        })
    }

    /// The next chunk's number, zeros, and whether it is the last. The key seals nothing else.
    fn nonce(&self, is_last: bool) -> Nonce {
        let [a, b, c, d, e, f, g, h] = self.number.to_be_bytes();
        Nonce::assume_unique_for_key([a, b, c, d, e, f, g, h, 0, 0, 0, u8::from(is_last)])
    }
}

/// How long a header is that begins so.
pub fn header_bytes(start: &[u8; START_BYTES]) -> Result<usize, SealError> {
    let rest = start.strip_prefix(MAGIC).ok_or(SealError::NotABackup)?;
    match rest {
        [VERSION, BY_PASSPHRASE] => Ok(PASSPHRASE_HEADER_BYTES),
        [VERSION, BY_KEY] => Ok(KEY_HEADER_BYTES),
        _ => Err(SealError::Version),
    }
}

/// Whether a header is one, as far as that shows without a secret.
#[doc(hidden)]
pub fn is_well_formed(header: &[u8]) -> bool {
    Header::read(header).is_ok_and(|read| read.encode() == header)
}

/// What stands in a header.
struct Header {
    how: How,
    wrapped: [u8; WRAPPED_BYTES],
}

enum How {
    Passphrase {
        memory_kib: u32,
        passes: u32,
        lanes: u32,
        salt: [u8; SALT_BYTES],
    },
    Key {
        id: [u8; KEY_ID_BYTES],
        encapsulated: [u8; KEY_BYTES],
    },
}

impl How {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        match self {
            Self::Passphrase {
                memory_kib,
                passes,
                lanes,
                salt,
            } => {
                bytes.extend([VERSION, BY_PASSPHRASE]);
                for number in [memory_kib, passes, lanes] {
                    bytes.extend(number.to_be_bytes());
                }
                bytes.extend(salt);
            }
            Self::Key { id, encapsulated } => {
                bytes.extend([VERSION, BY_KEY]);
                bytes.extend(id);
                bytes.extend(encapsulated);
            }
        }
        bytes
    }
}

impl Header {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.how.encode();
        bytes.extend(self.wrapped);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Self, SealError> {
        let (start, rest) = bytes
            .split_first_chunk::<START_BYTES>()
            .ok_or(SealError::NotABackup)?;
        if bytes.len() != header_bytes(start)? {
            return Err(SealError::Header);
        }
        let mut rest = Rest(rest);
        let how = match start.last() {
            Some(&BY_PASSPHRASE) => How::Passphrase {
                memory_kib: u32::from_be_bytes(rest.take()?),
                passes: u32::from_be_bytes(rest.take()?),
                lanes: u32::from_be_bytes(rest.take()?),
                salt: rest.take()?,
            },
            _ => How::Key {
                id: rest.take()?,
                encapsulated: rest.take()?,
            },
        };
        let wrapped = rest.take()?;
        Ok(Self { how, wrapped })
    }

    /// The key of the file, whose header is `whole`.
    fn open(
        &self,
        whole: &[u8],
        secret: &Secret,
    ) -> Result<Zeroizing<[u8; FILE_KEY_BYTES]>, SealError> {
        let (before, _) = whole
            .split_last_chunk::<WRAPPED_BYTES>()
            .ok_or(SealError::Header)?;
        match (&self.how, secret) {
            (
                How::Passphrase {
                    memory_kib,
                    passes,
                    lanes,
                    salt,
                },
                Secret::Passphrase(passphrase),
            ) => {
                let key = passphrase_key(passphrase, salt, (*memory_kib, *passes, *lanes))?;
                let mut wrapped = Zeroizing::new(self.wrapped);
                let opened = key
                    .open_in_place(zero_nonce(), Aad::from(before), &mut *wrapped)
                    .map_err(|_| SealError::WrongPassphrase)?;
                file_key(opened)
            }
            (How::Key { id, encapsulated }, Secret::Key(private)) => {
                open_by_key(private, id, encapsulated, &self.wrapped)
            }
            (How::Passphrase { .. }, Secret::Key(_)) => Err(SealError::NeedsPassphrase),
            (How::Key { .. }, Secret::Passphrase(_)) => Err(SealError::NeedsKey),
        }
    }
}

/// What of a header was not read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], SealError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(SealError::Header)?;
        self.0 = rest;
        Ok(*taken)
    }
}

fn seal_by_passphrase(
    file_key: &[u8; FILE_KEY_BYTES],
    passphrase: &str,
    random: &dyn SecureRandom,
) -> Result<Vec<u8>, SealError> {
    let mut salt = [0_u8; SALT_BYTES];
    random.fill(&mut salt).map_err(|_| SealError::Crypto)?;
    let how = How::Passphrase {
        memory_kib: MEMORY_KIB,
        passes: PASSES,
        lanes: LANES,
        salt,
    };
    let mut header = how.encode();
    let key = passphrase_key(passphrase, &salt, (MEMORY_KIB, PASSES, LANES))?;
    let mut wrapped = Zeroizing::new(*file_key);
    let tag = key
        .seal_in_place_separate_tag(zero_nonce(), Aad::from(&header), &mut *wrapped)
        .map_err(|_| SealError::Crypto)?;
    header.extend(*wrapped);
    header.extend(tag.as_ref());
    Ok(header)
}

fn passphrase_key(
    passphrase: &str,
    salt: &[u8; SALT_BYTES],
    (memory_kib, passes, lanes): (u32, u32, u32),
) -> Result<LessSafeKey, SealError> {
    let bearable = memory_kib <= MEMORY_KIB_MAX && passes <= PASSES_MAX && lanes <= LANES_MAX;
    let parameters = Params::new(memory_kib, passes, lanes, Some(FILE_KEY_BYTES))
        .ok()
        .filter(|_| bearable)
        .ok_or(SealError::Header)?;
    let mut key = Zeroizing::new([0_u8; FILE_KEY_BYTES]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
        .hash_password_into(passphrase.as_bytes(), salt, &mut *key)
        .map_err(|_| SealError::Crypto)?;
    chacha(&key)
}

fn seal_for_key(
    file_key: &[u8; FILE_KEY_BYTES],
    public: &[u8; KEY_BYTES],
) -> Result<Vec<u8>, SealError> {
    let recipient = PublicKey::from_bytes(public).map_err(|_| SealError::NotAKey)?;
    let id = key_id(public);
    let (encapsulated, sealed) = hpke::single_shot_seal::<AesGcm256, HkdfSha256, Kem>(
        &OpModeS::Base,
        &recipient,
        KEY_PURPOSE,
        file_key,
        &id,
    )
    .map_err(|_| SealError::Crypto)?;
    let how = How::Key {
        id,
        encapsulated: array(encapsulated.to_bytes().as_slice())?,
    };
    let header = Header {
        how,
        wrapped: array(&sealed)?,
    };
    Ok(header.encode())
}

fn open_by_key(
    private: &[u8; KEY_BYTES],
    id: &[u8; KEY_ID_BYTES],
    encapsulated: &[u8; KEY_BYTES],
    wrapped: &[u8; WRAPPED_BYTES],
) -> Result<Zeroizing<[u8; FILE_KEY_BYTES]>, SealError> {
    let private = PrivateKey::from_bytes(private).map_err(|_| SealError::NotAKey)?;
    let encapsulated = Encapsulated::from_bytes(encapsulated).map_err(|_| SealError::WrongKey)?;
    let opened = hpke::single_shot_open::<AesGcm256, HkdfSha256, Kem>(
        &OpModeR::Base,
        &private,
        &encapsulated,
        KEY_PURPOSE,
        wrapped,
        id,
    );
    file_key(&Zeroizing::new(opened.map_err(|_| SealError::WrongKey)?))
}

/// What names a key in a header.
fn key_id(public: &[u8; KEY_BYTES]) -> [u8; KEY_ID_BYTES] {
    let hash = digest(&SHA256, public);
    let id = hash.as_ref().first_chunk::<KEY_ID_BYTES>();
    // SHA-256 is longer.
    id.copied().unwrap_or_default()
}

/// A new pair of keys: the private half, and the public one.
pub(super) fn draw_keys(
    random: &dyn SecureRandom,
) -> Result<(Zeroizing<[u8; KEY_BYTES]>, [u8; KEY_BYTES]), SealError> {
    let mut seed = Zeroizing::new([0_u8; KEY_BYTES]);
    random.fill(&mut *seed).map_err(|_| SealError::Crypto)?;
    let (private, public) = <Kem as hpke::Kem>::derive_keypair(&*seed);
    let private = Zeroizing::new(array(private.to_bytes().as_slice())?);
    Ok((private, array(public.to_bytes().as_slice())?))
}

fn file_key(opened: &[u8]) -> Result<Zeroizing<[u8; FILE_KEY_BYTES]>, SealError> {
    array(opened).map(Zeroizing::new)
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], SealError> {
    bytes.try_into().map_err(|_| SealError::Crypto)
}

fn chacha(key: &[u8; FILE_KEY_BYTES]) -> Result<LessSafeKey, SealError> {
    UnboundKey::new(&CHACHA20_POLY1305, key)
        .map(LessSafeKey::new)
        .map_err(|_| SealError::Crypto)
}

/// For a key that seals one thing in its life.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}
