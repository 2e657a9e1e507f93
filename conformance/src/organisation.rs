//! A peer's organisation made for one run: certificates right and wrong, and its envelope key.

use std::sync::{Arc, OnceLock};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SanType,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::failure::{Failure, Result};
use crate::transaction::sha256;
use crate::wire::Encoder;

/// What an issuing key signs for a manifest starts with this.
const MANIFEST_LABEL: &[u8] = b"entente manifest";
/// Validity of an envelope key, in milliseconds.
const KEY_VALIDITY_MS: u64 = 90 * 86_400_000;
/// How far back validity starts, for a server whose clock is behind.
const CLOCK_BEHIND_MS: u64 = 3_600_000;

/// A certificate with its key, and the certificates to send along.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
    /// SHA-256 of the public key as certificates state it.
    pub(crate) pin: [u8; 32],
}

impl Identity {
    /// The private key, for rustls.
    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.clone()))
    }
}

/// The certificates of a device, or of a hub in its rooms, its own first, and the key that they are for.
pub(crate) struct DeviceIdentity {
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) key: Ed25519KeyPair,
    /// The private key, from which the other MLS stack makes its own form of it.
    pub(crate) seed: [u8; 32],
}

impl DeviceIdentity {
    /// The same once more: what is put up afresh has the same key and certificates.
    pub(crate) fn copied(&self) -> Result<Self> {
        Ok(Self {
            chain: self.chain.clone(),
            key: Ed25519KeyPair::from_seed_unchecked(&self.seed)
                .map_err(|_| Failure::Randomness)?,
            seed: self.seed,
        })
    }
}

/// What stands before the seed of an Ed25519 key in PKCS #8 (RFC 8410, section 7).
const ED25519_PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// An organisation.
pub(crate) struct Organisation {
    pub(crate) name: String,
    pub(crate) root: CertificateDer<'static>,
    pub(crate) issuing: CertificateDer<'static>,
    issuing_key: KeyPair,
    first_manifest: OnceLock<Vec<u8>>,
    /// Signs transactions.
    pub(crate) envelope_key: Arc<Ed25519KeyPair>,
    /// What it connects with.
    pub(crate) tls: Identity,
}

impl Organisation {
    /// A new one.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let root_key = new_key()?;
        let mut params = authority(&format!("{name} root"), 1);
        let root = params
            .self_signed(&root_key)
            .map_err(Failure::certificate)?
            .der()
            .clone();
        let issuing_key = new_key()?;
        params = authority(&format!("{name} issuing"), 0);
        let root_issuer =
            Issuer::from_ca_cert_der(&root, &root_key).map_err(Failure::certificate)?;
        let issuing = params
            .signed_by(&issuing_key, &root_issuer)
            .map_err(Failure::certificate)?
            .der()
            .clone();
        let envelope_key = new_envelope_key()?;
        let tls = leaf(&issuing, &issuing_key, &[dns(name)?], None)?;
        Ok(Self {
            name: name.to_owned(),
            root,
            issuing,
            issuing_key,
            first_manifest: OnceLock::new(),
            envelope_key: Arc::new(envelope_key),
            tls,
        })
    }

    /// A certificate with these names, under a new key.
    pub(crate) fn certificate(
        &self,
        names: &[SanType],
        common_name: Option<&str>,
    ) -> Result<Identity> {
        leaf(&self.issuing, &self.issuing_key, names, common_name)
    }

    /// A device of somebody with this handle, under a new key.
    pub(crate) fn device(
        &self,
        handle: &str,
        account: &[u8; 16],
        device: &[u8; 16],
    ) -> Result<DeviceIdentity> {
        let (account, device) = (hex::encode(account), hex::encode(device));
        let uri = format!("entente://{}/account/{account}/device/{device}", self.name);
        let common_name = format!("{handle}@{}", self.name);
        let usage = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.certified(&uri, Some(&common_name), usage)
    }

    /// What names this organisation's homeserver as the hub of a room.
    pub(crate) fn hub(&self) -> Result<DeviceIdentity> {
        self.certified(&format!("entente://{}/hub", self.name), None, Vec::new())
    }

    /// An Ed25519 key, certified for this URI.
    fn certified(
        &self,
        uri: &str,
        common_name: Option<&str>,
        usage: Vec<ExtendedKeyUsagePurpose>,
    ) -> Result<DeviceIdentity> {
        let seed = new_seed()?;
        let pkcs8 = PrivatePkcs8KeyDer::from([&ED25519_PKCS8[..], &seed].concat());
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ED25519)
            .map_err(Failure::certificate)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name.map_or_else(DistinguishedName::new, named);
        params.subject_alt_names =
            vec![SanType::URI(uri.try_into().map_err(Failure::certificate)?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usage;
        let issuer = Issuer::from_ca_cert_der(&self.issuing, &self.issuing_key)
            .map_err(Failure::certificate)?;
        let certificate = params
            .signed_by(&key, &issuer)
            .map_err(Failure::certificate)?;
        let chain = vec![certificate.der().to_vec(), self.issuing.to_vec()];
        let key = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| Failure::Randomness)?;
        Ok(DeviceIdentity { chain, key, seed })
    }

    /// Signs with the issuing CA's key.
    #[expect(clippy::disallowed_methods, reason = "signatures are drawn here")]
    pub(crate) fn sign(&self, label: &[u8], body: &[u8]) -> Result<Vec<u8>> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_ASN1_SIGNING,
            self.issuing_key.serialized_der(),
            &random,
        )
        .map_err(|_| Failure::Randomness)?;
        let signed = Encoder::new().vector(1, label).fixed(body).finish();
        Ok(key
            .sign(&random, &signed)
            .map_err(|_| Failure::Randomness)?
            .as_ref()
            .to_vec())
    }

    /// The first key manifest: one envelope key, one TLS key. There is one alone with its serial, made when it is first
    /// asked for.
    pub(crate) fn manifest(&self, now_ms: u64) -> Result<Vec<u8>> {
        if let Some(made) = self.first_manifest.get() {
            return Ok(made.clone());
        }
        let made = self.manifest_of(1, &[&self.envelope_key], now_ms)?;
        Ok(self.first_manifest.get_or_init(|| made).clone())
    }

    /// A key manifest with this serial and these envelope keys.
    pub(crate) fn manifest_of(
        &self,
        serial: u64,
        keys: &[&Ed25519KeyPair],
        now_ms: u64,
    ) -> Result<Vec<u8>> {
        let mut keys = keys.to_vec();
        // A set: strictly ascending.
        keys.sort_by(|a, b| a.public_key().as_ref().cmp(b.public_key().as_ref()));
        let key = keys
            .iter()
            .fold(Encoder::new(), |list, key| {
                list.fixed(key.public_key().as_ref())
                    .u64(now_ms.saturating_sub(CLOCK_BEHIND_MS))
                    .u64(now_ms.saturating_add(KEY_VALIDITY_MS))
            })
            .finish();
        let body = Encoder::new()
            .u16(1)
            .vector(1, self.name.as_bytes())
            .u64(serial)
            .u64(now_ms)
            .vector(2, &self.issuing)
            .vector(4, &key)
            .vector(4, &self.tls.pin)
            .finish();
        let signature = self.sign(MANIFEST_LABEL, &body)?;
        Ok(Encoder::new().fixed(&body).vector(1, &signature).finish())
    }
}

/// A dNSName.
pub(crate) fn dns(name: &str) -> Result<SanType> {
    Ok(SanType::DnsName(
        name.to_owned().try_into().map_err(Failure::certificate)?,
    ))
}

/// A new key to sign transactions with.
pub(crate) fn new_envelope_key() -> Result<Ed25519KeyPair> {
    Ed25519KeyPair::from_seed_unchecked(&new_seed()?).map_err(|_| Failure::Randomness)
}

#[expect(clippy::disallowed_methods, reason = "keys are drawn here")]
fn new_seed() -> Result<[u8; 32]> {
    let mut seed = [0; 32];
    SystemRandom::new()
        .fill(&mut seed)
        .map_err(|_| Failure::Randomness)?;
    Ok(seed)
}

fn new_key() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Failure::certificate)
}

fn authority(name: &str, depth: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(depth));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

fn leaf(
    issuing: &CertificateDer<'static>,
    issuing_key: &KeyPair,
    names: &[SanType],
    common_name: Option<&str>,
) -> Result<Identity> {
    let key = new_key()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name.map_or_else(DistinguishedName::new, named);
    params.subject_alt_names = names.to_vec();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    let issuer = Issuer::from_ca_cert_der(issuing, issuing_key).map_err(Failure::certificate)?;
    let certificate = params
        .signed_by(&key, &issuer)
        .map_err(Failure::certificate)?
        .der()
        .clone();
    let pin = sha256(&rcgen::PublicKeyData::subject_public_key_info(&key));
    Ok(Identity {
        chain: vec![certificate, issuing.clone()],
        key: key.serialize_der(),
        pin,
    })
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
