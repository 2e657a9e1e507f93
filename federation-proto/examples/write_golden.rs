//! Writes the golden vectors under `testdata/`: `cargo run -p federation-proto --example write_golden`.
//!
//! Run it when the format changes, that is, with a new protocol version; the diff shows what
//! changed. What ECDSA signs comes out differently each time, so keys, organisations and documents
//! that exist are kept: delete those that are to be made anew.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a tool of this crate's tests, not part of the protocol"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::error::Error;
use std::fs;
use std::io;

use federation_proto::agreement::{
    Accepted, Amendment, Charter, Consent, Countersignature, Decided, Declaration, Draft,
};
use federation_proto::armor;
use federation_proto::audit_log::SignedAuditHead;
use federation_proto::codec::Wire;
use federation_proto::fingerprint::Fingerprint;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use support::{NOW_MS, Organisation, random};
use support::{golden, worked_examples};

fn main() -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(golden::folder().join("keys"))?;
    for (letter, seed) in [("a", 1), ("b", 2)] {
        if !exists(&format!("{letter}-root.der")) {
            write_organisation(letter, seed)?;
        }
    }
    let (a, b) = golden::both();
    if !exists("device-history.bin") {
        write(
            "device-history.bin",
            &golden::device_history(&b).to_bytes()?,
        )?;
    }
    if !exists("room-consent.bin") {
        let consent = golden::room_consent(&a);
        let signed = consent.sign(a.issuing.clone(), &a.issuing_key, &random())?;
        write("room-consent.bin", &signed.to_bytes()?)?;
    }
    if !exists("evidence.bin") {
        let evidence = support::evidence::of_alice(&a, &b);
        let signed = evidence.sign(a.issuing.clone(), &a.issuing_key, &random())?;
        write("evidence.bin", &signed.to_bytes()?)?;
    }
    if !exists("audit-head.bin") {
        let (head, issuing) = (golden::audit_head(&a), a.issuing.clone());
        let signed = SignedAuditHead::sign(head, issuing, &a.issuing_key, &random())?;
        write("audit-head.bin", &signed.to_bytes()?)?;
    }
    if !exists("audit-sighting.bin") {
        let sighting = golden::audit_sighting(&a, &b);
        let signed = sighting.sign(b.issuing.clone(), &b.issuing_key, &random())?;
        write("audit-sighting.bin", &signed.to_bytes()?)?;
    }
    let text = armor::write(armor::Kind::Evidence, &golden::read("evidence.bin"));
    write("evidence.txt", text.as_bytes())?;
    for (name, bytes) in golden::reproducible(&a, &b) {
        write(&name, &bytes)?;
    }
    if !exists("offer.bin") {
        write_ceremony(&a, &b)?;
    }
    if !exists("charter.bin") {
        write_charter(&a, &b)?;
    }
    let charter = Charter::open(golden::read("charter.bin"), NOW_MS)?;
    write("charter.txt", charter.to_armor()?.as_bytes())?;
    let pair = charter.pair(&a.name, &b.name, NOW_MS)?;
    let derived = pair.signed();
    write("charter-offer.bin", derived.offer().bytes())?;
    write("charter-acceptance.bin", derived.acceptance().bytes())?;
    write(
        "charter-countersignature.bin",
        derived.countersignature().bytes(),
    )?;
    let (offer, acceptance) = golden::documents();
    let countersignature = Countersignature::decode(golden::read("countersignature.bin"))?;
    write("offer.txt", offer.to_armor().as_bytes())?;
    write("acceptance.txt", acceptance.to_armor().as_bytes())?;
    write(
        "countersignature.txt",
        countersignature.to_armor().as_bytes(),
    )?;
    let amendment = Amendment::open(golden::read("amendment.bin"), NOW_MS)?;
    write("amendment.txt", amendment.to_armor().as_bytes())?;
    let consent = Consent::decode(golden::read("consent.bin"))?;
    write("consent.txt", consent.to_armor().as_bytes())?;
    let declaration = Declaration::decode(golden::read("declaration.bin"))?;
    write("declaration.txt", declaration.to_armor().as_bytes())?;
    fs::write(worked_examples::path(), worked_examples::render())?;
    Ok(())
}

fn write_ceremony(a: &Organisation, b: &Organisation) -> Result<(), Box<dyn Error>> {
    let body = golden::offer_body(a, b);
    let offered =
        Draft::new(body.statement, body.answer_by_ms)?.offer(&a.issuing_key, &random())?;
    let accepted = Accepted::accept(
        offered.offer().clone(),
        &Fingerprint::of_root(&a.root),
        golden::acceptance_body(a, b, offered.offer()).statement,
        &b.issuing_key,
        &random(),
        NOW_MS,
    )?;
    let active = offered.countersign(
        accepted.acceptance().clone(),
        &Fingerprint::of_root(&b.root),
        &a.issuing_key,
        &random(),
        NOW_MS,
    )?;
    let signed = active.signed();
    write("offer.bin", signed.offer().bytes())?;
    write("acceptance.bin", signed.acceptance().bytes())?;
    write("countersignature.bin", signed.countersignature().bytes())?;
    let at_b = accepted.activate(signed.countersignature().clone(), NOW_MS)?;
    let amendment = signed.amendment(
        golden::amendment_body(a, b).statement,
        &a.issuing_key,
        &random(),
    )?;
    write("amendment.bin", amendment.bytes())?;
    let (at_b, _) = at_b.signed().clone().amend(amendment, NOW_MS)?;
    let manifest = golden::manifest_of(b, "b");
    let (at_b, consent) = at_b.consent(None, &manifest, &b.issuing_key, &random(), NOW_MS)?;
    write("consent.bin", consent.bytes())?;
    let (_, declaration) = at_b.declare(
        Decided::Suspended,
        &golden::declaration_body(a, b).reason,
        &manifest,
        &b.issuing_key,
        &random(),
        NOW_MS,
    )?;
    write("declaration.bin", declaration.bytes()).map_err(Into::into)
}

fn write_charter(a: &Organisation, b: &Organisation) -> Result<(), Box<dyn Error>> {
    let mut charter = golden::charter(a, b);
    let confirmed = charter.fingerprint();
    for of in [a, b] {
        let us = (&of.name, &of.root);
        charter.sign(us, &confirmed, &of.issuing_key, &random(), NOW_MS)?;
    }
    write("charter.bin", &charter.to_bytes()?)?;
    Ok(())
}

fn write_organisation(letter: &str, seed: u8) -> Result<(), Box<dyn Error>> {
    let (root_key, issuing_key) = (key(letter, "root")?, key(letter, "issuing")?);
    let name = format!("{letter}.example");
    let organisation = Organisation::with_keys(&name, seed, &root_key, &issuing_key);
    write(&format!("{letter}-root.der"), &organisation.root)?;
    write(&format!("{letter}-issuing.der"), &organisation.issuing)?;
    write(
        &format!("{letter}-manifest.bin"),
        &organisation.manifest_bytes(1),
    )?;
    write(
        &format!("{letter}-fingerprint.txt"),
        format!("{}\n", Fingerprint::of_root(&organisation.root)).as_bytes(),
    )?;
    Ok(())
}

fn key(letter: &str, name: &str) -> Result<KeyPair, Box<dyn Error>> {
    let path = golden::folder().join(format!("keys/{letter}-{name}.pk8"));
    if !path.exists() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        fs::write(&path, key.serialize_der())?;
    }
    Ok(KeyPair::try_from(fs::read(&path)?)?)
}

fn exists(name: &str) -> bool {
    golden::folder().join(name).exists()
}

fn write(name: &str, bytes: &[u8]) -> io::Result<()> {
    fs::write(golden::folder().join(name), bytes)
}
