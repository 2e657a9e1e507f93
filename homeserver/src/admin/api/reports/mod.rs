//! Reports of abuse.

use federation_proto::ids::ReportId;
use homeserver_api::admin::{
    DisclosedMessage, ReportClosed, ReportDetail, ReportState, ReportSummary, Told,
};

use super::error::AdminError;
use crate::delivery::reports::CloseError;
use crate::node::Node;
use crate::store::report::{Partner, ReportRecord, Reporter};

pub(super) mod close;
pub(super) mod list;
pub(super) mod show;

impl From<CloseError> for AdminError {
    fn from(error: CloseError) -> Self {
        let text = error.to_string();
        match error {
            CloseError::Closed => Self::Conflict("conflict", text),
            CloseError::NoteTooLong => Self::Malformed(text),
            CloseError::Busy => Self::Busy(text),
            CloseError::Store(_) => Self::Internal(text),
        }
    }
}

fn unknown(report: ReportId) -> AdminError {
    AdminError::NotFound(format!(
        "there is no report {report}: it never was, or its time is over"
    ))
}

fn summary(node: &Node, report: ReportId, record: &ReportRecord) -> ReportSummary {
    let (from, reporter) = match &record.from {
        Reporter::Own { handle, .. } => (node.server.clone(), Some(handle.clone())),
        Reporter::Peer { server, handle, .. } => (server.clone(), handle.clone()),
    };
    ReportSummary {
        report,
        at_ms: record.at_ms,
        state: match record.closed {
            None => ReportState::Open,
            Some(_) => ReportState::Closed,
        },
        reason: record.reason,
        address: record.address.clone(),
        account: record.account,
        from,
        reporter,
        messages: record.messages.len(),
    }
}

fn detail(node: &Node, report: ReportId, record: ReportRecord) -> ReportDetail {
    let summary = summary(node, report, &record);
    let (partner_report, reporter_in_room) = match record.from {
        Reporter::Own { .. } => (None, Some(record.known.reporter_in_room)),
        Reporter::Peer { report, .. } => (Some(report), None),
    };
    let disclosed = record.messages.into_iter().map(|message| DisclosedMessage {
        device: message.device,
        accepted_ms: message.accepted_ms,
        message_sha256: message.message_sha256.to_string(),
        text: message.text,
    });
    ReportDetail {
        summary,
        room: record.room,
        note: record.note,
        partner_report,
        reported_in_room: record.known.reported_in_room,
        reporter_in_room,
        told: match record.partner {
            Partner::NotTold => Told::No,
            Partner::Sent { named: false } => Told::Unnamed,
            Partner::Sent { named: true } => Told::Named,
            Partner::Returned(refusal) => Told::Returned(refusal),
        },
        closed: record.closed.map(|closed| ReportClosed {
            at_ms: closed.at_ms,
            by: closed.by,
            note: closed.note,
        }),
        disclosed: disclosed.collect(),
    }
}
