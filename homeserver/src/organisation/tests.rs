use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use federation_proto::hash::Digest;
use federation_proto::ids::{AccountId, DeviceId, Member, ServerName};
use federation_proto::keys::KeyId;
use federation_proto::manifest::EnvelopeKeyEntry;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use ring::rand::SystemRandom;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::*;
use crate::audit::Actor;
use crate::store::Store;
use crate::store::engine::memory::MemoryEngine;

const NOW_MS: u64 = 1_795_000_000_000;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

#[expect(clippy::disallowed_methods, reason = "a test draws its own randomness")]
fn random() -> SystemRandom {
    SystemRandom::new()
}

fn organisation(server: &str) -> NewOrganisation {
    create(&server.parse().unwrap(), NOW_MS, &random()).unwrap()
}

fn load(folder: &Path, server: &str) -> Result<Keys, Vec<String>> {
    let server: ServerName = server.parse().unwrap();
    KeyFolder::at(folder)
        .load(&server, NOW_MS, &random())
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

/// Goal: what was created is what is loaded, and the folder is its owner's alone; by a round trip.
#[test]
fn created_and_loaded() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("keys");
    let keys = organisation("a.example").keys;
    KeyFolder::at(&folder).create(&keys).unwrap();
    let loaded = load(&folder, "a.example").unwrap();
    assert_eq!(loaded.root(), keys.root());
    assert_eq!(loaded.tls_pins(), keys.tls_pins());
    assert_eq!(loaded.envelope_key().id(), keys.envelope_key().id());
    assert_eq!(loaded.manifest(), keys.manifest());
    assert_eq!(loaded.tls_identity().chain, keys.tls_identity().chain);
    assert_ne!(keys.tls_pins()[0], keys.tls_pins()[1]);

    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for entry in std::fs::read_dir(&folder).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    assert!(KeyFolder::at(&folder).create(&keys).is_err(), "overwritten");
}

/// Goal: every damaged, foreign, missing or readable file is named, all at once; by damaging them.
#[test]
fn every_mistake_is_named() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("keys");
    KeyFolder::at(&folder)
        .create(&organisation("a.example").keys)
        .unwrap();
    let other = place.path().join("other");
    KeyFolder::at(&other)
        .create(&organisation("a.example").keys)
        .unwrap();

    let problems = load(&folder, "b.example").err().unwrap();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("it is for a.example"), "{problems:?}");

    // Another organisation's issuing CA; a key of another certificate; one gone; one unreadable; one
    // that others can read.
    for name in ["issuing.pem", "tls-current-key.pem"] {
        std::fs::copy(other.join(name), folder.join(name)).unwrap();
    }
    std::fs::remove_file(folder.join("tls-backup.pem")).unwrap();
    std::fs::write(folder.join("root.pem"), "nonsense").unwrap();
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(folder.join("envelope-key.pem"), open).unwrap();
    let problems = load(&folder, "a.example").err().unwrap();
    for (name, problem) in [
        ("root.pem", "not one PEM block"),
        ("issuing.pem", "belongs to another key"),
        ("tls-current.pem", "belongs to another key"),
        ("tls-backup.pem", "it is missing"),
        ("envelope-key.pem", "chmod 600"),
    ] {
        assert!(
            problems
                .iter()
                .any(|text| text.contains(name) && text.contains(problem)),
            "{name}: {problem} is not in {problems:#?}"
        );
    }
}

/// Goal: an issuing CA of another root is refused; by swapping the whole issuing pair.
#[test]
fn a_foreign_issuing_ca_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let (folder, other) = (place.path().join("keys"), place.path().join("other"));
    KeyFolder::at(&folder)
        .create(&organisation("a.example").keys)
        .unwrap();
    KeyFolder::at(&other)
        .create(&organisation("b.example").keys)
        .unwrap();
    for name in ["issuing.pem", "issuing-key.pem"] {
        std::fs::copy(other.join(name), folder.join(name)).unwrap();
    }
    let problems = load(&folder, "a.example").err().unwrap();
    assert!(
        problems
            .iter()
            .all(|text| text.contains("is not signed by")),
        "{problems:?}"
    );
    assert_eq!(
        problems.len(),
        3,
        "the issuing CA and both TLS certificates: {problems:?}"
    );
}

/// Goal: TLS certificates are renewed when less than a third is left, for the same keys, with another
/// number, and the renewed ones are what is loaded next; by moving the clock.
#[test]
fn tls_certificates_are_renewed_in_time() {
    let place = tempfile::tempdir().unwrap();
    let folder = KeyFolder::at(place.path().join("keys"));
    let keys = organisation("a.example").keys;
    folder.create(&keys).unwrap();
    let before = keys.tls_identity().chain[0].clone();
    assert!(!keys.renew(NOW_MS + 59 * DAY_MS, &random()).unwrap());
    assert_eq!(keys.tls_identity().chain[0], before);

    let pins = keys.tls_pins();
    let due = keys.renewal(NOW_MS + 61 * DAY_MS, &random()).unwrap();
    folder.replace(&due.unwrap()).unwrap();
    let loaded = folder
        .load(keys.server(), NOW_MS + 61 * DAY_MS, &random())
        .unwrap();
    let after = &loaded.tls_identity().chain[0];
    assert_eq!(loaded.tls_pins(), pins);
    let (_, old) = X509Certificate::from_der(&before).unwrap();
    let (_, new) = X509Certificate::from_der(after).unwrap();
    assert_ne!(old.raw_serial(), new.raw_serial());
    assert_eq!(old.public_key().raw, new.public_key().raw);
    let life = new.validity().not_after.timestamp() - old.validity().not_after.timestamp();
    assert_eq!(u64::try_from(life).unwrap() * 1000, 61 * DAY_MS);
}

/// Goal: the next envelope key is listed from the start, takes over 30 days before the current one's end, and
/// the former one stays listed until then; by moving the clock. A key that is missing on the disk is drawn and
/// announced.
#[test]
fn envelope_keys_overlap() {
    let place = tempfile::tempdir().unwrap();
    let folder = KeyFolder::at(place.path().join("keys"));
    let keys = organisation("a.example").keys;
    folder.create(&keys).unwrap();
    let (first, manifest) = (keys.envelope_key().id(), keys.manifest());
    let listed = &manifest.body().envelope_keys;
    let next = listed.iter().map(EnvelopeKeyEntry::id);
    let next: Vec<_> = next.filter(|id| *id != first).collect();
    assert_eq!(next.len(), 1, "announced before it is used");
    assert!(!keys.renew(NOW_MS + 59 * DAY_MS, &random()).unwrap());
    assert_eq!(keys.manifest(), manifest);

    let then = NOW_MS + 61 * DAY_MS;
    let due = keys.renewal(then, &random()).unwrap().unwrap();
    folder.replace(&due).unwrap();
    assert_eq!(
        keys.envelope_key().id(),
        first,
        "not used before it is taken"
    );
    keys.take(&due);
    let second = keys.envelope_key().id();
    assert_eq!(vec![second], next, "the one that was announced");
    assert!(keys.manifest().serial() > manifest.serial());
    let entry = |id| *keys.manifest().envelope_key(id).unwrap();
    assert!(entry(first).valid_at(then + 28 * DAY_MS));
    assert!(entry(second).valid_at(then + 89 * DAY_MS));
    assert_eq!(keys.manifest().body().envelope_keys.len(), 3);
    let loaded = folder.load(keys.server(), then, &random()).unwrap();
    assert_eq!(loaded.manifest(), keys.manifest());
    assert!(!loaded.renew(then, &random()).unwrap());

    std::fs::remove_file(place.path().join("keys/envelope-next-key.pem")).unwrap();
    let loaded = folder.load(keys.server(), then, &random()).unwrap();
    assert_eq!(loaded.envelope_key().id(), second);
    assert!(loaded.renew(then, &random()).unwrap());
    assert_eq!(loaded.manifest().body().envelope_keys.len(), 4);
}

/// Goal: wherever the process dies while keys are written, the next start finds the keys before or those
/// after, never a mixture; by a renewal that was moved halfway, and one that was not complete.
#[test]
fn a_renewal_is_written_whole() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("keys");
    let folder = KeyFolder::at(&path);
    let keys = organisation("a.example").keys;
    folder.create(&keys).unwrap();
    let rotate = Asked::RotateTls { replaces: None };
    let after = keys.asked(&rotate, NOW_MS, &random()).unwrap().unwrap();

    // Not complete: it never happened.
    std::fs::create_dir(path.join("renewal.new")).unwrap();
    std::fs::write(path.join("renewal.new/tls-current.pem"), "half").unwrap();
    assert_eq!(
        folder
            .load(keys.server(), NOW_MS, &random())
            .unwrap()
            .tls_pins(),
        keys.tls_pins()
    );

    // Complete, and moved in part: it is finished.
    folder.replace(&after).unwrap();
    let new: Vec<_> = std::fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap())
        .collect();
    std::fs::create_dir(path.join("renewal")).unwrap();
    for entry in new {
        if !entry.file_name().to_string_lossy().starts_with("tls") {
            continue;
        }
        std::fs::rename(entry.path(), path.join("renewal").join(entry.file_name())).unwrap();
    }
    let loaded = folder.load(keys.server(), NOW_MS, &random()).unwrap();
    assert_eq!(
        loaded.tls_pins()[0],
        keys.tls_pins()[1],
        "the backup has taken over"
    );
    assert!(!path.join("renewal").exists());
    keys.take(&after);
    assert_eq!(loaded.manifest(), keys.manifest());
}

/// Goal: by hand, the backup TLS key takes over, the former pin stays listed for a day and with few others,
/// and a request that was done already changes nothing; by many rotations.
#[test]
fn tls_keys_rotate() {
    let keys = organisation("a.example").keys;
    let [first, backup] = keys.tls_pins();
    let rotate = Asked::RotateTls {
        replaces: Some(first),
    };
    let done = keys.asked(&rotate, NOW_MS, &random()).unwrap().unwrap();
    keys.take(&done);
    assert_eq!(keys.tls_pins()[0], backup, "partners knew it");
    assert!(keys.asked(&rotate, NOW_MS, &random()).unwrap().is_none());
    let lists = |pin| keys.manifest().has_tls_pin(&Digest::from_bytes(pin));
    assert!(lists(first), "its connections go on");

    for _ in 0..10 {
        let rotate = Asked::RotateTls { replaces: None };
        let done = keys.asked(&rotate, NOW_MS, &random()).unwrap().unwrap();
        keys.take(&done);
    }
    assert!(!lists(first));
    assert_eq!(keys.manifest().body().tls_pins.len(), 6);
    assert!(keys.manifest().serial() >= NOW_MS + 11);
    assert!(!keys.renew(NOW_MS + DAY_MS - 1, &random()).unwrap());
    assert!(keys.renew(NOW_MS + DAY_MS, &random()).unwrap());
    assert_eq!(keys.manifest().body().tls_pins.len(), 2);
}

/// Goal: however often envelope keys change, there is a manifest, the newest keys are in it, and all that were
/// revoked stay revoked while they are listed; by more rotations than a manifest has room for.
#[test]
fn envelope_keys_rotate_without_end() {
    let keys = organisation("a.example").keys;
    let act = |asked: Asked, now_ms| {
        let done = keys.asked(&asked, now_ms, &random()).unwrap();
        let any = done.is_some();
        if let Some(done) = done {
            keys.take(&done);
        }
        any
    };
    let first = keys.envelope_key().id();
    let revoke = |key| Asked::RevokeEnvelope {
        key,
        since_ms: NOW_MS - 1,
    };
    assert!(act(revoke(Some(first)), NOW_MS));
    assert!(!act(revoke(Some(first)), NOW_MS), "it is revoked already");
    assert_ne!(keys.envelope_key().id(), first);
    let entry = *keys.manifest().envelope_key(first).unwrap();
    assert!(entry.valid_at(NOW_MS - 2) && !entry.valid_at(NOW_MS - 1));
    let unknown = keys.asked(&revoke(Some(KeyId([9; 8]))), NOW_MS, &random());
    assert!(matches!(unknown, Err(OrganisationError::UnknownKey(_))));
    let ahead = Asked::RevokeEnvelope {
        key: None,
        since_ms: NOW_MS + 1,
    };
    let ahead = keys.asked(&ahead, NOW_MS, &random());
    assert!(matches!(ahead, Err(OrganisationError::Asked(_))));

    // Every key that was ever listed: what is in use then is none of them.
    let listed = keys.manifest().body().envelope_keys.clone();
    assert!(act(revoke(None), NOW_MS));
    let manifest = keys.manifest();
    for key in &listed {
        assert_ne!(keys.envelope_key().id(), key.id());
        assert!(!manifest.envelope_key(key.id()).unwrap().valid_at(NOW_MS));
    }
    let rotate = Asked::RotateEnvelope { replaces: None };
    for n in 1..=60 {
        let before = keys.envelope_key().id();
        assert!(act(rotate.clone(), NOW_MS + n));
        let manifest = keys.manifest();
        assert!(manifest.envelope_key(before).unwrap().valid_at(NOW_MS + n));
        assert!(manifest.envelope_key(keys.envelope_key().id()).is_some());
        assert!(manifest.bytes().len() < 8 * 1024);
    }
}

/// Goal: an issuing CA that the root has signed for a request takes over in the running homeserver, for the same
/// TLS keys, and partners who pin the root take its manifest; device certificates of the former one hold
/// until they end; what the root has not signed, or not for this request, is refused. By both ways, with the
/// root key on the machine and without.
#[tokio::test]
async fn the_issuing_ca_is_renewed() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("keys");
    let made = organisation("a.example");
    let (keys, root_key) = (Arc::new(made.keys), made.root_key);
    KeyFolder::at(&path).create(&keys).unwrap();
    let folder = KeyFolder::at(&path);
    let store = Store::new(Arc::new(MemoryEngine::default())).unwrap();
    let keeper = Keeper::new(Arc::clone(&keys), KeyFolder::at(&path));
    let then = NOW_MS + 600 * DAY_MS;
    let take = || async {
        let act = Act::TakeIssuing;
        keeper
            .act(&store, &Actor::System, &act, then, &random())
            .await
    };
    let root = pem::encode("CERTIFICATE", &keys.root());
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let csr = CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    let before = keys
        .issue_device_certificate(&device_request(csr.der().to_vec()), NOW_MS, &random())
        .unwrap();
    let (manifest, pins) = (keys.manifest(), keys.tls_pins());

    let request = folder.request_issuing(keys.server()).unwrap();
    assert!(issuing::is_request(&request));
    assert!(
        path.join("issuing-next-key.pem").exists(),
        "its key stays here"
    );
    let answer = issuing::sign(&request, &root, &root_key, then, &random()).unwrap();
    let other = organisation("a.example");
    let others_root = pem::encode("CERTIFICATE", &other.keys.root());
    let by_other = issuing::sign(&request, &others_root, &other.root_key, then, &random()).unwrap();
    assert!(
        folder.install_issuing(&by_other, then).is_err(),
        "another root"
    );
    assert!(issuing::sign(&request, &root, &other.root_key, then, &random()).is_err());
    let early = issuing::sign(&request, &root, &root_key, NOW_MS, &random()).unwrap();
    assert!(
        folder.install_issuing(&early, then).is_err(),
        "no later than the present one"
    );
    assert!(!take().await.unwrap(), "nothing waits");

    folder.install_issuing(&answer, then).unwrap();
    assert!(take().await.unwrap());
    assert!(!take().await.unwrap(), "once");
    assert_eq!(keys.tls_pins(), pins);
    let taken = federation_proto::manifest::decode(keys.manifest().bytes().clone())
        .unwrap()
        .verify(
            keys.server(),
            &keys.root().to_vec().into(),
            Some(&manifest),
            then,
        )
        .unwrap();
    assert_ne!(
        taken.body().issuing_certificate,
        manifest.body().issuing_certificate
    );
    let (_, device) = X509Certificate::from_der(&before.der).unwrap();
    let (_, issuer) = X509Certificate::from_der(&before.issuing).unwrap();
    device.verify_signature(Some(issuer.public_key())).unwrap();
    let loaded = folder.load(keys.server(), then, &random()).unwrap();
    assert_eq!(loaded.manifest(), keys.manifest());
    assert!(
        folder.install_issuing(&answer, then).is_err(),
        "the request is answered"
    );
    let log = crate::audit::page(&store, &random(), 0, 9).await.unwrap();
    assert_eq!(log.entries[0].action, "keys.issuing-renewed");
}

fn device_request(csr: Vec<u8>) -> DeviceRequest {
    DeviceRequest {
        csr,
        address: "alice@a.example".parse().unwrap(),
        account: AccountId::from_bytes([1; 16]),
        device: DeviceId::from_bytes([2; 16]),
    }
}

/// Goal: the certificates with which `room-rules` weighs a room of a thousand devices are as long as real ones. Method: one of each for
/// the same device.
#[test]
fn certificates_of_tests_are_as_long_as_real_ones() {
    let keys = organisation("a.example").keys;
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let csr = CertificateParams::default().serialize_request(&key);
    let request = device_request(csr.unwrap().der().to_vec());
    let real = keys
        .issue_device_certificate(&request, NOW_MS, &random())
        .unwrap();
    let made_up = room_rules::testing::Organisation::new("a.example");
    let member = Member {
        server: request.address.server.clone(),
        account: request.account,
        device: request.device,
    };
    let chain = made_up.issue(&member, &request.address, &real.public_key, NOW_MS);
    // Each signature has up to two bytes less, as it happens.
    let length: usize = chain.iter().map(|certificate| certificate.len() + 4).sum();
    assert!(length >= real.der.len() + real.issuing.len(), "{length}");
}

/// Goal: a device's certificate says what the homeserver says of it, whatever the request claims; by a
/// request that claims to be a CA for others.
#[test]
fn a_device_certificate_says_only_what_we_say() {
    let keys = organisation("a.example").keys;
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let mut claims = CertificateParams::new(vec!["b.example".to_owned()]).unwrap();
    claims.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let csr = claims.serialize_request(&key).unwrap().der().to_vec();
    let issued = keys
        .issue_device_certificate(&device_request(csr), NOW_MS, &random())
        .unwrap();
    assert_eq!(issued.public_key.as_slice(), key.public_key_raw());

    let (rest, certificate) = X509Certificate::from_der(&issued.der).unwrap();
    assert!(rest.is_empty());
    let (_, issuing) = X509Certificate::from_der(&issued.issuing).unwrap();
    certificate
        .verify_signature(Some(issuing.public_key()))
        .unwrap();
    assert!(!certificate.is_ca());
    assert_eq!(certificate.subject().to_string(), "CN=alice@a.example");
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    let uri = format!(
        "entente://a.example/account/{}/device/{}",
        "01".repeat(16),
        "02".repeat(16)
    );
    assert_eq!(names.value.general_names, [GeneralName::URI(&uri)]);
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    let validity = certificate.validity();
    let life = validity.not_after.timestamp() - validity.not_before.timestamp();
    assert_eq!(life, 30 * 24 * 60 * 60);
    assert_eq!(
        u64::try_from(validity.not_after.timestamp()).unwrap() * 1000,
        issued.not_after_ms
    );
}

/// Goal: requests without proof of an Ed25519 key are refused; by other keys, flipped bits and noise.
#[test]
fn wrong_requests_are_refused() {
    let keys = organisation("a.example").keys;
    let params = CertificateParams::default();
    let ecdsa = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let request = |key| params.serialize_request(key).unwrap().der().to_vec();
    let mut unsigned = request(&ed25519);
    *unsigned.last_mut().unwrap() ^= 1;
    for csr in [
        request(&ecdsa),
        unsigned,
        b"noise".to_vec(),
        Vec::new(),
        vec![0x30; 5000],
    ] {
        let refused = keys.issue_device_certificate(&device_request(csr), NOW_MS, &random());
        assert!(matches!(refused, Err(OrganisationError::Request(_))));
    }
}

/// Goal: the chain is what a strict verifier wants; by verifying the TLS leaf with webpki.
#[test]
fn the_chain_verifies() {
    use rustls_pki_types::UnixTime;
    use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, ring::ECDSA_P256_SHA256};

    let identity = organisation("a.example").keys.tls_identity();
    let anchors = [anchor_from_trusted_cert(&identity.chain[2]).unwrap()];
    let leaf = EndEntityCert::try_from(&identity.chain[0]).unwrap();
    let at = |ms: u64| UnixTime::since_unix_epoch(std::time::Duration::from_millis(ms));
    let verify = |ms, usage| {
        leaf.verify_for_usage(
            &[ECDSA_P256_SHA256],
            &anchors,
            &identity.chain[1..2],
            at(ms),
            usage,
            None,
            None,
        )
        .map(drop)
    };
    verify(NOW_MS, KeyUsage::server_auth()).unwrap();
    verify(NOW_MS, KeyUsage::client_auth()).unwrap();
    verify(NOW_MS + 91 * DAY_MS, KeyUsage::client_auth()).unwrap_err();
}
