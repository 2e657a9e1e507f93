//! From a charter and two signatures to the ordinary agreement of the two.

use bytes::Bytes;

use crate::agreement::amendment::Amendments;
use crate::agreement::ceremony::check_fit;
use crate::agreement::consortium::charter::{Charter, ConsortiumError, Introduced};
use crate::agreement::declaration::Heard;
use crate::agreement::detached::{Countersignature, CountersignatureBody};
use crate::agreement::documents::{
    Acceptance, AcceptanceBody, Document, DocumentError, Offer, OfferBody, Statement,
};
use crate::agreement::states::{Active, Side, Signed};
use crate::hash::Digest;
use crate::ids::ServerName;
use crate::manifest;

/// Separates the nonces of derived statements from every other use of SHA-256.
const NONCE_LABEL: &[u8] = b"entente charter nonce";

/// The three documents of an agreement, each without a signature of its own.
pub(in crate::agreement) struct Derived {
    pub(in crate::agreement) offer: Offer,
    pub(in crate::agreement) acceptance: Acceptance,
    pub(in crate::agreement) countersignature: Countersignature,
}

impl Charter {
    /// The agreement of `us` with `partner`, in force: the same documents on both sides. The one whose
    /// name comes first is the offerer.
    ///
    /// # Errors
    /// When one of them is no member or has not signed, the partner's keys no longer hold, the charter
    /// has expired, or nothing follows from it for the two.
    pub fn pair(
        &self,
        us: &ServerName,
        partner: &ServerName,
        now_ms: u64,
    ) -> Result<Active, ConsortiumError> {
        if now_ms >= self.body.expires_ms {
            return Err(ConsortiumError::Expired);
        }
        let derived = self.derive(us, partner)?;
        let theirs = self.member(partner)?;
        manifest::decode(theirs.introduction.manifest.clone())
            .map_err(DocumentError::from)?
            .verify(partner, &theirs.introduction.root, None, now_ms)
            .map_err(|error| ConsortiumError::Keys {
                server: partner.clone(),
                error,
            })?;
        let proof = self.of_pair(&[us, partner]).to_bytes()?;
        Ok(Active {
            signed: Signed {
                side: if us < partner {
                    Side::Offerer
                } else {
                    Side::Accepter
                },
                offer: derived.offer,
                acceptance: derived.acceptance,
                countersignature: derived.countersignature,
                charter: Some(proof),
                since_ms: now_ms,
                by_offerer: Amendments::default(),
                by_accepter: Amendments::default(),
                declared_ms: 0,
                heard: Heard::default(),
            },
        })
    }

    fn derive(&self, one: &ServerName, other: &ServerName) -> Result<Derived, ConsortiumError> {
        for server in [one, other] {
            self.member(server)?;
            if !self.is_signed_by(server) {
                return Err(ConsortiumError::NotSigned(server.clone()));
            }
        }
        let first = self.member(one.min(other))?;
        let second = self.member(one.max(other))?;
        let offer = Document::derived(
            OfferBody {
                statement: self.statement(first, second),
                answer_by_ms: self.body.expires_ms,
            },
            first.manifest.clone(),
        )?;
        let acceptance = Document::derived(
            AcceptanceBody {
                statement: self.statement(second, first),
                offer_sha256: offer.sha256(),
            },
            second.manifest.clone(),
        )?;
        check_fit(&offer, &acceptance)?;
        let countersignature = Countersignature::derived(&CountersignatureBody {
            from: first.introduction.server.clone(),
            to: second.introduction.server.clone(),
            offer_sha256: offer.sha256(),
            acceptance_sha256: acceptance.sha256(),
            made_ms: self.body.made_ms,
        })?;
        Ok(Derived {
            offer,
            acceptance,
            countersignature,
        })
    }

    fn statement(&self, from: &Introduced, to: &Introduced) -> Statement {
        let (from, to) = (&from.introduction, &to.introduction);
        Statement {
            from: from.server.clone(),
            to: to.server.clone(),
            serial: 1,
            previous: Digest::ZERO,
            versions: from.versions.clone(),
            root: from.root.clone(),
            manifest: from.manifest.clone(),
            endpoints: from.endpoints.clone(),
            terms: self.body.terms.clone(),
            contact: from.contact.clone(),
            nonce: self.nonce(&from.server, &to.server),
            made_ms: self.body.made_ms,
            expires_ms: self.body.expires_ms,
        }
    }

    /// Both names have an end that the other can't move: no server name holds a zero byte.
    fn nonce(&self, from: &ServerName, to: &ServerName) -> [u8; 16] {
        let digest = Digest::of_parts(&[
            NONCE_LABEL,
            self.sha256().as_bytes(),
            from.as_str().as_bytes(),
            &[0],
            to.as_str().as_bytes(),
        ]);
        let mut nonce = [0; 16];
        for (target, source) in nonce.iter_mut().zip(digest.as_bytes()) {
            *target = *source;
        }
        nonce
    }
}

/// The documents that a stored proof stands for; both signatures are checked again.
pub(in crate::agreement) fn restore_pair(proof: &Bytes) -> Result<Derived, DocumentError> {
    let derived = Charter::read(proof.clone()).and_then(|charter| {
        let mut members = charter.members.keys();
        match (members.next(), members.next(), members.next()) {
            (Some(one), Some(other), None) => charter.derive(one, other),
            _ => Err(DocumentError::OtherDocuments.into()),
        }
    });
    derived.map_err(|error| match error {
        ConsortiumError::Document(error) => error,
        ConsortiumError::BadSignature(_) => DocumentError::BadSignature,
        // It held when it was stored.
        _ => DocumentError::OtherDocuments,
    })
}
