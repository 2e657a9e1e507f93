//! The own account's devices, as its homeserver shows them to itself.

use homeserver_api::device_log::How;

use super::*;
use crate::mls::DeviceKey;

/// Goal: a device approves another one with a statement that everybody takes; by the log.
#[test]
fn an_approval_holds() {
    let mut world = World::new();
    let history = world.network.history(
        &world.bob.member,
        &world.b.server,
        world.bob.member.account,
        &[],
    );
    world.bob.run(|core| core.take_own_history(&history, &[]));
    let key = DeviceKey::generate().unwrap();
    let public: [u8; 32] = key.public().unwrap().try_into().unwrap();
    let device = DeviceId::from_bytes([8; 16]);
    let bytes = world.bob.run(|core| core.approval(device, public));
    let statement = homeserver_api::device_log::DeviceStatement::from_bytes(bytes).unwrap();
    assert!(matches!(statement.how, How::Approved { .. }));
    world.bobs_log().write(statement);
}

/// Goal: a device hears when its own homeserver gives its account another device, or hides it from the log; by both.
#[test]
fn the_own_account_is_watched() {
    let mut world = World::new();
    let (server, member) = (world.b.server.clone(), world.bob.member.clone());
    let look = |world: &mut World| {
        let sizes = world.bob.run(|core| Ok(core.own_log_sizes()));
        let history = world
            .network
            .history(&member, &server, member.account, &sizes);
        world
            .bob
            .run(|core| core.take_own_history(&history, &sizes));
    };
    look(&mut world);
    assert_eq!(world.bob.devices_changed(), 0);
    world
        .bobs_log()
        .reset(member.account, DeviceId::from_bytes([9; 16]), [9; 32]);
    look(&mut world);
    assert_eq!(world.bob.devices_changed(), 1);
    world.bobs_log().remove(member.account, member.device);
    look(&mut world);
    let told = world.bob.refused();
    assert!(told[0].contains("does not have this device"), "{told:?}");
}

/// Goal: a homeserver that lets others see a further device of an account and shows its owner a history without it is told of:
/// the owner's device reads the log that was signed for all. By a reset that is kept from Bob, a list without it, an honest
/// one, and a log that is another one afterwards.
#[test]
fn the_own_log_is_read() {
    let table = [
        ("honest", true, true, None),
        (
            "kept from the history",
            false,
            true,
            Some("keeps that from"),
        ),
        (
            "kept from the list",
            false,
            false,
            Some("not the device log"),
        ),
    ];
    for (what, in_history, in_list, expected) in table {
        let mut world = World::new();
        let member = world.bob.member.clone();
        let look = |world: &mut World| {
            let sizes = world.bob.run(|core| Ok(core.own_log_sizes()));
            let history = world
                .network
                .history(&member, &member.server, member.account, &sizes);
            world
                .bob
                .run(|core| core.take_own_history(&history, &sizes));
        };
        look(&mut world);
        assert_eq!(world.bob.run(|core| Ok(core.log_read_to())), Some(1));
        let before = world.bobs_log().accounts.clone();
        drop(world.device('b', "eve", 9));
        let (log, ghost) = (world.bobs_log(), DeviceId::from_bytes([7; 16]));
        log.reset(member.account, ghost, [7; 32]);
        drop(world.device('b', "dave", 10));
        let mut shown = world.bobs_log().clone();
        if !in_history {
            shown.accounts.extend(before);
        }
        if !in_list {
            shown
                .statements
                .retain(|statement| statement.device != ghost);
            shown.statements.push(shown.statements[1].clone());
        }
        world
            .network
            .shown_logs
            .insert(member.clone(), shown.clone());
        let head = shown.head().to_bytes().unwrap();
        let begun = world.bob.run(|core| core.begin_reading(&head));
        let mut reading = begun.expect("there is something to read");
        while let Some(after) = reading.after() {
            let after = usize::try_from(after).unwrap();
            let page = shown.statements[after..].iter().take(2);
            let page: Vec<_> = page.map(|s| s.to_bytes().unwrap().to_vec()).collect();
            reading.take(page).unwrap();
        }
        look(&mut world);
        assert!(
            world.bob.refused().is_empty(),
            "{what}: the history alone holds"
        );
        world.bob.run(|core| core.end_reading(reading));
        let told = world.bob.refused();
        assert_eq!(
            told.len(),
            usize::from(expected.is_some()),
            "{what}: {told:?}"
        );
        assert!(
            told.iter().all(|told| told.contains(expected.unwrap())),
            "{told:?}"
        );
        let read_to = if in_list { 4 } else { 1 };
        assert_eq!(world.bob.run(|core| Ok(core.log_read_to())), Some(read_to));
    }
}
