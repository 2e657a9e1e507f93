//! Backups: all that an organisation's homeserver keeps, in one encrypted file, made while it serves; and a data folder made
//! of one.
//!
//! Invariants:
//! - A backup is one moment of the store. Keys are read after it, so that they are never older than what it says of them.
//! - Nothing of a backup is readable without its passphrase or key, and nothing of it is believed before the chunk that it
//!   came in has proved to be in its place: not cut off, not exchanged, not of another file.
//! - Nothing in a backup needs a generation of the store's keys, and none is in it: keys of contents are wrapped under a key of the
//!   backup's own.
//! - What is restored lies aside until all of it was read, written, and read back; then it is moved to its place.
//!
//! The format stands in `docs/operations/backup-and-restore.md`. Deliberately absent: compression, for almost everything
//! stored is ciphertext; and backups of a part.

pub mod contents;
mod keys;
mod making;
mod reading;
mod restoring;
mod resuming;
pub mod sealing;
#[cfg(test)]
mod tests;

pub use keys::{KEY_LABEL, KeyPair, PUBLIC_KEY_LABEL, private_key, public_key};
pub use making::{BackupError, Making, begin};
pub use reading::{ReadError, Reader};
pub use restoring::{Asked, RestoreError, Restored, restore, verify};
pub use resuming::resume;
pub use sealing::{PASSPHRASE_BYTES_MAX, PASSPHRASE_BYTES_MIN, Recipient, Secret};
