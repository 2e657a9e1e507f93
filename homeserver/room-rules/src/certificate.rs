//! Device certificates, and hubs' room certificates: whom a chain vouches for, and by whose authority.
//!
//! A chain is such a certificate and its organisation's issuing CA. It is judged against the root
//! of the organisation that its *own* name claims: the server in the URI selects the anchor, so
//! one organisation's CA can never vouch for another one's people, whatever it signs.

use std::str::FromStr as _;

use federation_proto::ids::{AccountId, Address, DeviceId, Member, ServerName};
use ring::digest;
use x509_parser::der_parser::oid;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::error::Error;

mod anchors;
#[cfg(test)]
mod tests;

pub use anchors::{AnchorSet, Roots, check_handover};

/// Length of an Ed25519 public key.
const ED25519_KEY_BYTES: usize = 32;
/// Largest certificate that is looked at.
const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

/// What a valid chain says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCertificate {
    /// The device.
    pub member: Member,
    /// The address that the organisation certified beside the device's opaque name.
    pub address: Address,
    /// The device's URI, byte for byte: its MLS identity.
    pub uri: String,
    /// The certified key.
    pub public_key: Vec<u8>,
    /// The end of validity, seconds since the Unix epoch.
    pub not_after: u64,
    /// The beginning of validity, seconds since the Unix epoch.
    pub not_before: u64,
}

/// What a hub's room certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubCertificate {
    /// The hub's server name.
    pub server: ServerName,
    /// The certified key.
    pub public_key: Vec<u8>,
    /// The end of validity, seconds since the Unix epoch.
    pub not_after: u64,
    /// The beginning of validity, seconds since the Unix epoch.
    pub not_before: u64,
}

/// SHA-256 of a device certificate.
pub type CertificateHash = [u8; 32];

/// The hash of a certificate.
#[must_use]
pub fn hash(der: &[u8]) -> CertificateHash {
    let mut hash = [0; 32];
    for (to, from) in hash
        .iter_mut()
        .zip(digest::digest(&digest::SHA256, der).as_ref())
    {
        *to = *from;
    }
    hash
}

/// Whether a certificate's validity is judged, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// At this second since the Unix epoch: when a device is added.
    At(u64),
    /// Not: when a tree is imported, one stale leaf must not keep everyone else out.
    NotJudged,
}

/// Reads what a device certificate says, without judging who signed it.
///
/// # Errors
/// When it is no device's certificate.
pub fn read(der: &[u8]) -> Result<DeviceCertificate, Error> {
    let certificate = parse(der)?;
    let uri = only_uri(&certificate)?;
    let member = parse_uri(&uri)?;
    let address = only_address(&certificate)?;
    if address.server != member.server {
        return Err(refused(
            "its address and its device are of two organisations",
        ));
    }
    Ok(DeviceCertificate {
        member,
        address,
        uri,
        public_key: ed25519_key(&certificate)?,
        not_after: seconds(certificate.validity().not_after.timestamp())?,
        not_before: seconds(certificate.validity().not_before.timestamp())?,
    })
}

/// Reads what a hub's room certificate says, without judging who signed it.
///
/// # Errors
/// When it is no hub's certificate.
pub fn read_hub(der: &[u8]) -> Result<HubCertificate, Error> {
    let certificate = parse(der)?;
    Ok(HubCertificate {
        server: parse_hub_uri(&only_uri(&certificate)?)?,
        public_key: ed25519_key(&certificate)?,
        not_after: seconds(certificate.validity().not_after.timestamp())?,
        not_before: seconds(certificate.validity().not_before.timestamp())?,
    })
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Error> {
    if der.len() > CERTIFICATE_BYTES_MAX {
        return Err(refused("it is too large"));
    }
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|_| refused("it is malformed"))?;
    if rest.is_empty() {
        Ok(certificate)
    } else {
        Err(refused("bytes follow it"))
    }
}

fn ed25519_key(certificate: &X509Certificate<'_>) -> Result<Vec<u8>, Error> {
    let spki = certificate.public_key();
    let key = spki.subject_public_key.data.as_ref();
    if spki.algorithm.algorithm == oid!(1.3.101.112) && key.len() == ED25519_KEY_BYTES {
        Ok(key.to_vec())
    } else {
        Err(refused("its key is not an Ed25519 key"))
    }
}

fn seconds(timestamp: i64) -> Result<u64, Error> {
    u64::try_from(timestamp).map_err(|_| refused("its validity is before 1970"))
}

fn read_not_before(der: &[u8]) -> Result<u64, Error> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| refused("the issuing CA's is malformed"))?;
    u64::try_from(certificate.validity().not_before.timestamp())
        .map_err(|_| refused("the issuing CA's validity is before 1970"))
}

/// The certificate's one name: a URI and nothing else.
fn only_uri(certificate: &X509Certificate<'_>) -> Result<String, Error> {
    let names = certificate
        .extensions()
        .iter()
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(names),
            _ => None,
        })
        .flat_map(|names| names.general_names.iter())
        .collect::<Vec<_>>();
    match names.as_slice() {
        [GeneralName::URI(uri)] => Ok((*uri).to_owned()),
        _ => Err(refused("its names are not exactly one URI")),
    }
}

/// `entente://SERVER/account/ACCOUNT/device/DEVICE`, and no other spelling.
///
/// # Errors
/// When it is spelt in any other way.
pub fn parse_uri(uri: &str) -> Result<Member, Error> {
    let wrong = || refused("its URI does not name a device");
    let rest = uri.strip_prefix("entente://").ok_or_else(wrong)?;
    match rest.split('/').collect::<Vec<_>>().as_slice() {
        [server, "account", account, "device", device] => Ok(Member {
            server: ServerName::from_str(server).map_err(|_| wrong())?,
            account: AccountId::from_str(account).map_err(|_| wrong())?,
            device: DeviceId::from_str(device).map_err(|_| wrong())?,
        }),
        _ => Err(wrong()),
    }
}

/// The URI of a device.
#[must_use]
pub fn uri(member: &Member) -> String {
    format!(
        "entente://{}/account/{}/device/{}",
        member.server, member.account, member.device
    )
}

/// `entente://SERVER/hub`, and no other spelling.
///
/// # Errors
/// When it is spelt in any other way.
pub fn parse_hub_uri(uri: &str) -> Result<ServerName, Error> {
    let wrong = || refused("its URI does not name a hub");
    let rest = uri.strip_prefix("entente://").ok_or_else(wrong)?;
    match rest.split_once('/') {
        Some((server, "hub")) => ServerName::from_str(server).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

/// The URI of a hub.
#[must_use]
pub fn hub_uri(server: &ServerName) -> String {
    format!("entente://{server}/hub")
}

fn only_address(certificate: &X509Certificate<'_>) -> Result<Address, Error> {
    let wrong = || refused("its common name is not an address");
    let mut names = certificate.subject().iter_common_name();
    let (Some(name), None) = (names.next(), names.next()) else {
        return Err(wrong());
    };
    Address::from_str(name.as_str().map_err(|_| wrong())?).map_err(|_| wrong())
}

fn refused(reason: &str) -> Error {
    Error::Certificate(reason.to_owned())
}
