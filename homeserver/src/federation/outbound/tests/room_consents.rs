//! Consents to rooms: what an organisation signs, for whom, and what it does not.

use std::collections::BTreeSet;

use federation_proto::codec::Wire as _;
use federation_proto::limits::ROOM_CONSENT_MS_MAX;
use federation_proto::payload::{Payload, RoomConsentRequest, RoomConsentResponse, Sender};
use federation_proto::refusal::Refusal;
use federation_proto::room_consent::{RoomConsent, SignedRoomConsent};
use homeserver_api::admin::Terms;
use homeserver_api::policy::{Bounds, UserTypePolicy};

use super::*;
use crate::identity::user_types;

/// What `who` is answered who asks `of` for its consent to a room with these.
async fn asked(
    who: &mut Person,
    (at, of): (&Side, &Side),
    n: u8,
    domains: &[&Side],
) -> Result<SignedRoomConsent, Refusal> {
    let body = SubmissionBody::AskConsent {
        request: RequestId::from_bytes([n; 16]),
        server: of.node.server.clone(),
        room: ROOM,
        domains: domains
            .iter()
            .map(|side| side.node.server.clone())
            .collect(),
    };
    if let Outcome::Refused(refusal) = who.submit(at, body).await {
        return Err(refusal);
    }
    if at.node.server != of.node.server {
        drain(&mut worker(at, of)).await;
        drain(&mut worker(of, at)).await;
    }
    let inbox = who.inbox(at).await;
    let answer = inbox.into_iter().find_map(|body| match body {
        InboxBody::RoomConsent {
            request, result, ..
        } if request.as_bytes()[0] == n => Some(result),
        _ => None,
    });
    answer
        .expect("an answer")
        .map(|bytes| SignedRoomConsent::from_bytes(bytes).unwrap())
}

fn verified(consent: &SignedRoomConsent, of: &Side) -> RoomConsent {
    let root = Bytes::copy_from_slice(&of.node.keys.root());
    consent.verify(&root, &[]).unwrap().clone()
}

/// Goal: an organisation signs what all its user types together allow, within its agreements with everybody named, until
/// the first of them ends. Method: two organisations, asked by one's device, with bounds of user types and an agreement that
/// each count for something.
#[tokio::test]
async fn what_is_signed() {
    let [a, b] = sides(["a.example", "b.example"]);
    let terms = Terms {
        ttl: Bounds {
            min_seconds: 60,
            max_seconds: 7200,
            default_seconds: 3600,
        },
        label_max: 4,
        valid_days: 20,
        ..Terms::default()
    };
    let acceptance = accepted(&a, &b, Some(terms)).await;
    let countersignature = countersigned(&a, acceptance).await;
    peers::take(&b.node, &admin(), &countersignature)
        .await
        .unwrap();
    let burns = UserTypePolicy {
        ttl: Bounds {
            min_seconds: 10,
            max_seconds: 3600,
            default_seconds: 3600,
        },
        burn: Bounds {
            min_seconds: 5,
            max_seconds: 200_000,
            default_seconds: 5,
        },
        ..UserTypePolicy::default()
    };
    user_types::put(&b.node, &admin(), "burns", burns)
        .await
        .unwrap();
    let mut alice = person(&a, "alice").await;
    let own = asked(&mut alice, (&a, &a), 1, &[&a]).await.unwrap();
    let own = verified(&own, &a);
    let standard = UserTypePolicy::default();
    assert_eq!(own.ttl.max_seconds, standard.ttl.max_seconds);
    assert_eq!((own.label_max, own.recorder), (u8::MAX, None));
    assert_eq!(own.serial, now(&a));
    assert_eq!(own.expires_ms, now(&a) + ROOM_CONSENT_MS_MAX);
    let theirs = asked(&mut alice, (&a, &b), 2, &[&a, &b]).await.unwrap();
    let theirs = verified(&theirs, &b);
    let names = BTreeSet::from([a.node.server.clone(), b.node.server.clone()]);
    assert_eq!((theirs.room, &theirs.domains), (ROOM, &names));
    assert_eq!((theirs.ttl.min_seconds, theirs.ttl.max_seconds), (60, 7200));
    assert_eq!(
        (theirs.burn.min_seconds, theirs.burn.max_seconds),
        (0, 200_000)
    );
    assert_eq!(theirs.label_max, 4);
    let agreement = b
        .node
        .peers
        .get(&a.node.server)
        .unwrap()
        .agreement
        .expires_ms;
    assert!(agreement < now(&b) + ROOM_CONSENT_MS_MAX);
    assert_eq!(theirs.expires_ms, agreement);
}

/// Goal: nobody signs for a room with somebody with whom he has no agreement in force, and whoever asks is told which two
/// lack it. Method: a and b, b and c have one, a and c have none; then b pauses its own with c.
#[tokio::test]
async fn nobody_signs_for_a_stranger() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    peered(&a, &b).await;
    peered(&b, &c).await;
    let (mut alice, mut bob) = (person(&a, "alice").await, person(&b, "bob").await);
    let all = [&a, &b, &c];
    assert!(asked(&mut bob, (&b, &b), 1, &all).await.is_ok());
    assert!(asked(&mut alice, (&a, &b), 1, &all).await.is_ok());
    // Whoever asks: the own people, and b's.
    let own = asked(&mut alice, (&a, &a), 2, &all).await.unwrap_err();
    let by_b = asked(&mut bob, (&b, &a), 2, &all).await.unwrap_err();
    let of_c = asked(&mut bob, (&b, &c), 3, &all).await.unwrap_err();
    for refusal in [&own, &by_b, &of_c] {
        assert_eq!(refusal.code, RefusalCode::NotFullMesh);
        let names = ["a.example", "c.example"];
        let named = names.iter().all(|name| refusal.reason.contains(name));
        assert!(named, "{refusal:?}");
    }
    peers::suspend(&b.node, &admin(), &c.node.server, "")
        .await
        .unwrap();
    let paused = asked(&mut alice, (&a, &b), 4, &all).await.unwrap_err();
    assert_eq!(paused.code, RefusalCode::NotFullMesh);
    assert!(asked(&mut alice, (&a, &b), 5, &[&a, &b]).await.is_ok());
}

/// Goal: a peer gets a consent only for rooms in which it is, and is believed only what was asked of it, about itself. Method:
/// requests and answers that no honest homeserver sends.
#[tokio::test]
async fn dishonest_peers() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let mut alice = person(&a, "alice").await;
    let request = RequestId::from_bytes([9; 16]);
    let requester = Sender {
        account: alice.of.account,
        device: alice.of.device,
    };
    let sent = |payload: Payload, sequence: u64| Outgoing {
        kind: payload.kind(),
        payload: HashedPayload::new(payload.encode().unwrap()),
        ..outgoing(Lane::CONTROL, sequence)
    };
    let without_us = Payload::RoomConsentRequest(RoomConsentRequest {
        request,
        room: ROOM,
        requester,
        domains: BTreeSet::from([b.node.server.clone()]),
    });
    let of_b = asked(&mut alice, (&a, &b), 1, &[&a, &b]).await.unwrap();
    let results = exchange(&a, &b, vec![sent(without_us, 2)]).await;
    assert_eq!(results, [ItemResult::Accepted]);
    let page = crate::audit::page(&b.node.store, b.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    let refused = page
        .entries
        .iter()
        .filter(|entry| entry.action == "room-consent.refused");
    assert_eq!(refused.count(), 1);
    // What nobody at a has asked b for, and what was answered before.
    let answer = |request: u8, consent: SignedRoomConsent| {
        Payload::RoomConsent(RoomConsentResponse {
            request: RequestId::from_bytes([request; 16]),
            room: ROOM,
            device: alice.of.device,
            result: Ok(consent),
        })
    };
    let unasked = answer(7, of_b.clone());
    let again = answer(1, of_b);
    let count = alice.inbox(&a).await.len();
    let results = exchange(&b, &a, vec![sent(unasked, 2), sent(again, 3)]).await;
    for result in results {
        assert!(
            matches!(result, ItemResult::Refused(ref refusal) if refusal.code == RefusalCode::Malformed),
            "{result:?}"
        );
    }
    assert_eq!(alice.inbox(&a).await.len(), count);
}
