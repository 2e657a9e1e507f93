use homeserver_api::ids::AccountId;

use super::*;
use crate::history::tests::message;

fn of() -> BackupOf {
    BackupOf {
        address: "alice@a.example".parse().unwrap(),
        account: AccountId::from_bytes([2; 16]),
        endpoint: "chat.a.example:8443".to_owned(),
        root_sha256: "07".repeat(32),
        made_ms: 1_790_000_000_000,
    }
}

fn code(number: u8) -> RecoveryCode {
    RecoveryCode::from_random(&[number; code::RANDOM_BYTES])
}

fn entries(count: usize) -> Vec<Entry> {
    let entry = |at: usize| Entry::Message(Box::new(message(&"x".repeat(at * 100), 0, None)));
    (0..count).map(entry).collect()
}

fn sealed(entries: &[Entry]) -> Vec<u8> {
    let bytes: Vec<u8> = entries.iter().flat_map(|e| e.encode().unwrap()).collect();
    seal(&of(), &bytes, &code(1), [9; SALT_BYTES]).unwrap()
}

/// Goal: a backup of any length comes back as it was, its length is a padded one, and nothing of it can be read in the
/// file. Method: none, a few and many entries, over several chunks.
#[test]
fn comes_back() {
    for count in [0, 3, 60] {
        let entries = entries(count);
        let file = sealed(&entries);
        assert_eq!(open(&file, &code(1)).unwrap(), (of(), entries));
        assert!(
            !file
                .windows(5)
                .any(|part| part == b"alice" || part == b"xxxxx")
        );
        let chunks = (file.len() - HEAD_BYTES).div_ceil(CHUNK_BYTES + TAG_BYTES);
        let inside = file.len() - HEAD_BYTES - chunks * TAG_BYTES;
        assert_eq!(inside, padded(inside));
    }
}

/// Goal: key, check and nonces are made as the protocol's text says; by bytes that were computed by another program
/// (HKDF and AES-GCM of Python's `cryptography`).
#[test]
fn known_bytes() {
    let file = sealed(&[]);
    assert_eq!(&file[..15], b"entente backup\x01");
    assert_eq!(hex::encode(&file[47..63]), KNOWN_CHECK);
    assert_eq!(hex::encode(&file[63..79]), KNOWN_FIRST_BYTES);
}

const KNOWN_CHECK: &str = "4de6f8fc5369f913efa6aee28b312ba1";
const KNOWN_FIRST_BYTES: &str = "56efaad09c68035c7030d2da7a0259a6";

/// Goal: whoever has a wrong code, a file of something else, or one that was cut, lengthened or changed anywhere is told
/// which it is, and gets nothing. Method: each of them.
#[test]
fn what_is_refused() {
    let file = sealed(&entries(40));
    let refused = |file: &[u8], number: u8, expected: &str| {
        let error = open(file, &code(number)).unwrap_err();
        assert_eq!(error.code(), "backup");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().contains("nothing was changed"), "{error}");
    };
    refused(&file, 2, "another backup's");
    refused(b"#!/bin/sh", 1, "no backup");
    refused(&[b'x'; 100], 1, "no backup");
    refused(&file[..HEAD_BYTES - 1], 1, "no backup");
    let mut newer = file.clone();
    newer[14] = 2;
    refused(&newer, 1, "another version");
    for cut in [
        HEAD_BYTES,
        HEAD_BYTES + 10,
        HEAD_BYTES + CHUNK_BYTES + TAG_BYTES,
        file.len() - 1,
    ] {
        refused(&file[..cut], 1, "cut short");
    }
    refused(&[&file[..], &[0]].concat(), 1, "damaged");
    for at in [HEAD_BYTES, HEAD_BYTES + CHUNK_BYTES + 3, file.len() - 1] {
        let mut changed = file.clone();
        changed[at] ^= 1;
        refused(&changed, 1, "damaged");
    }
    // Salt and check are bound too.
    for at in 15..HEAD_BYTES {
        let mut changed = file.clone();
        changed[at] ^= 1;
        refused(&changed, 1, "another backup's");
    }
}

/// Goal: two chunks can't be exchanged; by exchanging them.
#[test]
fn chunks_have_places() {
    let file = sealed(&entries(60));
    let length = CHUNK_BYTES + TAG_BYTES;
    assert!(file.len() > HEAD_BYTES + 2 * length);
    let (head, body) = file.split_at(HEAD_BYTES);
    let (first, rest) = body.split_at(length);
    let (second, rest) = rest.split_at(length);
    let exchanged = [head, second, first, rest].concat();
    assert!(open(&exchanged, &code(1)).is_err());
}

proptest::proptest! {
    /// Goal: no bytes make the reader panic; as a file, and as what is inside of one.
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(0_u8.., 0..600)) {
        open_any(&bytes);
        open_any(&[&MAGIC[..], &[VERSION], &bytes].concat());
        let mut headed = b"\x09a.example".to_vec();
        headed.extend([0; 16]);
        headed.extend(b"\x05alice\x00");
        headed.extend([0; 40]);
        headed.extend(bytes);
        open_any(&headed);
    }
}
