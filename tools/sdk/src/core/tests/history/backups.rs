//! Backups: what goes in, what comes back, and to whom.

use super::*;

const BOUNDS: HistoryBounds = HistoryBounds {
    burning: false,
    ..ALL
};

fn code() -> RecoveryCode {
    RecoveryCode::from_random(&[3; 27])
}

/// A backup of what a device knows.
fn back_up(device: &mut TestDevice) -> Vec<u8> {
    device.run(|core| {
        let gathered = core.gather(BOUNDS)?;
        let entries: Vec<u8> = gathered.entries.into_iter().flat_map(|(_, e)| e).collect();
        backup::seal(&core.backup_of(), &entries, &code(), [8; 32])
    })
}

fn restore(device: &mut TestDevice, file: &[u8]) -> Result<(BackupOf, crate::core::Taken), Error> {
    device.try_run(|core| {
        let (of, entries) = backup::open(file, &code())?;
        core.check_backup(&of)?;
        Ok((of, core.take_entries(entries, None)?))
    })
}

/// Goal: a backup brings back what it had and is not over, once, and tells what it passes over; it never has what burns after
/// reading, nor any of the device's secrets. Method: all devices of an account are lost but its file; it is restored twice.
#[test]
fn comes_back_on_a_new_device() {
    let mut world = World::new();
    let room = world.conversation();
    world.bob_says(room, "kept", 3600, 0);
    world.bob_says(room, "over by then", 60, 0);
    world.bob_says(room, "burns", 3600, 30);
    world.settle();
    let file = back_up(&mut world.alice);
    world.clock.advance(60_000);
    let mut second = world.second(7);
    let (of, taken) = restore(&mut second, &file).unwrap();
    assert_eq!(of.address, world.alice.address);
    assert_eq!((taken.messages, taken.passed_over, taken.people), (1, 1, 1));
    assert_eq!(second.texts(room), ["bob: kept"]);
    assert!(second.messages(room)[0].from_history);
    let (_, taken) = restore(&mut second, &file).unwrap();
    assert_eq!((taken.messages, taken.people), (0, 0));
    assert_eq!(second.texts(room), ["bob: kept"]);
    // On the device that made it everything is there.
    restore(&mut world.alice, &file).unwrap();
    assert_eq!(world.alice.messages(room).len(), 2);

    let expires_ms = second.messages(room)[0].expires_ms.unwrap();
    assert_eq!(world.alice.messages(room)[0].expires_ms, Some(expires_ms));
    let id = second.messages(room)[0].id;
    let witness = Witness::of(&mut second, room, id);
    world.clock.advance(3_600_000);
    second.restart();
    witness.is_unreadable(&mut second);
    let (_, taken) = restore(&mut second, &file).unwrap();
    assert_eq!(taken.messages, 0, "nothing comes back after its time");
}

/// Goal: a backup of somebody else is refused and changes nothing; by Bob, who has the code.
#[test]
fn of_another_account() {
    let mut world = World::new();
    let room = world.conversation();
    world.bob_says(room, "kept", 3600, 0);
    world.settle();
    let file = back_up(&mut world.alice);
    let before = world.bob.messages(room);
    let error = restore(&mut world.bob, &file).unwrap_err();
    assert_eq!(error.code(), "backup");
    assert!(
        error.to_string().contains("is of alice@a.example"),
        "{error}"
    );
    assert_eq!(world.bob.messages(room), before);
}

/// Goal: no key, token or ratchet of a device is in its backup; by looking for each in what is sealed.
#[test]
fn no_secrets() {
    let mut world = World::new();
    let room = world.conversation();
    world.bob_says(room, "kept", 3600, 0);
    world.settle();
    let gathered = world.alice.run(|core| core.gather(BOUNDS));
    let inside: Vec<u8> = gathered.entries.into_iter().flat_map(|(_, e)| e).collect();
    let identity = world.alice.core().identity().clone();
    let key = postcard::to_stdvec(&identity.key).unwrap();
    let has = |part: &[u8]| inside.windows(part.len()).any(|window| window == part);
    assert!(has(b"kept"));
    assert!(!has(identity.token.as_bytes()));
    assert!(!has(&key[key.len() - 32..]));
}

/// Goal: a message's content that a backup holds is read by the one reader of contents; by one that is made anew.
#[test]
fn contents_are_the_same() {
    let mut world = World::new();
    let room = world.conversation();
    let id = world.bob_says(room, "kept", 3600, 0);
    world.settle();
    let file = back_up(&mut world.alice);
    let (_, entries) = backup::open(&file, &code()).unwrap();
    let found = entries.iter().find_map(|entry| match entry {
        crate::history::Entry::Message(message) => Some(message.content.clone()),
        _ => None,
    });
    let content: Content = found.unwrap();
    assert_eq!(content.id, id);
    assert_eq!(Content::decode(&content.encode().unwrap()), Ok(content));
}
