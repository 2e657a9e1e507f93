//! The device log: which devices an organisation's accounts have had, for everybody to hold it to.
//!
//! Each organisation keeps one append-only list of [`DeviceStatement`]s, one for each device that comes to an
//! account or leaves it, under a Merkle tree (RFC 9162). A [`SignedHead`] says how long the list is and what its
//! root is. An account's statements are numbered and each names the one before by its hash, so that the newest
//! one stands for all: a [`DeviceHistory`] is the whole of them with the proof that the newest one is in the log.
//!
//! - [`statement`]: what is said of one device, and the approval by another one.
//! - [`chain`]: the devices that an account's statements amount to, judged from the first to the last.
//! - [`head`]: heads, and whether one follows another.
//! - [`history`]: what an answer about an account carries.
//!
//! Deliberately absent: handles. A statement names accounts and devices by their opaque ids.

pub mod chain;
pub mod head;
pub mod history;
pub mod statement;

pub use chain::{ChainError, Device, DeviceChain};
pub use head::{Growth, Head, HeadError, LogError, SignedHead};
pub use history::{DeviceHistory, HistoryError};
pub use statement::{DeviceStatement, How};
