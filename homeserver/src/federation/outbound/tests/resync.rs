//! A device that has fallen out of its room's step comes back through two homeservers, with true MLS; and
//! nobody else gets in that way.

use federation_proto::ids::Member;
use federation_proto::payload::{GroupInfoRequest, GroupInfoResponse, Handshake, Payload, Sender};
use federation_proto::refusal::Refusal;
use homeserver_api::attributes::MessageAttributes;
use homeserver_api::session::{Commit, GroupInfo};
use mls_rs::MlsMessage;
use mls_rs::extension::built_in::RatchetTreeExt;
use mls_rs::group::{CommitOutput, ReceivedMessage};
use room_rules::settings::Role;
use room_rules::testing::mls::{
    Client, Group, bytes, client, context, create, group_info as info_of, key_package,
};

use super::*;
use crate::federation::testing::{create_account, enrol};
use crate::organisation::DeviceRequest;
use crate::store::group_info;

mod evidence;
mod leaving;
mod lying;
mod paces;

/// A device with its MLS client.
struct Device {
    person: Person,
    client: Client,
    /// Of its key.
    seed: [u8; 32],
}

impl Device {
    async fn new(side: &Side, name: &str) -> Self {
        let key = new_key();
        let (person, chain) = enrol(side, name, &key).await;
        let seed = seed(&key);
        let client = client(&seed, &chain);
        Self {
            person,
            client,
            seed,
        }
    }

    fn key_package(&self, side: &Side) -> MlsMessage {
        key_package(&self.client, side.node.clock.now_ms())
    }
}

fn new_key() -> rcgen::KeyPair {
    rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap()
}

fn seed(key: &rcgen::KeyPair) -> [u8; 32] {
    // PKCS#8: the seed follows 16 bytes of structure.
    key.serialize_der()[16..48].try_into().unwrap()
}

fn submission(side: &Side, epoch: u64, output: &CommitOutput, adds: Vec<Member>) -> SubmissionBody {
    SubmissionBody::Commit(Commit {
        room: ROOM,
        hub: side.node.server.clone(),
        epoch,
        commit: bytes(&output.commit_message),
        welcome: output.welcome_messages.first().map(bytes),
        adds,
        removes: Vec::new(),
        group_info: bytes(output.external_commit_group_info.as_ref().unwrap()),
        founding: None,
    })
}

/// Alice at the hub `a`; Bob with two devices in it, and Carol, who is in no room, at the follower `b`. The room is
/// in epoch 2, of which Bob's first device has heard nothing.
struct Scene {
    a: Side,
    b: Side,
    alice: Device,
    bob: Device,
    second: Device,
    carol: Device,
    group: Group,
    behind: Group,
}

impl Scene {
    async fn new() -> Self {
        let [a, b] = sides(["a.example", "b.example"]);
        peered(&a, &b).await;
        create_account(&a, "alice").await;
        create_account(&b, "bob").await;
        create_account(&b, "carol").await;
        let mut alice = Device::new(&a, "alice").await;
        let bob = Device::new(&b, "bob").await;
        let second = Device::new(&b, "bob").await;
        let carol = Device::new(&b, "carol").await;
        let random = a.node.random.as_ref();
        let hub = a
            .node
            .keys
            .room_chain(a.node.clock.now_ms(), random)
            .unwrap();
        let others = [(bob.person.member.clone(), Role::Member)];
        let mut context = context(&hub, &alice.person.member, &others);
        let organisations = [&a, &b].map(|side| Arc::clone(&side.node.keys));
        crate::rooms::testing::consent(&mut context.settings, ROOM, &organisations, &a.node);
        let mut group = create(&alice.client, ROOM, &context);
        let founding = info_of(&group);
        let builder = group.commit_builder();
        let builder = builder.add_member(bob.key_package(&a)).unwrap();
        let builder = builder.add_member(second.key_package(&a)).unwrap();
        let output = builder.build().unwrap();
        let adds = vec![bob.person.member.clone(), second.person.member.clone()];
        let mut first = submission(&a, 0, &output, adds);
        if let SubmissionBody::Commit(commit) = &mut first {
            commit.founding = Some(founding);
        }
        accepted_by(alice.person.submit(&a, first).await);
        group.apply_pending_commit().unwrap();
        let welcome = &output.welcome_messages[0];
        let (behind, _) = bob.client.join_group(None, welcome, None).unwrap();
        let output = group.commit_builder().build().unwrap();
        accepted_by(
            alice
                .person
                .submit(&a, submission(&a, 1, &output, Vec::new()))
                .await,
        );
        group.apply_pending_commit().unwrap();
        drain(&mut worker(&a, &b)).await;
        Self {
            a,
            b,
            alice,
            bob,
            second,
            carol,
            group,
            behind,
        }
    }

    async fn settle(&self) {
        for _ in 0..2 {
            drain(&mut worker(&self.b, &self.a)).await;
            drain(&mut worker(&self.a, &self.b)).await;
        }
    }

    /// The group info that the hub keeps.
    async fn kept(&self) -> GroupInfo {
        let record = group_info::get(&self.a.node.store, ROOM).await;
        let record = record.unwrap().unwrap();
        GroupInfo {
            epoch: record.epoch,
            group_info: record.group_info,
        }
    }

    /// What a commit from outside would be that `client` makes, in the place of `removed`.
    fn outside(&self, client: &Client, info: &GroupInfo, removed: &Device) -> (Group, Commit) {
        let message = MlsMessage::from_bytes(&info.group_info).unwrap();
        let (old, _) = removed.client.signing_identity().unwrap();
        let tree: RatchetTreeExt = message
            .as_group_info()
            .unwrap()
            .extensions()
            .get_as()
            .unwrap()
            .unwrap();
        let leaf = tree
            .tree_data
            .roster()
            .members_iter()
            .find(|member| member.signing_identity.signature_key == old.signature_key)
            .unwrap();
        let builder = client.external_commit_builder().unwrap();
        let (group, commit) = builder.with_removal(leaf.index).build(message).unwrap();
        let commit = self.as_commit(info.epoch, &group, bytes(&commit));
        (group, commit)
    }

    fn as_commit(&self, epoch: u64, group: &Group, commit: Bytes) -> Commit {
        Commit {
            room: ROOM,
            hub: self.a.node.server.clone(),
            epoch,
            commit,
            adds: Vec::new(),
            removes: Vec::new(),
            welcome: None,
            group_info: info_of(group),
            founding: None,
        }
    }

    /// What the hub itself says to a commit that follower `b` proposes for `sender`, whatever `b` would say.
    async fn hub_says(
        &self,
        sequence: u64,
        sender: &Member,
        commit: Commit,
    ) -> Option<RefusalCode> {
        let sent = bad_peers::envelope(&self.b, ROOM.into(), sequence, &proposed(sender, commit));
        let results = exchange(&self.b, &self.a, vec![sent]).await;
        bad_peers::code(&results[0])
    }

    async fn epoch(&self) -> u64 {
        let room = crate::store::room::get(&self.a.node.store, ROOM).await;
        room.unwrap().unwrap().0.epoch
    }
}

/// A commit as its author's homeserver hands it on to the hub.
fn proposed(sender: &Member, commit: Commit) -> Payload {
    Payload::Handshake(Handshake {
        room: ROOM,
        hub: commit.hub,
        epoch: commit.epoch,
        sender: sender.clone(),
        reference: 1,
        commit: commit.commit,
        adds: commit.adds,
        removes: commit.removes,
        welcome: commit.welcome,
        group_info: Some(commit.group_info),
        stamp_ms: 0,
    })
}

fn accepted_by(outcome: Outcome) {
    assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
}

fn refused(outcome: &Outcome) -> Option<RefusalCode> {
    match outcome {
        Outcome::Refused(refusal) => Some(refusal.code),
        _ => None,
    }
}

fn newest_commit(inbox: &[InboxBody]) -> Bytes {
    let commits = inbox.iter().filter_map(|body| match body {
        InboxBody::Commit {
            content: crate::store::inbox::Content::Inline(commit),
            ..
        } => Some(commit.bytes().clone()),
        _ => None,
    });
    commits.last().unwrap()
}

/// What a device was answered to its request for the group info.
fn answer(inbox: &[InboxBody], asked: RequestId) -> Result<GroupInfo, Refusal> {
    let answers = inbox.iter().filter_map(|body| match body {
        InboxBody::GroupInfo {
            request, result, ..
        } if *request == asked => Some(result.clone()),
        _ => None,
    });
    answers.last().unwrap()
}

fn says(group: &mut Group, text: &[u8]) -> SubmissionBody {
    let attributes = MessageAttributes {
        ttl_seconds: 3600,
        burn_seconds: 0,
        label: 0,
        file: false,
    };
    let message = group
        .encrypt_application_message(text, attributes.encode().to_vec())
        .unwrap();
    SubmissionBody::Message {
        room: ROOM,
        message: bytes(&message),
    }
}

fn hears(group: &mut Group, inbox: &[InboxBody]) -> Vec<u8> {
    let Some(InboxBody::Message { content, .. }) = inbox.last() else {
        panic!("no message waits");
    };
    let crate::store::inbox::Content::Inline(message) = content else {
        panic!("it is shared");
    };
    let message = MlsMessage::from_bytes(message.bytes()).unwrap();
    match group.process_incoming_message(message).unwrap() {
        ReceivedMessage::ApplicationMessage(message) => message.data().to_vec(),
        other => panic!("{other:?}"),
    }
}

/// Goal: the device of a follower's organisation that has missed a commit comes back by the hub's group info,
/// and the conversation goes on both ways. Method: true MLS through both homeservers.
#[tokio::test]
async fn a_followers_device_comes_back() {
    let mut scene = Scene::new().await;
    assert_eq!(scene.behind.current_epoch(), 1);
    let request = RequestId::from_bytes([1; 16]);
    let ask = SubmissionBody::RequestGroupInfo {
        request,
        room: ROOM,
    };
    accepted_by(scene.bob.person.submit(&scene.b, ask).await);
    scene.settle().await;
    let info = answer(&scene.bob.person.inbox(&scene.b).await, request).unwrap();
    assert_eq!(info.epoch, 2);
    let (mut back, commit) = scene.outside(&scene.bob.client, &info, &scene.bob);
    let commit = SubmissionBody::Commit(commit);
    accepted_by(scene.bob.person.submit(&scene.b, commit).await);
    scene.settle().await;
    assert_eq!(scene.epoch().await, 3);
    assert_eq!(scene.kept().await.epoch, 3);

    let ordered = newest_commit(&scene.alice.person.inbox(&scene.a).await);
    let ordered = MlsMessage::from_bytes(&ordered).unwrap();
    scene.group.process_incoming_message(ordered).unwrap();
    assert_eq!(scene.group.roster().members_iter().count(), 3);
    let hello = says(&mut scene.group, b"hello");
    accepted_by(scene.alice.person.submit(&scene.a, hello).await);
    scene.settle().await;
    let record = crate::store::room::get(&scene.b.node.store, ROOM).await;
    let followed = record.unwrap().unwrap().0;
    assert!(followed.has(&scene.bob.person.member));
    // Two devices at b: the message lies beside their inboxes.
    let shared = scene.bob.person.inbox(&scene.b).await;
    let Some(InboxBody::Message {
        content: crate::store::inbox::Content::Shared(id),
        ..
    }) = shared.last()
    else {
        panic!("{shared:?}");
    };
    let message = crate::store::payload::get(&scene.b.node.store, *id).await;
    let message = MlsMessage::from_bytes(&message.unwrap().unwrap()).unwrap();
    back.process_incoming_message(message).unwrap();
    let answer = says(&mut back, b"here I am");
    accepted_by(scene.bob.person.submit(&scene.b, answer).await);
    scene.settle().await;
    let inbox = scene.alice.person.inbox(&scene.a).await;
    assert_eq!(hears(&mut scene.group, &inbox), b"here I am");
}

/// Goal: no commit from outside gets in but a member's own way back: refused are one by a non-member, one by
/// another device of the same account, one for an epoch that is over, one with another key for the same device,
/// one that somebody else hands in, one with a broken signature, and one that says it changes the members;
/// by the hub each, whatever the follower lets through, and by the follower what it can see. The honest one
/// passes afterwards.
#[tokio::test]
async fn nobody_else_comes_in() {
    let mut scene = Scene::new().await;
    let info = scene.kept().await;
    let (_, honest) = scene.outside(&scene.bob.client, &info, &scene.bob);
    let bob = scene.bob.person.member.clone();
    let (second, carol) = (
        scene.second.person.member.clone(),
        scene.carol.person.member.clone(),
    );
    let malformed = Some(RefusalCode::Malformed);

    let (_, outsider) = scene.outside(&scene.carol.client, &info, &scene.bob);
    let says = scene.hub_says(1, &carol, outsider.clone()).await;
    assert_eq!(says, Some(RefusalCode::UnknownRoom));
    assert_eq!(scene.hub_says(2, &bob, outsider.clone()).await, malformed);
    let own = SubmissionBody::Commit(outsider);
    let outcome = scene.carol.person.submit(&scene.b, own).await;
    assert_eq!(refused(&outcome), Some(RefusalCode::UnknownRoom));

    // A further device of Bob's in the place of his first one.
    let third = Device::new(&scene.b, "bob").await;
    let (_, other) = scene.outside(&third.client, &info, &scene.bob);
    let says = scene.hub_says(3, &third.person.member, other.clone()).await;
    assert_eq!(says, Some(RefusalCode::UnknownRoom));
    assert_eq!(scene.hub_says(4, &bob, other).await, malformed);

    // His own commit, handed in by his other device.
    assert_eq!(scene.hub_says(5, &second, honest.clone()).await, malformed);
    let own = SubmissionBody::Commit(honest.clone());
    let outcome = scene.second.person.submit(&scene.b, own).await;
    assert_eq!(refused(&outcome), malformed);

    // Another key, certified for the same device by an organisation that means ill.
    let key = new_key();
    let csr = rcgen::CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    let request = DeviceRequest {
        csr: csr.der().to_vec(),
        address: "bob@b.example".parse().unwrap(),
        account: bob.account,
        device: bob.device,
    };
    let node = &scene.b.node;
    let now_ms = node.clock.now_ms();
    let issued = node
        .keys
        .issue_device_certificate(&request, now_ms, node.random.as_ref())
        .unwrap();
    let chain = [issued.der.to_vec(), issued.issuing.to_vec()];
    let (_, swapped) = scene.outside(&client(&seed(&key), &chain), &info, &scene.bob);
    assert_eq!(scene.hub_says(6, &bob, swapped).await, malformed);

    // The signature lies in front of the confirmation tag: 64 bytes, then 33.
    let mut forged = honest.clone();
    let mut changed = forged.commit.to_vec();
    let at = changed.len() - 40;
    changed[at] ^= 1;
    forged.commit = changed.into();
    assert_eq!(scene.hub_says(7, &bob, forged).await, malformed);

    let mut greedy = honest.clone();
    greedy.removes = vec![second.clone()];
    assert_eq!(scene.hub_says(8, &bob, greedy.clone()).await, malformed);
    let own = SubmissionBody::Commit(greedy);
    let outcome = scene.bob.person.submit(&scene.b, own).await;
    assert_eq!(refused(&outcome), malformed);

    // Without a removal it would add a device.
    let message = MlsMessage::from_bytes(&info.group_info).unwrap();
    let (group, added) = scene.carol.client.commit_external(message).unwrap();
    let added = scene.as_commit(info.epoch, &group, bytes(&added));
    assert_eq!(scene.hub_says(9, &bob, added).await, malformed);

    // For an epoch that is over.
    let output = scene.group.commit_builder().build().unwrap();
    let next = submission(&scene.a, 2, &output, Vec::new());
    accepted_by(scene.alice.person.submit(&scene.a, next).await);
    scene.group.apply_pending_commit().unwrap();
    let late = scene.hub_says(10, &bob, honest).await;
    assert_eq!(late, Some(RefusalCode::WrongEpoch));
    assert_eq!(scene.epoch().await, 3);

    let info = scene.kept().await;
    let (_, honest) = scene.outside(&scene.bob.client, &info, &scene.bob);
    assert_eq!(scene.hub_says(11, &bob, honest).await, None);
    assert_eq!(scene.epoch().await, 4);
}

/// Goal: a hub can't pass a commit from outside to a follower in the name of somebody else, nor of nobody in
/// the room. Method: ordered handshakes that the hub makes up.
#[tokio::test]
async fn followers_hold_hubs_to_it() {
    let scene = Scene::new().await;
    let info = scene.kept().await;
    let (_, honest) = scene.outside(&scene.bob.client, &info, &scene.bob);
    let (_, outsider) = scene.outside(&scene.carol.client, &info, &scene.bob);
    let ordered = |commit: &Commit, sender: &Member| {
        Payload::Handshake(Handshake {
            room: ROOM,
            hub: commit.hub.clone(),
            epoch: commit.epoch,
            sender: sender.clone(),
            reference: 1,
            commit: commit.commit.clone(),
            adds: Vec::new(),
            removes: Vec::new(),
            welcome: None,
            group_info: None,
            stamp_ms: scene.a.node.clock.now_ms(),
        })
    };
    let (bob, carol) = (&scene.bob.person.member, &scene.carol.person.member);
    let first = outbox_next(&scene.a, &scene.b).await;
    let sent = [
        ordered(&outsider, carol),
        ordered(&outsider, bob),
        ordered(&honest, carol),
        ordered(&honest, bob),
    ];
    let sent = sent.iter().zip(first..);
    let sent = sent.map(|(payload, at)| bad_peers::envelope(&scene.a, ROOM.into(), at, payload));
    let results = exchange(&scene.a, &scene.b, sent.collect()).await;
    let codes: Vec<_> = results.iter().map(bad_peers::code).collect();
    assert_eq!(
        codes,
        [
            Some(RefusalCode::UnknownRoom),
            Some(RefusalCode::Malformed),
            Some(RefusalCode::Malformed),
            None
        ]
    );
}

/// The next sequence of the room's lane from `from` to `to`.
async fn outbox_next(from: &Side, to: &Side) -> u64 {
    let position =
        crate::store::link_position::position(&to.node.store, &from.node.server, Lane::from(ROOM));
    position.await.unwrap().record.unwrap().sequence + 1
}

/// Goal: the group info is for members alone, asked for in a room's lane, and an answer is taken once, by
/// whoever asked, from the hub that was asked. Method: requests and answers that are made up.
#[tokio::test]
async fn group_infos_are_for_members() {
    let mut scene = Scene::new().await;
    let request = RequestId::from_bytes([2; 16]);
    let ask = SubmissionBody::RequestGroupInfo {
        request,
        room: ROOM,
    };
    let outcome = scene.carol.person.submit(&scene.b, ask.clone()).await;
    assert_eq!(refused(&outcome), Some(RefusalCode::UnknownRoom));

    // A follower that asks for somebody who is no member: by the hub's list.
    let made_up = Payload::GroupInfoRequest(GroupInfoRequest {
        request,
        room: ROOM,
        requester: Sender {
            account: scene.carol.person.of.account,
            device: scene.carol.person.of.device,
        },
    });
    let sent = bad_peers::envelope(&scene.b, ROOM.into(), 1, &made_up);
    let results = exchange(&scene.b, &scene.a, vec![sent]).await;
    assert_eq!(bad_peers::code(&results[0]), None);
    let rows =
        crate::store::outbox::rows_after(&scene.a.node.store, &scene.b.node.server, None, 10).await;
    let row = rows.unwrap().pop().unwrap().row;
    let Payload::GroupInfo(answered) = Payload::decode(row.kind, row.payload).unwrap() else {
        panic!("no answer");
    };
    assert_eq!(answered.result.unwrap_err().code, RefusalCode::UnknownRoom);
    drain(&mut worker(&scene.a, &scene.b)).await;

    // The hub's own member is answered at once.
    accepted_by(scene.alice.person.submit(&scene.a, ask.clone()).await);
    let own = answer(&scene.alice.person.inbox(&scene.a).await, request).unwrap();
    let kept = scene.kept().await;
    assert_eq!(own, kept);

    // Answers: unasked for, of another epoch than it says, in time, and again.
    let device = scene.bob.person.of.device;
    let (a, group_info) = (&scene.a, &kept.group_info);
    let response = |epoch: u64, at: u64| {
        let response = Payload::GroupInfo(GroupInfoResponse {
            request,
            room: ROOM,
            device,
            result: Ok(federation_proto::payload::GroupInfo {
                epoch,
                group_info: group_info.clone(),
            }),
        });
        bad_peers::envelope(a, ROOM.into(), at, &response)
    };
    let first = outbox_next(&scene.a, &scene.b).await;
    let results = exchange(&scene.a, &scene.b, vec![response(2, first)]).await;
    assert_eq!(bad_peers::code(&results[0]), Some(RefusalCode::Malformed));
    accepted_by(scene.bob.person.submit(&scene.b, ask).await);
    let answers = vec![
        response(3, first + 1),
        response(2, first + 2),
        response(2, first + 3),
    ];
    let results = exchange(&scene.a, &scene.b, answers).await;
    let codes: Vec<_> = results.iter().map(bad_peers::code).collect();
    let malformed = Some(RefusalCode::Malformed);
    assert_eq!(codes, [malformed, None, malformed]);
    assert_eq!(
        answer(&scene.bob.person.inbox(&scene.b).await, request).unwrap(),
        kept
    );
}

/// Goal: a commit without the next epoch's group info is refused, and so is one with another's. Method: a
/// commit of Alice's with each.
#[tokio::test]
async fn commits_bring_their_group_info() {
    let mut scene = Scene::new().await;
    let old = scene.kept().await;
    let output = scene.group.commit_builder().build().unwrap();
    let SubmissionBody::Commit(good) = submission(&scene.a, 2, &output, Vec::new()) else {
        unreachable!();
    };
    let too_large = vec![0; federation_proto::limits::GROUP_INFO_BYTES_MAX + 1];
    for (group_info, expected) in [
        (Bytes::new(), RefusalCode::Malformed),
        (old.group_info.clone(), RefusalCode::Malformed),
        (good.commit.clone(), RefusalCode::Malformed),
        (too_large.into(), RefusalCode::TooLarge),
    ] {
        let bad = Commit {
            group_info,
            ..good.clone()
        };
        let outcome = scene
            .alice
            .person
            .submit(&scene.a, SubmissionBody::Commit(bad))
            .await;
        assert_eq!(refused(&outcome), Some(expected));
    }
    assert_eq!(scene.kept().await, old);
    let outcome = scene
        .alice
        .person
        .submit(&scene.a, SubmissionBody::Commit(good))
        .await;
    accepted_by(outcome);
    assert_eq!(scene.kept().await.epoch, 3);
}

/// Goal: a request that can't reach the hub comes back to its device. Method: let its time run out.
#[tokio::test(start_paused = true)]
async fn requests_come_back() {
    let mut scene = Scene::new().await;
    scene.b.network.set_down(true);
    let request = RequestId::from_bytes([3; 16]);
    let ask = SubmissionBody::RequestGroupInfo {
        request,
        room: ROOM,
    };
    accepted_by(scene.bob.person.submit(&scene.b, ask).await);
    let mut to_a = worker(&scene.b, &scene.a);
    to_a.mail();
    go_on(&mut to_a).await;
    let ttl_ms = crate::delivery::limits::GROUP_INFO_REQUEST_TTL_MS;
    scene.b.clock.advance_ms(ttl_ms + 1);
    tokio::time::advance(std::time::Duration::from_secs(6)).await;
    go_on(&mut to_a).await;
    let told = answer(&scene.bob.person.inbox(&scene.b).await, request);
    assert_eq!(told.unwrap_err().code, RefusalCode::Expired);
}
