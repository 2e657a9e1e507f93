//! Who leaves: asked by his own server, ordered by the hub, taken up by the next commit; across two homeservers and
//! with true MLS.

use federation_proto::payload::{Removal, RemovalRequest, Removals};
use room_rules::removal;
use room_rules::settings::{Context, account};

use super::*;
use crate::audit::Actor;
use crate::delivery::{departures, lapsed};
use crate::identity::{accounts, devices};
use crate::rooms::leaving::OUTSIDE_HELD_MS;
use crate::store::departure;

impl Scene {
    /// A commit by Alice in her group's epoch, with whoever goes in its lists.
    pub(super) fn takes_up(&mut self, removes: Vec<Member>, strike: &[&Member]) -> SubmissionBody {
        self.group.clear_pending_commit();
        let epoch = self.group.current_epoch();
        let mut context = Context::read(&self.group.context().extensions).unwrap();
        let mut builder = self.group.commit_builder();
        if !strike.is_empty() {
            for member in strike {
                context.settings.participants.remove(&account(member));
            }
            context.settings.drop_unlisted();
            let extensions = context.extensions().unwrap();
            builder = builder.set_group_context_ext(extensions).unwrap();
        }
        let output = builder.build().unwrap();
        let mut body = submission(&self.a, epoch, &output, Vec::new());
        if let SubmissionBody::Commit(commit) = &mut body {
            commit.removes = removes;
        }
        body
    }

    /// Alice takes in the removals that wait for her: how many, and of which epoch.
    pub(super) async fn alice_hears(&mut self) -> (usize, u64) {
        let inbox = self.alice.person.inbox(&self.a).await;
        let (epoch, proposals) = newest_removals(&inbox);
        for proposal in &proposals {
            let message = MlsMessage::from_bytes(proposal).unwrap();
            self.group.process_incoming_message(message).unwrap();
        }
        (proposals.len(), epoch)
    }
}

fn newest_removals(inbox: &[InboxBody]) -> (u64, Vec<Bytes>) {
    let removals = inbox.iter().filter_map(|body| match body {
        InboxBody::Removals {
            epoch, proposals, ..
        } => Some((*epoch, proposals.clone())),
        _ => None,
    });
    removals.last().unwrap()
}

fn last_refusal(inbox: &[InboxBody]) -> Option<RefusalCode> {
    let refusals = inbox.iter().filter_map(|body| match body {
        InboxBody::CommitRefused { refusal, .. } => Some(refusal.code),
        _ => None,
    });
    refusals.last()
}

/// Goal: a person at a follower leaves with all devices: from the hub's order on neither server takes anything of them; a
/// commit that leaves the removals out is refused as `pending-removes`, one that leaves the account listed as malformed;
/// the right one ends it, after a restart of the hub too. Method: Bob leaves, and Alice tries each commit.
#[tokio::test]
async fn who_leaves_is_out() {
    let mut scene = Scene::new().await;
    let (bob, second) = (
        scene.bob.person.member.clone(),
        scene.second.person.member.clone(),
    );
    let alone = SubmissionBody::Leave { room: ROOM };
    let outcome = scene.carol.person.submit(&scene.b, alone.clone()).await;
    assert_eq!(refused(&outcome), Some(RefusalCode::UnknownRoom));
    accepted_by(scene.bob.person.submit(&scene.b, alone.clone()).await);
    scene.settle().await;
    for side in [&scene.a, &scene.b] {
        let room = room_at(side).await.unwrap();
        assert_eq!(room.going.len(), 2);
        assert!(room.going.iter().all(|going| going.account));
        assert!(!room.may_act(&bob) && !room.may_act(&second));
    }
    // Neither server takes anything of them; to leave once more changes nothing.
    let late = says(&mut scene.behind, b"one more thing");
    let outcome = scene.bob.person.submit(&scene.b, late.clone()).await;
    assert_eq!(refused(&outcome), Some(RefusalCode::UnknownRoom));
    accepted_by(scene.second.person.submit(&scene.b, alone).await);
    let SubmissionBody::Message { message, .. } = late else {
        unreachable!()
    };
    let passed_on = Payload::Message(federation_proto::payload::Message {
        room: ROOM,
        sender: Sender {
            account: bob.account,
            device: bob.device,
        },
        reference: 9,
        message,
    });
    let sent = bad_peers::envelope(&scene.b, ROOM.into(), 2, &passed_on);
    let results = exchange(&scene.b, &scene.a, vec![sent]).await;
    assert_eq!(bad_peers::code(&results[0]), Some(RefusalCode::UnknownRoom));

    let without = scene.takes_up(vec![], &[]);
    let outcome = scene.alice.person.submit(&scene.a, without).await;
    assert_eq!(refused(&outcome), Some(RefusalCode::PendingRemoves));
    assert_eq!(scene.alice_hears().await, (2, 2));
    let gone = vec![bob.clone(), second.clone()];
    let listed = scene.takes_up(gone.clone(), &[]);
    let outcome = scene.alice.person.submit(&scene.a, listed).await;
    assert_eq!(refused(&outcome), Some(RefusalCode::Malformed));
    scene.a.node.observed_rooms.forget();
    let good = scene.takes_up(gone, &[&bob]);
    accepted_by(scene.alice.person.submit(&scene.a, good).await);
    let room = room_at(&scene.a).await.unwrap();
    assert_eq!(room.members, [scene.alice.person.member.clone()]);
    assert!(room.going.is_empty());
    scene.settle().await;
    assert!(room_at(&scene.b).await.is_none());
    // The leaver's devices got what shows them that they are out.
    let inbox = scene.bob.person.inbox(&scene.b).await;
    assert_eq!(newest_removals(&inbox).1.len(), 2);
    let commits = inbox
        .iter()
        .filter(|body| matches!(body, InboxBody::Commit { .. }));
    assert_eq!(commits.count(), 2);
}

/// Goal: a server has nobody removed but its own people, and nobody but the hub says that somebody was. Method: `b` asks
/// for Alice, for somebody who is not there, and in a room that is not; then it says itself that Alice was removed, and
/// the hub says so of another epoch.
#[tokio::test]
async fn nobody_removes_strangers() {
    let scene = Scene::new().await;
    let (alice, carol) = (
        scene.alice.person.member.clone(),
        scene.carol.person.member.clone(),
    );
    let other = RoomId::from_bytes([9; 16]);
    for (sequence, room, account, device) in [
        (1, ROOM, alice.account, None),
        (2, ROOM, alice.account, Some(alice.device)),
        (3, ROOM, carol.account, None),
        (1, other, scene.bob.person.member.account, None),
    ] {
        let request = Payload::RemovalRequest(RemovalRequest {
            room,
            account,
            device,
        });
        let sent = bad_peers::envelope(&scene.b, room.into(), sequence, &request);
        let results = exchange(&scene.b, &scene.a, vec![sent]).await;
        assert_eq!(bad_peers::code(&results[0]), None, "one answer for all");
    }
    assert!(room_at(&scene.a).await.unwrap().going.is_empty());
    let kept = scene.kept().await;
    let key = scene.a.node.keys.room_key();
    let observed = room_rules::Observed::open(&kept.group_info, Default::default(), Some(key));
    let proposal = observed.unwrap().propose_removals(&[(0, true)]).unwrap();
    let said = |epoch| {
        Payload::Removals(Removals {
            room: ROOM,
            epoch,
            stamp_ms: 1,
            removals: vec![Removal {
                member: alice.clone(),
                proposal: proposal[0].clone(),
            }],
        })
    };
    let sent = bad_peers::envelope(&scene.b, ROOM.into(), 4, &said(2));
    let results = exchange(&scene.b, &scene.a, vec![sent]).await;
    assert_eq!(bad_peers::code(&results[0]), Some(RefusalCode::UnknownRoom));
    assert!(room_at(&scene.a).await.unwrap().going.is_empty());
    let sent = bad_peers::envelope(&scene.a, ROOM.into(), 3, &said(1));
    let results = exchange(&scene.a, &scene.b, vec![sent]).await;
    assert_eq!(bad_peers::code(&results[0]), Some(RefusalCode::WrongEpoch));
    assert_eq!(removal::read(&proposal[0]).unwrap().epoch, 2);
}

/// Goal: whom a hub names in removals, and how often, does not grow what is kept of a room: of those who are in it each is
/// noted once. Method: removals of Alice, twice, and of somebody who is not there.
#[tokio::test]
async fn removals_note_who_is_there_once() {
    let scene = Scene::new().await;
    let alice = scene.alice.person.member.clone();
    let stranger = Member {
        device: scene.carol.person.member.device,
        ..alice.clone()
    };
    let kept = scene.kept().await;
    let key = scene.a.node.keys.room_key();
    let observed = room_rules::Observed::open(&kept.group_info, Default::default(), Some(key));
    let proposal = observed.unwrap().propose_removals(&[(0, true)]).unwrap();
    let named = [stranger.clone(), alice.clone(), alice.clone(), stranger];
    let removals = named.map(|member| Removal {
        member,
        proposal: proposal[0].clone(),
    });
    let said = Payload::Removals(Removals {
        room: ROOM,
        epoch: 2,
        stamp_ms: 1,
        removals: removals.into(),
    });
    let sent = bad_peers::envelope(&scene.a, ROOM.into(), 3, &said);
    let results = exchange(&scene.a, &scene.b, vec![sent]).await;
    assert_eq!(bad_peers::code(&results[0]), None);
    let room = room_at(&scene.b).await.unwrap();
    let going: Vec<_> = room.going.into_iter().map(|going| going.member).collect();
    assert_eq!(going, [alice]);
}

/// Goal: a device that its account has removed leaves its rooms, whenever the hub can be reached; while that waits, a
/// commit from outside is refused for 10 seconds, and then taken, with the removal ordered again for the epoch that it
/// begins. Method: Bob's second device is removed while the network is down, and his first one comes back.
#[tokio::test]
async fn a_removed_device_leaves_its_rooms() {
    let mut scene = Scene::new().await;
    let second = scene.second.person.member.clone();
    scene.b.network.set_down(true);
    let of = scene.second.person.of;
    devices::remove(&scene.b.node, &Actor::Local(0), of)
        .await
        .unwrap();
    let waiting = departure::waiting(&scene.b.node.store, 9).await.unwrap();
    assert_eq!(waiting.len(), 1, "written with the removal itself");
    departures::ask_all(&scene.b.node).await.unwrap();
    let waiting = departure::waiting(&scene.b.node.store, 9).await.unwrap();
    assert!(waiting.is_empty());
    drain(&mut worker(&scene.b, &scene.a)).await;
    assert!(room_at(&scene.a).await.unwrap().going.is_empty());
    scene.b.network.set_down(false);
    scene.b.clock.advance_ms(400_000);
    scene.a.clock.advance_ms(400_000);
    scene.settle().await;
    let room = room_at(&scene.a).await.unwrap();
    assert_eq!(room.going.len(), 1);
    assert!(room.is_going(&second) && !room.going[0].account);

    let info = scene.kept().await;
    let (_, back) = scene.outside(&scene.bob.client, &info, &scene.bob);
    let back = SubmissionBody::Commit(back);
    accepted_by(scene.bob.person.submit(&scene.b, back.clone()).await);
    scene.settle().await;
    let inbox = scene.bob.person.inbox(&scene.b).await;
    assert_eq!(last_refusal(&inbox), Some(RefusalCode::PendingRemoves));
    assert_eq!(scene.epoch().await, 2);
    for side in [&scene.a, &scene.b] {
        side.clock.advance_ms(OUTSIDE_HELD_MS);
    }
    accepted_by(scene.bob.person.submit(&scene.b, back).await);
    scene.settle().await;
    assert_eq!(scene.epoch().await, 3);
    for side in [&scene.a, &scene.b] {
        let room = room_at(side).await.unwrap();
        let read = removal::read(&room.going[0].proposal).unwrap();
        assert_eq!((room.going.len(), read.epoch), (1, 3));
    }
    let ordered = newest_commit(&scene.alice.person.inbox(&scene.a).await);
    let ordered = MlsMessage::from_bytes(&ordered).unwrap();
    scene.group.process_incoming_message(ordered).unwrap();
    assert_eq!(scene.alice_hears().await, (1, 3));
    let good = scene.takes_up(vec![second.clone()], &[]);
    accepted_by(scene.alice.person.submit(&scene.a, good).await);
    scene.settle().await;
    for side in [&scene.a, &scene.b] {
        let room = room_at(side).await.unwrap();
        assert!(!room.has(&second) && room.going.is_empty());
        assert!(room.may_act(&scene.bob.person.member));
    }
}

/// Goal: a user who is deleted leaves the rooms of his own server, and a suspended one's devices do; when nobody is left
/// the room ends on both servers. Method: Bob is suspended at `b`, then Alice deleted at the hub.
#[tokio::test]
async fn a_room_that_everybody_leaves_ends() {
    let scene = Scene::new().await;
    let suspended = homeserver_api::admin::ChangeUserRequest {
        user_type: None,
        suspended: Some(true),
    };
    let (bob, alice) = ("bob".parse().unwrap(), "alice".parse().unwrap());
    accounts::change(&scene.b.node, &Actor::Local(0), &bob, &suspended)
        .await
        .unwrap();
    departures::ask_all(&scene.b.node).await.unwrap();
    scene.settle().await;
    let room = room_at(&scene.a).await.unwrap();
    assert_eq!(room.going.len(), 2);
    assert!(room.going.iter().all(|going| !going.account));
    accounts::delete(&scene.a.node, &Actor::Local(0), &alice)
        .await
        .unwrap();
    departures::ask_all(&scene.a.node).await.unwrap();
    scene.settle().await;
    for side in [&scene.a, &scene.b] {
        assert!(room_at(side).await.is_none());
    }
    let kept = group_info::get(&scene.a.node.store, ROOM).await;
    assert!(kept.unwrap().is_none(), "its group info goes with it");
}

impl Scene {
    async fn days_pass(&self, days: u64) {
        for side in [&self.a, &self.b] {
            side.clock.advance_ms(days * 24 * 60 * 60 * 1000);
        }
    }

    /// What a homeserver does by itself about devices that have lapsed.
    async fn looks(&self, side: &Side) {
        let mut after = None;
        loop {
            after = lapsed::page(&side.node, after).await.unwrap();
            if after.is_none() {
                break;
            }
        }
        departures::ask_all(&side.node).await.unwrap();
        self.settle().await;
    }

    async fn going(&self) -> Vec<Member> {
        let room = room_at(&self.a).await.unwrap();
        room.going.into_iter().map(|going| going.member).collect()
    }
}

/// The device's certificate ends then, as its homeserver knows it; when it ended before.
async fn renewed(side: &Side, device: &Device, not_after_ms: u64) -> u64 {
    let (store, of) = (&side.node.store, device.person.of);
    let (mut record, _) = crate::store::device::get(store, of).await.unwrap().unwrap();
    let before = std::mem::replace(&mut record.not_after_ms, not_after_ms);
    let mut part = crate::store::Part::default();
    crate::store::device::put(&mut part, of, &record).unwrap();
    store.commit(part).await.unwrap();
    before
}

/// Goal: a device whose certificate ended two weeks ago leaves every room by its own homeserver's doing, those of others'
/// hubs too; one that comes back after six weeks finds its rooms. Method: the clocks go on to day 43 and to day 45
/// after all were enrolled, and only the followers' homeserver looks.
#[tokio::test]
async fn lapsed_devices_leave_their_rooms() {
    let scene = Scene::new().await;
    scene.days_pass(43).await;
    scene.looks(&scene.b).await;
    assert_eq!(scene.going().await, []);
    renewed(&scene.b, &scene.second, u64::MAX).await;
    scene.days_pass(2).await;
    scene.looks(&scene.b).await;
    let bob = std::slice::from_ref(&scene.bob.person.member);
    assert_eq!(scene.going().await, bob);
}

/// Goal: a hub removes its partners' devices two weeks after the end of the certificates in its room's tree, and its own
/// ones by what it knows of them. Method: the same days, and only the hub looks; Alice has another certificate, and
/// then has not.
#[tokio::test]
async fn a_hub_removes_lapsed_devices() {
    let scene = Scene::new().await;
    let ends_ms = renewed(&scene.a, &scene.alice, u64::MAX).await;
    scene.days_pass(43).await;
    scene.looks(&scene.a).await;
    assert_eq!(scene.going().await, []);
    scene.days_pass(2).await;
    scene.looks(&scene.a).await;
    let mut going = scene.going().await;
    going.sort_unstable();
    let mut partners = [&scene.bob, &scene.second].map(|device| device.person.member.clone());
    partners.sort_unstable();
    assert_eq!(going, partners);
    renewed(&scene.a, &scene.alice, ends_ms).await;
    scene.looks(&scene.a).await;
    assert!(room_at(&scene.a).await.is_none(), "nobody is left");
}
