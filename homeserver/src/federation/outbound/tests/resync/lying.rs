//! Committers who say one thing and do another: the hub takes nothing of it, and the room goes on.

use mls_rs::group::CommitBuilder;
use room_rules::settings::Context;
use room_rules::testing::hostile::{Hostile, Wrong};
use room_rules::testing::mls::{Config, next_group_info};

use super::*;

impl Scene {
    /// A commit by Alice, and the payload that tells the truth about it.
    fn by_alice(
        &mut self,
        change: impl FnOnce(CommitBuilder<'_, Config>) -> CommitBuilder<'_, Config>,
        adds: Vec<Member>,
    ) -> Commit {
        self.group.clear_pending_commit();
        let output = change(self.group.commit_builder()).build().unwrap();
        let SubmissionBody::Commit(commit) = submission(&self.a, 2, &output, adds) else {
            unreachable!();
        };
        commit
    }

    async fn alice_says(&mut self, commit: Commit) -> Option<RefusalCode> {
        let body = SubmissionBody::Commit(commit);
        refused(&self.alice.person.submit(&self.a, body).await)
    }

    pub(super) fn leaf_of(&self, member: &Member) -> u32 {
        let of = |leaf: &mls_rs::group::Member| {
            room_rules::device_in(leaf.signing_identity())
                .unwrap()
                .member
                == *member
        };
        self.group.roster().members_iter().find(of).unwrap().index()
    }
}

/// Goal: what a commit's payload says of whom it adds and removes is what the commit does, so no device comes in or
/// goes unseen by servers. Method: Alice, who may do each of it, says too much or too little, and then the truth.
#[tokio::test]
async fn lists_tell_the_truth() {
    let mut scene = Scene::new().await;
    let malformed = Some(RefusalCode::Malformed);
    let (second, carol) = (
        scene.second.person.member.clone(),
        scene.carol.person.member.clone(),
    );
    let nothing = scene.by_alice(|builder| builder, Vec::new());
    let too_much = Commit {
        removes: vec![second.clone()],
        ..nothing
    };
    assert_eq!(scene.alice_says(too_much).await, malformed);

    let leaf = scene.leaf_of(&second);
    let removal = scene.by_alice(|builder| builder.remove_member(leaf).unwrap(), Vec::new());
    assert_eq!(scene.alice_says(removal.clone()).await, malformed);
    let of_another = Commit {
        removes: vec![scene.bob.person.member.clone()],
        ..removal
    };
    assert_eq!(scene.alice_says(of_another).await, malformed);

    // Carol takes part from this commit on; the first payload does not tell that a device of hers comes in.
    let mut next = Context::read(&scene.group.context().extensions).unwrap();
    let account = (carol.server.clone(), carol.account);
    next.settings.participants.insert(account, Role::Member);
    let next = next.extensions().unwrap();
    let package = scene.carol.key_package(&scene.a);
    let honest = scene.by_alice(
        |builder| {
            let builder = builder.add_member(package).unwrap();
            builder.set_group_context_ext(next).unwrap()
        },
        vec![carol],
    );
    let silent = Commit {
        adds: Vec::new(),
        welcome: None,
        ..honest.clone()
    };
    assert_eq!(scene.alice_says(silent).await, malformed);
    assert_eq!(scene.epoch().await, 2);
    assert_eq!(scene.alice_says(honest).await, None);
    assert_eq!(scene.epoch().await, 3);
}

/// Goal: nobody brings in a device of an account that takes no part, nor removes who is above him, whatever the payload says.
/// Method: Alice adds Carol without listing her; Bob, a member, removes Alice.
#[tokio::test]
async fn roles_hold_at_the_hub() {
    let mut scene = Scene::new().await;
    let carol = scene.carol.person.member.clone();
    let package = scene.carol.key_package(&scene.a);
    let ghost = scene.by_alice(|builder| builder.add_member(package).unwrap(), vec![carol]);
    assert_eq!(scene.alice_says(ghost).await, Some(RefusalCode::Malformed));

    let ordered = newest_commit(&scene.alice.person.inbox(&scene.a).await);
    let ordered = MlsMessage::from_bytes(&ordered).unwrap();
    scene.behind.process_incoming_message(ordered).unwrap();
    let alice = scene.alice.person.member.clone();
    let leaf = scene.leaf_of(&alice);
    let builder = scene.behind.commit_builder();
    let output = builder.remove_member(leaf).unwrap().build().unwrap();
    let SubmissionBody::Commit(mut coup) = submission(&scene.a, 2, &output, Vec::new()) else {
        unreachable!();
    };
    coup.removes = vec![alice];
    let bob = scene.bob.person.member.clone();
    let says = scene.hub_says(1, &bob, coup).await;
    assert_eq!(says, Some(RefusalCode::Malformed));
    assert_eq!(scene.epoch().await, 2);

    // His own commit in the name of his other device, then in his own.
    scene.behind.clear_pending_commit();
    let output = scene.behind.commit_builder().build().unwrap();
    let SubmissionBody::Commit(update) = submission(&scene.a, 2, &output, Vec::new()) else {
        unreachable!();
    };
    let second = scene.second.person.member.clone();
    let says = scene.hub_says(2, &second, update.clone()).await;
    assert_eq!(says, Some(RefusalCode::Malformed));
    assert_eq!(scene.hub_says(3, &bob, update).await, None);
    assert_eq!(scene.epoch().await, 3);
}

/// Goal: the group info that the hub keeps is of the state that the commit leads to, or whoever falls out of step
/// could not come back. Method: the group info of another commit for the same epoch, and one spoilt byte by byte.
#[tokio::test]
async fn kept_group_infos_lead_back() {
    let mut scene = Scene::new().await;
    let other = scene.by_alice(|builder| builder, Vec::new());
    scene.group.clear_pending_commit();
    let output = scene.group.commit_builder().build().unwrap();
    let SubmissionBody::Commit(good) = submission(&scene.a, 2, &output, Vec::new()) else {
        unreachable!();
    };
    assert_eq!(good.group_info, next_group_info(&output));
    let malformed = Some(RefusalCode::Malformed);
    let mut spoilt = vec![other.group_info];
    for at in (0..good.group_info.len()).step_by(211) {
        let mut bytes = good.group_info.to_vec();
        bytes[at] ^= 1;
        spoilt.push(bytes.into());
    }
    for group_info in spoilt {
        let bad = Commit {
            group_info,
            ..good.clone()
        };
        assert_eq!(scene.alice_says(bad).await, malformed);
    }
    assert_eq!(scene.alice_says(good).await, None);
    // What the hub has in memory is not what it judges by: a hub that was started again says the same.
    scene.group.apply_pending_commit().unwrap();
    let next = scene.group.commit_builder().build().unwrap();
    let SubmissionBody::Commit(next) = submission(&scene.a, 3, &next, Vec::new()) else {
        unreachable!();
    };
    scene.a.node.observed_rooms.forget();
    assert_eq!(scene.alice_says(next).await, None);
    assert_eq!(scene.epoch().await, 4);
}

/// Goal: the hub takes no commit with an update path that is too short, by which no member could come into the next epoch; and it can't
/// tell that the secrets in a path are wrong. Method: Alice's own commit with one and none of its two nodes, made so that all else
/// about it is right, and with all nodes, but noise for secrets.
#[tokio::test]
async fn paths_have_a_node_for_each() {
    let mut scene = Scene::new().await;
    let good = scene.by_alice(|builder| builder, Vec::new());
    let before = scene.kept().await;
    let (seed, info) = (scene.alice.seed, before.group_info);
    let spoilt = |wrong| {
        let hostile = Hostile {
            seed: &seed,
            before: &info,
            state: &[],
        };
        let (commit, group_info) = hostile.spoil(&good.commit, &good.group_info, wrong);
        Commit {
            commit,
            group_info,
            ..good.clone()
        }
    };
    for nodes in [0, 1] {
        let body = SubmissionBody::Commit(spoilt(Wrong::PathOf(nodes)));
        match scene.alice.person.submit(&scene.a, body).await {
            Outcome::Refused(refusal) => {
                assert_eq!(refusal.code, RefusalCode::Malformed);
                let why = refusal.reason;
                assert!(why.contains("update path has not as many nodes"), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(scene.epoch().await, 2);
    let secrets = spoilt(Wrong::Secrets);
    assert_eq!(scene.alice_says(secrets).await, None);
    assert_eq!(scene.epoch().await, 3);
}
