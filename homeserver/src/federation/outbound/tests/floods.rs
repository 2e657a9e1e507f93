//! A peer that floods within what its agreement lets it do: what it leaves in the audit log and among the dead
//! letters, and that the administrators can read both.

use federation_proto::ids::{AccountId, DeviceId};
use federation_proto::limits::{
    GROUP_INFO_BYTES_MAX, TRANSACTION_ENVELOPES_MAX, TRANSACTIONS_UNDER_WAY_MAX,
};
use federation_proto::payload::{
    GroupInfoRequest, KeyRequest, KeysOf, Payload, RemovalRequest, Sender,
};
use futures_util::FutureExt as _;
use homeserver_api::admin::AuditEntry;

use super::*;
use crate::audit;
use crate::delivery::limits::{PART_FULL_RETRY_MS, PART_GROWTH_BYTES_MAX};
use crate::store::group_info::{self, GroupInfoRecord};

const MINUTE_MS: u64 = 60_000;
/// Entries of one kind that a peer's flood may leave in a minute.
const LISTED_MAX: usize = 20;

fn envelope(side: &Side, lane: Lane, sequence: u64, payload: &Payload) -> Outgoing {
    Outgoing {
        kind: payload.kind(),
        lane,
        sequence,
        created_ms: now(side),
        expires_ms: 0,
        payload: HashedPayload::new(payload.encode().unwrap()),
    }
}

/// Sends `count` envelopes as fast as the peer lets it; how often it had to wait.
async fn flood(
    from: &Side,
    to: &Side,
    count: u64,
    made: impl Fn(u64) -> (Lane, u64, Payload),
) -> usize {
    let size = u64::try_from(TRANSACTION_ENVELOPES_MAX).unwrap();
    let (mut sent, mut waits) = (0, 0);
    while sent < count {
        let until = count.min(sent + size);
        let envelopes = (sent..until).map(|n| {
            let (lane, sequence, payload) = made(n);
            envelope(from, lane, sequence, &payload)
        });
        let key = from.node.keys.envelope_key();
        let envelopes: Vec<_> = envelopes.collect();
        let signed = transaction::sign(&key, &link(from, to), &envelopes).unwrap();
        loop {
            let (status, _) = post(from, to, paths::TRANSACTIONS, signed.bytes.clone()).await;
            if status == StatusCode::OK {
                break;
            }
            assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
            waits += 1;
            to.clock.advance_ms(1_000);
        }
        sent = until;
    }
    waits
}

/// Someone at the peer who does not exist.
fn nobody() -> Sender {
    Sender {
        account: AccountId::from_bytes([1; 16]),
        device: DeviceId::from_bytes([2; 16]),
    }
}

fn request(n: u64) -> RequestId {
    RequestId::from_bytes((u128::from(n) + 1).to_be_bytes())
}

fn for_keys(n: u64) -> (Lane, u64, Payload) {
    let payload = Payload::KeyRequest(KeyRequest {
        request: request(n),
        requester: nobody(),
        requester_handle: "mallory".parse().unwrap(),
        of: if n.is_multiple_of(2) {
            KeysOf::Handle(format!("nobody-{n}").parse().unwrap())
        } else {
            KeysOf::Account(AccountId::from_bytes((u128::from(n)).to_be_bytes()))
        },
        known: Vec::new(),
    });
    (Lane::CONTROL, n + 1, payload)
}

/// Each in a room, and so in a lane, of its own.
fn for_group_info(n: u64) -> (Lane, u64, Payload) {
    let room = RoomId::from_bytes((u128::from(n) + 1).to_be_bytes());
    let payload = Payload::GroupInfoRequest(GroupInfoRequest {
        request: request(n),
        room,
        requester: nobody(),
    });
    (room.into(), 1, payload)
}

/// Each for a room that there is not, and so on a lane of its own.
fn for_removal(n: u64) -> (Lane, u64, Payload) {
    let room = RoomId::from_bytes((u128::from(n) + 1).to_be_bytes());
    let payload = Payload::RemovalRequest(RemovalRequest {
        room,
        account: nobody().account,
        device: None,
    });
    (room.into(), 1, payload)
}

/// The whole log, once the minute is over.
async fn log(side: &Side) -> Vec<AuditEntry> {
    side.clock.advance_ms(MINUTE_MS);
    let node = &side.node;
    let counted = (&*node.repeated, &*node.from_peers);
    audit::round(&node.store, node.random.as_ref(), now(side), counted)
        .await
        .unwrap();
    let page = audit::page(&node.store, node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    assert_eq!(page.next_after, None);
    page.entries
}

/// How many entries of an action there are, and how many events they tell of.
fn told(log: &[AuditEntry], action: &str) -> (usize, u64) {
    let of_action = log.iter().filter(|entry| entry.action == action);
    let of_action: Vec<_> = of_action.collect();
    let events = of_action.iter().map(|entry| {
        let (told, _) = entry.detail.split_once(" more within a minute")?;
        told.rsplit(' ').next()?.parse::<u64>().ok()
    });
    (of_action.len(), events.map(|more| more.unwrap_or(1)).sum())
}

/// The nth request of a flood.
type Made = fn(u64) -> (Lane, u64, Payload);

/// Goal: ten thousand requests that their answers refuse slow the peer down as refusals do, leave twenty entries a
/// minute that tell of all of them, and the audit log answers; when the peer is given up, what waits for it leaves one
/// count and no dead letter each. Method: requests for the keys and the devices of people who don't exist, then for group infos of
/// rooms that don't, then a revocation.
#[tokio::test]
async fn refused_answers_are_a_flood() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let requests: [(&str, Made); 2] = [
        ("keys.refused", for_keys),
        ("group-info.refused", for_group_info),
    ];
    for (action, made) in requests {
        let started_ms = now(&a);
        let waits = flood(&b, &a, 10_000, made).await;
        assert!(waits > 60, "{action}: it had to wait {waits} times");
        let minutes = usize::try_from((now(&a) - started_ms).div_ceil(MINUTE_MS)).unwrap();
        let (entries, events) = told(&log(&a).await, action);
        assert_eq!(events, 10_000, "{action}");
        assert!(
            entries <= minutes * LISTED_MAX,
            "{action}: {entries} in {minutes} min"
        );
    }

    peers::revoke(&a.node, &admin(), &b.node.server, "floods")
        .await
        .unwrap();
    drain(&mut worker(&a, &b)).await;
    assert_eq!(waiting(&a, &b).await, 0);
    let letters = dead_letters::newest(&a.node.store, 9).await.unwrap();
    assert_eq!(letters, [], "nobody here had written them");
    let counts = dead_letters::counts(&a.node.store, 9).await.unwrap();
    let counts: Vec<_> = counts.iter().map(|told| (told.code, told.count)).collect();
    assert_eq!(counts, [(RefusalCode::AgreementRevoked, 20_000)]);
    let (entries, events) = told(&log(&a).await, "envelope.given-up");
    assert!(entries <= LISTED_MAX, "{entries}");
    assert_eq!(events, 20_000);
}

/// Goal: requests to remove people from rooms that are not there are accepted as ever (ROOM-060), and slow the peer down as
/// refusals do. Method: five thousand of them: two thousand are saved up, and a hundred are made good in a second.
#[tokio::test]
async fn removals_of_nobody_are_a_flood() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let (lane, sequence, payload) = for_removal(0);
    let first = vec![envelope(&b, lane, sequence, &payload)];
    assert_eq!(exchange(&b, &a, first).await, [ItemResult::Accepted]);
    let waits = flood(&b, &a, 5_000, |n| for_removal(n + 1)).await;
    assert!(waits >= 20, "it had to wait {waits} times");
    let (entries, events) = told(&log(&a).await, "room.nobody-removed");
    assert_eq!(events, 5_001);
    assert!(entries <= 2 * LISTED_MAX, "{entries}");
}

/// Goal: a transaction that a peer takes back, once it has sent it, costs it as much as one whose answer it waits for.
/// Method: as many as may be under way, full of requests that are refused, each dropped as a reset stream is.
#[tokio::test]
async fn what_is_taken_back_is_counted() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let size = u64::try_from(TRANSACTION_ENVELOPES_MAX).unwrap();
    let signed = |first: u64, count: u64| {
        let made = (first..first + count).map(|n| {
            let (lane, sequence, payload) = for_group_info(n);
            envelope(&b, lane, sequence, &payload)
        });
        let key = b.node.keys.envelope_key();
        let signed = transaction::sign(&key, &link(&b, &a), &made.collect::<Vec<_>>());
        signed.unwrap().bytes
    };
    let request = |bytes: Bytes| {
        let body = padding::pad(&bytes);
        let request = Request::post(paths::TRANSACTIONS).header("content-length", body.len());
        request.body(body).unwrap()
    };
    let under_way = u64::try_from(TRANSACTIONS_UNDER_WAY_MAX).unwrap();
    for n in 0..under_way {
        let asked = b
            .network
            .request(&a.node.server, request(signed(n * size, size)));
        assert!(asked.now_or_never().is_none());
    }
    // Of each all are refused, and 2,000 were saved up: the second uses up what the others would need, and a hundred are made
    // good in a second.
    let last = signed(under_way * size, 1);
    let mut waited_ms = 0;
    loop {
        let asked = b.network.request(&a.node.server, request(last.clone()));
        if asked.await.unwrap().status() == StatusCode::OK {
            break;
        }
        a.clock.advance_ms(1);
        waited_ms += 1;
        tokio::task::yield_now().await;
    }
    assert!(waited_ms >= 10 * (2 * size - 2_000), "{waited_ms} ms");
    let (_, refused) = told(&log(&a).await, "group-info.refused");
    assert_eq!(refused, 2 * size + 1);
}

/// Goal: a peer that takes other envelopes to positions that are taken leaves as little. Method: a thousand envelopes
/// that are refused, and then others in their places.
#[tokio::test]
async fn conflicts_are_a_flood() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let count = u64::try_from(TRANSACTION_ENVELOPES_MAX).unwrap();
    flood(&b, &a, count, for_keys).await;
    flood(&b, &a, count, |n| {
        (Lane::CONTROL, n + 1, for_keys(n + count).2)
    })
    .await;
    let (entries, events) = told(&log(&a).await, "link.conflict");
    assert!(entries <= LISTED_MAX, "{entries}");
    assert_eq!(events, count);
}

/// Goal: who joined which room is told one by one as far as people use rooms, and counted beyond that. Method: a peer's
/// member adds one of ours to more rooms than that.
#[tokio::test]
async fn joined_rooms_are_counted_beyond_many() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let alice = person(&a, "alice").await;
    let mut bob = person(&b, "bob").await;
    let rooms = 320;
    for n in 0..rooms {
        let room = RoomId::from_bytes((u128::from(n) + 1).to_be_bytes());
        let outcome = bob.create_room(&b, room, &[&alice]).await;
        assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
    }
    drain(&mut worker(&b, &a)).await;
    let (entries, events) = told(&log(&a).await, "room.joined");
    assert_eq!((entries, events), (301, rooms));
}

/// Goal: a few bytes that ask for large answers fill no memory: what is beyond the bound is put off, and answered when
/// it comes again. Method: a member asks 24 times at once for the largest group info there is.
#[tokio::test]
async fn large_answers_come_in_parts() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (_, bob) = acquainted(&a, &b).await;
    let mut part = Part::default();
    let record = GroupInfoRecord {
        epoch: 1,
        group_info: vec![7; GROUP_INFO_BYTES_MAX].into(),
    };
    group_info::put(&mut part, ROOM, &record).unwrap();
    a.node.store.commit(part).await.unwrap();
    let asks = (0..24).map(|n| {
        let payload = Payload::GroupInfoRequest(GroupInfoRequest {
            request: request(n),
            room: ROOM,
            requester: Sender {
                account: bob.of.account,
                device: bob.of.device,
            },
        });
        envelope(&b, ROOM.into(), n + 1, &payload)
    });
    let asks: Vec<_> = asks.collect();
    let at_once_max = PART_GROWTH_BYTES_MAX / GROUP_INFO_BYTES_MAX + 1;
    let (mut answered, mut parts) = (0, 0);
    while answered < asks.len() {
        let results = exchange(&b, &a, asks[answered..].to_vec()).await;
        let accepted = results
            .iter()
            .take_while(|one| **one == ItemResult::Accepted);
        let accepted = accepted.count();
        assert!((1..=at_once_max).contains(&accepted), "{results:?}");
        if let Some(put_off) = results.get(accepted) {
            let later = ItemResult::Deferred {
                code: RefusalCode::Quota,
                retry_after_ms: PART_FULL_RETRY_MS,
            };
            assert_eq!(*put_off, later);
        }
        answered += accepted;
        parts += 1;
    }
    assert!(parts > 1);
    assert_eq!(waiting(&a, &b).await, 24);
}

/// Goal: a peer that does not read what it is answered gets no further answers made. Method: as many transactions as
/// may be under way, whose receipts are read late.
#[tokio::test]
async fn unread_receipts_are_under_way() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let send = async |n: u64| {
        let key = b.node.keys.envelope_key();
        let envelopes = [outgoing(Lane::from_bytes([1; 16]), n)];
        let signed = transaction::sign(&key, &link(&b, &a), &envelopes).unwrap();
        let body = padding::pad(&signed.bytes);
        let request = Request::post(paths::TRANSACTIONS).header("content-length", body.len());
        let request = request.body(body).unwrap();
        b.network.request(&a.node.server, request).await.unwrap()
    };
    let mut unread = Vec::new();
    for n in 0..TRANSACTIONS_UNDER_WAY_MAX {
        unread.push(send(u64::try_from(n).unwrap() + 1).await);
    }
    assert!(
        unread
            .iter()
            .all(|response| response.status() == StatusCode::OK)
    );
    assert_eq!(send(9).await.status(), StatusCode::TOO_MANY_REQUESTS);
    let read = unread.pop().unwrap().into_body().collect().await.unwrap();
    assert!(padding::unpad(&read.to_bytes(), RECEIPT_BYTES_MAX).is_ok());
    assert_eq!(send(9).await.status(), StatusCode::OK);
}
