//! A backup file: what a device knows of conversations and people, sealed by a recovery code.
//!
//! ```text
//! head: "entente backup" · version (1) · salt (32) · check (16)
//! chunk: AES-256-GCM(key, nonce = 7 zeros · chunk number (u32) · last (1 or 0), data = head, ≤ 64 KiB)
//! inside: server<u8> · account (16) · handle<u8> · endpoint<u8> · root's SHA-256 (32) · made ms (u64) ·
//!   entries of [`crate::history`] · 0 · zeros up to a Padmé length
//! ```
//! Key and check are HKDF-SHA256 of the code's 27 characters with the salt, for the labels `entente backup key` and
//! `entente backup check`: the code has 135 random bits, so nothing has to make a guess dear. The check tells a wrong code
//! from a file that was changed.
//!
//! Never in it: ratchets, counters, keys and tokens of a device, nor messages that burn after reading. A device that comes
//! back from it is a new one.

mod code;

use homeserver_api::ids::{AccountId, Address};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use zeroize::Zeroizing;

pub use code::RecoveryCode;

use crate::content::{Reader, put_short};
use crate::error::Error;
use crate::history::{self, Entry};
use crate::padding;

const MAGIC: &[u8; 14] = b"entente backup";
const VERSION: u8 = 1;
const SALT_BYTES: usize = 32;
const CHECK_BYTES: usize = 16;
const HEAD_BYTES: usize = MAGIC.len() + 1 + SALT_BYTES + CHECK_BYTES;
const CHUNK_BYTES: usize = 64 * 1024;
const TAG_BYTES: usize = 16;
/// Most bytes of entries in a backup: its maker and its reader hold it in memory.
pub(crate) const BACKUP_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest backup file that is read: with padding and tags there is room to spare.
pub(crate) const BACKUP_FILE_BYTES_MAX: u64 = 80 * 1024 * 1024;
const KEY_LABEL: &[u8] = b"entente backup key";
const CHECK_LABEL: &[u8] = b"entente backup check";
/// What follows the last entry; no entry begins with it.
const END: u8 = 0;

/// Whose backup it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupOf {
    /// The account's address.
    pub address: Address,
    /// The account, by the id that its organisation never gives out again.
    pub account: AccountId,
    /// Where its homeserver was.
    pub endpoint: String,
    /// SHA-256 of the organisation's root certificate, as hexadecimal digits: for `chat enrol`.
    pub root_sha256: String,
    /// When it was made, milliseconds since the Unix epoch.
    pub made_ms: u64,
}

/// Seals entries' bytes that lie one behind the other.
pub(crate) fn seal(
    of: &BackupOf,
    entries: &[u8],
    code: &RecoveryCode,
    salt: [u8; SALT_BYTES],
) -> Result<Vec<u8>, Error> {
    let mut inside = Zeroizing::new(Vec::with_capacity(padded(entries.len() + 1024)));
    put_short(&mut inside, of.address.server.as_str())?;
    inside.extend_from_slice(of.account.as_bytes());
    put_short(&mut inside, of.address.handle.as_str())?;
    put_short(&mut inside, &of.endpoint)?;
    let mut root = [0; 32];
    hex::decode_to_slice(&of.root_sha256, &mut root).map_err(|_| damaged())?;
    inside.extend_from_slice(&root);
    inside.extend_from_slice(&of.made_ms.to_be_bytes());
    inside.extend_from_slice(entries);
    inside.push(END);
    let length = padded(inside.len());
    inside.resize(length, 0);

    let (key, check) = keys(code, &salt)?;
    let head = [&MAGIC[..], &[VERSION], &salt, &check].concat();
    let chunks = inside.len().div_ceil(CHUNK_BYTES);
    let mut file = Vec::with_capacity(head.len() + inside.len() + chunks * TAG_BYTES);
    file.extend_from_slice(&head);
    for (number, chunk) in (0_u32..).zip(inside.chunks(CHUNK_BYTES)) {
        let last = usize::try_from(number).is_ok_and(|number| number + 1 == chunks);
        let mut sealed = chunk.to_vec();
        key.seal_in_place_append_tag(nonce(number, last), Aad::from(&head), &mut sealed)
            .map_err(|_| damaged())?;
        file.extend_from_slice(&sealed);
    }
    Ok(file)
}

/// Opens a whole file: whose it is, and its entries. Nothing of one that is not whole.
pub(crate) fn open(file: &[u8], code: &RecoveryCode) -> Result<(BackupOf, Vec<Entry>), Error> {
    let (head, body) = file
        .split_at_checked(HEAD_BYTES)
        .filter(|(head, _)| head.starts_with(MAGIC))
        .ok_or_else(|| wrong("the file is no backup"))?;
    let mut reader = Reader::new(head.get(MAGIC.len()..).unwrap_or_default());
    let [version] = reader.array()?;
    if version != VERSION {
        return Err(wrong(
            "the backup is of another version: restore it with a newer program",
        ));
    }
    let salt: [u8; SALT_BYTES] = reader.array()?;
    let (key, check) = keys(code, &salt)?;
    if reader.rest() != check {
        return Err(wrong(
            "the recovery code is another backup's, or the file's beginning is damaged: compare the code with what was \
             shown when this file was made",
        ));
    }
    let mut inside = Zeroizing::new(Vec::with_capacity(body.len()));
    let chunks = body.len().div_ceil(CHUNK_BYTES + TAG_BYTES);
    for (number, chunk) in (0_u32..).zip(body.chunks(CHUNK_BYTES + TAG_BYTES)) {
        let last = usize::try_from(number).is_ok_and(|number| number + 1 == chunks);
        let mut chunk = Zeroizing::new(chunk.to_vec());
        let plain = key
            .open_in_place(nonce(number, last), Aad::from(head), &mut chunk)
            .map_err(|_| damaged())?;
        inside.extend_from_slice(plain);
    }
    read(&inside).map_err(|_| damaged())
}

/// Reads what is inside.
fn read(inside: &[u8]) -> Result<(BackupOf, Vec<Entry>), Error> {
    let mut reader = Reader::new(inside);
    let server = history::server(&mut reader)?;
    let account = AccountId::from_bytes(reader.array()?);
    let handle = history::handle(&mut reader)?;
    let of = BackupOf {
        address: Address { handle, server },
        account,
        endpoint: reader.short()?.to_owned(),
        root_sha256: hex::encode(reader.array::<32>()?),
        made_ms: u64::from_be_bytes(reader.array()?),
    };
    let mut entries = Vec::new();
    while reader.rest().first().is_some_and(|kind| *kind != END) {
        entries.push(Entry::read(&mut reader)?);
    }
    let used = inside.len() - reader.rest().len() + 1;
    let is_padded = padded(used) == inside.len() && reader.rest().iter().all(|byte| *byte == 0);
    if reader.is_empty() || !is_padded {
        return Err(damaged());
    }
    Ok((of, entries))
}

/// The key of the chunks, and what tells the right code.
fn keys(
    code: &RecoveryCode,
    salt: &[u8; SALT_BYTES],
) -> Result<(LessSafeKey, [u8; CHECK_BYTES]), Error> {
    struct Check;
    impl KeyType for Check {
        fn len(&self) -> usize {
            CHECK_BYTES
        }
    }
    let secret = Salt::new(HKDF_SHA256, salt).extract(code.secret());
    let expand = |_| damaged();
    let label = [KEY_LABEL];
    let key = secret.expand(&label, &AES_256_GCM).map_err(expand)?;
    let mut check = [0; CHECK_BYTES];
    secret
        .expand(&[CHECK_LABEL], Check)
        .and_then(|okm| okm.fill(&mut check))
        .map_err(expand)?;
    Ok((LessSafeKey::new(UnboundKey::from(key)), check))
}

fn nonce(number: u32, last: bool) -> Nonce {
    let [a, b, c, d] = number.to_be_bytes();
    let nonce: [u8; NONCE_LEN] = [0, 0, 0, 0, 0, 0, 0, a, b, c, d, u8::from(last)];
    Nonce::assume_unique_for_key(nonce)
}

fn padded(bytes: usize) -> usize {
    let padded = u64::try_from(bytes).map(padding::padded);
    padded
        .ok()
        .and_then(|padded| usize::try_from(padded).ok())
        .unwrap_or(bytes)
}

fn wrong(what: &str) -> Error {
    Error::Backup(format!("{what}; nothing was changed"))
}

fn damaged() -> Error {
    wrong("the backup is cut short or damaged: use another copy of it")
}

/// Reads bytes as a backup file, and as what is inside of one; no file opens.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn open_any(bytes: &[u8]) {
    let code = RecoveryCode::from_random(&[1; code::RANDOM_BYTES]);
    assert!(open(bytes, &code).is_err());
    let _ = read(bytes);
}

/// Text as a recovery code: what is one is read again as the same.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn code_any(text: &str) {
    if let Ok(code) = text.parse::<RecoveryCode>() {
        assert_eq!(code.to_string().parse::<RecoveryCode>(), Ok(code));
    }
}

#[cfg(test)]
mod tests;
