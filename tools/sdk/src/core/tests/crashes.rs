use super::*;
use crate::store::CrashPoint;

/// A step of a scripted conversation.
#[derive(Clone, Copy)]
enum Step {
    Start,
    Send(u32),
    Submit,
    /// The homeserver takes the submissions and its answer is lost.
    SubmitWithoutAnswer,
    Receive,
    /// The device is gone before it acknowledges.
    ReceiveWithoutAcknowledging,
}

/// Both devices do everything twice over, with answers and acknowledgements getting lost.
const SCRIPT: [Step; 14] = [
    Step::Start,
    Step::Submit,
    Step::Receive,
    Step::SubmitWithoutAnswer,
    Step::Submit,
    Step::ReceiveWithoutAcknowledging,
    Step::Receive,
    Step::Send(1),
    Step::Send(2),
    Step::SubmitWithoutAnswer,
    Step::Send(3),
    Step::Submit,
    Step::ReceiveWithoutAcknowledging,
    Step::Receive,
];

/// Runs one step; an error is the crash that was planned.
fn run(
    device: &mut TestDevice,
    network: &mut Network,
    step: Step,
    other: &crate::ids::Address,
) -> Result<(), Error> {
    match step {
        Step::Start => {
            let with = [other.clone()];
            device
                .try_run(|core| core.start_conversation(&with))
                .map(|_| ())
        }
        Step::Send(number) => {
            let Some(room) = device
                .try_run(crate::core::Core::rooms)?
                .first()
                .map(|r| r.room)
            else {
                return Ok(());
            };
            let text = format!("{number}");
            device
                .try_run(|core| {
                    core.send(
                        room,
                        crate::content::Part::Text(text),
                        crate::SendOptions::default(),
                    )
                })
                .map(|_| ())
        }
        Step::Submit => device.submit(network).map(|_| ()),
        Step::SubmitWithoutAnswer => {
            let submissions = device.core().submissions_after(0, 100)?;
            network.submit(&device.member, submissions);
            Ok(())
        }
        Step::Receive => device.receive(network).map(|_| ()),
        Step::ReceiveWithoutAcknowledging => {
            let deliveries = network.inbox(&device.member);
            device
                .try_run(|core| core.receive(deliveries, true))
                .map(|_| ())
        }
    }
}

/// Plays the script for both devices. The `crash`th commit of `crasher` fails at `point`; that device
/// starts again from its disk and repeats the step that failed. Whether the crash came.
fn play(crasher: usize, point: CrashPoint, crash: u32) -> bool {
    let mut world = World::new();
    let mut crashed = false;
    let plan = Some((point, crash));
    let addresses = [world.alice.address.clone(), world.bob.address.clone()];
    {
        let device = if crasher == 0 {
            &mut world.alice
        } else {
            &mut world.bob
        };
        *device.core().store().crash_at.lock().unwrap() = plan;
    }
    let mut sent = [0_usize; 2];
    for step in SCRIPT {
        for who in [0, 1] {
            // Bob does not start a conversation of his own.
            if who == 1 && matches!(step, Step::Start) {
                continue;
            }
            let device = if who == 0 {
                &mut world.alice
            } else {
                &mut world.bob
            };
            if run(device, &mut world.network, step, &addresses[1 - who]).is_err() {
                assert!(!crashed && who == crasher, "only the planned crash");
                crashed = true;
                device.restart();
                // A person whose message was not taken writes it again; one whose message was
                // durable, though the program died before it could say so, sees it and does not.
                let durable = point == CrashPoint::AfterRecords;
                let repeat = !(durable && matches!(step, Step::Send(_) | Step::Start));
                if repeat {
                    run(device, &mut world.network, step, &addresses[1 - who]).unwrap();
                }
            }
            let joined = !device.try_run(crate::core::Core::rooms).unwrap().is_empty();
            if joined && matches!(step, Step::Send(_)) {
                sent[who] += 1;
            }
        }
    }
    world.settle();
    let rooms = world.alice.run(crate::core::Core::rooms);
    assert_eq!(rooms.len(), 1, "{crasher} {point:?} {crash}");
    let room = rooms[0].room;
    for (device, name) in [(&mut world.alice, "alice"), (&mut world.bob, "bob")] {
        let texts = device.texts(room);
        for (who, sender) in ["alice", "bob"].into_iter().enumerate() {
            let from: Vec<_> = texts
                .iter()
                .filter(|text| text.starts_with(&format!("{sender}:")))
                .collect();
            let expected: Vec<String> = (0..sent[who])
                .map(|n| format!("{sender}: {}", 4 - sent[who] + n))
                .collect();
            assert_eq!(
                from.into_iter().cloned().collect::<Vec<_>>(),
                expected,
                "{name} sees {sender}; {crasher} {point:?} {crash}"
            );
        }
        // A key or generation that was used twice would show here.
        assert_eq!(device.unreadable(), Vec::<&str>::new());
    }
    crashed
}

/// Goal: wherever a device dies, it continues: nothing is lost, nothing is shown twice, no submission
/// changes its bytes, no ratchet step is used twice. Method: a scripted conversation, once for each
/// commit of either device and each point of a commit, with a crash there; the double of the
/// homeserver checks repeated submissions byte for byte.
#[test]
fn every_commit_may_be_the_last() {
    for crasher in [0, 1] {
        for point in [
            CrashPoint::BeforeSalts,
            CrashPoint::AfterSalts,
            CrashPoint::AfterRecords,
        ] {
            let crashes = (0..)
                .take_while(|crash| play(crasher, point, *crash))
                .count();
            assert!(
                crashes >= 5,
                "device {crasher} commits only {crashes} times"
            );
        }
    }
}

/// Goal: an operation survives a restart at each of its steps.
#[test]
fn operations_survive_restarts() {
    let mut world = World::new();
    let with = [world.bob.address.clone()];
    let number = world.alice.run(|core| core.start_conversation(&with));
    for _ in 0..6 {
        world.alice.restart();
        world.alice.submit(&mut world.network).unwrap();
        world.alice.restart();
        world.alice.receive(&mut world.network).unwrap();
    }
    world.alice.ended(number).unwrap();
    world.settle();
    let room = world.alice.run(crate::core::Core::rooms)[0].room;
    world.alice.restart();
    world.alice.send(room, "still here");
    world.alice.restart();
    world.settle();
    assert_eq!(world.bob.texts(room), ["alice: still here"]);
}

/// Goal: a delivery that comes again under its old number is taken once.
#[test]
fn deliveries_are_taken_once() {
    let mut world = World::new();
    let room = world.conversation();
    world.alice.send(room, "once");
    world.alice.submit(&mut world.network).unwrap();
    let deliveries = world.network.inbox(&world.bob.member);
    for _ in 0..3 {
        let again = deliveries.clone();
        world.bob.run(|core| core.receive(again, true));
        world.bob.restart();
    }
    assert_eq!(world.bob.texts(room), ["alice: once"]);
    let shown = world
        .bob
        .events
        .iter()
        .filter(|event| matches!(event, crate::Event::Message(_)))
        .count();
    assert_eq!(shown, 1);
    assert_eq!(world.bob.unreadable(), Vec::<&str>::new());
}
