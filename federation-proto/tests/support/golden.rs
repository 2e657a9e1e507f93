//! What the golden vectors hold, made from fixed keys and fixed values.
//!
//! What envelope keys sign (Ed25519) comes out the same every time. What issuing keys sign (ECDSA)
//! does not, so those documents are made once and then read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use federation_proto::agreement::{
    Acceptance, AcceptanceBody, AmendmentBody, Charter, CharterBody, ConsentBody, Decided,
    DeclarationBody, Introduction, Offer, OfferBody, Statement,
};
use federation_proto::audit_log::{Sighting, SignedAuditHead, SignedSighting};
use federation_proto::codec::Wire;
use federation_proto::device_log::{
    DeviceChain, DeviceHistory, DeviceStatement, Growth, Head, How,
};
use federation_proto::envelope::{HashedPayload, Lane, Outgoing};
use federation_proto::hash::Digest;
use federation_proto::ids::{
    AccountId, ConsortiumId, DeviceId, Member, ReportId, RequestId, RoomId,
};
use federation_proto::keys::{EnvelopeKey, IssuingKey};
use federation_proto::link::chain;
use federation_proto::manifest::{self, Manifest};
use federation_proto::merkle::Tree;
use federation_proto::payload::{
    About, AbuseReason, AbuseReport, AuditHead, ClaimedKey, Contact, ContactAct, DirectoryAnswer,
    DirectoryQuery, Found, GroupInfo, GroupInfoRequest, GroupInfoResponse, Handshake, KeyMaterial,
    KeyRequest, KeyResponse, KeysOf, LogHead, Message, Notice, Payload, Relay, Removal,
    RemovalRequest, Removals, ReportedMessage, RoomConsentRequest, RoomConsentResponse, Sender,
    Sought, Tombstone, Welcome,
};
use federation_proto::receipt::{ItemResult, LaneHead, ReceiptBody};
use federation_proto::refusal::{Refusal, RefusalCode};
use federation_proto::room_consent::{RoomConsent, SignedRoomConsent, Span};
use federation_proto::transaction::{Link, SignedTransaction, VerifiedEnvelope, decode, sign};
use federation_proto::version::{Version, VersionSet};

use super::{DAY_MS, NOW_MS, Organisation, link, random, server};

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

pub fn read(name: &str) -> Bytes {
    let path = folder().join(name);
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .into()
}

/// The organisation `a` or `b` as it stands in the folder.
pub fn organisation(letter: &str, seed: u8) -> Organisation {
    let key = read(&format!("keys/{letter}-issuing.pk8"));
    Organisation {
        name: server(&format!("{letter}.example")),
        root: read(&format!("{letter}-root.der")),
        issuing: read(&format!("{letter}-issuing.der")),
        issuing_key: IssuingKey::from_pkcs8(&key, &random()).unwrap(),
        envelope_key: EnvelopeKey::from_seed(&[seed; 32]).unwrap(),
    }
}

pub fn both() -> (Organisation, Organisation) {
    (organisation("a", 1), organisation("b", 2))
}

pub fn manifest_of(organisation: &Organisation, letter: &str) -> Manifest {
    manifest::decode(read(&format!("{letter}-manifest.bin")))
        .unwrap()
        .verify(&organisation.name, &organisation.root, None, NOW_MS)
        .unwrap()
}

pub fn room() -> RoomId {
    RoomId::from_bytes([0xaa; 16])
}

fn alice() -> Sender {
    Sender {
        account: AccountId::from_bytes([0xa1; 16]),
        device: DeviceId::from_bytes([0xa2; 16]),
    }
}

pub fn member(name: &str, account: u8) -> Member {
    Member {
        server: server(name),
        account: AccountId::from_bytes([account; 16]),
        device: DeviceId::from_bytes([account + 1; 16]),
    }
}

/// A device of the device log's examples.
pub fn device(number: u8) -> DeviceId {
    DeviceId::from_bytes([number; 16])
}

/// The key of a device of the device log's examples.
pub fn device_pair(number: u8) -> ring::signature::Ed25519KeyPair {
    ring::signature::Ed25519KeyPair::from_seed_unchecked(&[number; 32]).unwrap()
}

fn device_key(number: u8) -> [u8; 32] {
    use ring::signature::KeyPair as _;
    device_pair(number)
        .public_key()
        .as_ref()
        .try_into()
        .unwrap()
}

/// The account's next statement: device `number`, approved by device `by`.
pub fn approved(chain: &DeviceChain, number: u8, by: u8) -> DeviceStatement {
    let unsigned = How::Approved {
        by: device(by),
        signature: [0; 64],
    };
    let mut statement = chain.next(device(number), device_key(number), unsigned, NOW_MS);
    let signature = device_pair(by).sign(&statement.approval_bytes().unwrap());
    statement.how = How::Approved {
        by: device(by),
        signature: signature.as_ref().try_into().unwrap(),
    };
    statement
}

/// Bob's two devices, the second approved by the first, between two other statements of b's log.
pub fn device_history(b: &Organisation) -> DeviceHistory {
    let mut chain = DeviceChain::new(AccountId::from_bytes([0xb1; 16]));
    chain
        .push(chain.next(device(0xb2), device_key(0xb2), How::First, NOW_MS))
        .unwrap();
    chain.push(approved(&chain, 0xb3, 0xb2)).unwrap();
    let leaves = vec![
        Digest::of(b"another account's"),
        chain.statements()[0].hash().unwrap(),
        chain.last_hash(),
        Digest::of(b"another account's, too"),
    ];
    let tree = Tree::new(leaves);
    let head = Head {
        server: b.name.clone(),
        size: 4,
        root: tree.root(),
        at_ms: NOW_MS,
    };
    DeviceHistory {
        statements: chain.statements().to_vec(),
        index: 2,
        path: tree.path(2),
        head: head
            .sign(b.issuing.clone(), &b.issuing_key, &random())
            .unwrap(),
        growth: vec![Growth {
            from: 3,
            path: tree.consistency(3),
        }],
    }
}

/// An audit log of three entries.
fn audit_tree() -> Tree {
    let entries = ["the first entry", "the second entry", "the third entry"];
    Tree::new(entries.map(|entry| Digest::of(entry.as_bytes())).to_vec())
}

/// The head of a's audit log.
pub fn audit_head(a: &Organisation) -> Head {
    Head {
        server: a.name.clone(),
        size: 3,
        root: audit_tree().root(),
        at_ms: NOW_MS,
    }
}

/// What `b` has seen of a's audit log.
pub fn audit_sighting(a: &Organisation, b: &Organisation) -> Sighting {
    Sighting {
        witness: b.name.clone(),
        server: a.name.clone(),
        size: 3,
        root: audit_tree().root(),
        seen_ms: NOW_MS,
    }
}

/// What `a` lets the room do in which its people are with b's.
pub fn room_consent(a: &Organisation) -> RoomConsent {
    RoomConsent {
        room: room(),
        server: a.name.clone(),
        domains: BTreeSet::from([server("a.example"), server("b.example")]),
        ttl: Span {
            min_seconds: 60,
            max_seconds: 7 * 24 * 60 * 60,
        },
        burn: Span {
            min_seconds: 0,
            max_seconds: 3600,
        },
        label_max: 3,
        retained_epochs: 32,
        recorder: Some(AccountId::from_bytes([0xa8; 16])),
        serial: NOW_MS,
        expires_ms: NOW_MS + 60 * DAY_MS,
    }
}

/// [`device_history`] as it was once signed.
fn golden_history() -> DeviceHistory {
    DeviceHistory::from_bytes(read("device-history.bin")).unwrap()
}

/// A payload of every kind but Relay, by the name of its file.
pub fn payloads() -> Vec<(&'static str, Payload)> {
    let refusal = Refusal::new(
        RefusalCode::OutOfScope,
        "the agreement does not grant messages to this user type",
    );
    let bob = member("b.example", 0xb1);
    vec![
        (
            "message",
            Payload::Message(Message {
                room: room(),
                sender: alice(),
                reference: 7,
                message: Bytes::from_static(b"an MLS PrivateMessage"),
            }),
        ),
        (
            "handshake",
            Payload::Handshake(Handshake {
                room: room(),
                hub: server("b.example"),
                epoch: 3,
                sender: member("a.example", 0xa1),
                reference: 8,
                commit: Bytes::from_static(b"an MLS PublicMessage"),
                adds: vec![bob.clone()],
                removes: vec![member("a.example", 0xa5)],
                welcome: Some(Bytes::from_static(b"an MLS Welcome")),
                group_info: Some(Bytes::from_static(b"an MLS GroupInfo")),
                stamp_ms: 0,
            }),
        ),
        (
            "welcome",
            Payload::Welcome(Welcome {
                room: room(),
                hub: server("b.example"),
                epoch: 4,
                sender: member("a.example", 0xa1),
                members: vec![member("a.example", 0xa1), bob.clone()],
                recipients: vec![bob.device],
                welcome: Bytes::from_static(b"an MLS Welcome"),
                stamp_ms: NOW_MS,
            }),
        ),
        (
            "key-request",
            Payload::KeyRequest(KeyRequest {
                request: RequestId::from_bytes([0x11; 16]),
                requester: alice(),
                requester_handle: "alice".parse().unwrap(),
                of: KeysOf::Handle("bob".parse().unwrap()),
                known: Vec::new(),
            }),
        ),
        (
            "history-request",
            Payload::KeyRequest(KeyRequest {
                request: RequestId::from_bytes([0x13; 16]),
                requester: alice(),
                requester_handle: "alice".parse().unwrap(),
                of: KeysOf::Account(bob.account),
                known: vec![2, 3],
            }),
        ),
        (
            "key-response",
            Payload::KeyResponse(KeyResponse {
                request: RequestId::from_bytes([0x11; 16]),
                device: alice().device,
                result: Ok(KeyMaterial {
                    keys: vec![ClaimedKey {
                        member: bob,
                        key_package: Bytes::from_static(b"an MLS KeyPackage"),
                    }],
                    history: golden_history(),
                }),
            }),
        ),
        (
            "key-refusal",
            Payload::KeyResponse(KeyResponse {
                request: RequestId::from_bytes([0x11; 16]),
                device: alice().device,
                result: Err(refusal.clone()),
            }),
        ),
        (
            "notice",
            Payload::Notice(Notice {
                room: room(),
                about: About::Message,
                device: alice().device,
                reference: 7,
                server: server("c.example"),
                refusal,
            }),
        ),
        (
            "tombstone",
            Payload::Tombstone(Tombstone {
                count: 3,
                code: RefusalCode::Expired,
            }),
        ),
        (
            "directory-query",
            Payload::DirectoryQuery(DirectoryQuery {
                request: RequestId::from_bytes([0x11; 16]),
                requester: alice(),
                sought: Sought::Prefix("bob".parse().unwrap()),
            }),
        ),
        (
            "directory-answer",
            Payload::DirectoryAnswer(DirectoryAnswer {
                request: RequestId::from_bytes([0x11; 16]),
                device: alice().device,
                result: Ok(Found {
                    handles: vec!["bob".parse().unwrap(), "bobby".parse().unwrap()],
                    more: false,
                }),
            }),
        ),
        (
            "group-info-request",
            Payload::GroupInfoRequest(GroupInfoRequest {
                request: RequestId::from_bytes([0x12; 16]),
                room: room(),
                requester: alice(),
            }),
        ),
        (
            "group-info",
            Payload::GroupInfo(GroupInfoResponse {
                request: RequestId::from_bytes([0x12; 16]),
                room: room(),
                device: alice().device,
                result: Ok(GroupInfo {
                    epoch: 4,
                    group_info: Bytes::from_static(b"an MLS GroupInfo"),
                }),
            }),
        ),
        (
            "abuse-report",
            Payload::AbuseReport(AbuseReport {
                report: ReportId::from_bytes([0x22; 16]),
                account: AccountId::from_bytes([0xb1; 16]),
                room: room(),
                reason: AbuseReason::Harassment,
                note: "since Monday".to_owned(),
                reporter: Some("alice".parse().unwrap()),
                reported_ms: NOW_MS,
                messages: vec![ReportedMessage {
                    device: DeviceId::from_bytes([0xb2; 16]),
                    accepted_ms: NOW_MS - 60_000,
                    message_sha256: Digest::of(b"an MLS PrivateMessage"),
                    text: "what it said".to_owned(),
                }],
            }),
        ),
        (
            "group-info-refusal",
            Payload::GroupInfo(GroupInfoResponse {
                request: RequestId::from_bytes([0x12; 16]),
                room: room(),
                device: alice().device,
                result: Err(Refusal::new(
                    RefusalCode::UnknownRoom,
                    "there is no such room with this device in it",
                )),
            }),
        ),
        (
            "contact",
            Payload::Contact(Contact {
                act: ContactAct::Ask,
                account: alice().account,
                from: "alice".parse().unwrap(),
                to: "bob".parse().unwrap(),
                text: "We met at the fair".to_owned(),
            }),
        ),
        (
            "log-head",
            Payload::LogHead(LogHead {
                head: golden_history().head,
                growth: golden_history().growth.into_iter().next(),
            }),
        ),
        (
            "audit-head",
            Payload::AuditHead(AuditHead {
                head: SignedAuditHead::from_bytes(read("audit-head.bin")).unwrap(),
                growth: Some(Growth {
                    from: 1,
                    path: audit_tree().consistency(1),
                }),
            }),
        ),
        (
            "audit-sighting",
            Payload::AuditSighting(SignedSighting::from_bytes(read("audit-sighting.bin")).unwrap()),
        ),
        (
            "removal-request",
            Payload::RemovalRequest(RemovalRequest {
                room: room(),
                account: alice().account,
                device: None,
            }),
        ),
        (
            "room-consent-request",
            Payload::RoomConsentRequest(RoomConsentRequest {
                request: RequestId::from_bytes([0x14; 16]),
                room: room(),
                requester: alice(),
                domains: BTreeSet::from([server("a.example"), server("b.example")]),
            }),
        ),
        (
            "room-consent",
            Payload::RoomConsent(RoomConsentResponse {
                request: RequestId::from_bytes([0x14; 16]),
                room: room(),
                device: alice().device,
                result: Ok(SignedRoomConsent::from_bytes(read("room-consent.bin")).unwrap()),
            }),
        ),
        (
            "removals",
            Payload::Removals(Removals {
                room: room(),
                epoch: 4,
                stamp_ms: NOW_MS,
                removals: vec![Removal {
                    member: Member {
                        server: "a.example".parse().unwrap(),
                        account: alice().account,
                        device: alice().device,
                    },
                    proposal: Bytes::from_static(b"an MLS PublicMessage"),
                }],
            }),
        ),
    ]
}

pub fn link_ab(a: &Organisation, b: &Organisation) -> Link {
    link(a, b, 5)
}

/// Three envelopes: two on the room's lane, one on the control lane.
pub fn transaction(a: &Organisation, b: &Organisation) -> SignedTransaction {
    let envelopes: Vec<_> = payloads()
        .into_iter()
        .filter_map(|(name, payload)| {
            let (lane, sequence, expires_ms) = match name {
                "message" => (Lane::from(room()), 41, NOW_MS + 7 * DAY_MS),
                "handshake" => (Lane::from(room()), 42, 0),
                "key-request" => (Lane::CONTROL, 1, NOW_MS + 60_000),
                _ => return None,
            };
            Some(Outgoing {
                kind: payload.kind(),
                lane,
                sequence,
                created_ms: NOW_MS,
                expires_ms,
                payload: HashedPayload::new(payload.encode().unwrap()),
            })
        })
        .collect();
    sign(&a.envelope_key, &link_ab(a, b), &envelopes).unwrap()
}

pub fn verified(a: &Organisation, b: &Organisation) -> Vec<VerifiedEnvelope> {
    decode(transaction(a, b).bytes)
        .unwrap()
        .verify(&manifest_of(a, "a"), &a.name, &b.name, NOW_MS)
        .unwrap()
        .into_envelopes()
}

/// The transaction's first envelope as b, its hub, passes it on.
pub fn relay(a: &Organisation, b: &Organisation) -> Relay {
    let envelope = &verified(a, b)[0];
    Relay {
        stamp_ms: NOW_MS + 5,
        proof: envelope.proof(),
        envelope: envelope.bytes().clone(),
    }
}

/// b's answer: the message accepted, the handshake refused, the request deferred.
pub fn receipt(a: &Organisation, b: &Organisation) -> Bytes {
    let signed = transaction(a, b);
    ReceiptBody {
        link: link_ab(a, b),
        root: signed.root,
        at_ms: NOW_MS + 20,
        results: vec![
            ItemResult::Accepted,
            ItemResult::Refused(Refusal::new(
                RefusalCode::WrongEpoch,
                "the room is in epoch 4",
            )),
            ItemResult::Deferred {
                code: RefusalCode::RateLimited,
                retry_after_ms: 2000,
            },
        ],
        lanes: BTreeMap::from([
            (
                Lane::CONTROL,
                LaneHead {
                    sequence: 0,
                    chain_hash: Digest::ZERO,
                },
            ),
            (
                Lane::from(room()),
                LaneHead {
                    sequence: 42,
                    chain_hash: chain_after(&signed),
                },
            ),
        ]),
    }
    .sign(&b.envelope_key)
    .unwrap()
}

/// b's answer when the same transaction comes again: all of it is there already.
pub fn receipt_again(a: &Organisation, b: &Organisation) -> Bytes {
    let signed = transaction(a, b);
    ReceiptBody {
        link: link_ab(a, b),
        root: signed.root,
        at_ms: NOW_MS + 40,
        results: vec![ItemResult::Duplicate; 3],
        lanes: BTreeMap::from([
            (
                Lane::CONTROL,
                LaneHead {
                    sequence: 1,
                    chain_hash: chain(&Digest::ZERO, &signed.position_hashes[2]),
                },
            ),
            (
                Lane::from(room()),
                LaneHead {
                    sequence: 42,
                    chain_hash: chain_after(&signed),
                },
            ),
        ]),
    }
    .sign(&b.envelope_key)
    .unwrap()
}

/// The chain hash of the room's lane after the transaction.
fn chain_after(signed: &SignedTransaction) -> Digest {
    let before = Digest::of(b"the chain up to position 40");
    signed.position_hashes[..2]
        .iter()
        .fold(before, |at, hash| chain(&at, hash))
}

/// What a server answers to a probe that speaks versions 1 and 2.
pub fn version_set() -> VersionSet {
    VersionSet::new([Version(1), Version(2)]).unwrap()
}

fn statement(from: &Organisation, to: &Organisation, letter: &str) -> Statement {
    Statement {
        manifest: read(&format!("{letter}-manifest.bin")),
        ..from.statement(&to.name)
    }
}

pub fn offer_body(a: &Organisation, b: &Organisation) -> OfferBody {
    OfferBody {
        statement: statement(a, b, "a"),
        answer_by_ms: NOW_MS + 7 * DAY_MS,
    }
}

pub fn acceptance_body(a: &Organisation, b: &Organisation, offer: &Offer) -> AcceptanceBody {
    AcceptanceBody {
        statement: statement(b, a, "b"),
        offer_sha256: offer.sha256(),
    }
}

pub fn introduction(of: &Organisation, letter: &str) -> Introduction {
    Introduction {
        manifest: read(&format!("{letter}-manifest.bin")),
        ..of.introduction()
    }
}

/// The first charter of a consortium of a and b, without signatures.
pub fn charter(a: &Organisation, b: &Organisation) -> Charter {
    let body = CharterBody {
        consortium: ConsortiumId::from_bytes([0xc0; 16]),
        name: "Relief Network".to_owned(),
        serial: 1,
        previous: Digest::ZERO,
        terms: super::everything(),
        members: Vec::new(),
        made_ms: NOW_MS,
        expires_ms: NOW_MS + 365 * DAY_MS,
    };
    Charter::make(body, &[introduction(a, "a"), introduction(b, "b")]).unwrap()
}

/// a's amendment: larger files.
pub fn amendment_body(a: &Organisation, b: &Organisation) -> AmendmentBody {
    let mut statement = statement(a, b, "a");
    statement.serial = 2;
    statement.previous = Digest::of(&read("offer.bin"));
    statement.terms.file_bytes_max *= 2;
    AmendmentBody {
        statement,
        agreement_sha256: Digest::of(&read("countersignature.bin")),
    }
}

/// b's consent to it.
pub fn consent_body(a: &Organisation, b: &Organisation) -> ConsentBody {
    ConsentBody {
        from: b.name.clone(),
        to: a.name.clone(),
        manifest: read("b-manifest.bin"),
        amendment_sha256: Digest::of(&read("amendment.bin")),
        made_ms: NOW_MS,
    }
}

/// b's declaration that it has paused the agreement.
pub fn declaration_body(a: &Organisation, b: &Organisation) -> DeclarationBody {
    DeclarationBody {
        from: b.name.clone(),
        to: a.name.clone(),
        manifest: read("b-manifest.bin"),
        agreement_sha256: Digest::of(&read("countersignature.bin")),
        decided: Decided::Suspended,
        reason: "an audit".to_owned(),
        made_ms: NOW_MS,
    }
}

/// Everything that comes out the same every time, by file name.
pub fn reproducible(a: &Organisation, b: &Organisation) -> Vec<(String, Bytes)> {
    let mut files: Vec<_> = payloads()
        .into_iter()
        .map(|(name, payload)| (format!("payload-{name}.bin"), payload.encode().unwrap()))
        .collect();
    let relay = relay(a, b);
    files.push(("payload-relay.bin".into(), relay.to_bytes().unwrap()));
    files.push(("proof.bin".into(), relay.proof.to_bytes().unwrap()));
    files.push(("proved-envelope.bin".into(), relay.envelope));
    files.push(("transaction.bin".into(), transaction(a, b).bytes));
    files.push(("receipt.bin".into(), receipt(a, b)));
    files.push(("receipt-again.bin".into(), receipt_again(a, b)));
    files.push(("version-set.bin".into(), version_set().to_bytes().unwrap()));
    for (of, letter) in [(a, "a"), (b, "b")] {
        let bytes = introduction(of, letter).to_bytes().unwrap();
        files.push((format!("{letter}-introduction.bin"), bytes));
    }
    files
}

/// The documents of the ceremony as they stand in the folder.
pub fn documents() -> (Offer, Acceptance) {
    (
        Offer::open(read("offer.bin"), NOW_MS).unwrap(),
        Acceptance::open(read("acceptance.bin"), NOW_MS).unwrap(),
    )
}
