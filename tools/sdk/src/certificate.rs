//! Device certificates: which device a chain vouches for, and by whose authority.
//!
//! A chain is a device certificate and its organisation's issuing CA. It is judged against the root
//! of the organisation that its *own* name claims: the server in the URI selects the anchor, so
//! one organisation's CA can never vouch for another one's people, whatever it signs.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::time::Duration;

use homeserver_api::client::Anchor;
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
/// Most former roots of one organisation.
const FORMER_ROOTS_MAX: usize = 2;

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

/// The roots of one organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Roots {
    root: Vec<u8>,
    former: Vec<FormerRoot>,
}

/// A root that an organisation had before. It vouches for device certificates that end no later than then: for none
/// that is issued after that, and still for those in a room's tree, whose dates nobody judges again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FormerRoot {
    root: Vec<u8>,
    until_ms: u64,
}

impl From<Vec<u8>> for Roots {
    fn from(root: Vec<u8>) -> Self {
        Self {
            root,
            former: Vec::new(),
        }
    }
}

impl Roots {
    /// As a homeserver names them. Of former ones only the latest are kept.
    pub(crate) fn of(anchor: &Anchor) -> Self {
        let mut former: Vec<_> = anchor
            .former
            .iter()
            .map(|former| FormerRoot {
                root: former.root.0.clone(),
                until_ms: former.until_ms,
            })
            .collect();
        former.sort_unstable_by_key(|former| std::cmp::Reverse(former.until_ms));
        former.truncate(FORMER_ROOTS_MAX);
        Self {
            root: anchor.root.0.clone(),
            former,
        }
    }

    /// The roots that may vouch for a device certificate that ends then, seconds since the Unix epoch.
    fn for_end(&self, not_after: u64) -> impl Iterator<Item = &[u8]> {
        let ends_ms = not_after.saturating_mul(1000);
        let former = self.former.iter();
        let former = former.filter(move |former| ends_ms <= former.until_ms);
        std::iter::once(self.root.as_slice()).chain(former.map(|former| former.root.as_slice()))
    }
}

/// The roots that device certificates must lead to, by the organisation they vouch for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AnchorSet {
    roots: BTreeMap<ServerName, Roots>,
}

impl AnchorSet {
    /// The own organisation's root alone.
    pub(crate) fn own(server: ServerName, root: Vec<u8>) -> Self {
        Self {
            roots: BTreeMap::from([(server, root.into())]),
        }
    }

    /// Takes over the own organisation's roots. The root that was pinned at enrolment gives way to one that it has
    /// signed for itself, and to no other; returns whether it did.
    pub(crate) fn take_own(&mut self, anchor: &Anchor, now_ms: u64) -> Result<bool, Error> {
        let new = Roots::of(anchor);
        let present = self.roots.get(&anchor.server).map(|roots| &roots.root);
        let changes = present.is_some_and(|present| *present != new.root);
        if let Some(present) = present.filter(|_| changes) {
            let handover = anchor.handover.as_ref().map_or(&[][..], |der| &der.0);
            check_handover(present, &new.root, handover, now_ms / 1000)?;
        }
        self.roots.insert(anchor.server.clone(), new);
        Ok(changes)
    }

    /// Takes over the roots that the homeserver names for other organisations. The own one's stay. Whom the organisation has agreements with, and by
    /// which root, its administrators decide; so a peer's root that they replace is replaced here.
    pub(crate) fn replace_others(
        &mut self,
        own: &ServerName,
        others: impl IntoIterator<Item = (ServerName, Roots)>,
    ) {
        self.roots.retain(|server, _| server == own);
        for (server, roots) in others {
            self.roots.entry(server).or_insert(roots);
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
        let roots = self
            .roots
            .get(&device.member.server)
            .ok_or_else(|| Error::UnknownOrganisation(device.member.server.clone()))?;
        let mut refused = Error::UnknownRoot(device.member.server.clone());
        for root in roots.for_end(device.not_after) {
            match leads_to(root, leaf.as_ref(), issuing.as_ref(), &device, validity) {
                Ok(()) => return Ok(device),
                // Another root may have signed it.
                Err(Error::UnknownRoot(_)) => {}
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}

/// Whether a device's chain leads to this root.
fn leads_to(
    root: &[u8],
    leaf: &[u8],
    issuing: &[u8],
    device: &DeviceCertificate,
    validity: Validity,
) -> Result<(), Error> {
    let root = CertificateDer::from(root);
    let anchor = anchor_from_trusted_cert(&root)
        .map_err(|_| refused("the organisation's root is not a certificate"))?;
    let leaf = CertificateDer::from(leaf);
    let certificate = EndEntityCert::try_from(&leaf).map_err(|_| refused("it is malformed"))?;
    let seconds = match validity {
        Validity::At(seconds) => seconds,
        // A moment at which it was valid, so that everything but the dates is judged.
        Validity::NotJudged => device.not_before.max(read_not_before(issuing)?),
    };
    certificate
        .verify_for_usage(
            &[algorithms::ECDSA_P256_SHA256],
            &[anchor],
            &[CertificateDer::from(issuing)],
            UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            KeyUsage::client_auth(),
            None,
            None,
        )
        .map(drop)
        .map_err(|error| match error {
            webpki::Error::CertExpired { .. } => refused("it has expired"),
            webpki::Error::CertNotValidYet { .. } => refused("it is not valid yet"),
            _ => Error::UnknownRoot(device.member.server.clone()),
        })
}

/// Checks that the root `former` has signed for the root `new`: a CA certificate of the same name and key, by the key
/// of the former one, valid at this second since the Unix epoch.
pub(crate) fn check_handover(
    former: &[u8],
    new: &[u8],
    handover: &[u8],
    seconds: u64,
) -> Result<(), Error> {
    let wrong = || {
        Error::Untrusted(
            "it names another root of the organisation, which the one that this device trusts has not signed for"
                .to_owned(),
        )
    };
    let parse = |der| match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(wrong()),
    };
    let (former, new, handover) = (parse(former)?, parse(new)?, parse(handover)?);
    let names = [
        new.subject(),
        new.issuer(),
        handover.subject(),
        handover.issuer(),
    ];
    let one_name = names
        .iter()
        .all(|name| name.as_raw() == former.subject().as_raw());
    let one_key = handover.public_key().raw == new.public_key().raw;
    let at = i64::try_from(seconds).unwrap_or(i64::MAX);
    let validity = handover.validity();
    let in_time = (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&at);
    let signed = handover.is_ca()
        && new.is_ca()
        && handover.verify_signature(Some(former.public_key())).is_ok()
        && new.verify_signature(None).is_ok();
    if one_name && one_key && in_time && signed {
        Ok(())
    } else {
        Err(wrong())
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
    use homeserver_api::client::FormerAnchor;
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
            others
                .iter()
                .map(|o| (o.server.clone(), o.root.clone().into())),
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
        replaced.replace_others(&a.server, [(a.server.clone(), b.root.clone().into())]);
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

    fn anchor(organisation: &Organisation, former: &[(&Organisation, u64)]) -> Anchor {
        let former = former.iter().map(|(of, until)| FormerAnchor {
            root: of.root.clone().into(),
            until_ms: until * 1000,
        });
        Anchor {
            server: organisation.server.clone(),
            root: organisation.root.clone().into(),
            former: former.collect(),
            handover: None,
        }
    }

    /// Goal: a former root vouches for certificates that end by its end, also long afterwards where dates are not
    /// judged, and for none that ends later; the new root vouches at once. Method: a peer that changes its root.
    #[test]
    fn former_roots() {
        let (a, b) = (
            Organisation::new("a.example"),
            Organisation::new("b.example"),
        );
        let (next, _) = b.successor();
        let mut anchors = anchors(&[&a]);
        let until = DATES.not_after;
        let named = Roots::of(&anchor(&next, &[(&b, until)]));
        anchors.replace_others(&a.server, [(b.server.clone(), named)]);
        let uri = uri(&member("b.example"));
        let chain = |by: &Organisation, dates| by.sign(leaf(&uri, "bob@b.example", dates), &KEY);
        let later = Dates {
            not_after: until + 1,
            ..DATES
        };
        for (by, dates, good) in [(&b, DATES, true), (&b, later, false), (&next, later, true)] {
            let judged = anchors.verify(&chain(by, dates), Validity::At(NOW));
            assert_eq!(judged.is_ok(), good, "{judged:?}");
            let imported = anchors.verify(&chain(by, dates), Validity::NotJudged);
            assert_eq!(imported.is_ok(), good, "{imported:?}");
        }
        let stranger = Organisation::new("b.example");
        let refused = anchors.verify(&chain(&stranger, DATES), Validity::At(NOW));
        assert_eq!(refused, Err(Error::UnknownRoot(b.server.clone())));
        let ended = anchors.verify(&chain(&b, DATES), Validity::At(until + 1));
        assert!(reason(ended).contains("expired"), "not: of an unknown root");
    }

    /// Goal: the own root gives way to one that it has signed for, and to no other. Method: a handover to it, none, one
    /// by another root, one for another key, one for another organisation, one of another time, and damaged ones.
    #[test]
    fn the_own_root_follows_a_handover() {
        let a = Organisation::new("a.example");
        let (next, handover) = a.successor();
        let with = |root: &Organisation, handover: &[u8]| Anchor {
            handover: Some(handover.to_vec().into()),
            ..anchor(root, &[(&a, NOW)])
        };
        let take = |anchor: &Anchor, at| {
            let mut anchors = anchors(&[&a]);
            let before = anchors.clone();
            let taken = anchors.take_own(anchor, at * 1000);
            assert_eq!(anchors == before, taken.is_err());
            taken
        };
        assert_eq!(take(&with(&next, &handover), NOW), Ok(true));
        assert_eq!(
            take(&anchor(&a, &[(&next, NOW)]), NOW),
            Ok(false),
            "the same root"
        );
        assert!(take(&anchor(&next, &[]), NOW).is_err(), "none");
        let other = Organisation::new("a.example");
        let (others_next, by_other) = other.successor();
        assert!(take(&with(&next, &by_other), NOW).is_err(), "another key");
        assert!(
            take(&with(&others_next, &by_other), NOW).is_err(),
            "another root's"
        );
        assert!(
            take(&with(&other, &handover), NOW).is_err(),
            "for another root"
        );
        assert!(
            take(&with(&next, &handover), 1_600_000_000).is_err(),
            "too early"
        );
        let (elsewhere, for_b) = a.successor_named("b.example");
        assert!(
            take(&with(&elsewhere, &for_b), NOW).is_err(),
            "another organisation's"
        );
        for at in 0..handover.len() {
            let mut damaged = handover.clone();
            damaged[at] ^= 1;
            assert!(take(&with(&next, &damaged), NOW).is_err(), "byte {at}");
        }
    }

    proptest::proptest! {
        /// Goal: no bytes make a handover. Method: any, beside a true root.
        #[test]
        fn any_handover(bytes in proptest::collection::vec(0_u8.., 0..600)) {
            let a = Organisation::new("a.example");
            proptest::prop_assert!(check_handover(&a.root, &a.root, &bytes, NOW).is_err());
            proptest::prop_assert!(check_handover(&bytes, &a.root, &a.root, NOW).is_err());
        }
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
