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
use crate::store::sealed::generations::{GenerationFolder, Generations};
use crate::store::sealed::{MasterKey, WrappedKey, is_wrapped_key, rotation};
use crate::store::{Key, Part, Store, StoreError, Value, check, key_package, schema};

mod restoring;

#[expect(clippy::disallowed_methods, reason = "a test draws its own randomness")]
fn random() -> SystemRandom {
    SystemRandom::new()
}

/// A time, and randomness.
fn at(now_ms: u64, rng: &SystemRandom) -> (u64, &dyn SecureRandom) {
    (now_ms, rng)
}

/// A backup, whosever it is.
fn asked<'a>(file: &'a Path, secret: &'a Secret) -> Asked<'a> {
    Asked {
        file,
        secret,
        fingerprint: None,
    }
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

fn store_key() -> Piece {
    Piece::StoreKey(Zeroizing::new([7; 32]))
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
        store_key(),
        entry("A"),
        entry("B"),
        end(&["A", "B"]),
    ];
    assert_eq!(judge(&right), Ok(()));
    for (wrong, error) in [
        (vec![], ContentsError::CutOff),
        (
            vec![start(), store_key(), entry("A")],
            ContentsError::CutOff,
        ),
        (vec![start(), entry("A")], ContentsError::OutOfOrder),
        (vec![store_key()], ContentsError::OutOfOrder),
        (
            vec![start(), store_key(), store_key()],
            ContentsError::OutOfOrder,
        ),
        (
            vec![start(), store_key(), entry("A"), store_key()],
            ContentsError::OutOfOrder,
        ),
        (vec![entry("A")], ContentsError::OutOfOrder),
        (vec![start(), start()], ContentsError::OutOfOrder),
        (
            vec![start(), store_key(), entry("B"), entry("A")],
            ContentsError::OutOfOrder,
        ),
        (
            vec![start(), store_key(), entry("A"), entry("A")],
            ContentsError::OutOfOrder,
        ),
        (
            vec![start(), store_key(), entry("A"), key_file("root.pem")],
            ContentsError::OutOfOrder,
        ),
        (
            vec![start(), key_file("root.pem"), key_file("root.pem")],
            ContentsError::OutOfOrder,
        ),
        (
            vec![start(), store_key(), entry("A"), end(&["A", "B"])],
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
        for piece in [Piece::Opening(opening()), key_file("root.pem"), store_key(), entry("A"), end(&["A"])] {
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
