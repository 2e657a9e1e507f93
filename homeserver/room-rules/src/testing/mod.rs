//! An organisation's root and issuing CA, as a homeserver keeps them, for tests.

pub mod hostile;
pub mod mls;

use std::collections::BTreeSet;

use bytes::Bytes;
use federation_proto::ids::{Address, Member, RoomId, ServerName};
use federation_proto::keys::IssuingKey;
use federation_proto::limits::{ROOM_CONSENT_MS_MAX, ROOM_EPOCHS_MAX};
use federation_proto::room_consent::{RoomConsent, SignedRoomConsent, Span};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use ring::rand::SystemRandom;

use crate::{RoomKey, certificate};

/// Seconds of a certificate's validity.
#[derive(Debug, Clone, Copy)]
pub struct Dates {
    pub not_before: u64,
    pub not_after: u64,
}

/// What an organisation without any rules of its own consents to.
pub fn widest_consent(
    room: RoomId,
    server: &ServerName,
    domains: BTreeSet<ServerName>,
    now_ms: u64,
) -> RoomConsent {
    RoomConsent {
        room,
        server: server.clone(),
        domains,
        ttl: Span {
            min_seconds: 1,
            max_seconds: u32::MAX,
        },
        burn: Span {
            min_seconds: 0,
            max_seconds: u32::MAX,
        },
        label_max: u8::MAX,
        retained_epochs: ROOM_EPOCHS_MAX,
        recorder: None,
        serial: now_ms,
        expires_ms: now_ms + ROOM_CONSENT_MS_MAX,
    }
}

pub struct Organisation {
    pub server: ServerName,
    pub root: Vec<u8>,
    issuing: Vec<u8>,
    issuing_key: KeyPair,
    issuing_params: CertificateParams,
    root_key: KeyPair,
}

/// What stands in a device certificate; tests change it to what must not stand there.
pub struct Leaf {
    pub params: CertificateParams,
}

const EPOCH: Dates = Dates {
    not_before: 1_700_000_000,
    not_after: 2_000_000_000,
};

impl Organisation {
    pub fn new(server: &str) -> Self {
        let root_key = KeyPair::generate().unwrap();
        let root_params = authority(&format!("{server} root"), 1);
        let root = root_params.self_signed(&root_key).unwrap();
        let issuing_key = KeyPair::generate().unwrap();
        let issuing_params = authority(&format!("{server} issuing"), 0);
        let issuing = issuing_params
            .signed_by(&issuing_key, &Issuer::from_params(&root_params, &root_key))
            .unwrap();
        Self {
            server: server.parse().unwrap(),
            root: root.der().to_vec(),
            issuing: issuing.der().to_vec(),
            issuing_key,
            issuing_params,
            root_key,
        }
    }

    /// The same organisation under another root, and that root as this one certifies it.
    pub fn successor(&self) -> (Self, Vec<u8>) {
        self.successor_named(self.server.as_str())
    }

    /// An organisation of any name, and its root as this one certifies it.
    pub fn successor_named(&self, server: &str) -> (Self, Vec<u8>) {
        let next = Self::new(server);
        let own = authority(&format!("{} root", self.server), 1);
        let handover = authority(&format!("{server} root"), 1)
            .signed_by(&next.root_key, &Issuer::from_params(&own, &self.root_key))
            .unwrap();
        (next, handover.der().to_vec())
    }

    /// A chain for a device, valid from two hours before `now_ms` for thirty days.
    pub fn issue(
        &self,
        member: &Member,
        address: &Address,
        public_key: &[u8],
        now_ms: u64,
    ) -> Vec<Vec<u8>> {
        let from = now_ms / 1000 - 7200;
        self.sign(
            leaf(
                &certificate::uri(member),
                &address.to_string(),
                Dates {
                    not_before: from,
                    not_after: from + 30 * 86_400,
                },
            ),
            public_key,
        )
    }

    /// The room certificate of its homeserver for this key, with the issuing CA's.
    pub fn hub(&self, public_key: &[u8]) -> Vec<Vec<u8>> {
        self.sign(
            leaf(&certificate::hub_uri(&self.server), "", EPOCH),
            public_key,
        )
    }

    /// The key of its homeserver for rooms.
    pub fn room_key(&self) -> RoomKey {
        RoomKey::from_seed(&[42; 32]).unwrap()
    }

    /// The room certificate for that key, with the issuing CA's.
    pub fn hub_chain(&self) -> Vec<Vec<u8>> {
        self.hub(self.room_key().public())
    }

    /// Its consent to a room with these organisations, as wide as can be.
    pub fn consent(&self, room: RoomId, domains: &[&str], now_ms: u64) -> RoomConsent {
        let mut domains: BTreeSet<ServerName> =
            domains.iter().map(|name| name.parse().unwrap()).collect();
        domains.insert(self.server.clone());
        widest_consent(room, &self.server, domains, now_ms)
    }

    /// Its signature over a consent, whosever that is.
    #[expect(clippy::disallowed_methods, reason = "a test's own randomness")]
    pub fn consents(&self, consent: RoomConsent) -> SignedRoomConsent {
        let random = SystemRandom::new();
        let key = IssuingKey::from_pkcs8(&self.issuing_key.serialize_der(), &random).unwrap();
        let issuing = Bytes::copy_from_slice(&self.issuing);
        consent.sign(issuing, &key, &random).unwrap()
    }

    /// Signs whatever it is given.
    pub fn sign(&self, leaf: Leaf, public_key: &[u8]) -> Vec<Vec<u8>> {
        let spki = Subject(public_key.to_vec());
        let issuer = Issuer::from_params(&self.issuing_params, &self.issuing_key);
        let certificate = leaf.params.signed_by(&spki, &issuer).unwrap();
        vec![certificate.der().to_vec(), self.issuing.clone()]
    }

    /// A TLS certificate for the homeserver: its chain with the root, and its key.
    pub fn tls(&self, name: &str) -> (Vec<Vec<u8>>, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        set_dates(&mut params, EPOCH);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let issuer = Issuer::from_params(&self.issuing_params, &self.issuing_key);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        (
            vec![
                certificate.der().to_vec(),
                self.issuing.clone(),
                self.root.clone(),
            ],
            key.serialize_der(),
        )
    }

    /// The issuing CA's certificate and its private key (PKCS#8).
    pub fn issuing(&self) -> (Vec<u8>, Vec<u8>) {
        (self.issuing.clone(), self.issuing_key.serialize_der())
    }

    /// SHA-256 of the root, in hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        hex::encode(certificate::hash(&self.root))
    }
}

/// A device certificate's content.
pub fn leaf(uri: &str, name: &str, dates: Dates) -> Leaf {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    set_dates(&mut params, dates);
    Leaf { params }
}

fn authority(name: &str, path_length: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params.use_authority_key_identifier_extension = path_length == 0;
    set_dates(&mut params, EPOCH);
    params
}

fn set_dates(params: &mut CertificateParams, dates: Dates) {
    let at = |seconds: u64| {
        let days = seconds / 86_400;
        let base = rcgen::date_time_ymd(1970, 1, 1);
        base + std::time::Duration::from_secs(days * 86_400 + seconds % 86_400)
    };
    params.not_before = at(dates.not_before);
    params.not_after = at(dates.not_after);
}

struct Subject(Vec<u8>);

impl rcgen::PublicKeyData for Subject {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}
