//! Who leaves: what a commit has to do that takes up the hub's removals, and who acts when nobody owns the room.

use std::collections::BTreeSet;

use super::*;

/// The hub's removal of a leaf, which Mallory and Carol have taken in.
fn ordered(scene: &mut Scene, leaf: u32, account: bool) -> Vec<Bytes> {
    let info = group_info(&scene.owner);
    let anchors = anchors(&scene.a, &scene.b);
    scene.hub = Observed::open(&info, anchors, Some(&scene.a.room_key())).unwrap();
    let removals = scene.hub.propose_removals(&[(leaf, account)]).unwrap();
    let proposal = MlsMessage::from_bytes(&removals[0]).unwrap();
    scene
        .mallory
        .process_incoming_message(proposal.clone())
        .unwrap();
    let received = scene.carol.process_incoming_message(proposal).unwrap();
    let ReceivedMessage::Proposal(proposal) = received else {
        panic!("no proposal");
    };
    let read = removal::read(&removals[0]).unwrap();
    assert_eq!((read.leaf, read.account), (leaf, account));
    let leaving = account.then(|| proposal.proposal_ref.to_vec());
    scene.rules.set_leaving(leaving.into_iter().collect());
    removals
}

/// What the hub and Carol say to a commit that takes up these removals; both go on from there when they take it.
fn take_up(
    scene: &mut Scene,
    removals: &[Bytes],
    (commit, info): &(MlsMessage, Bytes),
) -> [Result<(), Error>; 2] {
    let hub = scene.hub.judge(removals, &bytes(commit), info, NOW_MS);
    let hub = hub.map(|judged| scene.hub = judged.next);
    let now = MlsTime::from(NOW_MS / 1000);
    let carol = scene
        .carol
        .process_incoming_message_with_time(commit.clone(), now);
    [hub, carol.map(|_| ()).map_err(Error::from)]
}

fn strike(context: &mut Context, device: &Device) {
    let account = (device.member.server.clone(), device.member.account);
    context.settings.participants.remove(&account).unwrap();
}

fn without_alice(scene: &mut Scene) -> (MlsMessage, Bytes) {
    settings(scene, |context, scene| strike(context, &scene.alice))
}

type Change = fn(&mut Context, &Scene);

/// What Mallory commits while Alice, the room's owner, is to go: with her account or one device alone.
type Answer = (
    &'static str,
    bool,
    &'static [Role],
    fn(&mut Scene) -> (MlsMessage, Bytes),
);

const ANSWERS: &[Answer] = &[
    ("a device goes", false, EVERYBODY, |s| commit(s, vec![])),
    (
        "a device goes, and the list too",
        false,
        OWNERS,
        without_alice,
    ),
    ("an account goes, and stays listed", true, NOBODY, |s| {
        commit(s, vec![])
    }),
    ("an account goes", true, EVERYBODY, without_alice),
    ("another one is struck out too", true, OWNERS, |s| {
        settings(s, |context, scene| {
            strike(context, &scene.alice);
            strike(context, &scene.dave);
        })
    }),
    (
        "whoever is in the room is struck out too",
        true,
        NOBODY,
        |s| {
            settings(s, |context, scene| {
                strike(context, &scene.alice);
                let carol = AccountId::from_bytes([0x30; 16]);
                let carol = (scene.b.server.clone(), carol);
                context.settings.participants.remove(&carol).unwrap();
            })
        },
    ),
    ("another one only is struck out", true, NOBODY, |s| {
        settings(s, |context, scene| strike(context, &scene.dave))
    }),
    ("a role is taken by the way", true, OWNERS, |s| {
        settings(s, |context, scene| {
            strike(context, &scene.alice);
            give(Role::Owner)(context, &scene.dave);
        })
    }),
    ("the room is renamed by the way", true, OWNERS, |s| {
        settings(s, |context, scene| {
            strike(context, &scene.alice);
            context.settings.name = "Lunch".to_owned();
        })
    }),
];

/// Goal: a commit that takes up the removal of an account takes it off the list, and nobody else with it unless its
/// author may; one that takes up the removal of a device leaves the list alone. The hub and an honest member
/// agree. Method: the table above, each answer by each role.
#[test]
fn whoever_leaves_is_taken_off_the_list() {
    for role in [Role::Owner, Role::Moderator, Role::Member] {
        for (what, account, may, answer) in ANSWERS {
            let mut scene = Scene::new(role);
            let removals = ordered(&mut scene, 0, *account);
            let commit = answer(&mut scene);
            let [hub, carol] = take_up(&mut scene, &removals, &commit);
            let may = may.contains(&role);
            assert_eq!(hub.is_ok(), may, "{what}, by {role}, the hub: {hub:?}");
            assert_eq!(carol.is_ok(), may, "{what}, by {role}, Carol: {carol:?}");
        }
    }
}

/// Goal: an account goes with its last device alone. Method: the hub lets Mallory's account go by one of its two devices;
/// a commit that takes the account off the list is refused, one that leaves it there is taken.
#[test]
fn an_account_goes_with_its_last_device() {
    for (strikes, taken) in [(true, false), (false, true)] {
        let mut scene = Scene::new(Role::Member);
        let (added, info) = add(&mut scene, |s| &s.second);
        scene.mallory.apply_pending_commit().unwrap();
        scene.owner.process_incoming_message(added.clone()).unwrap();
        let [hub, carol] = take_up(&mut scene, &[], &(added, info));
        hub.and(carol).unwrap();
        let removals = ordered(&mut scene, 3, true);
        let commit = if strikes {
            settings(&mut scene, |context, scene| strike(context, &scene.second))
        } else {
            commit(&mut scene, vec![])
        };
        let [hub, carol] = take_up(&mut scene, &removals, &commit);
        assert_eq!(hub.is_ok(), taken, "{hub:?}");
        assert_eq!(carol.is_ok(), taken, "{carol:?}");
    }
}

/// Goal: once the last owner has left, the first in the list who is in the room acts as an owner, and with the first
/// change there is one again; nobody else does. Method: Alice leaves, then Mallory and Carol's neighbour in the list
/// try: Mallory is the first one, and after Mallory has gone too, Carol.
#[test]
fn a_room_without_an_owner_has_a_successor() {
    let gone = |scene: &mut Scene| {
        let removals = ordered(scene, 0, true);
        let commit = without_alice(scene);
        let [hub, carol] = take_up(scene, &removals, &commit);
        hub.and(carol).unwrap();
        scene.mallory.apply_pending_commit().unwrap();
        scene.rules.set_leaving(BTreeSet::new());
        assert!(!scene.context().settings.has_owner());
    };
    // A change, and whether Mallory may make it of an orphaned room.
    let changes: [(Change, bool); 3] = [
        (
            |c, s| {
                let stranger = Device::new(&s.b, "frank", 0x61, NOW_MS);
                give(Role::Member)(c, &stranger);
            },
            false,
        ),
        (|c, s| give(Role::Owner)(c, &s.second), true),
        (|c, s| give(Role::Owner)(c, &s.dave), true),
    ];
    for role in [Role::Moderator, Role::Member] {
        for (change, may) in changes {
            let mut scene = Scene::new(role);
            gone(&mut scene);
            let acts_as = |leaf: u32| {
                let leaves = scene.hub.leaves().unwrap();
                let leaf = leaves.iter().find(|one| one.index == leaf).unwrap();
                scene.hub.acting_role(&leaf.member).unwrap()
            };
            assert_eq!(acts_as(scene.mallory.current_member_index()), Role::Owner);
            assert_eq!(acts_as(scene.carol.current_member_index()), Role::Member);
            let commit = settings(&mut scene, change);
            let [hub, carol] = take_up(&mut scene, &[], &commit);
            assert_eq!((hub.is_ok(), carol.is_ok()), (may, may), "{role}: {hub:?}");
        }
    }
    // Dave is listed before Mallory and takes part without a device; a moderator goes before both.
    let present = |numbers: &[u8]| -> BTreeSet<_> {
        let of = |n: &u8| {
            (
                "b.example".parse().unwrap(),
                AccountId::from_bytes([*n; 16]),
            )
        };
        numbers.iter().map(of).collect()
    };
    let mut scene = Scene::new(Role::Member);
    gone(&mut scene);
    let context = scene.context();
    let heir = settings::successor(&context.settings, &present(&[0x30, 0x40])).cloned();
    assert_eq!(heir, present(&[0x30]).first().cloned());
    // Carol is no successor while Mallory is there: what she commits nobody takes.
    let mut next = scene.context();
    next.settings
        .participants
        .insert(heir.unwrap(), Role::Owner);
    let builder = scene.carol.commit_builder();
    let builder = builder.set_group_context_ext(next.extensions().unwrap());
    assert!(builder.unwrap().build().is_err());
}
