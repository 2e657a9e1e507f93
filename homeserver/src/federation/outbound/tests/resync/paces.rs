//! Nobody keeps a room from the others by valid commits without end.

use super::*;
use crate::rooms::pace::{
    DEVICE_COMMIT_EVERY_MS, DEVICE_COMMITS_AT_ONCE, TOGETHER_COMMIT_EVERY_MS,
    TOGETHER_COMMITS_AT_ONCE,
};

/// A commit that changes nothing, for the epoch that the group is in; the group goes on by it.
fn next_of(hub: &Side, group: &mut Group) -> Commit {
    let epoch = group.current_epoch();
    let output = group.commit_builder().build().unwrap();
    group.apply_pending_commit().unwrap();
    let SubmissionBody::Commit(commit) = submission(hub, epoch, &output, Vec::new()) else {
        unreachable!();
    };
    commit
}

fn follow(group: &mut Group, commit: &[u8]) {
    let ordered = MlsMessage::from_bytes(commit).unwrap();
    group.process_incoming_message(ordered).unwrap();
}

impl Scene {
    /// The room is in epoch 2, and Bob's first device too.
    async fn in_step() -> Self {
        let mut scene = Self::new().await;
        let inbox = scene.alice.person.inbox(&scene.a).await;
        follow(&mut scene.behind, &newest_commit(&inbox));
        scene
    }

    /// Alice takes in what was ordered since epoch 2.
    async fn alice_follows(&mut self) {
        let inbox = self.alice.person.inbox(&self.a).await;
        for body in inbox {
            if let InboxBody::Commit {
                epoch,
                content: crate::store::inbox::Content::Inline(commit),
                ..
            } = body
                && epoch >= self.group.current_epoch()
            {
                follow(&mut self.group, commit.bytes());
            }
        }
    }
}

/// Goal: of a member's valid commits, each for the epoch that the one before begins, a few are ordered and the next is refused,
/// whatever his homeserver lets pass; the owner removes him meanwhile. Method: thirty commits of Bob's in one transaction.
#[tokio::test]
async fn a_flooder_is_held() {
    let mut scene = Scene::in_step().await;
    let bob = scene.bob.person.member.clone();
    let mut sent = Vec::new();
    for sequence in 1..=30 {
        let commit = next_of(&scene.a, &mut scene.behind);
        let payload = proposed(&bob, commit);
        sent.push(bad_peers::envelope(
            &scene.b,
            ROOM.into(),
            sequence,
            &payload,
        ));
    }
    let results = exchange(&scene.b, &scene.a, sent).await;
    let codes: Vec<_> = results.iter().map(bad_peers::code).collect();
    let (ordered, others) = codes.split_at(usize::try_from(DEVICE_COMMITS_AT_ONCE).unwrap());
    assert!(ordered.iter().all(Option::is_none), "{codes:?}");
    assert_eq!(others[0], Some(RefusalCode::RateLimited));
    let late = |code: &Option<RefusalCode>| *code == Some(RefusalCode::WrongEpoch);
    assert!(others[1..].iter().all(late), "{codes:?}");
    let epoch = 2 + DEVICE_COMMITS_AT_ONCE;
    assert_eq!(scene.epoch().await, epoch);

    scene.alice_follows().await;
    let leaf = scene.leaf_of(&bob);
    let builder = scene.group.commit_builder();
    let output = builder.remove_member(leaf).unwrap().build().unwrap();
    let SubmissionBody::Commit(mut removal) = submission(&scene.a, epoch, &output, Vec::new())
    else {
        unreachable!();
    };
    removal.removes = vec![bob.clone()];
    let removal = SubmissionBody::Commit(removal);
    accepted_by(scene.alice.person.submit(&scene.a, removal).await);
    assert!(!room_at(&scene.a).await.unwrap().has(&bob));
}

/// Goal: however many devices of an organisation's members commit, they come to no more together than it may; in time one more
/// passes, an owner does not wait for them, and a way back from outside counts for no organisation. Method: Bob's two devices, the
/// second of which has come back from outside, commit in turn, as his homeserver lets them.
#[tokio::test]
async fn devices_of_one_organisation_are_held_together() {
    let mut scene = Scene::in_step().await;
    let (bob, second) = (
        scene.bob.person.member.clone(),
        scene.second.person.member.clone(),
    );
    let info = scene.kept().await;
    let (mut other, back) = scene.outside(&scene.second.client, &info, &scene.second);
    assert_eq!(scene.hub_says(1, &second, back.clone()).await, None);
    follow(&mut scene.behind, &back.commit);
    let mut sequence = 1;
    for turn in 0..TOGETHER_COMMITS_AT_ONCE {
        let (ahead, behind, sender) = match turn % 2 {
            0 => (&mut scene.behind, &mut other, &bob),
            _ => (&mut other, &mut scene.behind, &second),
        };
        let commit = next_of(&scene.a, ahead);
        follow(behind, &commit.commit);
        sequence += 1;
        // So many transactions at one moment would be more bytes than are taken from a peer.
        scene.a.clock.advance_ms(100);
        assert_eq!(scene.hub_says(sequence, sender, commit).await, None);
    }
    let limited = Some(RefusalCode::RateLimited);
    let commit = next_of(&scene.a, &mut scene.behind);
    follow(&mut other, &commit.commit);
    let says = scene.hub_says(sequence + 1, &bob, commit.clone()).await;
    assert_eq!(says, limited);
    scene.a.clock.advance_ms(TOGETHER_COMMIT_EVERY_MS);
    assert_eq!(scene.hub_says(sequence + 2, &bob, commit).await, None);
    let commit = next_of(&scene.a, &mut other);
    let says = scene.hub_says(sequence + 3, &second, commit).await;
    assert_eq!(says, limited);

    scene.alice_follows().await;
    let own = SubmissionBody::Commit(next_of(&scene.a, &mut scene.group));
    accepted_by(scene.alice.person.submit(&scene.a, own).await);
}

/// Goal: a homeserver holds its own device before the hub hears of it, lets it commit again in time, and another device beside it.
/// Method: Bob's first device hands in the same commit again and again, then his second one a way back.
#[tokio::test]
async fn a_follower_holds_its_own() {
    let mut scene = Scene::in_step().await;
    let info = scene.kept().await;
    let commit = SubmissionBody::Commit(next_of(&scene.a, &mut scene.behind));
    let before = waiting(&scene.b, &scene.a).await;
    for _ in 0..DEVICE_COMMITS_AT_ONCE {
        accepted_by(scene.bob.person.submit(&scene.b, commit.clone()).await);
    }
    let held = scene.bob.person.submit(&scene.b, commit.clone()).await;
    assert_eq!(refused(&held), Some(RefusalCode::RateLimited));
    let (_, back) = scene.outside(&scene.second.client, &info, &scene.second);
    let back = SubmissionBody::Commit(back);
    accepted_by(scene.second.person.submit(&scene.b, back).await);
    scene.b.clock.advance_ms(DEVICE_COMMIT_EVERY_MS);
    accepted_by(scene.bob.person.submit(&scene.b, commit.clone()).await);
    let held = scene.bob.person.submit(&scene.b, commit).await;
    assert_eq!(refused(&held), Some(RefusalCode::RateLimited));
    let passed_on = waiting(&scene.b, &scene.a).await - before;
    assert_eq!(passed_on, DEVICE_COMMITS_AT_ONCE + 2);
    scene.settle().await;
    assert_eq!(scene.epoch().await, 3);
}
