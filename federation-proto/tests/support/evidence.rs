//! Evidence: a user of `a` was deleted, who was in a room of its own and in one that `b` orders.

use bytes::Bytes;
use federation_proto::deprovisioning::{
    By, Cut, CutDevice, Evidence, HubKeys, Proof, Reason, RoomEvidence, Said, Sessions, Step, What,
};
use federation_proto::envelope::{HashedPayload, Outgoing};
use federation_proto::hash::Digest;
use federation_proto::ids::{EvidenceId, Member, RoomId};
use federation_proto::payload::{Handshake, Payload, Removal, Removals};
use federation_proto::transaction::{self, Link};

use super::golden::{link_ab, manifest_of, member};
use super::{NOW_MS, Organisation};

/// The room that `a` orders.
pub const OWN: RoomId = RoomId::from_bytes([0x0a; 16]);
/// The room that `b` orders.
pub const FOREIGN: RoomId = RoomId::from_bytes([0x0b; 16]);

/// Alice's device.
pub fn alice() -> Member {
    member("a.example", 0xa1)
}

/// What `b` signs to `a`, as evidence keeps it.
pub fn word(a: &Organisation, b: &Organisation, payload: &Payload) -> Proof {
    let there = link_ab(a, b);
    let link = Link {
        origin: there.destination,
        destination: there.origin,
        ..there
    };
    let outgoing = Outgoing {
        kind: payload.kind(),
        lane: FOREIGN.into(),
        sequence: 1,
        created_ms: NOW_MS,
        expires_ms: 0,
        payload: HashedPayload::new(payload.encode().unwrap()),
    };
    let signed = transaction::sign(&b.envelope_key, &link, &[outgoing]).unwrap();
    let letter = b.name.as_str().get(..1).unwrap();
    let manifest = manifest_of(b, letter);
    let verified = transaction::decode(signed.bytes)
        .unwrap()
        .verify(&manifest, &link.origin, &link.destination, NOW_MS)
        .unwrap();
    let envelope = &verified.envelopes()[0];
    Proof {
        manifest: Digest::of(manifest.bytes()),
        place: envelope.proof(),
        envelope: envelope.bytes().clone(),
    }
}

/// The hub's removal of whom it is told.
pub fn removals(member: Member) -> Payload {
    Payload::Removals(Removals {
        room: FOREIGN,
        epoch: 3,
        stamp_ms: NOW_MS,
        removals: vec![Removal {
            member,
            proposal: Bytes::from_static(b"an MLS proposal"),
        }],
    })
}

/// The commit that takes him out.
pub fn commit(removed: Member) -> Payload {
    Payload::Handshake(Handshake {
        room: FOREIGN,
        hub: "b.example".parse().unwrap(),
        epoch: 3,
        sender: member("b.example", 0xb1),
        reference: 8,
        commit: Bytes::from_static(b"an MLS PublicMessage"),
        adds: Vec::new(),
        removes: vec![removed],
        welcome: None,
        group_info: None,
        stamp_ms: NOW_MS,
    })
}

fn step(what: What) -> Step {
    Step {
        at_ms: NOW_MS,
        devices: vec![alice().device],
        what,
    }
}

/// The evidence, complete.
pub fn of_alice(a: &Organisation, b: &Organisation) -> Evidence {
    let said = |epoch, proof| Said {
        epoch,
        stamp_ms: NOW_MS,
        proof,
    };
    let ordered = word(a, b, &removals(alice()));
    let removed = word(a, b, &commit(alice()));
    Evidence {
        cut: Cut {
            evidence: EvidenceId::from_bytes([0xe1; 16]),
            server: a.name.clone(),
            account: alice().account,
            handle: "alice".parse().unwrap(),
            reason: Reason::UserDeleted,
            by: By::Administrator("root".parse().unwrap()),
            cut_ms: NOW_MS,
            devices: vec![CutDevice {
                device: alice().device,
                key: [0xa3; 32],
            }],
        },
        sessions: Some(Sessions {
            count: 1,
            ended_ms: NOW_MS,
        }),
        listed_ms: Some(NOW_MS),
        completed_ms: Some(NOW_MS),
        at_ms: NOW_MS,
        after: None,
        more: false,
        hubs: vec![HubKeys {
            server: b.name.clone(),
            root: b.root.clone(),
            manifest: manifest_of(b, "b").bytes().clone(),
        }],
        rooms: vec![
            RoomEvidence {
                room: OWN,
                hub: a.name.clone(),
                devices: vec![alice().device],
                steps: vec![
                    step(What::Asked),
                    step(What::Ordered(said(7, None))),
                    step(What::Removed(said(8, None))),
                ],
            },
            RoomEvidence {
                room: FOREIGN,
                hub: b.name.clone(),
                devices: vec![alice().device],
                steps: vec![
                    step(What::Asked),
                    step(What::Accepted),
                    step(What::Ordered(said(3, Some(ordered)))),
                    step(What::Removed(said(4, Some(removed)))),
                ],
            },
        ],
    }
}
