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

    /// The root of an organisation.
    pub(crate) fn root(&self, server: &ServerName) -> Result<&[u8], Error> {
        self.roots
            .get(server)
            .map(Vec::as_slice)
            .ok_or_else(|| Error::UnknownOrganisation(server.clone()))
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
pub(crate) fn parse_uri(uri: &str) -> Result<Member, Error> {
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

#[cfg(test)]
mod tests {
    use rcgen::SanType;

    use super::*;
    use crate::testing::{Dates, Organisation, leaf};

    const KEY: [u8; 32] = [9; 32];
    const NOW: u64 = 1_790_000_000;
    const DATES: Dates = Dates {
        not_before: NOW - 7200,
        not_after: NOW + 86_400,
    };

    fn member(server: &str) -> Member {
        Member {
            server: server.parse().unwrap(),
            account: AccountId::from_bytes([1; 16]),
            device: DeviceId::from_bytes([2; 16]),
        }
    }

    fn anchors(organisations: &[&Organisation]) -> AnchorSet {
        let [own, others @ ..] = organisations else {
            panic!("an own organisation");
        };
        let mut anchors = AnchorSet::own(own.server.clone(), own.root.clone());
        anchors.replace_others(
            &own.server,
            others.iter().map(|o| (o.server.clone(), o.root.clone())),
        );
        anchors
    }

    fn reason(outcome: Result<DeviceCertificate, Error>) -> String {
        outcome.unwrap_err().to_string()
    }

    /// Goal: an organisation vouches for its own people: device, address, key and dates are read.
    #[test]
    fn own_people() {
        let b = Organisation::new("b.example");
        let uri = uri(&member("b.example"));
        let chain = b.sign(leaf(&uri, "bob@b.example", DATES), &KEY);
        let device = anchors(&[&b]).verify(&chain, Validity::At(NOW)).unwrap();
        assert_eq!(device.member, member("b.example"));
        assert_eq!(device.address.to_string(), "bob@b.example");
        assert_eq!(device.uri, uri);
        assert_eq!(device.public_key, KEY);
        assert_eq!(device.not_after, DATES.not_after);
    }

    /// Goal: A's CA can never vouch for bob@b, though A's root is trusted for A's own people. Method:
    /// A signs a perfect certificate for Bob; the same content signed by B is accepted.
    #[test]
    fn nobody_vouches_for_others() {
        let (a, b) = (
            Organisation::new("a.example"),
            Organisation::new("b.example"),
        );
        let anchors = anchors(&[&a, &b]);
        let bob = || leaf(&uri(&member("b.example")), "bob@b.example", DATES);
        let by_a = anchors.verify(&a.sign(bob(), &KEY), Validity::At(NOW));
        assert!(reason(by_a).contains("does not lead to the root of b.example"));
        assert!(
            anchors
                .verify(&b.sign(bob(), &KEY), Validity::At(NOW))
                .is_ok()
        );
        // Not under an address of another organisation either.
        let mixed = leaf(&uri(&member("a.example")), "bob@b.example", DATES);
        let mixed = anchors.verify(&a.sign(mixed, &KEY), Validity::At(NOW));
        assert!(reason(mixed).contains("two organisations"));
        // And a homeserver can't replace the own root.
        let mut replaced = anchors.clone();
        replaced.replace_others(&a.server, [(a.server.clone(), b.root.clone())]);
        let alice = leaf(&uri(&member("a.example")), "alice@a.example", DATES);
        assert!(
            replaced
                .verify(&a.sign(alice, &KEY), Validity::At(NOW))
                .is_ok()
        );
        let unknown = replaced.verify(&b.sign(bob(), &KEY), Validity::At(NOW));
        assert_eq!(unknown, Err(Error::UnknownOrganisation(b.server)));
    }

    /// Goal: exactly one name, a device's URI in its one spelling, and nothing beside it.
    #[test]
    fn names() {
        let a = Organisation::new("a.example");
        let anchors = anchors(&[&a]);
        let good = uri(&member("a.example"));
        let verify = |leaf| anchors.verify(&a.sign(leaf, &KEY), Validity::At(NOW));
        let named = |uri: &str| leaf(uri, "alice@a.example", DATES);
        assert!(verify(named(&good)).is_ok());
        for bad in [
            good.replace("entente", "https"),
            good.replace("a.example", "A.example"),
            good.to_uppercase(),
            format!("{good}/"),
            format!("{good}?x"),
            good.replace("/account/", "/accounts/"),
            good.replace("01", "1"),
            good.replacen("entente://", "entente://user@", 1),
            good.replace("a.example", "a.example:443"),
        ] {
            assert!(verify(named(&bad)).is_err(), "{bad}");
        }
        let second = |name: SanType| {
            let mut leaf = named(&good);
            leaf.params.subject_alt_names.push(name);
            leaf
        };
        let other = SanType::URI(uri(&member("b.example")).try_into().unwrap());
        let dns = SanType::DnsName("a.example".try_into().unwrap());
        for name in [other, dns] {
            let refused = verify(second(name));
            assert!(reason(refused).contains("exactly one URI"));
        }
        let mut none = named(&good);
        none.params.subject_alt_names.clear();
        assert!(verify(none).is_err());
        assert!(verify(leaf(&good, "alice", DATES)).is_err());
        let mut server = named(&good);
        server.params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        assert!(verify(server).is_err(), "for TLS servers only");
    }

    /// Goal: dates are judged when they are to be judged, and only then.
    #[test]
    fn dates() {
        let a = Organisation::new("a.example");
        let anchors = anchors(&[&a]);
        let uri = uri(&member("a.example"));
        let chain = a.sign(leaf(&uri, "alice@a.example", DATES), &KEY);
        let late = anchors.verify(&chain, Validity::At(DATES.not_after + 1));
        assert!(reason(late).contains("expired"));
        let early = anchors.verify(&chain, Validity::At(DATES.not_before - 1));
        assert!(reason(early).contains("not valid yet"));
        assert!(anchors.verify(&chain, Validity::NotJudged).is_ok());
    }

    /// Goal: a chain is two certificates in their order; a device certificate signs nothing.
    #[test]
    fn chains() {
        let a = Organisation::new("a.example");
        let anchors = anchors(&[&a]);
        let uri = uri(&member("a.example"));
        let chain = a.sign(leaf(&uri, "alice@a.example", DATES), &KEY);
        let verify = |chain: &[Vec<u8>]| anchors.verify(chain, Validity::At(NOW));
        assert!(verify(&chain).is_ok());
        assert!(verify(&chain[..1]).is_err());
        assert!(verify(&[chain[1].clone(), chain[0].clone()]).is_err());
        assert!(verify(&[chain[0].clone(), chain[0].clone()]).is_err());
        assert!(verify(&[chain[0].clone(), a.root.clone()]).is_err());
        let mut longer = chain.clone();
        longer.push(a.root.clone());
        assert!(verify(&longer).is_err());
        let mut changed = chain.clone();
        let last = changed[0].len() - 1;
        changed[0][last] ^= 1;
        assert!(verify(&changed).is_err());
    }

    proptest::proptest! {
        /// Goal: no bytes make the readers panic.
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(0_u8.., 0..600), text in ".{0,120}") {
            let _ = read(&bytes);
            let _ = read_not_before(&bytes);
            let _ = parse_uri(&text);
            let _ = parse_uri(&format!("entente://{text}"));
        }
    }
}
