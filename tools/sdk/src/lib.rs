//! Client library: one enrolled device, its rooms and its messages.
//!
//! - [`Client`]: enrol, open, connect, start a conversation, send, receive.
//! - [`Event`]: what happens, told after it is durable.
//! - [`session`]: the session alone, without MLS and without a store.
//! - [`Error`]: one error with stable codes and sentences for people.

#![warn(missing_docs)]

mod backup;
mod client;
mod clock;
mod content;
mod core;
mod error;
mod event;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod history;
mod message;
mod mls;
mod padding;
mod requests;
pub mod session;

mod store;
#[cfg(test)]
mod testing;
mod tls;

pub use crate::core::{DetachedRoom, PastRoom, RoomNumber, SafetyNumber};
pub use backup::{BackupOf, RecoveryCode};
pub use client::{Backup, Client, Enrolment, HistorySent, Restored, Waiting, read_backup};
pub use clock::{Clock, SystemClock};
pub use content::TEXT_BYTES_MAX;
pub use error::Error;
pub use event::{EVENTS_WAITING_MAX, Event, Events};
pub use homeserver_api::client::{AccountInfo, Came, DeviceInfo, WaitingDevice};
pub use homeserver_api::contacts::{ContactChange, ContactInfo, ContactStanding};
pub use homeserver_api::ids;
pub use homeserver_api::limits::CONTACT_TEXT_BYTES_MAX;
pub use homeserver_api::password::Password;
pub use homeserver_api::policy::{
    Bounds, Choice, DeviceReset, DirectoryListing, OutsideContacts, OwnRules, Preview,
    UserTypePolicy,
};
pub use homeserver_api::refusal;
pub use homeserver_api::session as frames;
pub use message::{
    AbuseReport, Body, Continues, Gap, Message, MessageId, Progress, Room, RoomMember, SendOptions,
};
use room_rules::certificate;
pub use room_rules::settings::Role;
pub use store::StoreKey;
