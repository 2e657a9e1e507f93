//! What a network observer sees of a link: which two organisations, when, and buckets of lengths.

use faultproxy::{Direction, Seen};
use federation_proto::padding::padded_length;
use tokio::time::Instant;

use super::faulty_wires::wired;
use super::*;

const OTHER_ROOM: RoomId = RoomId::from_bytes([8; 16]);

/// The TLS records in what passed, in their order: which way, and how long.
fn records(seen: &[Seen]) -> Vec<(Direction, usize)> {
    let mut found = Vec::new();
    let mut waiting: [Vec<u8>; 2] = Default::default();
    for seen in seen {
        let rest = &mut waiting[usize::from(seen.direction == Direction::Back)];
        rest.extend(&seen.bytes);
        while rest.len() >= 5 {
            let length = usize::from(u16::from_be_bytes([rest[3], rest[4]]));
            if rest.len() < 5 + length {
                break;
            }
            found.push((seen.direction, length));
            rest.drain(..5 + length);
        }
    }
    found
}

/// Goal: two courses of events whose transactions fall into the same buckets look alike on the wire: the same records,
/// of the same lengths, in the same order; and one of another bucket does not. Method: over one connection of mutual
/// TLS, recorded between both: Alice writes to Bob, three words; Dave writes to Bob and Eve, of whom Bob knows
/// nothing, a page that lives longer; then a long text.
#[tokio::test]
async fn equal_buckets_look_alike() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    let mut dave = person(&a, "dave").await;
    let eve = person(&b, "eve").await;
    dave.create_room(&a, OTHER_ROOM, &[&bob, &eve]).await;
    let (mut worker, proxy) = wired(&a, &b).await;
    // Connection, greeting and the first use of each header are behind.
    drain(&mut worker).await;
    alice.say(&a, ROOM, b"hello", 3600).await;
    drain(&mut worker).await;

    let mut seen = Vec::new();
    for course in 0..3 {
        proxy.record();
        for step in 0..4 {
            match course {
                0 => alice.say(&a, ROOM, b"see you soon", 3600).await,
                1 => dave.say(&a, OTHER_ROOM, &[b'x'; 400], 86_400).await,
                _ if step == 3 => alice.say(&a, ROOM, &[b'x'; 3000], 3600).await,
                _ => alice.say(&a, ROOM, b"see you soon", 3600).await,
            };
            assert_eq!(drain(&mut worker).await, Step::Idle);
        }
        seen.push(records(&proxy.recorded()));
    }
    assert!(seen[0].len() >= 8, "{:?}", seen[0]);
    assert_eq!(seen[0], seen[1]);
    assert_ne!(seen[0], seen[2]);
    assert_eq!(bob.heard(&b).await, 13);
    assert_eq!(eve.heard(&b).await, 4);
}

/// Goal: what a transaction or its receipt weighs is its bucket, and a body that is not padded is refused. Method: the
/// bodies themselves, and one as it was before padding.
#[tokio::test]
async fn bodies_weigh_their_bucket() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let key = a.node.keys.envelope_key();
    let signed = transaction::sign(&key, &link(&a, &b), &[outgoing(Lane::CONTROL, 1)]).unwrap();
    let send = async |body: Bytes| {
        let request = Request::post(paths::TRANSACTIONS).body(body).unwrap();
        let response = a.network.request(&b.node.server, request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, body.len())
    };
    let bare = send(signed.bytes.clone()).await;
    assert_eq!(bare, (StatusCode::BAD_REQUEST, 1024));
    let padded = padding::pad(&signed.bytes);
    assert_eq!(padded.len(), padded_length(signed.bytes.len()));
    assert_eq!(send(padded).await, (StatusCode::OK, 1024));
}

/// Goal: how long an answer takes is blurred: receipts are held back for times that differ, and never for long.
/// Method: paused time, in which nothing else takes any.
#[tokio::test(start_paused = true)]
async fn receipts_are_held_back() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let mut times = std::collections::BTreeSet::new();
    // More at once than a peer may send, as long as its clock stands still, would be put off.
    for sequence in 1..=12 {
        let begun = Instant::now();
        exchange(&a, &b, vec![outgoing(Lane::CONTROL, sequence)]).await;
        times.insert(begun.elapsed());
    }
    assert!(times.len() > 1, "{times:?}");
    assert!(times.iter().all(|time| time.as_millis() <= 3), "{times:?}");
}
