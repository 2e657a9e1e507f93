//! Evidence of who was cut off.

use federation_proto::hash::Digest;
use federation_proto::ids::{Address, EvidenceId, RoomId};
use homeserver_api::evidence::{
    CutReason, EvidenceDevice, EvidenceRoom, EvidenceState, EvidenceStep, EvidenceStepKind,
    EvidenceSummary,
};

use super::error::AdminError;
use crate::audit::Actor;
use crate::node::Node;
use crate::store::evidence::{By, EvidenceRecord, Reason, RoomRow, StepRow, WhatRow};

pub(super) mod document;
pub(super) mod list;
pub(super) mod show;

fn unknown(evidence: EvidenceId) -> AdminError {
    AdminError::NotFound(format!(
        "there is no evidence {evidence}: it never was, or its time is over; `hsctl evidence list` has what there is"
    ))
}

const fn state(is_done: bool) -> EvidenceState {
    match is_done {
        true => EvidenceState::Complete,
        false => EvidenceState::Waiting,
    }
}

fn summary(
    node: &Node,
    evidence: EvidenceId,
    record: &EvidenceRecord,
    waiting: usize,
) -> EvidenceSummary {
    let by = match &record.by {
        By::Administrator(name) => Actor::Admin(name.clone()),
        By::Operator(user) => Actor::Local(*user),
        By::Device(device) => Actor::Device(*device),
        By::System => Actor::System,
    };
    EvidenceSummary {
        evidence,
        cut_ms: record.cut_ms,
        state: state(record.completed_ms.is_some()),
        reason: match record.reason {
            Reason::UserDeleted => CutReason::UserDeleted,
            Reason::UserSuspended => CutReason::UserSuspended,
            Reason::DeviceRemoved => CutReason::DeviceRemoved,
        },
        address: Address {
            handle: record.handle.clone(),
            server: node.server.clone(),
        },
        account: record.account,
        by: by.to_string(),
        devices: record.devices.len(),
        sessions: record.sessions,
        sessions_ended_ms: record.sessions_ended_ms,
        listed_ms: record.listed_ms,
        waiting,
        completed_ms: record.completed_ms,
    }
}

fn devices(record: &EvidenceRecord) -> Vec<EvidenceDevice> {
    let devices = record.devices.iter();
    devices
        .map(|(device, key)| EvidenceDevice {
            device: *device,
            key_sha256: Digest::of(key).to_string(),
        })
        .collect()
}

fn room(room: RoomId, row: RoomRow) -> EvidenceRoom {
    EvidenceRoom {
        room,
        state: state(row.is_done()),
        hub: row.hub,
        devices: row.devices,
        steps: row.steps.into_iter().map(step).collect(),
    }
}

fn step(step: StepRow) -> EvidenceStep {
    let (what, said) = match step.what {
        WhatRow::Asked => (EvidenceStepKind::Asked, None),
        WhatRow::Accepted => (EvidenceStepKind::Accepted, None),
        WhatRow::Ordered(said) => (EvidenceStepKind::Ordered, Some(said)),
        WhatRow::Removed(said) => (EvidenceStepKind::Removed, Some(said)),
        WhatRow::Ended => (EvidenceStepKind::Ended, None),
    };
    EvidenceStep {
        what,
        at_ms: step.at_ms,
        devices: step.devices.len(),
        epoch: said.as_ref().map(|said| said.epoch),
        stamp_ms: said.as_ref().map(|said| said.stamp_ms),
        signed: said.is_some_and(|said| said.proof.is_some()),
    }
}
