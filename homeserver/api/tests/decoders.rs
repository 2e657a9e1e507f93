//! Properties of what clients and homeservers read of each other: any input gives a value or an error, and
//! what is written is read back the same.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test stops at the first surprise"
)]

use bytes::Bytes;
use homeserver_api::attributes::MessageAttributes;
use homeserver_api::contacts::ContactChange;
use homeserver_api::ids::{AccountId, Address, DeviceId, Member, RequestId, RoomId, ServerName};
use homeserver_api::refusal::{Refusal, RefusalCode};
use homeserver_api::session::{
    AbuseReason, ClaimedDevice, ClientFrame, Commit, Delivery, DeliveryBody, FrameError, GroupInfo,
    Hello, KeyMaterial, Listing, Outcome, Report, ReportedMessage, ServerFrame, Sought, Submission,
    SubmissionBody, SubmissionResult, Telling,
};
use proptest::prelude::*;
use serde_json::Value;

#[path = "../../fuzz/every_json.rs"]
mod every_json;

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn server() -> impl Strategy<Value = ServerName> {
    "[a-z]{1,10}\\.example".prop_map(|name| name.parse().unwrap())
}

fn address() -> impl Strategy<Value = Address> {
    "[a-z]{1,10}@[a-z]{1,10}\\.example".prop_map(|name| name.parse().unwrap())
}

fn room() -> impl Strategy<Value = RoomId> {
    any::<[u8; 16]>().prop_map(RoomId::from_bytes)
}

fn request() -> impl Strategy<Value = RequestId> {
    any::<[u8; 16]>().prop_map(RequestId::from_bytes)
}

fn member() -> impl Strategy<Value = Member> {
    (server(), any::<[u8; 16]>(), any::<[u8; 16]>()).prop_map(|(server, account, device)| Member {
        server,
        account: AccountId::from_bytes(account),
        device: DeviceId::from_bytes(device),
    })
}

fn refusal() -> impl Strategy<Value = Refusal> {
    (prop::sample::select(RefusalCode::ALL), "\\PC{0,20}")
        .prop_map(|(code, reason)| Refusal::new(code, reason))
}

fn sought() -> impl Strategy<Value = Sought> {
    prop_oneof![
        "[a-z]{1,10}".prop_map(|text| Sought::Handle(text.parse().unwrap())),
        "[a-z]{3,10}".prop_map(|text| Sought::Prefix(text.parse().unwrap())),
    ]
}

fn report() -> impl Strategy<Value = Report> {
    let message =
        (any::<[u8; 16]>(), any::<u64>(), "\\PC{0,20}").prop_map(|(device, accepted_ms, text)| {
            ReportedMessage {
                device: DeviceId::from_bytes(device),
                accepted_ms,
                message_sha256: Default::default(),
                text,
            }
        });
    let reason = prop_oneof![Just(AbuseReason::Spam), Just(AbuseReason::Other)];
    let tell = prop_oneof![
        Just(Telling::OwnOnly),
        Just(Telling::Partner),
        Just(Telling::PartnerWithName),
    ];
    (
        (any::<[u8; 16]>(), address(), room()),
        (reason, tell, "\\PC{0,20}"),
        prop::collection::vec(message, 0..3),
    )
        .prop_map(
            |((account, address, room), (reason, tell, note), messages)| Report {
                account: AccountId::from_bytes(account),
                address,
                room,
                reason,
                note,
                messages,
                tell,
            },
        )
}

fn submission() -> impl Strategy<Value = Submission> {
    let members = || prop::collection::vec(member(), 0..3);
    let commit = (
        (room(), server(), any::<u64>(), bytes()),
        (members(), members(), prop::option::of(bytes()), bytes()),
        prop::option::of(bytes()),
    )
        .prop_map(
            |((room, hub, epoch, commit), (adds, removes, welcome, group_info), founding)| {
                SubmissionBody::Commit(Commit {
                    room,
                    hub,
                    epoch,
                    commit,
                    adds,
                    removes,
                    welcome,
                    group_info,
                    founding,
                })
            },
        );
    let body = prop_oneof![
        (
            request(),
            address(),
            prop::collection::vec(any::<u64>(), 0..4)
        )
            .prop_map(|(request, address, known)| SubmissionBody::ClaimKeys {
                request,
                address,
                known,
            }),
        (
            request(),
            member(),
            prop::collection::vec(any::<u64>(), 0..4)
        )
            .prop_map(|(request, member, known)| SubmissionBody::AskDevices {
                request,
                server: member.server,
                account: member.account,
                known,
            }),
        commit,
        (room(), bytes()).prop_map(|(room, message)| SubmissionBody::Message { room, message }),
        report().prop_map(SubmissionBody::Report),
        (request(), server(), sought()).prop_map(|(request, server, sought)| {
            SubmissionBody::LookUp {
                request,
                server,
                sought,
            }
        }),
        (request(), room())
            .prop_map(|(request, room)| SubmissionBody::RequestGroupInfo { request, room }),
        (
            request(),
            server(),
            room(),
            prop::collection::vec(server(), 0..3)
        )
            .prop_map(
                |(request, server, room, domains)| SubmissionBody::AskConsent {
                    request,
                    server,
                    room,
                    domains,
                }
            ),
        room().prop_map(|room| SubmissionBody::Leave { room }),
    ];
    (any::<u64>(), body).prop_map(|(counter, body)| Submission { counter, body })
}

fn client_frame() -> impl Strategy<Value = ClientFrame> {
    prop_oneof![
        prop::collection::vec(submission(), 0..4).prop_map(ClientFrame::Submit),
        any::<u64>().prop_map(ClientFrame::Acknowledge),
    ]
}

fn delivery() -> impl Strategy<Value = Delivery> {
    let listing = (prop::collection::vec(address(), 0..3), any::<bool>())
        .prop_map(|(addresses, more)| Listing { addresses, more });
    let claimed = prop::collection::vec(
        (member(), bytes()).prop_map(|(member, key_package)| ClaimedDevice {
            member,
            key_package,
        }),
        0..3,
    );
    let material =
        (claimed, bytes()).prop_map(|(devices, history)| KeyMaterial { devices, history });
    let body = prop_oneof![
        (room(), bytes(), any::<u64>(), any::<u64>()).prop_map(
            |(room, message, accepted_ms, expires_ms)| DeliveryBody::Message {
                room,
                message,
                accepted_ms,
                expires_ms,
            }
        ),
        (room(), any::<u64>(), bytes(), any::<u64>()).prop_map(
            |(room, epoch, commit, accepted_ms)| DeliveryBody::Commit {
                room,
                epoch,
                commit,
                accepted_ms,
            }
        ),
        (room(), server(), bytes(), any::<u64>()).prop_map(|(room, hub, welcome, accepted_ms)| {
            DeliveryBody::Welcome {
                room,
                hub,
                welcome,
                accepted_ms,
            }
        }),
        (request(), prop::result::maybe_ok(material, refusal()))
            .prop_map(|(request, result)| DeliveryBody::KeyMaterial { request, result }),
        (room(), any::<u64>(), refusal()).prop_map(|(room, counter, refusal)| {
            DeliveryBody::CommitRefused {
                room,
                counter,
                refusal,
            }
        }),
        (room(), any::<u64>(), server(), refusal()).prop_map(|(room, counter, server, refusal)| {
            DeliveryBody::Returned {
                room,
                counter,
                server,
                refusal,
            }
        }),
        (request(), prop::result::maybe_ok(listing, refusal()))
            .prop_map(|(request, result)| DeliveryBody::Directory { request, result }),
        (room(), server(), refusal()).prop_map(|(room, server, refusal)| {
            DeliveryBody::ReportReturned {
                room,
                server,
                refusal,
            }
        }),
        (
            request(),
            room(),
            prop::result::maybe_ok(
                (any::<u64>(), bytes())
                    .prop_map(|(epoch, group_info)| GroupInfo { epoch, group_info }),
                refusal(),
            ),
        )
            .prop_map(|(request, room, result)| DeliveryBody::GroupInfo {
                request,
                room,
                result,
            }),
        (
            request(),
            room(),
            prop::result::maybe_ok(bytes(), refusal()),
        )
            .prop_map(|(request, room, result)| DeliveryBody::RoomConsent {
                request,
                room,
                result,
            }),
        (room(), server()).prop_map(|(room, server)| DeliveryBody::RoomClosed { room, server }),
        (room(), any::<u64>()).prop_map(|(room, epoch)| DeliveryBody::OutOfStep { room, epoch }),
        (
            room(),
            any::<[u64; 2]>(),
            prop::collection::vec(bytes(), 0..3),
        )
            .prop_map(|(room, [epoch, accepted_ms], proposals)| {
                DeliveryBody::Removals {
                    room,
                    epoch,
                    proposals,
                    accepted_ms,
                }
            }),
        (address(), prop::bool::ANY, "\\PC{0,20}").prop_map(|(address, asks, text)| {
            DeliveryBody::Contact {
                address,
                change: match asks {
                    true => ContactChange::AsksYou,
                    false => ContactChange::Undelivered,
                },
                text,
            }
        }),
    ];
    (any::<u64>(), body).prop_map(|(number, body)| Delivery { number, body })
}

fn server_frame() -> impl Strategy<Value = ServerFrame> {
    let outcome = prop_oneof![
        any::<u64>().prop_map(|accepted_ms| Outcome::Accepted { accepted_ms }),
        refusal().prop_map(Outcome::Refused),
        (any::<u64>(), refusal()).prop_map(|(retry_after_ms, refusal)| Outcome::Deferred {
            retry_after_ms,
            refusal
        }),
    ];
    let result = (any::<u64>(), outcome)
        .prop_map(|(counter, outcome)| SubmissionResult { counter, outcome });
    prop_oneof![
        any::<(u64, u64)>().prop_map(|(server_time_ms, last_counter)| {
            ServerFrame::Hello(Hello {
                server_time_ms,
                last_counter,
            })
        }),
        prop::collection::vec(result, 0..4).prop_map(ServerFrame::Results),
        prop::collection::vec(delivery(), 0..4).prop_map(ServerFrame::Deliver),
        Just(ServerFrame::AccountChanged),
        Just(ServerFrame::CaughtUp),
    ]
}

proptest! {
    /// Goal: any attributes that a message may have come back. Method: round trip, and one byte more or less.
    #[test]
    fn attributes_come_back(
        ttl_seconds in 1_u32.., burn_seconds: u32, label: u8, file: bool, extra: u8,
    ) {
        let attributes = MessageAttributes { ttl_seconds, burn_seconds, label, file };
        let encoded = attributes.encode();
        prop_assert_eq!(MessageAttributes::decode(&encoded), Ok(attributes));
        prop_assert!(MessageAttributes::decode(encoded.split_last().unwrap().1).is_err());
        prop_assert!(MessageAttributes::decode(&[&encoded[..], &[extra]].concat()).is_err());
    }

    /// Goal: what decodes as attributes has one encoding. Method: any bytes of about the right length.
    #[test]
    fn any_bytes_are_attributes_or_refused(
        mut bytes in prop::collection::vec(any::<u8>(), 0..16), end in 0_u8..3,
    ) {
        if let [first, .., last] = bytes.as_mut_slice() {
            (*first, *last) = (1, end);
        }
        if let Ok(attributes) = MessageAttributes::decode(&bytes) {
            prop_assert_eq!(attributes.encode().to_vec(), bytes);
        }
    }

    /// Goal: any frame of a device comes back, alone. Method: round trip, and a byte after it.
    #[test]
    fn client_frames_come_back(frame in client_frame(), extra: u8) {
        let mut bytes = frame.encode().unwrap();
        prop_assert_eq!(ClientFrame::decode(&bytes), Ok(frame));
        bytes.push(extra);
        prop_assert_eq!(ClientFrame::decode(&bytes), Err(FrameError::TrailingBytes(1)));
    }

    /// Goal: any frame of a homeserver comes back, alone. Method: round trip, and a byte after it.
    #[test]
    fn server_frames_come_back(frame in server_frame(), extra: u8) {
        let mut bytes = frame.encode().unwrap();
        prop_assert_eq!(ServerFrame::decode(&bytes), Ok(frame));
        bytes.push(extra);
        prop_assert_eq!(ServerFrame::decode(&bytes), Err(FrameError::TrailingBytes(1)));
    }

    /// Goal: any bytes are a frame or an error. Method: noise, cuts and flipped bytes of real frames.
    #[test]
    fn any_bytes_are_a_frame_or_refused(
        noise in prop::collection::vec(any::<u8>(), 0..200),
        client in client_frame(), server in server_frame(), at: prop::sample::Index, to: u8,
    ) {
        for mut bytes in [noise, client.encode().unwrap(), server.encode().unwrap()] {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes.splice(at..=at, [to]);
                let cut = bytes.split_at(at).0;
                let _ = (ClientFrame::decode(cut), ServerFrame::decode(cut));
            }
            if let Ok(frame) = ClientFrame::decode(&bytes) {
                prop_assert_eq!(ClientFrame::decode(&frame.encode().unwrap()), Ok(frame));
            }
            if let Ok(frame) = ServerFrame::decode(&bytes) {
                prop_assert_eq!(ServerFrame::decode(&frame.encode().unwrap()), Ok(frame));
            }
        }
    }

    /// Goal: any JSON, and any bytes, are a value or an error for every type; what is read comes back. Method:
    /// the seed of each type with one value in it replaced.
    #[test]
    fn any_json_is_a_value_or_refused(
        noise: Vec<u8>, at: prop::sample::Index, new in json(),
    ) {
        for (name, reads) in every_json::EVERY_TYPE {
            reads(&noise);
            let mut value: Value = serde_json::from_slice(&seed(name)).unwrap();
            let places = count(&value);
            *place(&mut value, &mut at.index(places)).unwrap() = new.clone();
            let changed = serde_json::to_vec(&value).unwrap();
            reads(&changed);
        }
    }
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::hash_map("[a-z_]{0,8}", inner, 0..3)
                .prop_map(|entries| entries.into_iter().collect()),
        ]
    })
}

fn seed(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/json_requests");
    std::fs::read(format!("{folder}/{name}.json")).unwrap()
}

fn inner(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(list) => list.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

/// How many values there are in `value`, itself counted.
fn count(value: &Value) -> usize {
    1 + inner(value).into_iter().map(count).sum::<usize>()
}

/// The `left`th of them.
fn place<'a>(value: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
    if *left == 0 {
        return Some(value);
    }
    *left -= 1;
    match value {
        Value::Array(list) => list.iter_mut().find_map(|value| place(value, left)),
        Value::Object(map) => map.values_mut().find_map(|value| place(value, left)),
        _ => None,
    }
}

/// Goal: each type has a seed, which it reads. Method: read them all.
#[test]
fn seeds_are_what_they_are_named() {
    for (name, reads) in every_json::EVERY_TYPE {
        assert!(reads(&seed(name)), "{name}");
    }
}

/// Goal: no request or answer is forgotten. Method: the tables of the interfaces name nothing that has no reader.
#[test]
fn every_type_of_the_tables_is_read() {
    let tables = [
        include_str!("../src/admin.rs"),
        include_str!("../src/client.rs"),
        include_str!("../src/consortium.rs"),
        include_str!("../src/contacts.rs"),
        include_str!("../src/evidence.rs"),
    ];
    for line in tables.iter().flat_map(|text| text.lines()) {
        if !line.starts_with("//! |") {
            continue;
        }
        for name in line
            .split("[`")
            .skip(1)
            .filter_map(|rest| rest.split('`').next())
        {
            let known = every_json::EVERY_TYPE
                .iter()
                .any(|(known, _)| *known == name);
            assert!(
                known || name == "TTL_HEADER" || name.contains("::"),
                "{name}"
            );
        }
    }
}
