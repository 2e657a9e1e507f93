//! Evidence of who was cut off, over two homeservers and with true MLS.

use bytes::Bytes as Der;
use federation_proto::deprovisioning::{
    By, Judged, Pages, Reason, RoomEvidence, SignedEvidence, What,
};
use federation_proto::ids::EvidenceId;
use room_rules::settings::{Context, account};

use super::*;
use crate::audit::Actor;
use crate::delivery::{departures, evidence};
use crate::identity::{accounts, devices};
use crate::store::evidence as stored;

async fn only(side: &Side) -> EvidenceId {
    let all = evidence::list(&side.node, None, None, 9).await.unwrap();
    assert_eq!(all.len(), 1);
    all[0].0
}

/// The evidence, signed, and what it shows to whoever has the root.
async fn exported(side: &Side, id: EvidenceId) -> (SignedEvidence, Judged) {
    let page = evidence::page(&side.node, &Actor::Local(0), id, None).await;
    let signed = page.unwrap().unwrap();
    let mut pages = Pages::default();
    let root = Der::copy_from_slice(&side.node.keys.root());
    pages.take(&signed, &root, now(side)).unwrap();
    let judged = pages.finish().unwrap().1;
    (signed, judged)
}

fn kinds(room: &RoomEvidence) -> Vec<&'static str> {
    let kind = |what: &What| match what {
        What::Asked => "asked",
        What::Accepted => "accepted",
        What::Ordered(_) => "ordered",
        What::Removed(_) => "removed",
        What::Ended => "ended",
    };
    room.steps.iter().map(|step| kind(&step.what)).collect()
}

/// Alice takes up what the hub has ordered, striking `account` off the list where it goes.
async fn taken_up(scene: &mut Scene, gone: Vec<Member>, account: Option<&Member>) {
    scene.alice_hears().await;
    let strike: Vec<_> = account.into_iter().collect();
    let good = scene.takes_up(gone, &strike);
    accepted_by(scene.alice.person.submit(&scene.a, good).await);
    scene.group.apply_pending_commit().unwrap();
    scene.settle().await;
}

impl Scene {
    /// The devices of Bob's whose key packages Alice is given.
    async fn claimed(&mut self, number: u8) -> Vec<federation_proto::ids::DeviceId> {
        let request = RequestId::from_bytes([number; 16]);
        let claim = SubmissionBody::ClaimKeys {
            request,
            address: "bob@b.example".parse().unwrap(),
            known: Vec::new(),
        };
        accepted_by(self.alice.person.submit(&self.a, claim).await);
        self.settle().await;
        let inbox = self.alice.person.inbox(&self.a).await;
        let mut answers = inbox.into_iter().filter_map(|body| match body {
            InboxBody::KeyMaterial {
                request: of,
                result,
            } if of == request => Some(result.unwrap()),
            _ => None,
        });
        let keys = answers.next().unwrap().devices.into_iter();
        keys.map(|claimed| claimed.member.device).collect()
    }

    /// Alice takes Bob with these devices out by herself.
    async fn removes(&mut self, gone: &[Member]) {
        let epoch = self.group.current_epoch();
        let mut context = Context::read(&self.group.context().extensions).unwrap();
        context.settings.participants.remove(&account(&gone[0]));
        context.settings.drop_unlisted();
        let mut builder = self.group.commit_builder();
        builder = builder
            .set_group_context_ext(context.extensions().unwrap())
            .unwrap();
        // Alice made the group, and added these two.
        for leaf in [1, 2] {
            builder = builder.remove_member(leaf).unwrap();
        }
        let output = builder.build().unwrap();
        let mut body = submission(&self.a, epoch, &output, Vec::new());
        if let SubmissionBody::Commit(commit) = &mut body {
            commit.removes = gone.to_vec();
        }
        accepted_by(self.alice.person.submit(&self.a, body).await);
    }
}

async fn audited(side: &Side, action: &str) -> usize {
    let page = crate::audit::page(&side.node.store, side.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    let of = page.entries.iter().filter(|entry| entry.action == action);
    of.count()
}

/// Goal: a user of a follower who is deleted leaves evidence: who, which devices, by whom, the room at the partner's hub with
/// each step, the hub's own signed words for the order and for the commit; complete only then, which is in the audit log. It
/// holds under the organisation's root and under no other. Method: Bob is deleted while the hub can't be reached, then it can,
/// and Alice commits.
#[tokio::test]
async fn a_deleted_user_at_a_partners_hub() {
    let mut scene = Scene::new().await;
    let (bob, second) = (
        scene.bob.person.member.clone(),
        scene.second.person.member.clone(),
    );
    scene.b.network.set_down(true);
    let admin = Actor::Admin("root".parse().unwrap());
    let handle = "bob".parse().unwrap();
    accounts::delete(&scene.b.node, &admin, &handle)
        .await
        .unwrap();
    let id = only(&scene.b).await;
    let record = stored::get(&scene.b.node.store, id)
        .await
        .unwrap()
        .unwrap()
        .0;
    assert_eq!(record.listed_ms, None, "opened with the act itself");
    assert_eq!(audited(&scene.b, "deprovisioning.opened").await, 1);

    departures::ask_all(&scene.b.node).await.unwrap();
    drain(&mut worker(&scene.b, &scene.a)).await;
    let (waits, judged) = exported(&scene.b, id).await;
    assert!(!judged.complete);
    assert_eq!((judged.rooms, judged.foreign, judged.waiting), (1, 1, 1));
    let room = &waits.claims().rooms[0];
    assert_eq!(kinds(room), ["asked"]);
    assert_eq!(evidence::waiting(&scene.b.node, id).await.unwrap(), 1);

    scene.b.network.set_down(false);
    for side in [&scene.a, &scene.b] {
        side.clock.advance_ms(400_000);
    }
    scene.settle().await;
    let (_, judged) = exported(&scene.b, id).await;
    assert_eq!((judged.waiting, judged.proved), (1, 1));
    departures::ask_all(&scene.b.node).await.unwrap();
    assert!(!exported(&scene.b, id).await.1.complete, "a room waits");

    taken_up(&mut scene, vec![bob.clone(), second.clone()], Some(&bob)).await;
    departures::ask_all(&scene.b.node).await.unwrap();
    let (signed, judged) = exported(&scene.b, id).await;
    assert!(judged.complete);
    assert_eq!((judged.waiting, judged.proved, judged.unproved), (0, 2, 0));
    assert_eq!(audited(&scene.b, "deprovisioning.completed").await, 1);
    let told = signed.claims();
    assert_eq!(told.cut.reason, Reason::UserDeleted);
    assert_eq!(told.cut.by, By::Administrator("root".parse().unwrap()));
    assert_eq!(told.cut.handle, handle);
    let mut both = vec![bob.device, second.device];
    both.sort_unstable();
    let cut: Vec<_> = told.cut.devices.iter().map(|cut| cut.device).collect();
    assert_eq!(cut, both);
    let room = &told.rooms[0];
    assert_eq!((room.room, &room.hub), (ROOM, &scene.a.node.server));
    assert_eq!(room.devices, both);
    let mut found = kinds(room);
    assert_eq!(found.pop(), Some("removed"));
    found.sort_unstable();
    assert_eq!(found, ["accepted", "asked", "ordered"]);
    assert!(room.steps.iter().all(|step| step.at_ms >= told.cut.cut_ms));
    let others = Der::copy_from_slice(&scene.a.node.keys.root());
    assert!(signed.verify(&others, now(&scene.b)).is_err());
    // Nobody at the hub was cut off.
    let none = evidence::list(&scene.a.node, None, None, 9).await.unwrap();
    assert!(none.is_empty());
}

/// Goal: devices that go one by one each have evidence of their own, and a suspended user's have one together; a room that
/// everybody leaves is over, and so done. Method: Bob's second device is removed by the first, then he is suspended, then
/// Alice is deleted at the hub.
#[tokio::test]
async fn devices_and_suspended_users() {
    let mut scene = Scene::new().await;
    let (bob, second) = (scene.bob.person.of, scene.second.person.of);
    devices::remove(&scene.b.node, &Actor::Device(bob.device), second)
        .await
        .unwrap();
    let removed = only(&scene.b).await;
    departures::ask_all(&scene.b.node).await.unwrap();
    scene.settle().await;
    let gone = vec![scene.second.person.member.clone()];
    taken_up(&mut scene, gone, None).await;
    departures::ask_all(&scene.b.node).await.unwrap();
    let (signed, judged) = exported(&scene.b, removed).await;
    assert!(judged.complete);
    assert_eq!(signed.claims().cut.reason, Reason::DeviceRemoved);
    assert_eq!(signed.claims().cut.by, By::Device(bob.device));

    let suspended = homeserver_api::admin::ChangeUserRequest {
        user_type: None,
        suspended: Some(true),
    };
    let handle = "bob".parse().unwrap();
    for _ in 0..2 {
        // Once more changes nothing.
        accounts::change(&scene.b.node, &Actor::Local(7), &handle, &suspended)
            .await
            .unwrap();
    }
    departures::ask_all(&scene.b.node).await.unwrap();
    scene.settle().await;
    let all = evidence::list(&scene.b.node, None, None, 9).await.unwrap();
    assert_eq!(all.len(), 2);
    let waiting = evidence::list(&scene.b.node, None, Some(false), 9).await;
    let [(suspension, record, 1)] = &waiting.unwrap()[..] else {
        panic!("one waits, for one room");
    };
    assert_eq!(record.devices.len(), 1);
    assert_eq!(record.by, stored::By::Operator(7));

    accounts::delete(&scene.a.node, &Actor::System, &"alice".parse().unwrap())
        .await
        .unwrap();
    departures::ask_all(&scene.a.node).await.unwrap();
    scene.settle().await;
    for side in [&scene.a, &scene.b] {
        departures::ask_all(&side.node).await.unwrap();
    }
    let (signed, judged) = exported(&scene.b, *suspension).await;
    assert!(judged.complete);
    assert_eq!(signed.claims().cut.reason, Reason::UserSuspended);
    assert!(kinds(&signed.claims().rooms[0]).ends_with(&["ended"]));
    // The hub proves nothing to itself: its organisation's signature over all of it is its word.
    let (signed, judged) = exported(&scene.a, only(&scene.a).await).await;
    assert!(judged.complete);
    assert_eq!((judged.foreign, judged.proved, judged.unproved), (0, 0, 0));
    assert_eq!(
        kinds(&signed.claims().rooms[0]),
        ["asked", "ordered", "ended"]
    );
}

/// Goal: what happens in a room before it was looked through is not missed, and nothing is added afterwards. Method: Alice
/// removes Bob's devices herself right after he is deleted, before his homeserver looks; and a step that comes when all is
/// listed, about a room that he was not in.
#[tokio::test]
async fn a_room_that_is_left_before_it_is_looked_at() {
    let mut scene = Scene::new().await;
    let (bob, second) = (
        scene.bob.person.member.clone(),
        scene.second.person.member.clone(),
    );
    let handle = "bob".parse().unwrap();
    accounts::delete(&scene.b.node, &Actor::Local(0), &handle)
        .await
        .unwrap();
    let id = only(&scene.b).await;
    scene.removes(&[bob, second]).await;
    scene.settle().await;
    let room = crate::store::room::get(&scene.b.node.store, ROOM).await;
    assert!(room.unwrap().is_none());
    departures::ask_all(&scene.b.node).await.unwrap();
    let (signed, judged) = exported(&scene.b, id).await;
    assert!(judged.complete);
    assert_eq!((judged.rooms, judged.proved), (1, 1));
    assert_eq!(kinds(&signed.claims().rooms[0]), ["removed"]);
}

/// Goal: from the hub's order on, nothing of a device that was cut off has an effect at the hub, whatever its own server lets out:
/// messages, commits, its way back, requests for group infos; and from the cut on its own server takes nothing of it, and
/// hands out none of its key packages. Method: Bob's second device is removed; then its server `b` is made to send each of these in
/// its name.
#[tokio::test]
async fn nothing_of_a_device_that_was_cut_off() {
    let mut scene = Scene::new().await;
    let second = scene.second.person.member.clone();
    let mut part = Part::default();
    for device in [&scene.bob, &scene.second] {
        crate::store::key_package::put_last_resort(&mut part, device.person.of.device, &[1; 40]);
    }
    scene.b.node.store.commit(part).await.unwrap();
    assert!(scene.claimed(1).await.contains(&second.device));
    let info = scene.kept().await;
    let (_, back) = scene.outside(&scene.second.client, &info, &scene.second);
    devices::remove(&scene.b.node, &Actor::Local(0), scene.second.person.of)
        .await
        .unwrap();
    let leave = SubmissionBody::Leave { room: ROOM };
    let own = scene.second.person.submit(&scene.b, leave).await;
    assert!(refused(&own).is_some(), "{own:?}");
    let said = says(&mut scene.behind, b"still here");
    let SubmissionBody::Message { message, .. } = said.clone() else {
        unreachable!()
    };
    let own = scene.second.person.submit(&scene.b, said).await;
    assert!(refused(&own).is_some(), "{own:?}");
    departures::ask_all(&scene.b.node).await.unwrap();
    scene.settle().await;

    let room_lane =
        |payload: &Payload, sequence| bad_peers::envelope(&scene.b, ROOM.into(), sequence, payload);
    let late = Payload::Message(federation_proto::payload::Message {
        room: ROOM,
        sender: Sender {
            account: second.account,
            device: second.device,
        },
        reference: 9,
        message,
    });
    let asks = Payload::GroupInfoRequest(GroupInfoRequest {
        request: RequestId::from_bytes([4; 16]),
        room: ROOM,
        requester: Sender {
            account: second.account,
            device: second.device,
        },
    });
    let commit = Payload::Handshake(Handshake {
        room: ROOM,
        hub: scene.a.node.server.clone(),
        epoch: back.epoch,
        sender: second.clone(),
        reference: 10,
        commit: back.commit,
        adds: Vec::new(),
        removes: Vec::new(),
        welcome: None,
        group_info: Some(back.group_info),
        stamp_ms: 0,
    });
    // The removal's request was the lane's first envelope.
    let sent = vec![room_lane(&late, 2), room_lane(&commit, 3)];
    let results = exchange(&scene.b, &scene.a, sent).await;
    for result in &results {
        assert_eq!(bad_peers::code(result), Some(RefusalCode::UnknownRoom));
    }
    exchange(&scene.b, &scene.a, vec![room_lane(&asks, 4)]).await;
    let rows = crate::store::outbox::rows_after(&scene.a.node.store, &scene.b.node.server, None, 9);
    let rows = rows.await.unwrap();
    let answers = rows.iter().filter_map(|waits| {
        match Payload::decode(waits.row.kind, waits.row.payload.clone()) {
            Ok(Payload::GroupInfo(response)) => Some(response),
            _ => None,
        }
    });
    let answers: Vec<GroupInfoResponse> = answers.collect();
    assert_eq!(answers.len(), 1);
    let refusal = answers[0].result.as_ref().unwrap_err();
    assert_eq!(refusal.code, RefusalCode::UnknownRoom);
    assert_eq!(scene.epoch().await, 2, "no commit of it");
    let claimed = scene.claimed(2).await;
    assert!(claimed.contains(&scene.bob.person.of.device));
    assert!(!claimed.contains(&second.device));
}
