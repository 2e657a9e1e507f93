//! Two organisations with keys, for the tests of this crate.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    unreachable_pub,
    reason = "helpers of tests, each used by some of them; a fixture that fails is a failed test"
)]

pub mod evidence;
pub mod golden;
pub mod worked_examples;

use bytes::Bytes;
use federation_proto::agreement::{
    Acceptance, Accepted, Active, Draft, Introduction, Offer, Offered, Operation, Statement, Terms,
    TtlBounds, UserTypes,
};
use federation_proto::envelope::{HashedPayload, Kind, Lane, Outgoing};
use federation_proto::fingerprint::Fingerprint;
use federation_proto::hash::Digest;
use federation_proto::ids::{RoomId, ServerName};
use federation_proto::keys::{EnvelopeKey, IssuingKey};
use federation_proto::manifest::{self, EnvelopeKeyEntry, Manifest, ManifestBody};
use federation_proto::transaction::Link;
use federation_proto::version::{Version, VersionSet};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use ring::rand::SystemRandom;

/// 2026-11-22 10:15 UTC.
pub const NOW_MS: u64 = 1_795_342_500_000;
pub const DAY_MS: u64 = 24 * 60 * 60 * 1000;

pub fn random() -> SystemRandom {
    SystemRandom::new()
}

pub fn server(name: &str) -> ServerName {
    name.parse().unwrap()
}

/// A new key for a root or an issuing CA.
pub fn key_pair() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

/// An organisation's keys and certificates.
pub struct Organisation {
    pub name: ServerName,
    pub root: Bytes,
    pub issuing: Bytes,
    pub issuing_key: IssuingKey,
    pub envelope_key: EnvelopeKey,
}

impl Organisation {
    /// New CAs, and an envelope key of this seed.
    pub fn new(name: &str, seed: u8) -> Self {
        Self::with_keys(name, seed, &key_pair(), &key_pair())
    }

    pub fn with_keys(name: &str, seed: u8, root_key: &KeyPair, issuing_key: &KeyPair) -> Self {
        let root_params = authority(&format!("{name} root"), 1);
        let root = root_params.self_signed(root_key).unwrap();
        let issuer = Issuer::from_params(&root_params, root_key);
        let issuing = authority(&format!("{name} issuing"), 0)
            .signed_by(issuing_key, &issuer)
            .unwrap();
        Self {
            name: server(name),
            root: Bytes::copy_from_slice(root.der()),
            issuing: Bytes::copy_from_slice(issuing.der()),
            issuing_key: IssuingKey::from_pkcs8(&issuing_key.serialize_der(), &random()).unwrap(),
            envelope_key: EnvelopeKey::from_seed(&[seed; 32]).unwrap(),
        }
    }

    pub fn manifest_body(&self, serial: u64) -> ManifestBody {
        ManifestBody {
            server: self.name.clone(),
            serial,
            issued_ms: NOW_MS - DAY_MS,
            issuing_certificate: self.issuing.clone(),
            envelope_keys: vec![EnvelopeKeyEntry {
                public: *self.envelope_key.public(),
                not_before_ms: NOW_MS - DAY_MS,
                not_after_ms: NOW_MS + 89 * DAY_MS,
                revoked_ms: None,
            }],
            tls_pins: vec![Digest::of(b"current"), Digest::of(b"backup")],
            former_roots: Vec::new(),
        }
    }

    pub fn manifest_bytes(&self, serial: u64) -> Bytes {
        self.manifest_body(serial)
            .sign(&self.issuing_key, &random())
            .unwrap()
    }

    pub fn manifest(&self, serial: u64) -> Manifest {
        manifest::decode(self.manifest_bytes(serial))
            .unwrap()
            .verify(&self.name, &self.root, None, NOW_MS)
            .unwrap()
    }

    pub fn introduction(&self) -> Introduction {
        Introduction {
            server: self.name.clone(),
            versions: VersionSet::ours(),
            root: self.root.clone(),
            manifest: self.manifest_bytes(1),
            endpoints: vec![format!("{}:8448", self.name).parse().unwrap()],
            contact: format!("admin at {}", self.name),
        }
    }

    pub fn statement(&self, to: &ServerName) -> Statement {
        Statement {
            from: self.name.clone(),
            to: to.clone(),
            serial: 1,
            previous: Digest::ZERO,
            versions: VersionSet::ours(),
            root: self.root.clone(),
            manifest: self.manifest_bytes(1),
            endpoints: vec![format!("{}:8448", self.name).parse().unwrap()],
            terms: everything(),
            contact: format!("admin at {}", self.name),
            nonce: [7; 16],
            made_ms: NOW_MS,
            expires_ms: NOW_MS + 365 * DAY_MS,
        }
    }
}

pub fn authority(common_name: &str, depth: u8) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(depth));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2046, 1, 1);
    params
}

/// Terms that grant everything to everybody.
pub fn everything() -> Terms {
    let all = || {
        Operation::ALL
            .into_iter()
            .map(|operation| (operation, UserTypes::All))
            .collect()
    };
    Terms {
        outbound: all(),
        inbound: all(),
        ttl: TtlBounds {
            min_seconds: 1,
            max_seconds: 30 * 86_400,
        },
        waiting_bytes_max: 1 << 30,
        file_bytes_max: 100 << 20,
        label_max: u8::MAX,
    }
}

pub fn offer(from: &Organisation, to: &Organisation) -> Offered {
    Draft::new(from.statement(&to.name), NOW_MS + 7 * DAY_MS)
        .unwrap()
        .offer(&from.issuing_key, &random())
        .unwrap()
}

pub fn accept(offer: Offer, by: &Organisation) -> Accepted {
    let confirmed = offer.manifest().identity().fingerprint();
    let statement = by.statement(&offer.statement().from.clone());
    Accepted::accept(
        offer,
        &confirmed,
        statement,
        &by.issuing_key,
        &random(),
        NOW_MS,
    )
    .unwrap()
}

pub fn acceptance(offer: Offer, by: &Organisation) -> Acceptance {
    accept(offer, by).acceptance().clone()
}

pub fn pair() -> (Organisation, Organisation) {
    (
        Organisation::new("a.example", 1),
        Organisation::new("b.example", 2),
    )
}

pub fn fingerprint(of: &Organisation) -> Fingerprint {
    Fingerprint::of_root(&of.root)
}

/// Both sides of a finished ceremony.
pub fn active(a: &Organisation, b: &Organisation) -> (Active, Active) {
    let offered = offer(a, b);
    let accepted = accept(offered.offer().clone(), b);
    let at_a = offered
        .countersign(
            accepted.acceptance().clone(),
            &fingerprint(b),
            &a.issuing_key,
            &random(),
            NOW_MS,
        )
        .unwrap();
    let countersignature = at_a.signed().countersignature().clone();
    let at_b = accepted.activate(countersignature, NOW_MS).unwrap();
    (at_a, at_b)
}

pub fn link(origin: &Organisation, destination: &Organisation, link_epoch: u64) -> Link {
    Link {
        version: Version::V1,
        origin: origin.name.clone(),
        destination: destination.name.clone(),
        link_epoch,
    }
}

pub fn lane(n: u8) -> Lane {
    Lane::from(RoomId::from_bytes([n; 16]))
}

pub fn outgoing(lane: Lane, sequence: u64, payload: &[u8]) -> Outgoing {
    Outgoing {
        kind: Kind::Message,
        lane,
        sequence,
        created_ms: NOW_MS,
        expires_ms: NOW_MS + DAY_MS,
        payload: HashedPayload::new(Bytes::copy_from_slice(payload)),
    }
}
