//! The roots that chains must lead to, and how the own one gives way to another.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use federation_proto::ids::ServerName;
use federation_proto::manifest;
use federation_proto::organisation::CertificateError;
use federation_proto::room_consent::{ConsentError, RoomConsent, SignedRoomConsent};
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, ring as algorithms};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{
    DeviceCertificate, HubCertificate, Validity, read, read_hub, read_not_before, refused,
};
use crate::error::Error;

/// Most former roots of one organisation.
const FORMER_ROOTS_MAX: usize = 2;

/// The roots of one organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roots {
    root: Vec<u8>,
    former: Vec<FormerRoot>,
}

/// A root that an organisation had before. It vouches for certificates of devices and hubs that end no later than
/// then: for none that is issued after that, and still for those in a room, whose dates nobody judges again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FormerRoot {
    root: Vec<u8>,
    until_ms: u64,
}

impl From<Vec<u8>> for Roots {
    fn from(root: Vec<u8>) -> Self {
        Self::new(root, [])
    }
}

impl Roots {
    /// The present root, and former ones with the time until which each vouches, milliseconds since the Unix epoch.
    /// Of former ones only the latest are kept.
    #[must_use]
    pub fn new(root: Vec<u8>, former: impl IntoIterator<Item = (Vec<u8>, u64)>) -> Self {
        let mut former: Vec<_> = former
            .into_iter()
            .map(|(root, until_ms)| FormerRoot { root, until_ms })
            .collect();
        former.sort_unstable_by_key(|former| std::cmp::Reverse(former.until_ms));
        former.truncate(FORMER_ROOTS_MAX);
        Self { root, former }
    }

    /// The roots that may vouch for a certificate that ends then, seconds since the Unix epoch.
    fn for_end(&self, not_after: u64) -> impl Iterator<Item = &[u8]> {
        let ends_ms = not_after.saturating_mul(1000);
        let former = self.former.iter();
        let former = former.filter(move |former| ends_ms <= former.until_ms);
        std::iter::once(self.root.as_slice()).chain(former.map(|former| former.root.as_slice()))
    }
}

/// The roots that device certificates must lead to, by the organisation they vouch for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchorSet {
    roots: BTreeMap<ServerName, Roots>,
    /// Of organisations with which there is no agreement any more: they count in [`Self::with_ended`] alone.
    ended: BTreeMap<ServerName, Roots>,
}

impl AnchorSet {
    /// The own organisation's roots alone.
    #[must_use]
    pub fn own(server: ServerName, roots: impl Into<Roots>) -> Self {
        Self {
            roots: BTreeMap::from([(server, roots.into())]),
            ended: BTreeMap::new(),
        }
    }

    /// Takes over the own organisation's roots. The root that was pinned at enrolment gives way to one that it has
    /// signed for itself, and to no other; returns whether it did.
    ///
    /// # Errors
    /// [`Error::Handover`] when another root is named that the present one has not signed for: then nothing changes.
    pub fn take_own(
        &mut self,
        server: &ServerName,
        roots: Roots,
        handover: &[u8],
        now_ms: u64,
    ) -> Result<bool, Error> {
        let present = self.roots.get(server).map(|roots| &roots.root);
        let changes = present.is_some_and(|present| *present != roots.root);
        if let Some(present) = present.filter(|_| changes) {
            check_handover(present, &roots.root, handover, now_ms / 1000)?;
        }
        self.roots.insert(server.clone(), roots);
        Ok(changes)
    }

    /// Takes over the roots that the homeserver names for other organisations. The own one's stay. Whom the
    /// organisation has agreements with, and by which root, its administrators decide; so a peer's root that they
    /// replace is replaced here.
    pub fn replace_others(
        &mut self,
        own: &ServerName,
        others: impl IntoIterator<Item = (ServerName, Roots)>,
    ) {
        self.roots.retain(|server, _| server == own);
        for (server, roots) in others {
            self.roots.entry(server).or_insert(roots);
        }
    }

    /// Takes over the roots that the homeserver names for organisations with which the agreement has ended.
    pub fn replace_ended(&mut self, ended: impl IntoIterator<Item = (ServerName, Roots)>) {
        self.ended = ended.into_iter().collect();
    }

    /// These roots, and beside them those of former partners, for rooms that one is in already: an agreement's end
    /// changes no room by itself, so who is there goes on being who he is. For nothing else: nobody is brought
    /// into a room, claimed or looked up by the root of a former partner.
    #[must_use]
    pub fn with_ended(&self) -> Self {
        let mut all = self.clone();
        for (server, roots) in std::mem::take(&mut all.ended) {
            all.roots.entry(server).or_insert(roots);
        }
        all
    }

    /// The root of an organisation, and the roots that it had before.
    ///
    /// # Errors
    /// [`Error::UnknownOrganisation`] without a root of it.
    pub fn roots(&self, server: &ServerName) -> Result<(&[u8], Vec<manifest::FormerRoot>), Error> {
        let roots = self.roots.get(server);
        let roots = roots.ok_or_else(|| Error::UnknownOrganisation(server.clone()))?;
        let former = roots.former.iter().map(|former| manifest::FormerRoot {
            root: former.root.clone().into(),
            until_ms: former.until_ms,
        });
        Ok((&roots.root, former.collect()))
    }

    /// Checks a device's chain and says what it vouches for.
    ///
    /// # Errors
    /// [`Error::UnknownOrganisation`] without a root of the organisation that it names,
    /// [`Error::UnknownRoot`] when it leads to none of them, else
    /// [`Error::Certificate`] when it does not vouch for a device.
    pub fn verify<C: AsRef<[u8]>>(
        &self,
        chain: &[C],
        validity: Validity,
    ) -> Result<DeviceCertificate, Error> {
        let (leaf, issuing) = two(chain)?;
        let device = read(leaf)?;
        let ends = device.not_after;
        let dates = (device.not_before, validity);
        self.verify_chain(&device.member.server, (leaf, issuing), ends, dates)?;
        Ok(device)
    }

    /// Checks the chain of a hub's room certificate and says what it vouches for. Its dates are not judged: a
    /// room keeps its hub's certificate for as long as it lives. But for its end: a former root vouches for none
    /// that was issued after it.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_hub<C: AsRef<[u8]>>(&self, chain: &[C]) -> Result<HubCertificate, Error> {
        let (leaf, issuing) = two(chain)?;
        let hub = read_hub(leaf)?;
        let dates = (hub.not_before, Validity::NotJudged);
        self.verify_chain(&hub.server, (leaf, issuing), hub.not_after, dates)?;
        Ok(hub)
    }

    /// What a room consent says, when its organisation has signed it. Its dates are not judged.
    ///
    /// # Errors
    /// As [`Self::verify`]; [`Error::Consent`] when its signature does not hold.
    pub fn verify_consent<'a>(
        &self,
        consent: &'a SignedRoomConsent,
    ) -> Result<&'a RoomConsent, Error> {
        let server = &consent.claims().server;
        let (root, former) = self.roots(server)?;
        let root = Bytes::copy_from_slice(root);
        consent.verify(&root, &former).map_err(|error| match error {
            ConsentError::Certificate(server, CertificateError::NotSignedByRoot(_)) => {
                Error::UnknownRoot(server)
            }
            error => Error::Consent(error.to_string()),
        })
    }

    /// Whether a chain leads to a root of this organisation that vouches for what ends then, and to no other one's.
    fn verify_chain(
        &self,
        server: &ServerName,
        chain: (&[u8], &[u8]),
        not_after: u64,
        (not_before, validity): (u64, Validity),
    ) -> Result<(), Error> {
        let roots = self
            .roots
            .get(server)
            .ok_or_else(|| Error::UnknownOrganisation(server.clone()))?;
        let seconds = match validity {
            Validity::At(seconds) => seconds,
            // A moment at which it was valid, so that everything but the dates is judged.
            Validity::NotJudged => not_before.max(read_not_before(chain.1)?),
        };
        let mut refused = Error::UnknownRoot(server.clone());
        for root in roots.for_end(not_after) {
            match leads_to(root, chain, server, seconds) {
                Ok(()) => return Ok(()),
                // Another root may have signed it.
                Err(Error::UnknownRoot(_)) => {}
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}

fn two<C: AsRef<[u8]>>(chain: &[C]) -> Result<(&[u8], &[u8]), Error> {
    match chain {
        [leaf, issuing] => Ok((leaf.as_ref(), issuing.as_ref())),
        _ => Err(refused(
            "a chain is a device certificate and its issuing CA",
        )),
    }
}

/// Whether a chain leads to this root, at this second since the Unix epoch.
fn leads_to(
    root: &[u8],
    (leaf, issuing): (&[u8], &[u8]),
    server: &ServerName,
    seconds: u64,
) -> Result<(), Error> {
    let root = CertificateDer::from(root);
    let anchor = anchor_from_trusted_cert(&root)
        .map_err(|_| refused("the organisation's root is not a certificate"))?;
    let leaf = CertificateDer::from(leaf);
    let certificate = EndEntityCert::try_from(&leaf).map_err(|_| refused("it is malformed"))?;
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
            _ => Error::UnknownRoot(server.clone()),
        })
}

/// Checks that the root `former` has signed for the root `new`: a CA certificate of the same name and key, by the key
/// of the former one, valid at this second since the Unix epoch.
///
/// # Errors
/// [`Error::Handover`] when it has not.
pub fn check_handover(
    former: &[u8],
    new: &[u8],
    handover: &[u8],
    seconds: u64,
) -> Result<(), Error> {
    let wrong = || Error::Handover;
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
