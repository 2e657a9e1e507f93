//! `F`: encrypted files, by the homeserver that they were uploaded to; `f`: their bytes, in chunks;
//! `u`: how many bytes of files an account, or the copies of a peer's files, have here.

use bytes::Bytes;
use federation_proto::ids::{AccountId, FileId, ServerName};
use serde::{Deserialize, Serialize};

use super::record::{decode, encode};
use super::{Key, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "file";
const VERSION: u8 = 1;
const FILE: u8 = b'F';
const CHUNK: u8 = b'f';
const USAGE: u8 = b'u';

/// A file here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// The homeserver that it was uploaded to.
    pub server: ServerName,
    /// Its id there.
    pub file: FileId,
    /// Its length.
    pub bytes: u64,
    /// From when on it is never served, milliseconds since the Unix epoch.
    pub expires_ms: u64,
    /// Who uploaded it here; `None` for a peer's file.
    pub owner: Option<AccountId>,
    /// Whether all of its bytes are here.
    pub complete: bool,
}

/// The file and its stored bytes (for a precondition). `place` is `place`'s.
pub async fn get(store: &Store, place: FileId) -> Result<Option<(FileRecord, Value)>, StoreError> {
    match store.get(&key(place)).await? {
        Some(value) => Ok(Some((decode(FAMILY, VERSION, &value)?, value))),
        None => Ok(None),
    }
}

/// Writes a file's record; its stored bytes (for [`require`]).
pub fn put(part: &mut Part, place: FileId, record: &FileRecord) -> Result<Value, StoreError> {
    let value = encode(FAMILY, VERSION, record)?;
    part.put(key(place), value.clone());
    Ok(value)
}

/// The part holds only while the file is as it was read.
pub fn require(part: &mut Part, place: FileId, read: Option<Value>) {
    part.require(Precondition::unchanged(key(place), read));
}

/// Deletes a file's record.
pub fn delete(part: &mut Part, place: FileId) {
    part.delete(key(place));
}

/// Writes the `number`th chunk.
pub fn put_chunk(part: &mut Part, place: FileId, number: u32, bytes: &Bytes) {
    part.put(chunk_key(place, number), bytes.clone());
}

/// The `number`th chunk.
pub async fn chunk(store: &Store, place: FileId, number: u32) -> Result<Option<Bytes>, StoreError> {
    match store.get(&chunk_key(place, number)).await? {
        // None is written empty: it can't be opened.
        Some(bytes) if bytes.is_empty() => Err(StoreError::Corrupt { family: FAMILY }),
        found => Ok(found),
    }
}

/// Deletes the `number`th chunk.
pub fn delete_chunk(part: &mut Part, place: FileId, number: u32) {
    part.delete(chunk_key(place, number));
}

/// Whose files are counted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// What an account has uploaded here.
    Account(AccountId),
    /// Copies of what was uploaded to a peer.
    Peer(ServerName),
}

impl FileRecord {
    /// Whose the file is.
    pub fn whose(&self) -> Whose {
        match self.owner {
            Some(account) => Whose::Account(account),
            None => Whose::Peer(self.server.clone()),
        }
    }
}

/// How many bytes of files they have here, and the stored bytes.
pub async fn usage(store: &Store, whose: &Whose) -> Result<(u64, Option<Value>), StoreError> {
    match store.get(&usage_key(whose)).await? {
        Some(value) => Ok((decode(FAMILY, VERSION, &value)?, Some(value))),
        None => Ok((0, None)),
    }
}

/// Writes how many bytes they have here, if that was `read` before.
pub fn put_usage(
    part: &mut Part,
    whose: &Whose,
    read: Option<Value>,
    bytes: u64,
) -> Result<(), StoreError> {
    part.require(Precondition::unchanged(usage_key(whose), read));
    part.put(usage_key(whose), encode(FAMILY, VERSION, &bytes)?);
    Ok(())
}

fn key(place: FileId) -> Key {
    [&[FILE][..], place.as_bytes()].concat().into()
}

fn chunk_key(place: FileId, number: u32) -> Key {
    [&[CHUNK][..], place.as_bytes(), &number.to_be_bytes()]
        .concat()
        .into()
}

fn usage_key(whose: &Whose) -> Key {
    match whose {
        Whose::Account(account) => [&[USAGE, b'a'][..], account.as_bytes()].concat().into(),
        Whose::Peer(server) => [&[USAGE, b'p'], server.as_str().as_bytes()].concat().into(),
    }
}
