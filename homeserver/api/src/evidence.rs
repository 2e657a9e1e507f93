//! Evidence of who was cut off, of the admin API.
//!
//! | endpoint | query | answer |
//! |---|---|---|
//! | `GET /admin/v1/evidence` | `?state=&before=&limit=` | [`EvidenceList`], newest first |
//! | `GET /admin/v1/evidence/{evidence}` | `?after=&limit=` | [`EvidenceDetail`], a page of its rooms |
//! | `GET /admin/v1/evidence/{evidence}/document` | `?after=` | [`EvidencePage`], signed |

use federation_proto::ids::{AccountId, Address, DeviceId, EvidenceId, RoomId, ServerName};
use serde::{Deserialize, Serialize};

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceState {
    /// Something is waited for.
    Waiting,
    /// Nothing is left to wait for.
    Complete,
}

/// Why devices were cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CutReason {
    /// Their user was deleted.
    UserDeleted,
    /// Their user was suspended.
    UserSuspended,
    /// The device was removed from its account.
    DeviceRemoved,
}

/// One cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceSummary {
    /// The evidence.
    pub evidence: EvidenceId,
    /// When devices were cut off, milliseconds since the Unix epoch.
    pub cut_ms: u64,
    /// How far it has come.
    pub state: EvidenceState,
    /// Why.
    pub reason: CutReason,
    /// Whose devices, by the address of then.
    pub address: Address,
    /// His account.
    pub account: AccountId,
    /// By whom, as the audit log names him.
    pub by: String,
    /// How many devices.
    pub devices: usize,
    /// How many of them had a session open; `None`: not known yet.
    pub sessions: Option<u32>,
    /// When all sessions had ended.
    pub sessions_ended_ms: Option<u64>,
    /// When every room had been looked through for the devices.
    pub listed_ms: Option<u64>,
    /// How many rooms are waited for.
    pub waiting: usize,
    /// When nothing was left to wait for.
    pub completed_ms: Option<u64>,
}

/// Cuts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceList {
    /// Newest first.
    pub evidence: Vec<EvidenceSummary>,
    /// Ask for those before this one; `None`: these are all.
    pub next_before: Option<EvidenceId>,
}

/// A device that was cut off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceDevice {
    /// The device.
    pub device: DeviceId,
    /// SHA-256 of the key that all of its certificates have had, in hexadecimal digits.
    pub key_sha256: String,
}

/// One cut with a page of its rooms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceDetail {
    /// What it is about.
    #[serde(flatten)]
    pub summary: EvidenceSummary,
    /// The devices.
    pub device_list: Vec<EvidenceDevice>,
    /// Rooms that they were in.
    pub rooms: Vec<EvidenceRoom>,
    /// Ask for the rooms behind this one; `None`: these are all.
    pub next_after: Option<RoomId>,
}

/// A room that the devices were in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceRoom {
    /// The room.
    pub room: RoomId,
    /// The homeserver that orders it.
    pub hub: ServerName,
    /// Those of the devices that were in it.
    pub devices: Vec<DeviceId>,
    /// How far it has come.
    pub state: EvidenceState,
    /// What has happened, in its order.
    pub steps: Vec<EvidenceStep>,
}

/// What a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceStepKind {
    /// The hub was asked to remove them.
    Asked,
    /// The hub has accepted that.
    Accepted,
    /// The hub has ordered their removal, and takes nothing of them from here on.
    Ordered,
    /// A commit has taken them out of the group.
    Removed,
    /// The room is over for this homeserver.
    Ended,
}

/// Something that has happened in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceStep {
    /// What.
    pub what: EvidenceStepKind,
    /// When it was known here, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// How many of the devices it concerns.
    pub devices: usize,
    /// The epoch of the order or of the commit.
    pub epoch: Option<u64>,
    /// The hub's stamp, milliseconds since the Unix epoch.
    pub stamp_ms: Option<u64>,
    /// Whether the hub's signature is kept with it.
    pub signed: bool,
}

/// A page of evidence, signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidencePage {
    /// The document in its armor.
    pub document: String,
    /// How many rooms it holds.
    pub rooms: usize,
    /// Ask for the page behind this room; `None`: this is the last.
    pub next_after: Option<RoomId>,
}
