//! A hub that is away for days: what waits for it at its followers comes in its order, once, when it is back.

use homeserver_api::session::Commit;

use super::*;
use crate::identity::testing::device;
use crate::rooms::mls_framing::testing::{commit_message, group_info_message, welcome_message};
use crate::store::inbox::Content;
use crate::store::{payload, room};

const HOUR_MS: u64 = 60 * 60 * 1000;
/// Every two hours somebody writes, for three days.
const ROUNDS: u64 = 36;
const WEEK_SECONDS: u32 = 7 * 24 * 3600;

/// What a person's device has of messages that begin with `name`, in the order in which they lie there.
async fn texts(side: &Side, person: &Person, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for body in person.inbox(side).await {
        let InboxBody::Message { content, .. } = body else {
            continue;
        };
        let bytes = match content {
            Content::Inline(bytes) => bytes.bytes().clone(),
            Content::Shared(id) => payload::get(&side.node.store, id).await.unwrap().unwrap(),
        };
        // The text is the last thing in the message.
        let text = String::from_utf8_lossy(&bytes[bytes.len() - 8..]).into_owned();
        if text.starts_with(name) {
            found.push(text);
        }
    }
    found
}

fn written(name: &str, rounds: impl Iterator<Item = u64>) -> Vec<String> {
    rounds.map(|round| format!("{name} {round:03}")).collect()
}

/// Goal: a hub that was away for three days gets everything that its followers' people wrote meanwhile, and a commit that waited between
/// their messages: each sender's messages in their order, none lost, none twice, and passed on so to the other follower; whoever the
/// commit has added gets what was written behind it and nothing before. Followers are started anew meanwhile, and some answers are
/// lost when the hub is back. Method: virtual time, Bob and Carol write every two hours, and Bob's second device is added in the
/// middle.
#[tokio::test]
async fn three_days_away() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    let (alice, mut bob, mut carol) = three_acquainted(&a, &b, &c).await;
    let second = Person::at(&b, device(&b.node, "bob").await);
    drain(&mut worker(&a, &b)).await;
    drain(&mut worker(&a, &c)).await;
    for side in [&b, &c] {
        side.network.set_down(true);
    }
    for round in 0..ROUNDS {
        for (side, person, name) in [(&b, &mut bob, "bobb"), (&c, &mut carol, "caro")] {
            let text = format!("{name} {round:03}");
            let said = person.say(side, ROOM, text.as_bytes(), WEEK_SECONDS).await;
            assert!(matches!(said, Outcome::Accepted { .. }), "{said:?}");
        }
        if round == ROUNDS / 2 {
            let commit = Commit {
                room: ROOM,
                hub: a.node.server.clone(),
                epoch: 1,
                commit: commit_message(ROOM, 1, &[1; 40]).into(),
                adds: vec![second.member.clone()],
                removes: Vec::new(),
                welcome: Some(welcome_message().into()),
                group_info: group_info_message(ROOM, 2).into(),
                founding: None,
            };
            let added = bob.submit(&b, SubmissionBody::Commit(commit)).await;
            assert!(matches!(added, Outcome::Accepted { .. }), "{added:?}");
        }
        for side in [&b, &c] {
            // Each a worker that knows nothing of the one before: as after a restart.
            assert!(matches!(drain(&mut worker(side, &a)).await, Step::Delay(_)));
        }
        for side in [&a, &b, &c] {
            side.clock.advance_ms(2 * HOUR_MS);
            crate::delivery::expiry::sweep(&side.node).await.unwrap();
        }
    }
    assert_eq!(waiting(&b, &a).await, ROUNDS + 1);
    assert_eq!(waiting(&c, &a).await, ROUNDS);
    let epoch = async |side: &Side| {
        let found = room::get(&side.node.store, ROOM).await.unwrap();
        found.unwrap().0.epoch
    };
    assert_eq!((epoch(&a).await, epoch(&b).await), (1, 1));

    // It is back; the first answers do not arrive.
    for side in [&b, &c] {
        side.network.set_down(false);
        side.network.mute_from(paths::TRANSACTIONS);
        assert!(matches!(drain(&mut worker(side, &a)).await, Step::Delay(_)));
        side.network.unmute();
    }
    for _ in 0..3 {
        for (from, to) in [(&b, &a), (&c, &a), (&a, &b), (&a, &c)] {
            assert_eq!(drain(&mut worker(from, to)).await, Step::Idle);
        }
    }
    assert_eq!(
        (epoch(&a).await, epoch(&b).await, epoch(&c).await),
        (2, 2, 2)
    );
    for (from, to) in [(&b, &a), (&c, &a), (&a, &b), (&a, &c)] {
        assert_eq!(waiting(from, to).await, 0);
        let lost = dead_letters::newest(&from.node.store, 10).await.unwrap();
        assert_eq!(lost, []);
    }
    let (of_bob, of_carol) = (written("bobb", 0..ROUNDS), written("caro", 0..ROUNDS));
    assert_eq!(texts(&a, &alice, "bobb").await, of_bob);
    assert_eq!(texts(&a, &alice, "caro").await, of_carol);
    assert_eq!(texts(&c, &carol, "bobb").await, of_bob);
    assert_eq!(texts(&b, &bob, "caro").await, of_carol);
    let behind = written("bobb", ROUNDS / 2 + 1..ROUNDS);
    assert_eq!(texts(&b, &second, "bobb").await, behind);
}
