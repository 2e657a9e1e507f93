//! The certificates of an organisation, and what stands in them.
//!
//! Every key but the devices' is ECDSA P-256, so that a browser can read the chain. Names bind: a TLS
//! leaf has exactly one dNSName, a device certificate exactly one URI, and none speaks for another
//! organisation.

use federation_proto::ids::{AccountId, Address, DeviceId, ServerName};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber, SigningKey,
};
use ring::rand::SecureRandom;
use room_rules::certificate::hub_uri;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use time::{Duration, OffsetDateTime};

use super::OrganisationError;
use super::keys::IssuingCa;

/// How far back a certificate's validity starts, for verifiers whose clocks are behind.
const CLOCK_BEHIND: Duration = Duration::hours(2);
const ROOT_VALIDITY: Duration = Duration::days(20 * 365);
const ISSUING_VALIDITY: Duration = Duration::days(2 * 365);
const TLS_VALIDITY: Duration = Duration::days(90);
const HUB_VALIDITY: Duration = Duration::days(30);
pub(super) const DEVICE_VALIDITY: Duration = Duration::days(30);
/// For as long a new root may be prepared and put off.
const HANDOVER_VALIDITY: Duration = Duration::days(2 * 365);

// When the root changes, the former one vouches for as long as for devices: for the hub's last certificate under it too.
const _: () = assert!(HUB_VALIDITY.whole_days() <= DEVICE_VALIDITY.whole_days());

/// Largest certificate request that is looked at.
const REQUEST_BYTES_MAX: usize = 4096;

/// A device that asks for a certificate, after it has signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRequest {
    /// PKCS#10 (DER) for the device's Ed25519 key.
    pub csr: Vec<u8>,
    /// The account's address, certified as the common name.
    pub address: Address,
    /// The account.
    pub account: AccountId,
    /// The device.
    pub device: DeviceId,
}

/// A certificate issued to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCertificate {
    /// The certificate.
    pub der: CertificateDer<'static>,
    /// The certificate of the CA that issued it.
    pub issuing: CertificateDer<'static>,
    /// The device's Ed25519 public key.
    pub public_key: [u8; 32],
    /// The end of its validity, milliseconds since the Unix epoch.
    pub not_after_ms: u64,
}

/// What names a device in certificates.
pub(super) fn device_uri(server: &ServerName, account: AccountId, device: DeviceId) -> String {
    format!("entente://{server}/account/{account}/device/{device}")
}

/// A new root for `server`.
pub(super) fn root(
    server: &ServerName,
    key: &KeyPair,
    now_ms: u64,
    random: &dyn SecureRandom,
) -> Result<CertificateDer<'static>, OrganisationError> {
    let mut params = authority(&format!("{server} root"), BasicConstraints::Constrained(1));
    set_validity(&mut params, now_ms, ROOT_VALIDITY)?;
    params.serial_number = Some(serial(random)?);
    Ok(params.self_signed(key)?.der().clone())
}

/// An issuing CA under `root`.
pub(super) fn issuing(
    server: &ServerName,
    key: &impl PublicKeyData,
    root: &CertificateDer<'_>,
    root_key: &KeyPair,
    now_ms: u64,
    random: &dyn SecureRandom,
) -> Result<CertificateDer<'static>, OrganisationError> {
    let mut params = authority(
        &format!("{server} issuing"),
        BasicConstraints::Constrained(0),
    );
    set_validity(&mut params, now_ms, ISSUING_VALIDITY)?;
    params.serial_number = Some(serial(random)?);
    params.use_authority_key_identifier_extension = true;
    let issuer = Issuer::from_ca_cert_der(root, root_key)?;
    Ok(params.signed_by(key, &issuer)?.der().clone())
}

/// The new root, certified by the former one: its name and its key. Own devices that trust the former root alone learn
/// from it which one follows; it is shown to nobody in TLS.
pub(super) fn handover(
    new_root_key: &KeyPair,
    (root, root_key): (&CertificateDer<'_>, &KeyPair),
    server: &ServerName,
    now_ms: u64,
    random: &dyn SecureRandom,
) -> Result<CertificateDer<'static>, OrganisationError> {
    let mut params = authority(&format!("{server} root"), BasicConstraints::Constrained(1));
    set_validity(&mut params, now_ms, HANDOVER_VALIDITY)?;
    params.serial_number = Some(serial(random)?);
    params.use_authority_key_identifier_extension = true;
    let issuer = Issuer::from_ca_cert_der(root, root_key)?;
    Ok(params.signed_by(new_root_key, &issuer)?.der().clone())
}

/// A TLS certificate for the homeserver itself, as server and as client towards peers.
pub(super) fn tls_leaf(
    server: &ServerName,
    key: &KeyPair,
    issuer: &Issuer<'_, impl SigningKey>,
    now_ms: u64,
    random: &dyn SecureRandom,
) -> Result<CertificateDer<'static>, OrganisationError> {
    let mut params = leaf(server.as_str().to_owned());
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::DnsName(server.as_str().to_owned().try_into()?)];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    set_validity(&mut params, now_ms, TLS_VALIDITY)?;
    params.serial_number = Some(serial(random)?);
    Ok(params.signed_by(key, issuer)?.der().clone())
}

/// A certificate for a device: of its request only the key counts, all names are ours.
pub(super) fn device(
    request: &DeviceRequest,
    issuing: &IssuingCa,
    now_ms: u64,
    random: &dyn SecureRandom,
) -> Result<DeviceCertificate, OrganisationError> {
    let (csr, public_key) = read_request(&request.csr)?;

    let uri = device_uri(&request.address.server, request.account, request.device);
    let mut params = leaf(request.address.to_string());
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    set_validity(&mut params, now_ms, DEVICE_VALIDITY)?;
    params.serial_number = Some(serial(random)?);
    Ok(DeviceCertificate {
        der: params
            .signed_by(&csr.public_key, &issuing.issuer)?
            .der()
            .clone(),
        issuing: issuing.certificate.clone(),
        public_key,
        not_after_ms: millis(params.not_after),
    })
}

/// A room certificate for the homeserver itself: what names it as the hub of a room. Rooms keep it for life, and
/// nobody judges its dates.
pub(super) fn hub(
    server: &ServerName,
    public_key: &[u8],
    issuing: &IssuingCa,
    now_ms: u64,
    random: &dyn SecureRandom,
) -> Result<CertificateDer<'static>, OrganisationError> {
    let mut params = leaf(format!("{server} rooms"));
    params.subject_alt_names = vec![SanType::URI(hub_uri(server).try_into()?)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    set_validity(&mut params, now_ms, HUB_VALIDITY)?;
    params.serial_number = Some(serial(random)?);
    let key = Ed25519Key(public_key.to_vec());
    Ok(params.signed_by(&key, &issuing.issuer)?.der().clone())
}

struct Ed25519Key(Vec<u8>);

impl PublicKeyData for Ed25519Key {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

/// A device's certificate request, and its key.
pub(super) fn read_request(
    csr: &[u8],
) -> Result<(CertificateSigningRequestParams, [u8; 32]), OrganisationError> {
    if csr.len() > REQUEST_BYTES_MAX {
        return Err(OrganisationError::Request(format!(
            "it is larger than {REQUEST_BYTES_MAX} bytes"
        )));
    }
    // Parsing checks the request's signature too: proof that the device holds the key.
    let csr = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr))
        .map_err(|error| OrganisationError::Request(error.to_string()))?;
    let public_key: [u8; 32] = csr
        .public_key
        .der_bytes()
        .try_into()
        .ok()
        .filter(|_| PublicKeyData::algorithm(&csr.public_key) == &rcgen::PKCS_ED25519)
        .ok_or_else(|| OrganisationError::Request("its key is not Ed25519".to_owned()))?;
    Ok((csr, public_key))
}

fn authority(name: &str, constraints: BasicConstraints) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name.to_owned());
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params
}

fn leaf(name: String) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

fn common_name(name: String) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// From [`CLOCK_BEHIND`] before `now_ms`, for `validity`.
fn set_validity(
    params: &mut CertificateParams,
    now_ms: u64,
    validity: Duration,
) -> Result<(), OrganisationError> {
    // X.509 counts whole seconds.
    let seconds = i64::try_from(now_ms / 1000)
        .map_err(|_| OrganisationError::Crypto("the clock is out of range".to_owned()))?;
    let now = OffsetDateTime::from_unix_timestamp(seconds)
        .map_err(|error| OrganisationError::Crypto(error.to_string()))?;
    params.not_before = now - CLOCK_BEHIND;
    params.not_after = params.not_before + validity;
    Ok(())
}

fn millis(at: OffsetDateTime) -> u64 {
    u64::try_from(at.unix_timestamp())
        .unwrap_or(0)
        .saturating_mul(1000)
}

/// Random: a renewed certificate of the same key must not share its predecessor's number.
fn serial(random: &dyn SecureRandom) -> Result<SerialNumber, OrganisationError> {
    let mut bytes = [0_u8; 16];
    random
        .fill(&mut bytes)
        .map_err(|_| OrganisationError::Crypto("no randomness".to_owned()))?;
    // A positive integer of constant length.
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    Ok(SerialNumber::from_slice(&bytes))
}
