//! Messages that a homeserver keeps back, puts off, exchanges or calls over.

use super::*;
use crate::content::Part;
use crate::message::SendOptions;
use crate::refusal::{Refusal, RefusalCode};

/// Goal: messages that are kept back are told as soon as later ones of the same device have come and nothing fills the gap, with how
/// many; in the middle, several in a row, and over a restart. Method: two of Alice's five messages never reach Bob; the control
/// keeps back none.
#[test]
fn withheld_messages_are_told() {
    for withheld in [0, 1, 2] {
        let mut world = World::new();
        let room = world.conversation();
        world.write(room, 1, 1);
        world.settle();
        world.write(room, 2, withheld);
        for _ in 0..withheld {
            world.network.withhold_message(&world.bob.member);
        }
        world.write(room, 4, 1);
        world.settle();
        assert_eq!(of_alice(&mut world.bob, room), ["1", "4"]);
        assert!(world.bob.missing().is_empty(), "the gap may be filled yet");
        world.bob.restart();
        world.wait_for_gaps();
        let expected = (withheld > 0).then(|| (u64::try_from(withheld).unwrap(), false));
        assert_eq!(world.bob.missing(), Vec::from_iter(expected));
        world.write(room, 5, 1);
        world.settle();
        world.wait_for_gaps();
        assert_eq!(
            world.bob.missing().len(),
            usize::from(withheld > 0),
            "told once"
        );
        assert_eq!(world.bob.late(), 0);
    }
}

/// Goal: what is kept back before anything of its author has come is missed too, and what was sent before somebody joined is not.
/// Method: Alice's first message to Bob is kept back; Carol joins afterwards, and hears the third one alone.
#[test]
fn the_first_message_is_missed() {
    let mut world = World::new();
    let room = world.conversation();
    world.write(room, 1, 1);
    world.network.withhold_message(&world.bob.member);
    world.write(room, 2, 1);
    world.settle();
    world.wait_for_gaps();
    assert_eq!(world.bob.missing(), [(1, false)]);
    let mut carol = world.device('a', "carol", 3);
    let with = [carol.address.clone()];
    world.alice.run(|core| core.add_members(room, &with));
    world.settle_with(&mut [&mut carol]);
    world.write(room, 3, 1);
    world.settle_with(&mut [&mut carol]);
    world.wait_for_gaps();
    carol.run(Core::do_due);
    assert_eq!(of_alice(&mut carol, room), ["3"]);
    assert!(carol.missing().is_empty());
}

/// Goal: messages of one device that are exchanged are all shown, and whoever reads is told that one came late; nothing counts as
/// missing then. Method: Bob's homeserver exchanges two of Alice's; the control does not.
#[test]
fn reordered_messages_are_told() {
    for swapped in [false, true] {
        let mut world = World::new();
        let room = world.conversation();
        world.write(room, 1, 3);
        if swapped {
            world.network.swap_inbox(&world.bob.member);
        }
        world.settle();
        let expected = if swapped {
            ["1", "3", "2"]
        } else {
            ["1", "2", "3"]
        };
        assert_eq!(of_alice(&mut world.bob, room), expected);
        assert_eq!(world.bob.late(), usize::from(swapped));
        world.wait_for_gaps();
        assert!(world.bob.missing().is_empty());
    }
}

/// Goal: a message that is put off until after it was told to be missing is shown, and told to be late. Method: as said, over an epoch.
#[test]
fn delayed_messages_are_told() {
    let mut world = World::new();
    let room = world.conversation();
    world.write(room, 1, 1);
    let kept = world.network.withhold_message(&world.bob.member);
    world.alice.run(|core| core.refresh(room));
    world.settle();
    world.write(room, 2, 1);
    world.settle();
    world.write(room, 3, 1);
    world.settle();
    world.network.deliver(&world.bob.member, kept);
    world.settle();
    assert_eq!(of_alice(&mut world.bob, room), ["2", "3", "1"]);
    assert_eq!(world.bob.late(), 1);
}

/// Goal: what has expired before it came is told apart from what is missing, and a homeserver that calls a message over which is not
/// gets it told as that, not unsaid. Method: messages of a minute and of a day are kept back; then one is delivered as over.
#[test]
fn what_has_expired_is_told_apart() {
    let mut world = World::new();
    let room = world.conversation();
    let lasting = |seconds| SendOptions {
        ttl_seconds: Some(seconds),
        ..SendOptions::default()
    };
    for seconds in [60, 86_400] {
        let text = Part::Text("kept back".to_owned());
        world
            .alice
            .run(|core| core.send(room, text, lasting(seconds)));
    }
    world.alice.submit(&mut world.network).unwrap();
    for _ in 0..2 {
        world.network.withhold_message(&world.bob.member);
    }
    world.clock.advance(120_000);
    world.write(room, 3, 1);
    world.settle();
    world.wait_for_gaps();
    assert_eq!(world.bob.missing(), [(1, false), (1, true)]);
    world.write(room, 4, 1);
    world.network.call_expired(&world.bob.member);
    world.settle();
    assert_eq!(of_alice(&mut world.bob, room), ["3"]);
    assert_eq!(world.bob.missing()[2..], [(1, true)]);
}

/// Goal: nobody misses what its author knows not to have gone out: his next message says so. Method: a's homeserver refuses one, and
/// another one is encrypted again.
#[test]
fn what_was_not_sent_is_not_missed() {
    let mut world = World::new();
    let room = world.conversation();
    world.write(room, 1, 1);
    for code in [RefusalCode::OutOfScope, RefusalCode::EpochTooOld] {
        world
            .network
            .refuse_messages
            .push(Refusal::new(code, "not now"));
        world.write(room, 2, 1);
        world.settle();
    }
    world.write(room, 3, 1);
    world.settle();
    world.wait_for_gaps();
    assert_eq!(of_alice(&mut world.bob, room), ["1", "2", "3"]);
    assert!(world.bob.missing().is_empty());
    assert_eq!(world.bob.late(), 0);
}

/// Goal: a commit that is kept back is told, and so is what can't be read because of it; the device comes back. Method: Bob never
/// gets one of Alice's two.
#[test]
fn a_withheld_commit_is_told() {
    let mut world = World::new();
    let room = world.conversation();
    world.alice.run(|core| core.refresh(room));
    world.alice.submit(&mut world.network).unwrap();
    world.network.lose_commit(&world.bob.member);
    world.settle();
    world.write(room, 1, 1);
    world.settle();
    assert!(!world.bob.unreadable().is_empty() || !world.bob.out_of_step().is_empty());
    world.alice.run(|core| core.refresh(room));
    world.settle();
    assert_eq!(world.bob.out_of_step(), ["a commit is missing"]);
    world.write(room, 2, 1);
    world.settle();
    assert_eq!(of_alice(&mut world.bob, room), ["2"]);
}
