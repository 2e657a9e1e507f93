//! A data folder is made of a backup, and goes on.

use super::*;

/// A homeserver with something in it, of more than one step.
async fn filled() -> Arc<Node> {
    let (node, _) = node("a.example");
    let mut part = Part::default();
    schema::put(&mut part);
    for number in 0..300 {
        let key = format!("P{number:04}");
        part.put(key.into_bytes().into(), vec![7; 10_000].into());
    }
    node.store.commit(part).await.unwrap();
    device(&node, "alice").await;
    node
}

/// All entries, by their keys.
async fn entries(store: &Store) -> Vec<(Key, Value)> {
    let mut all = Everything::of(store).await.unwrap();
    let mut found = Vec::new();
    loop {
        let chunk = all.next().await.unwrap();
        if chunk.is_empty() {
            return found;
        }
        found.extend(chunk);
    }
}

/// The store that a data folder has, with its keys.
async fn opened_store(data: &Path) -> Store {
    let master = std::fs::read_to_string(data.join("keys/store-master.key")).unwrap();
    let master = MasterKey::parse(&master).unwrap();
    let folder = GenerationFolder::at(data.join("generations"), master);
    let engine = open_embedded(&data.join("store"), true).unwrap();
    let generations = Generations::in_folder(folder);
    let store = Store::sealed(engine, generations, Arc::new(random()));
    store.await.unwrap()
}

/// A backup of the node in a file, while it goes on.
async fn backup(node: &Arc<Node>, recipient: Recipient, to: &Path) {
    let mut making = begin(node, &Actor::System, recipient).await.unwrap();
    let mut file = Vec::new();
    let mut steps = 0;
    while let Some(bytes) = making.next().await.unwrap() {
        assert!(bytes.len() < 2 * 1024 * 1024, "{} at once", bytes.len());
        file.extend_from_slice(&bytes);
        steps += 1;
        // It is one moment: what comes later is not in it.
        let mut part = Part::default();
        part.put(Key::from_static(b"Zlater"), Value::from_static(b"1"));
        part.delete(Key::from_static(b"P0299"));
        node.store.commit(part).await.unwrap();
    }
    assert!(steps > 3, "{steps}");
    std::fs::write(to, file).unwrap();
}

/// Goal: a backup that is made while the homeserver goes on is one moment of it, and a data folder is made of it with every entry
/// and all keys; that it was made and restored is known. Method: make, verify, restore, compare.
#[tokio::test]
async fn what_is_backed_up_is_restored() {
    let node = filled().await;
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("backup");
    let (secret, recipient) = holder();
    let before = entries(&node.store).await;
    backup(&node, recipient, &file).await;
    let now_ms = node.clock.now_ms() + 5;
    let rng = random();
    let now = at(now_ms, &rng);
    let verified = verify(asked(&file, &secret), now, |_| ()).unwrap();
    assert_eq!(verified.server, node.server);
    assert_eq!(verified.made_ms, node.clock.now_ms());

    let data = place.path().join("new/data");
    let mut told = 0;
    let made = restore(asked(&file, &secret), &data, now, |entries| told = entries).await;
    assert_eq!(made.unwrap(), verified);
    assert_eq!(told, verified.entries);
    let names = std::fs::read_dir(&data).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["generations", "keys", "store"]);

    let keys = KeyFolder::at(data.join("keys")).load(&node.server, now_ms, &rng);
    let keys = keys.map_err(|problems| format!("{problems:?}")).unwrap();
    assert_eq!(keys.root_sha256(), node.keys.root_sha256());
    assert_eq!(keys.manifest(), node.keys.manifest());
    let store = opened_store(&data).await;
    check::check(&store).await.unwrap();
    let written = node.store.get(b"P0007").await.unwrap();
    assert_eq!(store.get(b"P0007").await.unwrap(), written);
    let record = restored::get(&store).await.unwrap().unwrap();
    assert_eq!(
        (record.made_ms, record.restored_ms),
        (verified.made_ms, now_ms)
    );
    assert!(!record.is_ready && !record.is_confirmed);
    // Beside the mark, that it was begun is all that has come to it.
    let added = |(key, _): &&(Key, Value)| !before.iter().any(|(known, _)| known == key);
    let there = entries(&store).await;
    let new: Vec<_> = there.iter().filter(added).map(|(key, _)| key[0]).collect();
    assert!(new.iter().all(|letter| b"mW".contains(letter)), "{new:?}");
    // What the keys of contents are wrapped under is the new store's.
    assert!(before.iter().all(|(key, value)| {
        key.starts_with(b"W")
            || key.starts_with(b"1")
            || there
                .iter()
                .any(|known| known == &(key.clone(), value.clone()))
    }));

    let log = audit::page(&node.store, node.random.as_ref(), 0, 99)
        .await
        .unwrap();
    let acts = log
        .entries
        .iter()
        .filter(|entry| entry.action.starts_with("backup."));
    let acts: Vec<_> = acts.map(|entry| &*entry.action).collect();
    assert_eq!(acts, ["backup.begun", "backup.made"]);
}

/// Goal: a backup needs no generation of the store that it is of, and has none in it: its keys open with its own, whichever rotation
/// they were made by, and what was deleted before it can't be read with it. Method: a backup after one rotation, over which a
/// second one goes; every key in it, and every content of what is restored, which goes on with rotations of its own.
#[tokio::test]
async fn a_backup_outlasts_the_generations() {
    let (node, clock) = node("a.example");
    let content = |number: u8| -> (Key, Value) {
        let key = [&b"P"[..], &[number; 16]].concat();
        (key.into(), vec![number; 100].into())
    };
    let mut part = Part::default();
    schema::put(&mut part);
    for number in 1..=9 {
        let (key, value) = content(number);
        part.put(key, value);
    }
    node.store.commit(part).await.unwrap();
    let rotate = async |number| {
        let mut part = Part::default();
        part.delete(content(number).0);
        node.store.commit(part).await.unwrap();
        clock.advance_ms(rotation::ROTATE_AFTER_MS);
        rotation::look(&node.store, node.clock.as_ref())
            .await
            .unwrap();
    };
    rotate(1).await;
    let (secret, recipient) = holder();
    let mut making = begin(&node, &Actor::System, recipient).await.unwrap();
    rotate(2).await;
    let mut file = Vec::new();
    while let Some(bytes) = making.next().await.unwrap() {
        file.extend_from_slice(&bytes);
    }

    let (mut reader, mut keys) = (Reader::open(file.as_slice(), &secret).unwrap(), Vec::new());
    while let Some(piece) = reader.next_piece().unwrap() {
        if let Piece::Entry(key, value) = piece
            && is_wrapped_key(&key)
        {
            assert_eq!(WrappedKey::decode(&value).unwrap().generation, 0);
            keys.push(key.slice(1..));
        }
    }
    let expected: Vec<Key> = (2..=9).map(|number| content(number).0).collect();
    assert_eq!(keys, expected);

    let place = tempfile::tempdir().unwrap();
    let (path, data) = (place.path().join("backup"), place.path().join("data"));
    std::fs::write(&path, file).unwrap();
    let rng = random();
    let now = at(node.clock.now_ms(), &rng);
    restore(asked(&path, &secret), &data, now, |_| ())
        .await
        .unwrap();
    let store = opened_store(&data).await;
    check::check(&store).await.unwrap();
    for last in [false, true] {
        for number in 2..=9 {
            let (key, value) = content(number);
            assert_eq!(store.get(&key).await.unwrap(), Some(value), "{number}");
        }
        assert_eq!(store.get(&content(1).0).await.unwrap(), None);
        assert_eq!(
            store.seals().unwrap().status().generation,
            1 + u64::from(last)
        );
        clock.advance_ms(rotation::ROTATE_AFTER_MS);
        rotation::look(&store, node.clock.as_ref()).await.unwrap();
    }
}

/// Goal: what is damaged, or is in the way, leaves nothing in its place, and what comes after it succeeds. Method: a backup cut
/// off and one with a changed byte; a folder with a store; then the whole one.
#[tokio::test]
async fn nothing_is_in_its_place_before_all_is_whole() {
    let node = filled().await;
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let (secret, recipient) = holder();
    backup(&node, recipient, &path("whole")).await;
    let whole = std::fs::read(path("whole")).unwrap();
    std::fs::write(path("cut"), &whole[..whole.len() - 100_000]).unwrap();
    let mut changed = whole.clone();
    let late = changed.len() - 50_000;
    changed[late] ^= 1;
    std::fs::write(path("changed"), changed).unwrap();
    let data = path("data");
    let rng = random();
    let now = at(node.clock.now_ms(), &rng);
    for spoilt in ["cut", "changed"] {
        assert!(verify(asked(&path(spoilt), &secret), now, |_| ()).is_err());
        let made = restore(asked(&path(spoilt), &secret), &data, now, |_| ()).await;
        assert!(matches!(made, Err(RestoreError::Read(_))), "{made:?}");
        assert!(!data.join("store").exists() && !data.join("keys").exists());
    }
    restore(asked(&path("whole"), &secret), &data, now, |_| ())
        .await
        .unwrap();
    let again = restore(asked(&path("whole"), &secret), &data, now, |_| ()).await;
    assert!(matches!(again, Err(RestoreError::Occupied(_))), "{again:?}");
}

/// Goal: one backup is made at a time, and one that is given up makes room. Method: begin two.
#[tokio::test]
async fn one_backup_at_a_time() {
    let node = filled().await;
    let (_, recipient) = holder();
    let first = begin(&node, &Actor::System, recipient).await.unwrap();
    let (_, recipient) = holder();
    let second = begin(&node, &Actor::System, recipient).await;
    assert!(matches!(second.err(), Some(BackupError::Busy)));
    drop(first);
    let (_, recipient) = holder();
    assert!(begin(&node, &Actor::System, recipient).await.is_ok());
}

/// Goal: a backup of a homeserver that this program does not know is told as that. Method: one without the mark of a store.
#[tokio::test]
async fn a_store_of_another_version_is_refused() {
    let (node, _) = node("a.example");
    assert!(matches!(
        schema::check(&node.store).await,
        Err(StoreError::Empty)
    ));
    let place = tempfile::tempdir().unwrap();
    let (secret, recipient) = holder();
    let mut making = begin(&node, &Actor::System, recipient).await.unwrap();
    let mut file = Vec::new();
    while let Some(bytes) = making.next().await.unwrap() {
        file.extend_from_slice(&bytes);
    }
    let path = place.path().join("backup");
    std::fs::write(&path, file).unwrap();
    let rng = random();
    let now = at(node.clock.now_ms(), &rng);
    let checked = verify(asked(&path, &secret), now, |_| ());
    assert!(matches!(checked, Err(RestoreError::Unknown(_))));
    let made = restore(
        asked(&path, &secret),
        &place.path().join("data"),
        now,
        |_| (),
    )
    .await;
    assert!(matches!(made, Err(RestoreError::Unknown(_))), "{made:?}");
}

/// Puts something into the device's inbox; the numbers of all that is there.
async fn deliver(node: &Node, to: DeviceOf) -> Vec<u64> {
    let record = InboxRecord {
        expires_ms: u64::MAX,
        source: None,
        body: InboxBody::OutOfStep {
            room: RoomId::from_bytes([1; 16]),
            epoch: 1,
        },
    };
    let mut part = Part::default();
    let value = inbox::value(&record).unwrap();
    inbox::append(&mut part, to.device, None, value);
    node.store.commit(part).await.unwrap();
    let items = inbox::range(&node.store, to.device, 0, 10).await.unwrap();
    items.iter().map(|(number, ..)| *number).collect()
}

/// Goal: a restored homeserver gives no delivery a number, and nobody a key package, that may have been given since the backup;
/// it says once that it was restored. Method: a device with a delivery and key packages; start twice.
#[tokio::test]
async fn what_was_given_since_is_not_given_again() {
    let (node, _) = node("a.example");
    let alice = device(&node, "alice").await;
    assert_eq!(deliver(&node, alice).await, [1]);
    let mut part = Part::default();
    key_package::append(&mut part, alice.device, b"single use");
    key_package::put_last_resort(&mut part, alice.device, b"last resort");
    let record = RestoredRecord {
        made_ms: 1,
        restored_ms: 2,
        is_ready: false,
        is_confirmed: false,
    };
    restored::put(&mut part, &record).unwrap();
    node.store.commit(part).await.unwrap();
    for _ in 0..2 {
        resume(&node).await.unwrap();
    }
    assert_eq!(deliver(&node, alice).await, [1, (1 << 40) + 2]);
    let left = key_package::single_use(&node.store, alice.device, 10).await;
    assert!(left.unwrap().is_empty());
    let last_resort = key_package::last_resort(&node.store, alice.device).await;
    assert_eq!(last_resort.unwrap().as_deref(), Some(&b"last resort"[..]));
    let log = audit::page(&node.store, node.random.as_ref(), 0, 99)
        .await
        .unwrap();
    let told = log
        .entries
        .iter()
        .filter(|entry| entry.action == "server.restored");
    assert_eq!(told.count(), 1);
}

/// Goal: a device whose first delivery came after the backup was made is given no number again that it has had. Method: a device
/// that was given nothing before, and another one.
#[tokio::test]
async fn the_first_delivery_after_a_restore_is_a_new_one() {
    let (node, _) = node("a.example");
    let (alice, bob) = (device(&node, "alice").await, device(&node, "bob").await);
    assert_eq!(deliver(&node, bob).await, [1]);
    let mut part = Part::default();
    let record = RestoredRecord {
        made_ms: 1,
        restored_ms: 2,
        is_ready: false,
        is_confirmed: false,
    };
    restored::put(&mut part, &record).unwrap();
    node.store.commit(part).await.unwrap();
    resume(&node).await.unwrap();
    assert_eq!(deliver(&node, alice).await, [(1 << 40) + 1]);
    assert_eq!(deliver(&node, bob).await, [1, (1 << 40) + 2]);
}

/// Goal: a restore that was cut off when it moved things is finished by the next one with the same backup, and by no other; what was
/// cut off before is thrown away; two at a time do not meet. Method: each state by hand.
#[tokio::test]
async fn half_a_restore_is_finished() {
    let node = filled().await;
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let (secret, recipient) = holder();
    backup(&node, recipient, &path("file")).await;
    let (data, rng) = (path("data"), random());
    let now = at(node.clock.now_ms(), &rng);
    let again = async || restore(asked(&path("file"), &secret), &data, now, |_| ()).await;
    let restored = again().await.unwrap();

    // Before the keys came, the folders had been moved.
    let aside = data.join("restoring");
    let half = |keys: &str| {
        std::fs::create_dir(&aside).unwrap();
        std::fs::rename(data.join("keys"), aside.join(keys)).unwrap();
        let note = serde_json::to_vec(&restored).unwrap();
        std::fs::write(aside.join("whole"), note).unwrap();
    };
    half("keys");
    assert_eq!(again().await.unwrap(), restored);
    assert!(!aside.exists() && data.join("keys/root.pem").exists());
    opened_store(&data).await;

    half("keys");
    let (other, _) = crate::node::testing::node("b.example");
    let mut part = Part::default();
    schema::put(&mut part);
    other.store.commit(part).await.unwrap();
    let recipient = Recipient::Passphrase(passphrase("a long passphrase"));
    let mut making = begin(&other, &Actor::System, recipient).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(more) = making.next().await.unwrap() {
        bytes.extend_from_slice(&more);
    }
    std::fs::write(path("other"), bytes).unwrap();
    let by_passphrase = Secret::Passphrase(passphrase("a long passphrase"));
    let refused = restore(asked(&path("other"), &by_passphrase), &data, now, |_| ()).await;
    assert!(
        matches!(refused, Err(RestoreError::HalfWay { .. })),
        "{refused:?}"
    );
    let lock = std::fs::File::open(&data).unwrap();
    lock.lock().unwrap();
    let refused = again().await;
    assert!(matches!(refused, Err(RestoreError::AtWork)), "{refused:?}");
    drop(lock);
    assert_eq!(again().await.unwrap(), restored);

    // What was never whole counts for nothing.
    let fresh = path("fresh");
    std::fs::create_dir_all(fresh.join("restoring/store")).unwrap();
    let made = restore(asked(&path("file"), &secret), &fresh, now, |_| ()).await;
    assert_eq!(made.unwrap(), restored);
}

/// Goal: whose a backup is shows, and one of another organisation than is named is refused, whoever has made it. Method: the right
/// fingerprint as words and digits, and a wrong one, for reading and restoring.
#[tokio::test]
async fn a_backup_of_another_organisation_is_refused() {
    let node = filled().await;
    let place = tempfile::tempdir().unwrap();
    let (file, rng) = (place.path().join("backup"), random());
    let (secret, recipient) = holder();
    backup(&node, recipient, &file).await;
    let now = at(node.clock.now_ms(), &rng);
    let fingerprint = federation_proto::fingerprint::Fingerprint::of_root(&node.keys.root());
    let digits = fingerprint.to_string();
    let by = |fingerprint| Asked {
        fingerprint,
        ..asked(&file, &secret)
    };
    let wrong = digits.replace(['0', '1', '2', '3'], "4").parse().ok();
    assert_ne!(wrong, None);
    for named in [None, Some(fingerprint)] {
        let verified = verify(by(named), now, |_| ()).unwrap();
        assert_eq!(verified.fingerprint, digits);
    }
    let refused = verify(by(wrong), now, |_| ());
    assert!(matches!(refused, Err(RestoreError::OtherFingerprint(_))));
    let data = place.path().join("data");
    let refused = restore(by(wrong), &data, now, |_| ()).await;
    assert!(matches!(refused, Err(RestoreError::OtherFingerprint(_))));
    assert!(!data.join("keys").exists());
}
