//! Backups are made, read, spoilt and restored.

use std::path::Path;
use std::sync::Arc;

use federation_proto::ids::RoomId;
use proptest::prelude::*;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::contents::{ContentsError, Opening, Order, Piece, Pieces};
use super::sealing::{
    CHUNK_BYTES, Opener, SEALED_CHUNK_BYTES, START_BYTES, SealError, Sealer, header_bytes,
};
use super::*;
use crate::audit::{self, Actor};
use crate::identity::testing::device;
use crate::node::Node;
use crate::node::testing::node;
use crate::organisation::KeyFolder;
use crate::store::device::DeviceOf;
use crate::store::engine::open_embedded;
use crate::store::everything::{Everything, Summing};
use crate::store::inbox::{self, InboxBody, InboxRecord};
use crate::store::restored::{self, RestoredRecord};
use crate::store::{Key, Part, Store, StoreError, Value, check, key_package, schema};

#[expect(clippy::disallowed_methods, reason = "a test draws its own randomness")]
fn random() -> SystemRandom {
    SystemRandom::new()
}

/// A time, and randomness.
fn at(now_ms: u64, rng: &SystemRandom) -> (u64, &dyn SecureRandom) {
    (now_ms, rng)
}

/// A key's holder, and whom a backup for it is sealed for.
fn holder() -> (Secret, Recipient) {
    let pair = KeyPair::draw(&random()).unwrap();
    let private = private_key(&pair.private).unwrap();
    let public = public_key(&pair.public).unwrap();
    (Secret::Key(private), Recipient::Key(public))
}

fn passphrase(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

fn sealed(plain: &[u8], recipient: &Recipient) -> Vec<u8> {
    let (mut file, mut sealer) = Sealer::new(recipient, &random()).unwrap();
    // However it comes.
    for piece in plain.chunks(10_000) {
        sealer.seal(piece, &mut file).unwrap();
    }
    sealer.finish(&mut file).unwrap();
    file
}

fn opened(file: &[u8], secret: &Secret) -> Result<Vec<u8>, SealError> {
    let (start, _) = file
        .split_first_chunk::<START_BYTES>()
        .ok_or(SealError::NotABackup)?;
    let length = header_bytes(start)?;
    let (header, rest) = file.split_at_checked(length).ok_or(SealError::Header)?;
    let mut opener = Opener::new(header, secret)?;
    let mut plain = Vec::new();
    for chunk in rest.chunks(SEALED_CHUNK_BYTES) {
        plain.extend_from_slice(opener.open(&mut chunk.to_vec())?);
    }
    match opener.has_ended() {
        true => Ok(plain),
        false => Err(SealError::Chunk(u64::MAX)),
    }
}

/// Goal: what is sealed comes back, whatever its length, and with the right secret alone. Method: lengths around a chunk's, for
/// a key and by a passphrase; each secret on each.
#[test]
fn what_is_sealed_opens_for_its_recipient_alone() {
    let (secret, recipient) = holder();
    for length in [
        0,
        1,
        CHUNK_BYTES - 1,
        CHUNK_BYTES,
        CHUNK_BYTES + 1,
        2 * CHUNK_BYTES,
    ] {
        let plain: Vec<u8> = (0..length)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect();
        let file = sealed(&plain, &recipient);
        assert_eq!(opened(&file, &secret), Ok(plain), "{length}");
    }
    let right = Secret::Passphrase(passphrase("a long passphrase"));
    let by_passphrase = sealed(
        b"plain",
        &Recipient::Passphrase(passphrase("a long passphrase")),
    );
    assert_eq!(opened(&by_passphrase, &right), Ok(b"plain".to_vec()));
    let wrong = Secret::Passphrase(passphrase("another passphrase"));
    let for_key = sealed(b"plain", &recipient);
    let (other, _) = holder();
    for (file, secret, error) in [
        (&by_passphrase, &wrong, SealError::WrongPassphrase),
        (&by_passphrase, &secret, SealError::NeedsPassphrase),
        (&for_key, &other, SealError::WrongKey),
        (&for_key, &right, SealError::NeedsKey),
    ] {
        assert_eq!(opened(file, secret), Err(error));
    }
}

/// Goal: a file that was changed, cut, lengthened or put together anew does not open. Method: every byte of a short one
/// changed, every length; chunks of a long one exchanged, left out, doubled, and of another file.
#[test]
fn what_was_changed_does_not_open() {
    let (secret, recipient) = holder();
    let file = sealed(b"short", &recipient);
    assert!(opened(&file, &secret).is_ok());
    for at in 0..file.len() {
        let mut changed = file.clone();
        changed[at] ^= 1;
        assert!(opened(&changed, &secret).is_err(), "byte {at}");
        assert!(opened(&file[..at], &secret).is_err(), "cut at {at}");
    }
    assert!(opened(&[&file[..], &[0]].concat(), &secret).is_err());

    let long = sealed(&vec![7; 3 * CHUNK_BYTES + 5], &recipient);
    let (start, _) = long.split_first_chunk().unwrap();
    let (header, rest) = long.split_at(header_bytes(start).unwrap());
    let chunks: Vec<&[u8]> = rest.chunks(SEALED_CHUNK_BYTES).collect();
    let &[one, two, three, last] = chunks.as_slice() else {
        panic!("{} chunks", chunks.len());
    };
    let other = sealed(&vec![7; 3 * CHUNK_BYTES + 5], &recipient);
    let strange = &other[header.len()..header.len() + SEALED_CHUNK_BYTES];
    let whole = [header, one, two, three, last].concat();
    assert!(opened(&whole, &secret).is_ok());
    for spoilt in [
        vec![header, two, one, three, last],
        vec![header, one, three, last],
        vec![header, one, two, two, three, last],
        vec![header, one, two, three],
        vec![header, last],
        vec![header, one, two, strange, last],
        vec![header, one, two, three, last, last],
        vec![header],
    ] {
        assert!(opened(&spoilt.concat(), &secret).is_err());
    }
}

/// Goal: a header that asks too much of the machine is refused before anything is computed. Method: a gigantic memory.
#[test]
fn a_header_that_asks_too_much_is_refused() {
    let mut header = b"ent-bak\n\x01\x01".to_vec();
    header.extend(u32::MAX.to_be_bytes());
    header.extend([0; 8 + 16 + 48]);
    let secret = Secret::Passphrase(passphrase("any"));
    assert_eq!(Opener::new(&header, &secret).err(), Some(SealError::Header));
    assert_eq!(
        Opener::new(b"ent-bak\n\x02\x01", &secret).err(),
        Some(SealError::Version)
    );
    assert_eq!(
        Opener::new(b"age-encryption", &secret).err(),
        Some(SealError::NotABackup)
    );
}

fn opening() -> Opening {
    Opening {
        server: "a.example".parse().unwrap(),
        made_ms: 5,
        program: "1.0.0".to_owned(),
    }
}

fn entry(key: &'static str) -> Piece {
    Piece::Entry(
        Key::from_static(key.as_bytes()),
        Value::from_static(b"value"),
    )
}

fn key_file(name: &str) -> Piece {
    Piece::KeyFile {
        name: name.to_owned(),
        text: passphrase("text"),
    }
}

fn end(keys: &[&str]) -> Piece {
    let mut summing = Summing::default();
    for key in keys {
        summing.add(key.as_bytes(), b"value");
    }
    Piece::End(summing.sum())
}

/// Goal: pieces are taken in their order alone, and when the end says what there was. Method: a right order, and wrong ones.
#[test]
fn pieces_have_an_order() {
    let judge = |pieces: &[Piece]| {
        let mut order = Order::default();
        for piece in pieces {
            order.take(piece)?;
        }
        order.end().map(drop)
    };
    let start = || Piece::Opening(opening());
    let right = [
        start(),
        key_file("root.pem"),
        entry("A"),
        entry("B"),
        end(&["A", "B"]),
    ];
    assert_eq!(judge(&right), Ok(()));
    for (wrong, error) in [
        (vec![], ContentsError::CutOff),
        (vec![start(), entry("A")], ContentsError::CutOff),
        (vec![entry("A")], ContentsError::OutOfOrder),
        (vec![start(), start()], ContentsError::OutOfOrder),
        (
            vec![start(), entry("B"), entry("A")],
            ContentsError::OutOfOrder,
        ),
        (
            vec![start(), entry("A"), entry("A")],
            ContentsError::OutOfOrder,
        ),
        (
            vec![start(), entry("A"), key_file("root.pem")],
            ContentsError::OutOfOrder,
        ),
        (
            vec![start(), key_file("root.pem"), key_file("root.pem")],
            ContentsError::OutOfOrder,
        ),
        (
            vec![start(), entry("A"), end(&["A", "B"])],
            ContentsError::OtherSum,
        ),
        (
            vec![start(), end(&[]), entry("A")],
            ContentsError::OutOfOrder,
        ),
    ] {
        assert_eq!(judge(&wrong), Err(error), "{wrong:?}");
    }
}

/// Goal: no file of a backup gets out of the keys folder. Method: names by example.
#[test]
fn names_of_files_lead_nowhere() {
    for (name, fits) in [
        ("root.pem", true),
        ("tls-current-key.pem", true),
        ("../root.pem", false),
        ("/etc/passwd", false),
        ("a/b.pem", false),
        (".pem", false),
        ("root.pem\0", false),
        ("root", false),
        ("Root.pem", false),
    ] {
        let mut bytes = Vec::new();
        key_file(name).encode(&mut bytes).unwrap();
        let mut pieces = Pieces::default();
        pieces.feed(&bytes);
        assert_eq!(pieces.next_piece().is_ok(), fits, "{name}");
    }
}

proptest! {
    /// Goal: any bytes are pieces or refused, in any portions, and what is read is written the same. Method: pieces with bytes
    /// changed, cut and added.
    #[test]
    fn any_bytes_are_pieces_or_refused(
        noise: Vec<u8>,
        at in any::<prop::sample::Index>(),
        byte: u8,
        portion in 1_usize..50,
    ) {
        let mut bytes = Vec::new();
        for piece in [Piece::Opening(opening()), key_file("root.pem"), entry("A"), end(&["A"])] {
            piece.encode(&mut bytes).unwrap();
        }
        let at = at.index(bytes.len());
        bytes[at] ^= byte;
        bytes.extend(noise);
        let (mut pieces, mut again) = (Pieces::default(), Vec::new());
        'all: for portion in bytes.chunks(portion) {
            pieces.feed(portion);
            loop {
                match pieces.next_piece() {
                    Ok(Some(piece)) => piece.encode(&mut again).unwrap(),
                    Ok(None) => break,
                    Err(_) => break 'all,
                }
            }
        }
        prop_assert!(bytes.starts_with(&again));
    }
}

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
    let verified = verify(&file, &secret, |_| ()).unwrap();
    assert_eq!(verified.server, node.server);
    assert_eq!(verified.made_ms, node.clock.now_ms());

    let data = place.path().join("new/data");
    let now_ms = node.clock.now_ms() + 5;
    let rng = random();
    let now = at(now_ms, &rng);
    let mut told = 0;
    let made = restore(&file, &secret, &data, now, |entries| told = entries).await;
    assert_eq!(made.unwrap(), verified);
    assert_eq!(told, verified.entries);
    let names = std::fs::read_dir(&data).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["keys", "store"]);

    let keys = KeyFolder::at(data.join("keys")).load(&node.server, now_ms, &rng);
    let keys = keys.map_err(|problems| format!("{problems:?}")).unwrap();
    assert_eq!(keys.root_sha256(), node.keys.root_sha256());
    assert_eq!(keys.manifest(), node.keys.manifest());
    let store = Store::new(open_embedded(&data.join("store"), true).unwrap()).unwrap();
    check::check(&store).await.unwrap();
    let record = restored::get(&store).await.unwrap().unwrap();
    assert_eq!(
        (record.made_ms, record.restored_ms),
        (verified.made_ms, now_ms)
    );
    assert!(!record.is_ready);
    // Beside the mark, that it was begun is all that has come to it.
    let added = |(key, _): &&(Key, Value)| !before.iter().any(|(known, _)| known == key);
    let there = entries(&store).await;
    let new: Vec<_> = there.iter().filter(added).map(|(key, _)| key[0]).collect();
    assert!(new.iter().all(|letter| b"mW".contains(letter)), "{new:?}");
    assert!(before.iter().all(|(key, value)| {
        key.starts_with(b"W")
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
        assert!(verify(&path(spoilt), &secret, |_| ()).is_err());
        let made = restore(&path(spoilt), &secret, &data, now, |_| ()).await;
        assert!(matches!(made, Err(RestoreError::Read(_))), "{made:?}");
        assert!(!data.join("store").exists() && !data.join("keys").exists());
    }
    restore(&path("whole"), &secret, &data, now, |_| ())
        .await
        .unwrap();
    let again = restore(&path("whole"), &secret, &data, now, |_| ()).await;
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
    let made = restore(&path, &secret, &place.path().join("data"), now, |_| ()).await;
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
