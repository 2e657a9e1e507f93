//! Reports of abuse: what a reporter discloses to the organisation of whom he reports.
//!
//! The one payload with words of users in clear, for a reporter has chosen to show them. No server can tell
//! whether they were in the messages that he names.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{read_handle, read_room};
use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::hash::Digest;
use crate::ids::{AccountId, DeviceId, Handle, ReportId, RoomId};
use crate::limits::{
    HANDLE_BYTES_MAX, REPORT_NOTE_BYTES_MAX, REPORT_TEXT_BYTES_MAX, REPORTED_MESSAGES_MAX,
    SMALL_FIELDS_BYTES_MAX,
};

/// Why somebody is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AbuseReason {
    /// Unasked for, again and again.
    Spam,
    /// Meant to hurt or to frighten.
    Harassment,
    /// Against the law.
    Illegal,
    /// By somebody who passes for another.
    Impersonation,
    /// Something else: the note says what.
    Other,
}

impl AbuseReason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Spam,
        Self::Harassment,
        Self::Illegal,
        Self::Impersonation,
        Self::Other,
    ];

    /// The number that stands for it.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Spam => 1,
            Self::Harassment => 2,
            Self::Illegal => 3,
            Self::Impersonation => 4,
            Self::Other => 5,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spam => "spam",
            Self::Harassment => "harassment",
            Self::Illegal => "illegal",
            Self::Impersonation => "impersonation",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for AbuseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One message that a reporter discloses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedMessage {
    /// The device of the reported account that sent it, as MLS showed it to the reporter's.
    pub device: DeviceId,
    /// The origin's acceptance as the reporter's device was told it, milliseconds since the Unix epoch.
    pub accepted_ms: u64,
    /// SHA-256 of the MLS PrivateMessage as the reporter's device got it: whoever still has that finds it by
    /// this. It says nothing about the text.
    pub message_sha256: Digest,
    /// What the reporter's device showed.
    pub text: String,
}

/// A report about somebody of the destination's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbuseReport {
    /// Chosen by the origin, and how the two organisations speak of it.
    pub report: ReportId,
    /// Who is reported.
    pub account: AccountId,
    /// The room in which it happened.
    pub room: RoomId,
    /// Why.
    pub reason: AbuseReason,
    /// In the reporter's words.
    pub note: String,
    /// Who reports, of the origin's; absent: he does not want to be named.
    pub reporter: Option<Handle>,
    /// When, by the origin's clock, milliseconds since the Unix epoch.
    pub reported_ms: u64,
    /// What he discloses; perhaps nothing.
    pub messages: Vec<ReportedMessage>,
}

/// Whether what a report discloses is within the limits.
#[must_use]
pub fn is_reportable(note: &str, messages: &[ReportedMessage]) -> bool {
    let text: usize = messages.iter().map(|message| message.text.len()).sum();
    note.len() <= REPORT_NOTE_BYTES_MAX
        && messages.len() <= REPORTED_MESSAGES_MAX
        && text <= REPORT_TEXT_BYTES_MAX
}

impl Wire for AbuseReport {
    const BYTES_MAX: usize = REPORT_NOTE_BYTES_MAX
        + REPORT_TEXT_BYTES_MAX
        + REPORTED_MESSAGES_MAX * (16 + 8 + 32 + 4)
        + SMALL_FIELDS_BYTES_MAX;
    const NAME: &'static str = "abuse report payload";

    fn write(&self, writer: &mut Writer) {
        writer.fixed(self.report.as_bytes());
        writer.fixed(self.account.as_bytes());
        writer.fixed(self.room.as_bytes());
        writer.u8(self.reason.number());
        writer.opaque16("note", REPORT_NOTE_BYTES_MAX, self.note.as_bytes());
        writer.optional(self.reporter.as_ref(), |writer, handle| {
            writer.opaque8("handle", HANDLE_BYTES_MAX, handle.as_str().as_bytes());
        });
        writer.u64(self.reported_ms);
        writer.list(
            "messages",
            REPORTED_MESSAGES_MAX,
            &self.messages,
            |writer, message| {
                writer.fixed(message.device.as_bytes());
                writer.u64(message.accepted_ms);
                writer.fixed(message.message_sha256.as_bytes());
                writer.opaque32("text", REPORT_TEXT_BYTES_MAX, message.text.as_bytes());
            },
        );
        if !is_reportable(&self.note, &self.messages) {
            writer.fail("texts", REPORT_TEXT_BYTES_MAX);
        }
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let report = Self {
            report: reader.fixed("report").map(ReportId::from_bytes)?,
            account: reader.fixed("account").map(AccountId::from_bytes)?,
            room: read_room(reader)?,
            reason: read_reason(reader)?,
            note: text("note", &reader.opaque16("note", REPORT_NOTE_BYTES_MAX)?)?,
            reporter: reader.optional("reporter", read_handle)?,
            reported_ms: reader.u64("reported")?,
            messages: reader.list("messages", REPORTED_MESSAGES_MAX, |reader| {
                Ok(ReportedMessage {
                    device: reader.fixed("device").map(DeviceId::from_bytes)?,
                    accepted_ms: reader.u64("accepted")?,
                    message_sha256: Digest::from_bytes(reader.fixed("message hash")?),
                    text: text("text", &reader.opaque32("text", REPORT_TEXT_BYTES_MAX)?)?,
                })
            })?,
        };
        if !is_reportable(&report.note, &report.messages) {
            return Err(DecodeError::TooLong {
                what: "texts",
                max: REPORT_TEXT_BYTES_MAX,
            });
        }
        Ok(report)
    }
}

fn read_reason(reader: &mut Reader) -> Result<AbuseReason, DecodeError> {
    let number = reader.u8("reason")?;
    AbuseReason::ALL
        .into_iter()
        .find(|reason| reason.number() == number)
        .ok_or(DecodeError::UnknownValue {
            what: "reason",
            value: number.into(),
        })
}

/// What users have written, as they did: lines, and characters that are not seen. Whoever shows it makes it
/// harmless.
fn text(what: &'static str, bytes: &[u8]) -> Result<String, DecodeError> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| DecodeError::Invalid(what))
}
