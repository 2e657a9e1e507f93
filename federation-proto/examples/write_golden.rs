//! Writes the golden vectors under `testdata/`: `cargo run -p federation-proto --example write_golden`.
//!
//! Run it when the format changes, that is, with a new protocol version; the diff shows what
//! changed. Keys that exist are kept.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a tool of this crate's tests, not part of the protocol"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;

use federation_proto::agreement::{Accepted, Draft};
use federation_proto::fingerprint::Fingerprint;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use support::golden;
use support::{NOW_MS, Organisation, random};

fn main() {
    fs::create_dir_all(golden::folder().join("keys")).unwrap();
    for (letter, seed) in [("a", 1), ("b", 2)] {
        write_organisation(letter, seed);
    }
    let (a, b) = golden::both();
    for (name, bytes) in golden::reproducible(&a, &b) {
        write(&name, &bytes);
    }
    let body = golden::offer_body(&a, &b);
    let offered = Draft::new(body.statement, body.answer_by_ms)
        .unwrap()
        .offer(&a.issuing_key, &random())
        .unwrap();
    let accepted = Accepted::accept(
        offered.offer().clone(),
        &Fingerprint::of_root(&a.root),
        golden::acceptance_body(&a, &b, offered.offer()).statement,
        &b.issuing_key,
        &random(),
        NOW_MS,
    )
    .unwrap();
    let active = offered
        .countersign(
            accepted.acceptance().clone(),
            &Fingerprint::of_root(&b.root),
            &a.issuing_key,
            &random(),
            NOW_MS,
        )
        .unwrap();
    let signed = active.signed();
    write("offer.bin", signed.offer().bytes());
    write("offer.txt", signed.offer().to_armor().as_bytes());
    write("acceptance.bin", signed.acceptance().bytes());
    write("countersignature.bin", signed.countersignature().bytes());
}

fn write_organisation(letter: &str, seed: u8) {
    let (root_key, issuing_key) = (key(letter, "root"), key(letter, "issuing"));
    let name = format!("{letter}.example");
    let organisation = Organisation::with_keys(&name, seed, &root_key, &issuing_key);
    write(&format!("{letter}-root.der"), &organisation.root);
    write(&format!("{letter}-issuing.der"), &organisation.issuing);
    write(
        &format!("{letter}-manifest.bin"),
        &organisation.manifest_bytes(1),
    );
    write(
        &format!("{letter}-fingerprint.txt"),
        format!("{}\n", Fingerprint::of_root(&organisation.root)).as_bytes(),
    );
}

fn key(letter: &str, name: &str) -> KeyPair {
    let path = golden::folder().join(format!("keys/{letter}-{name}.pk8"));
    if !path.exists() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        fs::write(&path, key.serialize_der()).unwrap();
    }
    KeyPair::try_from(fs::read(&path).unwrap()).unwrap()
}

fn write(name: &str, bytes: &[u8]) {
    fs::write(golden::folder().join(name), bytes).unwrap();
}
