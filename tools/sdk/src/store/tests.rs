use std::fs;

use super::*;

const KEY: StoreKey = StoreKey::Key([7; 32]);

fn every_file(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        bytes.extend(fs::read(entry.unwrap().path()).unwrap());
    }
    bytes
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

fn used_salts(folder: &Path) -> Vec<Vec<u8>> {
    fs::read(folder.join("salts"))
        .unwrap()
        .chunks(slots::SALT_BYTES)
        .filter(|salt| salt.iter().any(|byte| *byte != 0))
        .map(<[u8]>::to_vec)
        .collect()
}

/// Goal: records survive closing and opening, in order, and only with the right key; by writing,
/// reopening with the right and a wrong key.
#[test]
fn records_survive() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path(), &KEY).unwrap();
    for number in [3_u64, 1, 2] {
        store
            .put(Family::Outbox, b"", number, &format!("entry {number}"))
            .unwrap();
    }
    store.put(Family::Room, b"other", 9, &9_u32).unwrap();
    assert_eq!(store.numbers(Family::Outbox, b"").unwrap(), [1, 2, 3]);
    store.commit().unwrap();
    assert!(matches!(
        Store::create(folder.path(), &KEY),
        Err(Error::AlreadyEnrolled(_))
    ));
    assert!(matches!(
        Store::open(folder.path(), &KEY),
        Err(Error::InUse(_))
    ));
    drop(store);

    assert!(matches!(
        Store::open(folder.path(), &StoreKey::Key([8; 32])),
        Err(Error::WrongKey)
    ));
    let store = Store::open(folder.path(), &KEY).unwrap();
    let found: Vec<(u64, String)> = store.scan(Family::Outbox, b"").unwrap();
    assert_eq!(found.len(), 3);
    assert_eq!(found[2], (3, "entry 3".to_owned()));
    assert_eq!(
        store.get::<u32>(Family::Room, b"other", 9).unwrap(),
        Some(9)
    );
    assert_eq!(store.get::<u32>(Family::Room, b"another", 9).unwrap(), None);
}

/// Goal: a passphrase opens what it closed, another one does not.
#[test]
fn passphrases() {
    let folder = tempfile::tempdir().unwrap();
    let key = |text: &str| StoreKey::Passphrase(text.to_owned());
    drop(Store::create(folder.path(), &key("correct horse")).unwrap());
    assert!(Store::open(folder.path(), &key("correct horse")).is_ok());
    assert!(matches!(
        Store::open(folder.path(), &key("battery staple")),
        Err(Error::WrongKey)
    ));
    assert!(matches!(
        Store::open(folder.path(), &KEY),
        Err(Error::WrongKey)
    ));
}

/// Goal: neither names nor values can be read without the key; by a scan of all files.
#[test]
fn nothing_is_readable() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path(), &KEY).unwrap();
    let text = "a text that nobody else may read".to_owned();
    store
        .put(Family::State, b"scope-of-a-record", 1, &text)
        .unwrap();
    store
        .put(Family::MessageContent, b"scope-of-a-record", 1, &text)
        .unwrap();
    store.commit().unwrap();
    drop(store);
    let bytes = every_file(folder.path());
    assert!(!contains(&bytes, text.as_bytes()));
    assert!(!contains(&bytes, b"scope-of-a-record"));
}

/// Goal: a deleted or replaced record that must be forgotten can't be opened again even with the
/// master key and every byte of the folder. Method: keep its sealed bytes and salt, delete it, then
/// look for the salt in all files and try to open the bytes with every salt that is left.
#[test]
fn forgotten_means_unreadable() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path(), &KEY).unwrap();
    store
        .put(Family::MessageContent, b"room", 1, &"first".to_owned())
        .unwrap();
    store.commit().unwrap();
    let key = store.sealer.key(Family::MessageContent, b"room", 1);
    let sealed = |store: &Store| {
        let reading = store.database.begin_read().unwrap();
        let table = reading.open_table(RECORDS).unwrap();
        let bytes = table.get(key.0.as_slice()).unwrap().unwrap();
        bytes.value().to_vec()
    };
    let salt_of = |store: &Store| {
        let slot = seal::slot(&sealed(store)).unwrap().unwrap();
        store.slots().read(slot).unwrap().to_vec()
    };
    let (first, first_salt) = (sealed(&store), salt_of(&store));
    assert!(contains(&every_file(folder.path()), &first_salt));

    // Replaced: gone when asked for.
    store
        .put(Family::MessageContent, b"room", 1, &"second".to_owned())
        .unwrap();
    store.commit().unwrap();
    assert!(store.has_replaced());
    store.forget_replaced().unwrap();
    let (second, second_salt) = (sealed(&store), salt_of(&store));
    assert_ne!(first_salt, second_salt);
    assert!(!contains(&every_file(folder.path()), &first_salt));

    // Deleted: gone when the commit returns.
    store.delete(Family::MessageContent, b"room", 1);
    store
        .put(Family::MessageContent, b"room", 2, &"third".to_owned())
        .unwrap();
    store.commit().unwrap();
    assert!(!contains(&every_file(folder.path()), &second_salt));

    let left = used_salts(folder.path());
    for bytes in [first, second] {
        for salt in &left {
            let salt: [u8; slots::SALT_BYTES] = salt.as_slice().try_into().unwrap();
            let opened = store
                .sealer
                .open(&key, &bytes, |_| Ok(Zeroizing::new(salt)));
            assert!(opened.is_err());
        }
        // The check has teeth: with its own salt it does open.
        let own = [&first_salt, &second_salt].into_iter().any(|salt| {
            let salt: [u8; slots::SALT_BYTES] = salt.as_slice().try_into().unwrap();
            store
                .sealer
                .open(&key, &bytes, |_| Ok(Zeroizing::new(salt)))
                .is_ok()
        });
        assert!(own);
    }
}

/// Goal: a batch that a crash interrupts is there whole or not at all, earlier records stay
/// readable, and no salt is left that no record names. Method: fail a commit at each point, drop the
/// store, open it again.
#[test]
fn crashes_are_harmless() {
    for (point, durable) in [
        (CrashPoint::BeforeSalts, false),
        (CrashPoint::AfterSalts, false),
        (CrashPoint::AfterRecords, true),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path(), &KEY).unwrap();
        for number in 0..4_u64 {
            store
                .put(Family::MessageContent, b"r", number, &"before".to_owned())
                .unwrap();
        }
        store.commit().unwrap();
        store
            .put(Family::MessageContent, b"r", 0, &"after".to_owned())
            .unwrap();
        store.delete(Family::MessageContent, b"r", 1);
        store
            .put(Family::State, b"", 0, &"after".to_owned())
            .unwrap();
        *store.crash_at.lock().unwrap() = Some((point, 0));
        assert!(store.commit().is_err(), "{point:?}");
        *store.crash_at.lock().unwrap() = None;
        store.put(Family::State, b"", 1, &1_u8).unwrap();
        assert!(store.commit().is_err(), "a failed store stays failed");
        drop(store);

        let store = Store::open(folder.path(), &KEY).unwrap();
        let read =
            |number| -> Option<String> { store.get(Family::MessageContent, b"r", number).unwrap() };
        let state: Option<String> = store.get(Family::State, b"", 0).unwrap();
        let expected = if durable { "after" } else { "before" };
        assert_eq!(read(0).as_deref(), Some(expected), "{point:?}");
        assert_eq!(read(1).is_some(), !durable, "{point:?}");
        assert_eq!(state.is_some(), durable, "{point:?}");
        assert_eq!(read(2).as_deref(), Some("before"));
        let records = if durable { 3 } else { 4 };
        assert_eq!(used_salts(folder.path()).len(), records, "{point:?}");
    }
}

/// Goal: `undo` takes back exactly what came after `mark`.
#[test]
fn undo_takes_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path(), &KEY).unwrap();
    store.put(Family::State, b"", 0, &1_u32).unwrap();
    store.mark();
    store.put(Family::State, b"", 0, &2_u32).unwrap();
    store.put(Family::State, b"", 1, &2_u32).unwrap();
    store.delete(Family::State, b"", 0);
    store.undo();
    assert_eq!(store.get::<u32>(Family::State, b"", 0).unwrap(), Some(1));
    assert_eq!(store.get::<u32>(Family::State, b"", 1).unwrap(), None);
}

proptest::proptest! {
    /// Goal: no bytes make the readers of sealed records and of `unlock` panic, nor does a damaged
    /// `unlock` open or ask for more memory than is allowed; no text makes a key file's reader panic.
    #[test]
    fn any_bytes(
        bytes in proptest::collection::vec(0_u8.., 0..200),
        text in ".{0,80}",
        flip in 0_usize..400,
    ) {
        open_any(&bytes);
        let _ = StoreKey::from_text(&text);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("unlock");
        let master = unlock::create(&path, &KEY).unwrap();
        let mut file = fs::read(&path).unwrap();
        proptest::prop_assert_eq!(&unlock::open_bytes(&file, &KEY).unwrap(), &master);
        let at = flip % file.len();
        file[at] ^= 1;
        proptest::prop_assert!(unlock::open_bytes(&file, &KEY).is_err());
    }

    /// Goal: no bytes make the record reader panic, and a sealed value opens under its own name only.
    #[test]
    fn sealed_values(bytes in proptest::collection::vec(0_u8.., 0..200), flip in 0_usize..400) {
        let sealer = Sealer::new(&Zeroizing::new([1; 32]));
        let key = sealer.key(Family::Room, b"a", 1);
        let no_slot = |_| Ok(Zeroizing::default());
        proptest::prop_assert!(sealer.open(&key, &bytes, no_slot).is_err());
        let salt = Zeroizing::new([3; 32]);
        let mut sealed = sealer.seal(&key, &salt, &SaltPlace::Inside, &bytes).unwrap();
        proptest::prop_assert_eq!(&*sealer.open(&key, &sealed, no_slot).unwrap(), &bytes);
        let other = sealer.key(Family::Room, b"a", 2);
        proptest::prop_assert!(sealer.open(&other, &sealed, no_slot).is_err());
        let at = flip % sealed.len();
        sealed[at] ^= 1;
        proptest::prop_assert!(sealer.open(&key, &sealed, no_slot).is_err());
    }
}
