use super::*;
use crate::core::Core;
use crate::event::Event;
use crate::message::Progress;
use crate::refusal::{Refusal, RefusalCode};
use crate::store::Family;

fn refusal(code: RefusalCode) -> Refusal {
    Refusal::new(code, "because")
}

/// Goal: two people of two organisations talk both ways, and see each other's certified addresses.
#[test]
fn two_people_talk() {
    let mut world = World::new();
    let room = world.conversation();
    world.alice.send(room, "hello");
    world.bob.send(room, "hi");
    world.settle();
    assert_eq!(world.alice.texts(room), ["alice: hello", "bob: hi"]);
    assert_eq!(world.bob.texts(room), ["bob: hi", "alice: hello"]);
    let rooms = world.bob.run(Core::rooms);
    assert_eq!(rooms.len(), 1);
    assert_eq!(
        rooms[0].addresses,
        [world.alice.address.clone(), world.bob.address.clone()]
    );
    assert_eq!(rooms[0].hub, world.a.server);
    assert!(world.bob.events.contains(&Event::RoomJoined { room }));
    assert!(world.alice.unreadable().is_empty());
    assert!(world.bob.unreadable().is_empty());
}

/// Goal: a message costs a device as much in a large room as in a small one: the group's public tree is written with
/// its epoch and not with each message, and a device that is started anew finds both. Method: look for the other's
/// certificate in what is kept.
#[test]
fn messages_do_not_write_the_tree() {
    let mut world = World::new();
    let room = world.conversation();
    world.bob.send(room, "hi");
    world.settle();
    let certificate = world.bob.core().identity.chain[0].clone();
    let kept = |device: &mut TestDevice, family| {
        let bytes = device.core().store.get_bytes(family, room.as_bytes(), 0);
        let bytes = bytes.unwrap().unwrap();
        bytes
            .windows(certificate.len())
            .any(|part| part == certificate)
    };
    assert!(kept(&mut world.alice, Family::GroupTree));
    assert!(!kept(&mut world.alice, Family::GroupState));
    world.alice.restart();
    world.alice.send(room, "hello");
    world.alice.run(|core| core.refresh(room));
    world.settle();
    world.alice.restart();
    world.bob.send(room, "still here");
    world.settle();
    assert_eq!(
        world.alice.texts(room),
        ["bob: hi", "alice: hello", "bob: still here"]
    );
}

/// Goal: from outside all short messages look alike; by the lengths of what the servers carried.
#[test]
fn short_messages_look_alike() {
    let mut world = World::new();
    let room = world.conversation();
    for text in ["", "x", "a somewhat longer text than the one before it"] {
        world.alice.send(room, text);
    }
    world.alice.send(room, &"x".repeat(1000));
    world.settle();
    let lengths: Vec<usize> = world.network.messages.iter().map(|m| m.len()).collect();
    assert!(lengths[..3].iter().all(|length| *length == lengths[0]));
    assert!(lengths[3] > lengths[0]);
}

/// Goal: the account's other devices are in the conversation and get its own messages too.
#[test]
fn own_devices_take_part() {
    let mut world = World::new();
    let mut phone = world.device('a', "alice", 9);
    let with = [world.bob.address.clone()];
    let number = world.alice.run(|core| core.start_conversation(&with));
    world.settle_with(&mut [&mut phone]);
    let room = world.alice.ended(number).unwrap();
    world.alice.send(room, "from the desk");
    phone.send(room, "from the train");
    world.settle_with(&mut [&mut phone]);
    for device in [&mut world.alice, &mut world.bob, &mut phone] {
        let mut texts = device.texts(room);
        texts.sort();
        assert_eq!(texts, ["alice: from the desk", "alice: from the train"]);
    }
}

/// Goal: an organisation's refusal reaches the person, word for word, and nothing is left behind.
#[test]
fn refused_conversations() {
    let mut world = World::new();
    let reason = Refusal::new(RefusalCode::NoAgreement, "no agreement with b.example");
    let bob = world.bob.address.clone();
    world
        .network
        .refuse_claims
        .insert(bob.clone(), reason.clone());
    let number = world.alice.run(|core| core.start_conversation(&[bob]));
    world.settle();
    assert_eq!(world.alice.ended(number), Err(Error::Refused(reason)));
    assert!(world.alice.run(Core::rooms).is_empty());
}

/// Goal: what the own homeserver refuses, and what comes back, is told with its reason and kept.
#[test]
fn refused_and_returned_messages() {
    let mut world = World::new();
    let room = world.conversation();
    world.network.refuse_messages = vec![refusal(RefusalCode::TtlOutOfBounds)];
    let refused = world.alice.send(room, "too long-lived");
    let returned = world.alice.send(room, "accepted, then returned");
    world.settle();
    let counter = world.network.last_counter(&world.alice.member);
    let server = world.b.server.clone();
    world.network.return_message(
        &world.alice.member,
        room,
        counter,
        &server,
        refusal(RefusalCode::AgreementSuspended),
    );
    world.settle();
    let progress = |device: &mut TestDevice, id| device.run(|core| core.message(id)).progress;
    assert_eq!(
        progress(&mut world.alice, refused),
        Progress::Refused {
            refusal: refusal(RefusalCode::TtlOutOfBounds)
        }
    );
    assert_eq!(
        progress(&mut world.alice, returned),
        Progress::Returned {
            server,
            refusal: refusal(RefusalCode::AgreementSuspended)
        }
    );
    let answer = world.alice.core().answer(refused).unwrap();
    assert_eq!(answer, Some(Err(refusal(RefusalCode::TtlOutOfBounds))));
}

/// Goal: a message whose epoch is over is encrypted again by itself, shown once, and keeps its first
/// acceptance.
#[test]
fn old_epochs_are_encrypted_again() {
    let mut world = World::new();
    let room = world.conversation();
    world.network.refuse_messages = vec![refusal(RefusalCode::EpochTooOld)];
    let at_once = world.alice.send(room, "refused first");
    world.settle();
    let by_the_hub = world.alice.send(room, "came back first");
    world.alice.submit(&mut world.network).unwrap();
    let first = world.alice.run(|core| core.message(by_the_hub)).accepted_ms;
    let counter = world.network.last_counter(&world.alice.member);
    let server = world.a.server.clone();
    world.clock.advance(5000);
    world.network.return_message(
        &world.alice.member,
        room,
        counter,
        &server,
        refusal(RefusalCode::EpochTooOld),
    );
    world.settle();
    assert_eq!(
        world.bob.texts(room),
        ["alice: refused first", "alice: came back first"]
    );
    for id in [at_once, by_the_hub] {
        let message = world.alice.run(|core| core.message(id));
        assert_eq!(message.progress, Progress::Accepted);
    }
    let last = world.alice.run(|core| core.message(by_the_hub)).accepted_ms;
    assert!(first.is_some());
    assert_eq!(first, last);
    assert!(world.bob.unreadable().is_empty());
}

/// Goal: a deferred submission is sent again, and what was out of turn behind it is not lost.
#[test]
fn deferred_submissions() {
    let mut world = World::new();
    let room = world.conversation();
    for text in ["one", "two", "three"] {
        world.alice.send(room, text);
    }
    world.network.defer_next = Some(700);
    let submissions = world.alice.core().submissions_after(0, 100).unwrap();
    let first = submissions[0].counter;
    let results = world.network.submit(&world.alice.member, submissions);
    let again = world.alice.run(|core| core.take_results(results, true));
    assert_eq!(again.map(|a| (a.counter, a.after_ms)), Some((first, 700)));
    world.settle();
    assert_eq!(
        world.bob.texts(room),
        ["alice: one", "alice: two", "alice: three"]
    );
}

/// Goal: an organisation that became a peer a moment ago is not refused for it: the job says that
/// a root is missing, changes nothing, and succeeds once the root is there.
#[test]
fn new_peers() {
    let mut world = World::new();
    let c = Organisation::new("c.example");
    let mut carol = TestDevice::enrol(
        &mut world.network,
        &world.clock,
        &c,
        "carol",
        3,
        &[&world.a],
    );
    let with = [carol.address.clone()];
    let number = world.alice.run(|core| core.start_conversation(&with));
    world.alice.submit(&mut world.network).unwrap();
    let deliveries = world.network.inbox(&world.alice.member);
    let first = world
        .alice
        .try_run(|core| core.receive(deliveries.clone(), false));
    assert_eq!(first, Err(Error::UnknownOrganisation(c.server.clone())));
    assert!(!world.alice.has_ended(number));
    let roots = [&world.b, &c].map(anchor);
    world.alice.run(|core| core.set_anchors(&roots));
    world.settle_with(&mut [&mut carol]);
    let room = world.alice.ended(number).unwrap();
    carol.send(room, "hello");
    world.settle_with(&mut [&mut carol]);
    assert_eq!(world.alice.texts(room), ["carol: hello"]);
}

/// Goal: after 500 messages a sender renews its leaf, receivers follow, and nothing is lost.
#[test]
fn long_epochs_are_renewed() {
    let mut world = World::new();
    let room = world.conversation();
    for number in 0..1100 {
        world.alice.send(room, &number.to_string());
    }
    world.settle();
    assert_eq!(world.bob.texts(room).len(), 1100);
    assert_eq!(world.alice.unreadable(), Vec::<&str>::new());
    assert_eq!(world.bob.unreadable(), Vec::<&str>::new());
    assert!(world.alice.run(Core::rooms)[0].epoch == 2);
}

/// Goal: a renewed certificate is the same member; others see it in the room without a new join.
#[test]
fn certificates_are_renewed() {
    let mut world = World::new();
    let room = world.conversation();
    assert!(world.alice.core().renewal_request().unwrap().is_none());
    world.clock.advance(21 * 86_400_000);
    assert!(world.alice.core().renewal_request().unwrap().is_some());
    let identity = world.alice.core().identity().clone();
    let now_ms = crate::clock::Clock::now_ms(&world.clock);
    let public = identity.key.public().unwrap();
    let chain = world
        .a
        .issue(&identity.member, &identity.address, &public, now_ms);
    let wrong = world
        .a
        .issue(&world.bob.member, &identity.address, &public, now_ms);
    assert!(world.alice.try_run(|core| core.renewed(wrong)).is_err());
    world.alice.run(|core| core.renewed(chain));
    world.settle();
    assert!(world.alice.core().renewal_request().unwrap().is_none());
    // Past the first certificate's end.
    world.clock.advance(12 * 86_400_000);
    world.alice.send(room, "still me");
    world.settle();
    assert_eq!(world.bob.texts(room), ["alice: still me"]);
    assert_eq!(world.bob.run(Core::rooms)[0].members.len(), 2);
    assert_eq!(world.bob.unreadable(), Vec::<&str>::new());
}

/// Goal: a leaf that can't be renewed is tried again now and then, not without end; what is beyond the
/// epoch's bound waits and goes out when it can. An expired certificate is not shown to anybody.
#[test]
fn refused_renewals_are_put_off() {
    let mut world = World::new();
    let room = world.conversation();
    world.network.refuse_commits = Some(refusal(RefusalCode::RateLimited));
    for number in 0..1100 {
        world.alice.send(room, &number.to_string());
    }
    let before = world.network.last_counter(&world.alice.member);
    world.settle();
    let commits = world.network.last_counter(&world.alice.member) - before - 1000;
    assert_eq!(commits, 1);
    assert_eq!(world.bob.texts(room).len(), 1000);

    // The clock alone brings the next try, and that one fails too.
    let due = world.alice.core().next_deadline_ms().unwrap();
    let before = world.network.last_counter(&world.alice.member);
    world.clock.advance(due - now_ms(&world.clock));
    world.alice.run(Core::do_due);
    world.settle();
    assert_eq!(world.network.last_counter(&world.alice.member) - before, 1);

    world.network.refuse_commits = None;
    world.clock.advance(40 * 86_400_000);
    world.alice.run(Core::tidy);
    world.settle();
    assert_eq!(
        world.alice.run(Core::rooms)[0].epoch,
        1,
        "its certificate is over"
    );
    let identity = world.alice.core().identity().clone();
    let public = identity.key.public().unwrap();
    let now_ms = now_ms(&world.clock);
    let chain = world
        .a
        .issue(&identity.member, &identity.address, &public, now_ms);
    world.alice.run(|core| core.renewed(chain));
    world.settle();
    assert_eq!(world.alice.run(Core::rooms)[0].epoch, 2);
    assert!(
        world
            .alice
            .core()
            .submissions_after(0, 10)
            .unwrap()
            .is_empty()
    );
    assert!(world.bob.unreadable().is_empty());
}

/// Goal: messages held at the epoch's bound after a renewal that failed go out by the clock alone, when
/// nothing else happens in the room; by refusing one commit.
#[test]
fn held_messages_go_out_by_the_clock() {
    let mut world = World::new();
    let room = world.conversation();
    world.network.refuse_commits = Some(refusal(RefusalCode::RateLimited));
    for number in 0..1100 {
        world.alice.send(room, &number.to_string());
    }
    world.settle();
    world.network.refuse_commits = None;
    let due = world.alice.core().next_deadline_ms().unwrap();
    world.clock.advance(due - now_ms(&world.clock));
    world.alice.run(Core::do_due);
    world.settle();
    assert_eq!(world.bob.texts(room).len(), 1100);
    assert_eq!(world.bob.unreadable(), Vec::<&str>::new());
}

fn now_ms(clock: &TestClock) -> u64 {
    crate::clock::Clock::now_ms(clock)
}

/// Goal: what is asked and decided between the account and outsiders is told, once, and acknowledged. Method: a delivery
/// that comes twice.
#[test]
fn contacts_are_told() {
    use crate::event::Event;
    use homeserver_api::contacts::ContactChange;

    let mut world = World::new();
    let body = crate::frames::DeliveryBody::Contact {
        address: "eve@c.example".parse().unwrap(),
        change: ContactChange::AsksYou,
        text: "We met".to_owned(),
    };
    world.network.deliver(&world.bob.member, body);
    let deliveries = world.network.inbox(&world.bob.member);
    let last = deliveries.last().unwrap().number;
    for _ in 0..2 {
        let again = deliveries.clone();
        assert_eq!(world.bob.run(|core| core.receive(again, true)), last);
    }
    let told = world.bob.events.iter().filter(|event| {
        matches!(event, Event::Contact { address, change: ContactChange::AsksYou, text }
            if address.to_string() == "eve@c.example" && text == "We met")
    });
    assert_eq!(told.count(), 1);
}
