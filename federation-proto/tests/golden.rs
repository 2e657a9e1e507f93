//! The golden vectors under `testdata/`: this build makes and reads exactly those bytes, and OpenSSL
//! and sha256sum find the same signatures and hashes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests fail by panicking; some read files, and one runs the script"
)]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use federation_proto::agreement::{
    Acceptance, Amendment, Charter, Consent, Countersignature, Declaration, Offer,
};
use federation_proto::audit_log::{SignedAuditHead, SignedSighting};
use federation_proto::codec::Wire;
use federation_proto::device_log::{LogError, SignedHead};
use federation_proto::fingerprint::Fingerprint;
use federation_proto::payload::{Payload, Relay};
use federation_proto::receipt;
use support::golden::{
    acceptance_body, amendment_body, audit_head, audit_sighting, both, charter, consent_body,
    declaration_body, documents, folder, link_ab, manifest_of, offer_body, payloads, read, relay,
    reproducible, verified,
};
use support::{NOW_MS, worked_examples};

/// Goal: the wire format has not changed; by making every vector again whose signature is
/// deterministic.
#[test]
fn made_again_they_are_the_same() {
    let (a, b) = both();
    for (name, bytes) in reproducible(&a, &b) {
        assert_eq!(read(&name), bytes, "{name}");
    }
}

/// Goal: the worked examples of the protocol's text are the vectors' bytes; by rendering them again.
#[test]
fn worked_examples_are_of_these_bytes() {
    let text = std::fs::read_to_string(worked_examples::path()).unwrap();
    assert!(
        text == worked_examples::render(),
        "docs/protocol/11-worked-examples.md is not what `write_golden` renders"
    );
}

/// Goal: the vectors decode to what they were made of; by decoding each.
#[test]
fn they_decode_to_what_they_were_made_of() {
    let (a, b) = both();
    for (name, payload) in payloads() {
        let bytes = read(&format!("payload-{name}.bin"));
        assert_eq!(
            Payload::decode(payload.kind(), bytes),
            Ok(payload),
            "{name}"
        );
    }
    let relayed = Relay::from_bytes(read("payload-relay.bin")).unwrap();
    assert_eq!(relayed, relay(&a, &b));
    let proved = relayed
        .proof
        .verify(
            relayed.envelope,
            &manifest_of(&a, "a"),
            &a.name,
            &b.name,
            relayed.stamp_ms,
        )
        .unwrap();
    assert_eq!(proved.header(), verified(&a, &b)[0].header());
    let receipt = receipt::decode(read("receipt.bin")).unwrap();
    receipt
        .verify(&manifest_of(&b, "b"), &link_ab(&a, &b), NOW_MS)
        .unwrap();
}

/// Goal: manifests and peering documents keep their format, though their signatures differ each
/// time; by comparing what they say, and checking them.
#[test]
fn documents_say_what_they_said() {
    let (a, b) = both();
    let mut expected = a.manifest_body(1);
    expected.tls_pins.sort_unstable();
    assert_eq!(*manifest_of(&a, "a").body(), expected);
    let (offer, acceptance) = documents();
    assert_eq!(*offer.body(), offer_body(&a, &b));
    assert_eq!(*acceptance.body(), acceptance_body(&a, &b, &offer));
    let countersignature = Countersignature::decode(read("countersignature.bin")).unwrap();
    countersignature.check(&offer, &acceptance).unwrap();
    let text = String::from_utf8(read("offer.txt").to_vec()).unwrap();
    assert_eq!(Offer::from_armor(&text, NOW_MS).unwrap(), offer);
    assert_eq!(offer.to_armor(), text);
    let text = String::from_utf8(read("acceptance.txt").to_vec()).unwrap();
    assert_eq!(Acceptance::from_armor(&text, NOW_MS).unwrap(), acceptance);
    let text = String::from_utf8(read("countersignature.txt").to_vec()).unwrap();
    assert_eq!(
        Countersignature::from_armor(&text).unwrap(),
        countersignature
    );
    let fingerprint = String::from_utf8(read("a-fingerprint.txt").to_vec()).unwrap();
    assert_eq!(
        fingerprint.parse::<Fingerprint>().unwrap(),
        offer.manifest().identity().fingerprint()
    );
}

/// Goal: heads of audit logs and sightings keep their format, and hold for those who signed them and nobody else; by
/// comparing what they say, and checking them.
#[test]
fn audit_logs_say_what_they_said() {
    let (a, b) = both();
    let head = SignedAuditHead::from_bytes(read("audit-head.bin")).unwrap();
    let judged = head.verify(&a.name, &a.root, &[], NOW_MS);
    assert_eq!(judged, Ok(&audit_head(&a)));
    assert!(head.verify(&a.name, &b.root, &[], NOW_MS).is_err());
    assert!(head.verify(&b.name, &a.root, &[], NOW_MS).is_err());
    assert!(
        head.verify(&a.name, &a.root, &[], NOW_MS - 3_600_000)
            .is_err()
    );
    // One of a device log is none of an audit log.
    let of_devices = SignedHead::from_bytes(read("audit-head.bin")).unwrap();
    let judged = of_devices.verify(&a.name, &a.root, &[], NOW_MS);
    assert_eq!(judged, Err(LogError::BadSignature));
    let seen = SignedSighting::from_bytes(read("audit-sighting.bin")).unwrap();
    let judged = seen.verify(&b.name, &b.root, &[], NOW_MS);
    assert_eq!(judged, Ok(&audit_sighting(&a, &b)));
    assert!(seen.verify(&b.name, &a.root, &[], NOW_MS).is_err());
    assert!(seen.verify(&a.name, &a.root, &[], NOW_MS).is_err());
    assert!(
        seen.verify(&b.name, &b.root, &[], NOW_MS - 3_600_000)
            .is_err()
    );
}

/// Goal: a charter keeps its format, and so do the documents that follow from it, at either end; by
/// comparing what they say and deriving them again.
#[test]
fn a_charter_and_what_follows() {
    let (a, b) = both();
    let opened = Charter::open(read("charter.bin"), NOW_MS).unwrap();
    assert_eq!(opened.sha256(), charter(&a, &b).sha256());
    let text = String::from_utf8(read("charter.txt").to_vec()).unwrap();
    assert_eq!(Charter::from_armor(&text, NOW_MS).unwrap(), opened);
    assert_eq!(opened.to_armor().unwrap(), text);
    for (us, partner) in [(&a, &b), (&b, &a)] {
        let active = opened.pair(&us.name, &partner.name, NOW_MS).unwrap();
        let signed = active.signed();
        assert_eq!(*signed.offer().bytes(), read("charter-offer.bin"));
        assert_eq!(*signed.acceptance().bytes(), read("charter-acceptance.bin"));
        let countersignature = read("charter-countersignature.bin");
        assert_eq!(*signed.countersignature().bytes(), countersignature);
    }
}

/// Goal: what follows a ceremony keeps its format; by comparing what an amendment, a consent and a
/// declaration say, as bytes and as text. That their signatures hold, the script checks.
#[test]
fn later_documents_say_what_they_said() {
    let (a, b) = both();
    let text = |name: &str| String::from_utf8(read(name).to_vec()).unwrap();
    let amendment = Amendment::open(read("amendment.bin"), NOW_MS).unwrap();
    assert_eq!(*amendment.body(), amendment_body(&a, &b));
    assert_eq!(amendment.to_armor(), text("amendment.txt"));
    let consent = Consent::decode(read("consent.bin")).unwrap();
    assert_eq!(*consent.body(), consent_body(&a, &b));
    assert_eq!(consent.to_armor(), text("consent.txt"));
    let declaration = Declaration::decode(read("declaration.bin")).unwrap();
    assert_eq!(*declaration.body(), declaration_body(&a, &b));
    assert_eq!(declaration.to_armor(), text("declaration.txt"));
}

/// What `check.sh` may call, beside `openssl pkeyutl`: programs of GNU coreutils.
const COREUTILS: &[&str] = &[
    "base64",
    "basenc",
    "cat",
    "cut",
    "dirname",
    "head",
    "mktemp",
    "od",
    "rm",
    "sha256sum",
    "sort",
    "stat",
    "tail",
    "tr",
];

/// Where a program is, by `PATH`.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: install coreutils, bash and openssl"))
}

/// Goal: the vectors hold without any of this code; by the script, which finds no program but coreutils and an
/// `openssl` that refuses all but `pkeyutl`.
#[test]
fn openssl_and_sha256sum_agree() {
    let programs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("check.sh-programs");
    let _ = fs::remove_dir_all(&programs);
    fs::create_dir_all(&programs).unwrap();
    for name in COREUTILS {
        symlink(program(name), programs.join(name)).unwrap();
    }
    let bash = program("bash");
    let shim = format!(
        "#!{}\n[[ $1 == pkeyutl ]] || {{ echo \"openssl $1 is not to be used\" >&2; exit 1; }}\nexec {} \"$@\"\n",
        bash.display(),
        program("openssl").display()
    );
    let openssl = programs.join("openssl");
    fs::write(&openssl, shim).unwrap();
    fs::set_permissions(&openssl, fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(&bash)
        .arg(folder().join("check.sh"))
        .env("PATH", &programs)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
