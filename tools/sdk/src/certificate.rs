//! Device certificates: which device a chain vouches for, and by whose authority.
//!
//! A chain is a device certificate and its organisation's issuing CA. It is judged against the root
//! of the organisation that its *own* name claims: the server in the URI selects the anchor, so
//! one organisation's CA can never vouch for another one's people, whatever it signs.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::time::Duration;

use homeserver_api::ids::{AccountId, Address, DeviceId, Member, ServerName};
use ring::digest;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, ring as algorithms};
use x509_parser::der_parser::oid;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::error::Error;

/// Length of an Ed25519 public key.
const ED25519_KEY_BYTES: usize = 32;
/// Largest certificate that is looked at.
const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

/// What a valid chain says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceCertificate {
    pub(crate) member: Member,
    /// The address that the organisation certified beside the device's opaque name.
    pub(crate) address: Address,
    /// The device's URI, byte for byte: its MLS identity.
    pub(crate) uri: String,
    /// The certified key.
    pub(crate) public_key: Vec<u8>,
    /// The end of validity, seconds since the Unix epoch.
    pub(crate) not_after: u64,
    /// The beginning of validity, seconds since the Unix epoch.
    pub(crate) not_before: u64,
}

/// SHA-256 of a device certificate.
pub(crate) type CertificateHash = [u8; 32];

/// The hash of a certificate.
pub(crate) fn hash(der: &[u8]) -> CertificateHash {
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
pub(crate) enum Validity {
    /// At this second since the Unix epoch: when a device is added.
    At(u64),
    /// Not: when a tree is imported, one stale leaf must not keep everyone else out.
    NotJudged,
}

/// The roots that device certificates must lead to, by the organisation they vouch for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AnchorSet {
    roots: BTreeMap<ServerName, Vec<u8>>,
}

impl AnchorSet {
    /// The own organisation's root alone.
    pub(crate) fn own(server: ServerName, root: Vec<u8>) -> Self {
        Self {
            roots: BTreeMap::from([(server, root)]),
        }
    }

    /// Takes over the roots that the homeserver names for other organisations. The own one's is
    /// what was pinned at enrolment and stays so. Whom the organisation has agreements with, and by
    /// which root, its administrators decide; so a peer's root that they replace is replaced here.
    pub(crate) fn replace_others(
        &mut self,
        own: &ServerName,
        others: impl IntoIterator<Item = (ServerName, Vec<u8>)>,
    ) {
        self.roots.retain(|server, _| server == own);
        for (server, root) in others {
            self.roots.entry(server).or_insert(root);
        }
    }

    /// Checks a chain and says what it vouches for.
    pub(crate) fn verify<C: AsRef<[u8]>>(
        &self,
        chain: &[C],
        validity: Validity,
    ) -> Result<DeviceCertificate, Error> {
        let [leaf, issuing] = chain else {
            return Err(refused(
                "a chain is a device certificate and its issuing CA",
            ));
        };
        let device = read(leaf.as_ref())?;
        let root = self
            .roots
            .get(&device.member.server)
            .ok_or_else(|| Error::UnknownOrganisation(device.member.server.clone()))?;
        let root = CertificateDer::from(root.as_slice());
        let anchor = anchor_from_trusted_cert(&root)
            .map_err(|_| refused("the organisation's root is not a certificate"))?;
        let leaf = CertificateDer::from(leaf.as_ref());
        let certificate = EndEntityCert::try_from(&leaf).map_err(|_| refused("it is malformed"))?;
        let seconds = match validity {
            Validity::At(seconds) => seconds,
            // A moment at which it was valid, so that everything but the dates is judged.
            Validity::NotJudged => device.not_before.max(read_not_before(issuing.as_ref())?),
        };
        certificate
            .verify_for_usage(
                &[algorithms::ECDSA_P256_SHA256],
                &[anchor],
                &[CertificateDer::from(issuing.as_ref())],
                UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
                KeyUsage::client_auth(),
                None,
                None,
            )
            .map_err(|error| match error {
                webpki::Error::CertExpired { .. } => refused("it has expired"),
                webpki::Error::CertNotValidYet { .. } => refused("it is not valid yet"),
                _ => refused(&format!(
                    "it does not lead to the root of {}",
                    device.member.server
                )),
            })?;
        Ok(device)
    }
}

/// Reads what a device certificate says, without judging who signed it.
pub(crate) fn read(der: &[u8]) -> Result<DeviceCertificate, Error> {
    if der.len() > CERTIFICATE_BYTES_MAX {
        return Err(refused("it is too large"));
    }
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|_| refused("it is malformed"))?;
    if !rest.is_empty() {
        return Err(refused("bytes follow it"));
    }
    let uri = only_uri(&certificate)?;
    let member = parse_uri(&uri)?;
    let address = only_address(&certificate)?;
    if address.server != member.server {
        return Err(refused(
            "its address and its device are of two organisations",
        ));
    }
    let spki = certificate.public_key();
    if spki.algorithm.algorithm != oid!(1.3.101.112) {
        return Err(refused("its key is not an Ed25519 key"));
    }
    let public_key = spki.subject_public_key.data.to_vec();
    if public_key.len() != ED25519_KEY_BYTES {
        return Err(refused("its key is not an Ed25519 key"));
    }
    let seconds = |timestamp: i64| {
        u64::try_from(timestamp).map_err(|_| refused("its validity is before 1970"))
    };
    Ok(DeviceCertificate {
        member,
        address,
        uri,
        public_key,
        not_after: seconds(certificate.validity().not_after.timestamp())?,
        not_before: seconds(certificate.validity().not_before.timestamp())?,
    })
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
fn parse_uri(uri: &str) -> Result<Member, Error> {
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
#[cfg(test)]
pub(crate) fn uri(member: &Member) -> String {
    format!(
        "entente://{}/account/{}/device/{}",
        member.server, member.account, member.device
    )
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
