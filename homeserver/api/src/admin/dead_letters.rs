//! What was given up.

use federation_proto::ids::{DeviceId, RoomId, ServerName};
use federation_proto::refusal::{Refusal, RefusalCode};
use serde::{Deserialize, Serialize};

/// What was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetters {
    /// What people here had written, newest first.
    pub dead_letters: Vec<DeadLetter>,
    /// What nobody here had written, such as answers to the partner's own requests: how many, newest day
    /// first.
    #[serde(default)]
    pub counted: Vec<DeadCount>,
}

/// How many envelopes that nobody here had written were given up on one day, for one server and reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadCount {
    /// When the day began (UTC), milliseconds since the Unix epoch.
    pub day_ms: u64,
    /// For whom they were.
    pub server: ServerName,
    /// Why.
    pub code: RefusalCode,
    /// How many.
    pub count: u64,
}

/// An envelope that was given up; its sender was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// For whom it was.
    pub server: ServerName,
    /// The room, when it was of one.
    pub room: Option<RoomId>,
    /// The sending device, when it was of one.
    pub device: Option<DeviceId>,
    /// Why.
    pub refusal: Refusal,
}
