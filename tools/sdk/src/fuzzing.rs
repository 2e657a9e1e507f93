//! What the fuzz targets in `fuzz/` call: each decoder of the client library, without its types.

use crate::client;
use crate::content::Content;
use crate::{backup, core, history, mls, store, tls};

/// A message's content has one encoding.
#[expect(clippy::expect_used, reason = "fuzzing stops at the first surprise")]
pub fn content(bytes: &[u8]) {
    if let Ok(content) = Content::decode(bytes) {
        assert_eq!(content.encode().expect("it can be written"), bytes);
    }
}

/// MLS messages.
pub fn mls_message(bytes: &[u8]) {
    let _ = mls::parse(bytes);
}

/// Sealed records and the file `unlock`.
pub fn sealed(bytes: &[u8]) {
    store::open_any(bytes);
}

/// The fingerprint of a root as a person types it.
pub fn root_pin(text: &str) {
    let _ = tls::RootPin::parse(text);
}

/// The code of a new device as a person types it.
pub fn device_code(text: &str) {
    if let Some(code) = core::read_code(text) {
        assert_eq!(core::read_code(&code), Some(code));
    }
}

/// Key files.
pub fn key_file(text: &str) {
    let _ = store::StoreKey::from_text(text);
}

/// A part of a history between two own devices has one encoding.
pub fn history(bytes: &[u8]) {
    history::read_any_part(bytes);
}

/// Backup files, and what is inside of one.
pub fn backup(bytes: &[u8]) {
    backup::open_any(bytes);
}

/// The recovery code of a backup as a person types it.
pub fn recovery_code(text: &str) {
    backup::code_any(text);
}

/// Everything that is kept in the store.
pub fn records(bytes: &[u8]) {
    core::read_any(bytes);
}

/// A file's chunks, with the file's length and the chunk's number in front.
pub fn file_chunks(bytes: &[u8]) {
    if let Some((length, rest)) = bytes.split_first_chunk()
        && let Some((number, chunk)) = rest.split_first_chunk()
    {
        let number = u32::from_be_bytes(*number);
        client::open_any_chunk(chunk, u64::from_be_bytes(*length), number);
    }
}
