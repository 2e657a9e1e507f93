//! Values of every kind as they may be, and what becomes of their bytes on the way.

use super::*;

/// What a hostile or broken sender makes of bytes.
#[derive(Debug, Clone)]
pub enum Damage {
    Flip(usize, u8),
    Cut(usize),
    Insert(usize, u8),
    Remove(usize),
    Swap(usize, usize),
}

pub fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let one = prop_oneof![
        (any::<usize>(), 1..=u8::MAX).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        any::<usize>().prop_map(Damage::Cut),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        any::<usize>().prop_map(Damage::Remove),
        any::<(usize, usize)>().prop_map(|(from, to)| Damage::Swap(from, to)),
    ];
    prop::collection::vec(one, 0..3)
}

pub fn damaged(bytes: &[u8], damage: Vec<Damage>) -> Bytes {
    let mut bytes = bytes.to_vec();
    for damage in damage {
        let length = bytes.len().max(1);
        match damage {
            Damage::Insert(at, byte) => bytes.insert(at % (bytes.len() + 1), byte),
            _ if bytes.is_empty() => {}
            Damage::Flip(at, bits) => bytes[at % length] ^= bits,
            Damage::Cut(at) => bytes.truncate(at % length),
            Damage::Remove(at) => drop(bytes.remove(at % length)),
            Damage::Swap(from, to) => bytes.swap(from % length, to % length),
        }
    }
    bytes.into()
}

pub fn check_wire<T: Wire + PartialEq + Debug>(value: &T, damage: Vec<Damage>) {
    let bytes = value.to_bytes().unwrap();
    assert_eq!(&T::from_bytes(bytes.clone()).unwrap(), value);
    let other = damaged(&bytes, damage);
    if let Ok(accepted) = T::from_bytes(other.clone()) {
        assert_eq!(accepted.to_bytes().unwrap(), other);
    }
}

pub fn opaque(max: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

pub fn server_name() -> impl Strategy<Value = ServerName> {
    select(vec![
        "a.example",
        "b.example",
        "xn--bcher-kva.example",
        "a-1.b.c.example",
    ])
    .prop_map(|name| name.parse().unwrap())
}

pub fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::from_bytes)
}

pub fn room() -> impl Strategy<Value = RoomId> {
    any::<[u8; 16]>().prop_map(RoomId::from_bytes)
}

pub fn device() -> impl Strategy<Value = DeviceId> {
    any::<[u8; 16]>().prop_map(DeviceId::from_bytes)
}

pub fn account() -> impl Strategy<Value = AccountId> {
    any::<[u8; 16]>().prop_map(AccountId::from_bytes)
}

pub fn sender() -> impl Strategy<Value = Sender> {
    (account(), device()).prop_map(|(account, device)| Sender { account, device })
}

pub fn member() -> impl Strategy<Value = Member> {
    (server_name(), account(), device()).prop_map(|(server, account, device)| Member {
        server,
        account,
        device,
    })
}

pub fn members() -> impl Strategy<Value = Vec<Member>> {
    prop::collection::vec(member(), 0..4)
}

pub fn code() -> impl Strategy<Value = RefusalCode> {
    select(RefusalCode::ALL)
}

pub fn refusal() -> impl Strategy<Value = Refusal> {
    (code(), "[a-zäß ]{0,40}").prop_map(|(code, reason)| Refusal::new(code, reason))
}

pub fn header() -> impl Strategy<Value = Header> {
    (
        select(&Kind::ALL[..]),
        (server_name(), server_name()),
        any::<[u8; 8]>(),
        any::<[u8; 16]>(),
        (any::<u64>(), 1..=u64::MAX, any::<u64>(), any::<u64>()),
        0..1000_u32,
        digest(),
    )
        .prop_map(
            |(kind, names, key_id, lane, numbers, payload_length, hash)| Header {
                version: Version::V1,
                suite: Suite::Ed25519Sha256,
                kind,
                origin: names.0,
                destination: names.1,
                key_id: KeyId(key_id),
                link_epoch: numbers.0,
                lane: Lane::from_bytes(lane),
                sequence: numbers.1,
                created_ms: numbers.2,
                expires_ms: expiry(kind, numbers.3),
                payload_length,
                payload_sha256: hash,
            },
        )
}

/// A tombstone never expires.
fn expiry(kind: Kind, expires_ms: u64) -> u64 {
    if kind == Kind::Tombstone {
        0
    } else {
        expires_ms
    }
}

pub fn proof() -> impl Strategy<Value = EnvelopeProof> {
    let parts = (
        1..=1024_u32,
        any::<u32>(),
        prop::collection::vec(digest(), 0..=10),
        prop::collection::vec(any::<u8>(), 64),
    );
    parts.prop_map(|(size, index, path, signature)| {
        let mut writer = Writer::new();
        writer.u32(size);
        writer.u32(index % size);
        writer.list("path", 10, &path, |writer, hash| {
            writer.fixed(hash.as_bytes());
        });
        writer.fixed(&signature);
        EnvelopeProof::from_bytes(writer.finish().unwrap()).unwrap()
    })
}

pub fn handshake() -> impl Strategy<Value = Handshake> {
    (
        (room(), server_name(), member()),
        any::<(u64, u64, u64)>(),
        opaque(50),
        members(),
        members(),
        (prop::option::of(opaque(50)), prop::option::of(opaque(50))),
    )
        .prop_map(
            |(names, numbers, commit, adds, removes, (welcome, group_info))| Handshake {
                room: names.0,
                hub: names.1,
                sender: names.2,
                epoch: numbers.0,
                reference: numbers.1,
                stamp_ms: numbers.2,
                commit,
                adds,
                removes,
                welcome,
                group_info,
            },
        )
}

pub fn device_statement() -> impl Strategy<Value = DeviceStatement> {
    let how = prop_oneof![
        Just(How::First),
        Just(How::Reset),
        Just(How::Removed),
        (device(), any::<([u8; 32], [u8; 32])>()).prop_map(|(by, (left, right))| How::Approved {
            by,
            signature: [left, right].concat().try_into().unwrap(),
        }),
    ];
    (
        (account(), device(), any::<[u8; 32]>(), digest()),
        (0..3_u64, any::<u64>(), how),
    )
        .prop_map(
            |((account, device, key, previous), (serial, at_ms, how))| DeviceStatement {
                account,
                device,
                key,
                serial,
                previous,
                at_ms,
                how,
            },
        )
}

fn growth() -> impl Strategy<Value = Growth> {
    (any::<u64>(), prop::collection::vec(digest(), 0..4))
        .prop_map(|(from, path)| Growth { from, path })
}

/// A head with any signature: no other way leads to one but its bytes.
pub fn signed_head() -> impl Strategy<Value = SignedHead> {
    (
        server_name(),
        any::<(u64, u64)>(),
        digest(),
        opaque(40),
        opaque(72),
    )
        .prop_map(|(server, (size, at_ms), root, issuing, signature)| {
            let mut writer = Writer::new();
            writer.u8(1);
            writer.server_name(&server);
            writer.u64(size);
            writer.fixed(root.as_bytes());
            writer.u64(at_ms);
            writer.opaque16("issuing", 4096, &issuing);
            writer.opaque8("signature", 72, &signature);
            SignedHead::from_bytes(writer.finish().unwrap()).unwrap()
        })
}

/// A room consent with any signature.
pub fn room_consent() -> impl Strategy<Value = SignedRoomConsent> {
    let spans = (
        1..u32::MAX / 2,
        0..u32::MAX / 2,
        0..u32::MAX / 2,
        0..u32::MAX / 2,
    );
    let dates = (0..u64::MAX / 2, 1..=ROOM_CONSENT_MS_MAX);
    (
        (room(), server_name()),
        prop::collection::btree_set(server_name(), 0..4),
        spans,
        (any::<u8>(), 1..=32_u16),
        prop::option::of(any::<[u8; 16]>()),
        dates,
        (opaque(40), opaque(72)),
    )
        .prop_map(
            |((room, server), mut domains, spans, (label_max, epochs), recorder, dates, bytes)| {
                domains.insert(server.clone());
                let mut writer = Writer::new();
                writer.u8(1);
                writer.fixed(room.as_bytes());
                writer.server_name(&server);
                let domains: Vec<_> = domains.into_iter().collect();
                writer.list("domains", 64, &domains, |writer, name| {
                    writer.server_name(name);
                });
                for (min, more) in [(spans.0, spans.1), (spans.2, spans.3)] {
                    writer.u32(min);
                    writer.u32(min + more);
                }
                writer.u8(label_max);
                writer.u16(epochs);
                writer.optional(recorder.as_ref(), |writer, account| writer.fixed(account));
                writer.u64(dates.0);
                writer.u64(dates.0 + dates.1);
                writer.opaque16("issuing", 4096, &bytes.0);
                writer.opaque8("signature", 72, &bytes.1);
                SignedRoomConsent::from_bytes(writer.finish().unwrap()).unwrap()
            },
        )
}

/// Evidence with any signature, of few rooms.
pub fn evidence() -> impl Strategy<Value = SignedEvidence> {
    let device = || any::<[u8; 16]>();
    (
        (server_name(), server_name(), any::<[u8; 16]>(), 1..4_u8),
        prop::collection::btree_map(device(), any::<[u8; 32]>(), 1..4),
        prop::collection::btree_map(
            any::<[u8; 16]>(),
            prop::collection::vec((any::<(u64, u64, u64)>(), 0..6_u8), 0..4),
            0..4,
        ),
        any::<(bool, bool, u64)>(),
        (opaque(40), opaque(40), opaque(72)),
    )
        .prop_map(
            |((server, hub, id, kind), devices, rooms, (some, more, at_ms), bytes)| {
                let mut writer = Writer::new();
                writer.u8(1);
                writer.fixed(&id);
                writer.server_name(&server);
                writer.fixed(&id);
                writer.opaque8("handle", 64, b"bob");
                writer.u8(kind);
                writer.u8(kind);
                match kind {
                    1 => writer.opaque8("by", 64, b"root"),
                    2 => writer.u32(7),
                    _ => writer.fixed(&id),
                }
                writer.u64(at_ms);
                let devices: Vec<_> = devices.into_iter().collect();
                writer.list("devices", 9, &devices, |writer, (device, key)| {
                    writer.fixed(device);
                    writer.fixed(key);
                });
                writer.optional(some.then_some(&at_ms), |writer, at| {
                    writer.u32(3);
                    writer.u64(*at);
                });
                for _ in 0..2 {
                    writer.optional(some.then_some(&at_ms), |writer, at| writer.u64(*at));
                }
                writer.u64(at_ms);
                writer.u8(0);
                writer.u8(u8::from(more && !rooms.is_empty()));
                writer.list("hubs", 9, &[&bytes.0], |writer, manifest| {
                    writer.server_name(&hub);
                    writer.opaque16("root", 4096, manifest);
                    writer.opaque16("manifest", 4096, manifest);
                });
                let rooms: Vec<_> = rooms.into_iter().collect();
                let manifest = Digest::of(&bytes.0);
                let here: Vec<_> = devices.iter().map(|(device, _)| *device).collect();
                let write_here = |writer: &mut Writer| {
                    writer.list("devices", 9, &here, |writer, device| writer.fixed(device));
                };
                writer.list("rooms", 9, &rooms, |writer, (room, steps)| {
                    writer.fixed(room);
                    writer.server_name(&hub);
                    write_here(writer);
                    writer.list("steps", 9, steps, |writer, (numbers, what)| {
                        writer.u64(numbers.0);
                        write_here(writer);
                        // Both kinds of words come with a proof and without one.
                        let kind = [1, 2, 3, 3, 4, 5][usize::from(*what)];
                        writer.u8(kind);
                        if kind == 3 || kind == 4 {
                            writer.u64(numbers.1);
                            writer.u64(numbers.2);
                            writer.optional((*what != 2).then_some(&manifest), |writer, digest| {
                                writer.fixed(digest.as_bytes());
                                writer.fixed(include_bytes!("../../testdata/proof.bin"));
                                writer.opaque32("envelope", 4096, &bytes.1);
                            });
                        }
                    });
                });
                writer.opaque16("issuing", 4096, &bytes.1);
                writer.opaque8("signature", 72, &bytes.2);
                SignedEvidence::from_bytes(writer.finish().unwrap()).unwrap()
            },
        )
}

pub fn device_history() -> impl Strategy<Value = DeviceHistory> {
    (
        prop::collection::vec(device_statement(), 0..4),
        (any::<u64>(), prop::collection::vec(digest(), 0..4)),
        signed_head(),
        prop::collection::vec(growth(), 0..4),
    )
        .prop_map(|(statements, (index, path), head, growth)| DeviceHistory {
            statements,
            index,
            path,
            head,
            growth,
        })
}

fn log_head() -> impl Strategy<Value = LogHead> {
    (signed_head(), prop::option::of(growth())).prop_map(|(head, growth)| LogHead { head, growth })
}

fn audit_head() -> impl Strategy<Value = AuditHead> {
    let head = signed_head().prop_map(|head| {
        // Both have one form.
        SignedAuditHead::from_bytes(head.to_bytes().unwrap()).unwrap()
    });
    (head, prop::option::of(growth())).prop_map(|(head, growth)| AuditHead { head, growth })
}

fn audit_sighting() -> impl Strategy<Value = SignedSighting> {
    (
        (server_name(), server_name()),
        any::<(u64, u64)>(),
        digest(),
        opaque(40),
        opaque(72),
    )
        .prop_map(|(names, (size, seen_ms), root, issuing, signature)| {
            let mut writer = Writer::new();
            writer.u8(1);
            writer.server_name(&names.0);
            writer.server_name(&names.1);
            writer.u64(size);
            writer.fixed(root.as_bytes());
            writer.u64(seen_ms);
            writer.opaque16("issuing", 4096, &issuing);
            writer.opaque8("signature", 72, &signature);
            SignedSighting::from_bytes(writer.finish().unwrap()).unwrap()
        })
}

fn key_request() -> impl Strategy<Value = KeyRequest> {
    let of = prop_oneof![
        handle().prop_map(KeysOf::Handle),
        account().prop_map(KeysOf::Account)
    ];
    let known = prop::collection::btree_set(any::<u64>(), 0..=4);
    (any::<[u8; 16]>(), sender(), handle(), of, known).prop_map(
        |(request, requester, requester_handle, of, known)| KeyRequest {
            request: RequestId::from_bytes(request),
            requester,
            requester_handle,
            of,
            known: known.into_iter().collect(),
        },
    )
}

pub fn key_response() -> impl Strategy<Value = KeyResponse> {
    let keys = prop::collection::vec(
        (member(), opaque(30)).prop_map(|(member, key_package)| ClaimedKey {
            member,
            key_package,
        }),
        0..4,
    );
    let material =
        (keys, device_history()).prop_map(|(keys, history)| Ok(KeyMaterial { keys, history }));
    let result = prop_oneof![material, refusal().prop_map(Err)];
    (any::<[u8; 16]>(), device(), result).prop_map(|(request, device, result)| KeyResponse {
        request: RequestId::from_bytes(request),
        device,
        result,
    })
}

fn handle() -> impl Strategy<Value = Handle> {
    "[a-z0-9][a-z0-9._-]{0,10}".prop_map(|handle| handle.parse().unwrap())
}

pub fn directory_query() -> impl Strategy<Value = DirectoryQuery> {
    let sought = prop_oneof![
        handle().prop_map(Sought::Handle),
        "[a-z0-9][a-z0-9._-]{2,10}".prop_map(|text| Sought::Prefix(text.parse().unwrap())),
    ];
    (any::<[u8; 16]>(), sender(), sought).prop_map(|(request, requester, sought)| DirectoryQuery {
        request: RequestId::from_bytes(request),
        requester,
        sought,
    })
}

pub fn directory_answer() -> impl Strategy<Value = DirectoryAnswer> {
    let handles = prop::collection::btree_set(handle(), 0..4);
    let found = (handles, any::<bool>()).prop_map(|(handles, more)| Found {
        handles: handles.into_iter().collect(),
        more,
    });
    let result = prop_oneof![found.prop_map(Ok), refusal().prop_map(Err)];
    (any::<[u8; 16]>(), device(), result).prop_map(|(request, device, result)| DirectoryAnswer {
        request: RequestId::from_bytes(request),
        device,
        result,
    })
}

pub fn abuse_report() -> impl Strategy<Value = AbuseReport> {
    let message = (device(), any::<u64>(), digest(), "\\PC{0,20}\n?").prop_map(
        |(device, accepted_ms, message_sha256, text)| ReportedMessage {
            device,
            accepted_ms,
            message_sha256,
            text,
        },
    );
    (
        (any::<[u8; 16]>(), account(), room()),
        select(&AbuseReason::ALL[..]),
        "\\PC{0,20}",
        prop::option::of(handle()),
        any::<u64>(),
        prop::collection::vec(message, 0..3),
    )
        .prop_map(
            |(ids, reason, note, reporter, reported_ms, messages)| AbuseReport {
                report: ReportId::from_bytes(ids.0),
                account: ids.1,
                room: ids.2,
                reason,
                note,
                reporter,
                reported_ms,
                messages,
            },
        )
}

pub fn group_info() -> impl Strategy<Value = GroupInfoResponse> {
    let info =
        (any::<u64>(), opaque(60)).prop_map(|(epoch, group_info)| GroupInfo { epoch, group_info });
    let result = prop_oneof![info.prop_map(Ok), refusal().prop_map(Err)];
    (any::<[u8; 16]>(), room(), device(), result).prop_map(|(request, room, device, result)| {
        GroupInfoResponse {
            request: RequestId::from_bytes(request),
            room,
            device,
            result,
        }
    })
}

fn removal_request() -> impl Strategy<Value = RemovalRequest> {
    (room(), account(), prop::option::of(device())).prop_map(|(room, account, device)| {
        RemovalRequest {
            room,
            account,
            device,
        }
    })
}

fn removals() -> impl Strategy<Value = Removals> {
    let removal = (
        member(),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from),
    )
        .prop_map(|(member, proposal)| Removal { member, proposal });
    let removals = prop::collection::vec(removal, 0..4);
    (room(), any::<[u64; 2]>(), removals).prop_map(|(room, [epoch, stamp_ms], removals)| Removals {
        room,
        epoch,
        stamp_ms,
        removals,
    })
}

fn room_consent_request() -> impl Strategy<Value = RoomConsentRequest> {
    let domains = prop::collection::btree_set(server_name(), 0..4);
    (any::<[u8; 16]>(), room(), sender(), domains).prop_map(
        |(request, room, requester, domains)| RoomConsentRequest {
            request: RequestId::from_bytes(request),
            room,
            requester,
            domains,
        },
    )
}

fn room_consent_response() -> impl Strategy<Value = RoomConsentResponse> {
    let result = prop::result::maybe_ok(room_consent(), refusal());
    (any::<[u8; 16]>(), room(), device(), result).prop_map(|(request, room, device, result)| {
        RoomConsentResponse {
            request: RequestId::from_bytes(request),
            room,
            device,
            result,
        }
    })
}

pub fn group_info_request() -> impl Strategy<Value = GroupInfoRequest> {
    (any::<[u8; 16]>(), room(), sender()).prop_map(|(request, room, requester)| GroupInfoRequest {
        request: RequestId::from_bytes(request),
        room,
        requester,
    })
}

pub fn payload() -> impl Strategy<Value = Payload> {
    let message = (room(), sender(), any::<u64>(), opaque(80)).prop_map(
        |(room, sender, reference, message)| {
            Payload::Message(Message {
                room,
                sender,
                reference,
                message,
            })
        },
    );
    let welcome = (
        (room(), server_name(), any::<u64>(), any::<u64>()),
        (member(), members()),
        prop::collection::vec(device(), 0..4),
        opaque(50),
    )
        .prop_map(|(names, (sender, members), recipients, welcome)| {
            Payload::Welcome(Welcome {
                room: names.0,
                hub: names.1,
                epoch: names.2,
                stamp_ms: names.3,
                sender,
                members,
                recipients,
                welcome,
            })
        });
    let relay = (any::<u64>(), proof(), opaque(100)).prop_map(|(stamp_ms, proof, envelope)| {
        Payload::Relay(Relay {
            stamp_ms,
            proof,
            envelope,
        })
    });
    let notice = (
        (room(), device(), server_name()),
        select(vec![About::Message, About::Handshake]),
        any::<u64>(),
        refusal(),
    )
        .prop_map(|(names, about, reference, refusal)| {
            Payload::Notice(Notice {
                room: names.0,
                device: names.1,
                server: names.2,
                about,
                reference,
                refusal,
            })
        });
    let tombstone = (1..=1_000_000_u32, code())
        .prop_map(|(count, code)| Payload::Tombstone(Tombstone { count, code }));
    prop_oneof![
        message,
        handshake().prop_map(Payload::Handshake),
        welcome,
        relay,
        key_request().prop_map(Payload::KeyRequest),
        key_response().prop_map(Payload::KeyResponse),
        notice,
        tombstone,
        directory_query().prop_map(Payload::DirectoryQuery),
        directory_answer().prop_map(Payload::DirectoryAnswer),
        abuse_report().prop_map(Payload::AbuseReport),
        group_info_request().prop_map(Payload::GroupInfoRequest),
        group_info().prop_map(Payload::GroupInfo),
        contact().prop_map(Payload::Contact),
        log_head().prop_map(Payload::LogHead),
        removal_request().prop_map(Payload::RemovalRequest),
        removals().prop_map(Payload::Removals),
        room_consent_request().prop_map(Payload::RoomConsentRequest),
        room_consent_response().prop_map(Payload::RoomConsent),
        audit_head().prop_map(Payload::AuditHead),
        audit_sighting().prop_map(Payload::AuditSighting),
    ]
}

fn contact() -> impl Strategy<Value = Contact> {
    let act = select(vec![
        ContactAct::Ask,
        ContactAct::Grant,
        ContactAct::Withdraw,
        ContactAct::Revoke,
    ]);
    (act, any::<[u8; 16]>(), handle(), handle(), "[a-zé .]{0,40}").prop_map(
        |(act, account, from, to, text)| Contact {
            act,
            account: AccountId::from_bytes(account),
            from,
            to,
            text: match act {
                ContactAct::Ask => text,
                _ => String::new(),
            },
        },
    )
}

pub fn link() -> impl Strategy<Value = Link> {
    (server_name(), server_name(), any::<u64>()).prop_map(|(origin, destination, link_epoch)| {
        Link {
            version: Version::V1,
            origin,
            destination,
            link_epoch,
        }
    })
}

pub fn outgoing() -> impl Strategy<Value = Outgoing> {
    (
        select(&Kind::ALL[..]),
        any::<[u8; 16]>(),
        1..=u64::MAX,
        any::<(u64, u64)>(),
        opaque(100),
    )
        .prop_map(|(kind, lane, sequence, times, payload)| Outgoing {
            kind,
            lane: Lane::from_bytes(lane),
            sequence,
            created_ms: times.0,
            expires_ms: expiry(kind, times.1),
            payload: HashedPayload::new(payload),
        })
}

pub fn item_result() -> impl Strategy<Value = ItemResult> {
    prop_oneof![
        Just(ItemResult::Accepted),
        Just(ItemResult::Duplicate),
        refusal().prop_map(ItemResult::Refused),
        (code(), 0..=300_000_u32).prop_map(|(code, retry_after_ms)| ItemResult::Deferred {
            code,
            retry_after_ms
        }),
    ]
}

pub fn receipt_body() -> impl Strategy<Value = ReceiptBody> {
    let head = (any::<u64>(), digest()).prop_map(|(sequence, chain_hash)| LaneHead {
        sequence,
        chain_hash,
    });
    let lane = any::<[u8; 16]>().prop_map(Lane::from_bytes);
    (
        link(),
        digest(),
        any::<u64>(),
        prop::collection::vec(item_result(), 1..6),
        prop::collection::btree_map(lane, head, 0..4),
    )
        .prop_map(|(link, root, at_ms, results, lanes)| ReceiptBody {
            link,
            root,
            at_ms,
            results,
            lanes,
        })
}

pub fn grants() -> impl Strategy<Value = Grants> {
    let names = prop::collection::vec("[a-zä ]{1,8}", 0..3).prop_map(UserTypes::from_names);
    prop::collection::btree_map(select(&Operation::ALL[..]), names, 0..4)
}

pub fn terms() -> impl Strategy<Value = Terms> {
    (
        grants(),
        grants(),
        1..1000_u32,
        1000..=u32::MAX,
        any::<(u64, u64, u8)>(),
    )
        .prop_map(
            |(outbound, inbound, min_seconds, max_seconds, limits)| Terms {
                outbound,
                inbound,
                ttl: TtlBounds {
                    min_seconds,
                    max_seconds,
                },
                waiting_bytes_max: limits.0,
                file_bytes_max: limits.1,
                label_max: limits.2,
            },
        )
}

pub fn statement() -> impl Strategy<Value = Statement> {
    let endpoint = select(vec!["a.example:8448", "192.0.2.1:1", "[2001:db8::1]:65535"]);
    (
        (server_name(), server_name(), any::<u64>(), digest()),
        prop::collection::btree_set(any::<u16>(), 1..=8),
        (opaque(40), opaque(40)),
        prop::collection::vec(endpoint, 0..3),
        terms(),
        "[a-z äöü@]{0,20}",
        (any::<[u8; 16]>(), any::<u64>(), any::<u64>()),
    )
        .prop_map(
            |(names, versions, keys, endpoints, terms, contact, rest)| Statement {
                from: names.0,
                to: names.1,
                serial: names.2,
                previous: names.3,
                versions: VersionSet::new(versions.into_iter().map(Version)).unwrap(),
                root: keys.0,
                manifest: keys.1,
                endpoints: endpoints.into_iter().map(|e| e.parse().unwrap()).collect(),
                terms,
                contact,
                nonce: rest.0,
                made_ms: rest.1,
                expires_ms: rest.2,
            },
        )
}
