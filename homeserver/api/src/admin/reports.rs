//! Reports of abuse.

use federation_proto::ids::{AccountId, Address, DeviceId, Handle, ReportId, RoomId, ServerName};
use federation_proto::payload::AbuseReason;
use federation_proto::refusal::Refusal;
use serde::{Deserialize, Serialize};

/// Which reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportState {
    /// Nobody has dealt with it.
    #[default]
    Open,
    /// Somebody has.
    Closed,
}

/// Reports, without what they disclose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reports {
    /// Newest first.
    pub reports: Vec<ReportSummary>,
    /// Pass it as `before` for the next page; absent: no more.
    pub next_before: Option<ReportId>,
}

/// A report in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportSummary {
    /// Its id.
    pub report: ReportId,
    /// When it came, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Whether somebody has dealt with it.
    pub state: ReportState,
    /// Why.
    pub reason: AbuseReason,
    /// Who is reported.
    pub address: Address,
    /// The account.
    pub account: AccountId,
    /// The organisation whose person reports.
    pub from: ServerName,
    /// Who reports; absent: a partner's person who does not want to be named.
    pub reporter: Option<Handle>,
    /// How many messages were disclosed.
    pub messages: usize,
}

/// A report in full. What it discloses, the reporter's device says: no server could read the messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportDetail {
    /// What the list shows.
    #[serde(flatten)]
    pub summary: ReportSummary,
    /// The room.
    pub room: RoomId,
    /// In the reporter's words.
    pub note: String,
    /// What the partner calls the report, when it comes from there.
    pub partner_report: Option<ReportId>,
    /// Whether this homeserver had the reported account in the room when the report came.
    pub reported_in_room: bool,
    /// Whether it had the reporter there; of a partner's report it can't tell.
    pub reporter_in_room: Option<bool>,
    /// Whether the reported person's organisation was told.
    pub told: Told,
    /// Who has dealt with it.
    pub closed: Option<ReportClosed>,
    /// What was disclosed.
    pub disclosed: Vec<DisclosedMessage>,
}

/// Whether the reported person's organisation was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// No: the reporter did not ask for it, or it is this one.
    No,
    /// Yes, or as soon as it can be reached, without the reporter's name.
    Unnamed,
    /// Yes, or as soon as it can be reached, with the reporter's name.
    Named,
    /// It did not take the report.
    Returned(Refusal),
}

/// Who has dealt with a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportClosed {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Which administrator, as the audit log names him.
    pub by: String,
    /// What came of it.
    pub note: String,
}

/// One message as the reporter's device has disclosed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisclosedMessage {
    /// The device that is said to have sent it.
    pub device: DeviceId,
    /// When its homeserver is said to have accepted it, milliseconds since the Unix epoch.
    pub accepted_ms: u64,
    /// SHA-256 of the encrypted message, lower-case hexadecimal: who still has that finds it by this. It does not
    /// prove the text.
    pub message_sha256: String,
    /// The text.
    pub text: String,
}

/// Close a report.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloseReportRequest {
    /// What came of it; goes into the report and the audit log.
    #[serde(default)]
    pub note: String,
}
