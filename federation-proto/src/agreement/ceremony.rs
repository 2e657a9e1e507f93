//! From a draft to an active agreement: each step signs exactly what came before it.

use ring::rand::SecureRandom;

use crate::agreement::amendment::Amendments;
use crate::agreement::declaration::Heard;
use crate::agreement::detached::{Countersignature, CountersignatureBody};
use crate::agreement::documents::{
    Acceptance, AcceptanceBody, Document, DocumentBody, DocumentError, Offer, OfferBody, Statement,
};
use crate::agreement::states::{Active, Expired, Papers, Revoked, Side, Signed, expiry};
use crate::agreement::terms::{EffectiveTerms, TermsError};
use crate::fingerprint::Fingerprint;
use crate::hash::Digest;
use crate::ids::ServerName;
use crate::keys::IssuingKey;
use crate::limits::{CLOCK_SKEW_MS_MAX, COUNTERSIGNATURE_DELIVERY_MS_MAX};
use crate::version::{VersionSet, negotiate};

/// Why a transition is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgreementError {
    /// A document for somebody else.
    #[error("the document is for {found}, and this is {us}")]
    NotForUs {
        /// This server.
        us: ServerName,
        /// Whom it is for.
        found: ServerName,
    },
    /// A document of somebody else than the partner.
    #[error("the document is from {found}, not from {expected}")]
    OtherPartner {
        /// The partner.
        expected: ServerName,
        /// Who made it.
        found: ServerName,
    },
    /// Both sides are the same server.
    #[error(
        "a server makes no agreement with itself: name the partner's server, and take the document that the partner has made"
    )]
    WithItself,
    /// The fingerprint that the administrator confirmed is another one.
    #[error(
        "the fingerprint is not the one that was confirmed: the document's is {found}. \
         Somebody may have exchanged the document; compare again, by telephone"
    )]
    WrongFingerprint {
        /// The fingerprint of the document's maker.
        found: Fingerprint,
    },
    /// An amendment that names another root, by an issuing CA that no root in force has certified.
    #[error(
        "the amendment names another root, and is signed by an issuing key that the newest known manifest under the \
         root in force does not have: whoever made it has not shown to be the partner"
    )]
    UnknownIssuer,
    /// The acceptance is of another offer.
    #[error("the acceptance is not of this offer: was the offer made again since?")]
    OtherOffer,
    /// The offer's last day is past.
    #[error("the offer had to be accepted and countersigned earlier: ask for a new one")]
    TooLate,
    /// The agreement has expired, or would have before it began.
    #[error("the agreement has expired: make a new offer")]
    Expired,
    /// The two statements have nothing in common.
    #[error(
        "the two statements have nothing in common: compare their grants and time-to-live bounds"
    )]
    NothingInCommon,
    /// No protocol version in common.
    #[error(
        "{offerer} speaks the protocol versions {offered}, {accepter} speaks {accepted}: \
         one of them must be upgraded"
    )]
    NoCommonVersion {
        /// Who made the offer.
        offerer: ServerName,
        /// What it speaks.
        offered: VersionSet,
        /// Who answers it.
        accepter: ServerName,
        /// What it speaks.
        accepted: VersionSet,
    },
    /// Not the first statement between the two.
    #[error("the document amends an earlier one that is not known here")]
    NotTheFirst,
    /// Both have not signed, or it has ended.
    #[error("there is no agreement to amend: both must have signed, and it must not have ended")]
    NotSigned,
    /// An amendment out of order.
    #[error(
        "the amendment does not follow the maker's last statement that is known here: \
         ask for the one before it, or for a new one"
    )]
    NotTheNext,
    /// Nothing waits for consent.
    #[error("there is no proposal that this consents to: was another one made since?")]
    NothingProposed,
    /// A declaration that comes again, or late.
    #[error("the declaration is older than one that is known here")]
    Overtaken,
    /// The terms are not in order.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// A document does not hold.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// A transition that was refused: the state is as it was.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct Rejected<S> {
    /// The state, unchanged.
    pub state: Box<S>,
    /// Why.
    pub error: AgreementError,
}

/// Nothing is signed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    body: OfferBody,
}

impl Draft {
    /// A draft of an offer.
    ///
    /// # Errors
    /// When nobody could accept it.
    pub fn new(statement: Statement, answer_by_ms: u64) -> Result<Self, AgreementError> {
        check_statement(&statement)?;
        if answer_by_ms <= statement.made_ms || statement.expires_ms <= statement.made_ms {
            return Err(AgreementError::Expired);
        }
        Ok(Self {
            body: OfferBody {
                statement,
                answer_by_ms,
            },
        })
    }

    /// Signs the offer.
    ///
    /// # Errors
    /// When the keys do not hold.
    pub fn offer(
        self,
        key: &IssuingKey,
        random: &dyn SecureRandom,
    ) -> Result<Offered, Rejected<Self>> {
        match Document::make(&self.body, key, random) {
            Ok(offer) => Ok(Offered { offer }),
            Err(error) => Err(Rejected {
                state: Box::new(self),
                error: error.into(),
            }),
        }
    }
}

/// We made an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    pub(super) offer: Offer,
}

impl Offered {
    /// The offer.
    #[must_use]
    pub const fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Countersigns the partner's acceptance: the agreement is active. `confirmed` is the partner's
    /// fingerprint as its administrator read it aloud.
    ///
    /// # Errors
    /// When the acceptance is not of this offer by this partner, or comes too late.
    pub fn countersign(
        self,
        acceptance: Acceptance,
        confirmed: &Fingerprint,
        key: &IssuingKey,
        random: &dyn SecureRandom,
        now_ms: u64,
    ) -> Result<Active, Rejected<Self>> {
        let made = check_pair(&self.offer, &acceptance, now_ms)
            .and_then(|()| check_fingerprint(&acceptance, confirmed))
            .and_then(|()| {
                let body = CountersignatureBody {
                    from: self.offer.statement().from.clone(),
                    to: self.offer.statement().to.clone(),
                    offer_sha256: self.offer.sha256(),
                    acceptance_sha256: acceptance.sha256(),
                    made_ms: now_ms,
                };
                let countersignature = Countersignature::make(&body, key, random)?;
                countersignature.check(&self.offer, &acceptance)?;
                Ok(countersignature)
            });
        match made {
            Ok(countersignature) => Ok(Active {
                signed: Signed {
                    side: Side::Offerer,
                    offer: self.offer,
                    acceptance,
                    countersignature,
                    charter: None,
                    since_ms: now_ms,
                    by_offerer: Amendments::default(),
                    by_accepter: Amendments::default(),
                    declared_ms: 0,
                    heard: Heard::default(),
                },
            }),
            Err(error) => Err(Rejected {
                state: Box::new(self),
                error,
            }),
        }
    }

    /// When the offer has ended unless it was countersigned, milliseconds since the Unix epoch.
    #[must_use]
    pub fn ends_ms(&self) -> u64 {
        let after_last = self.offer.body().answer_by_ms.saturating_add(1);
        after_last.min(self.offer.statement().expires_ms)
    }

    /// Ends it when its last day is past; otherwise it stays as it is.
    ///
    /// # Errors
    /// The offer, when it may still be answered.
    pub fn expire(self, now_ms: u64) -> Result<Expired, Box<Self>> {
        if now_ms < self.ends_ms() {
            return Err(Box::new(self));
        }
        Ok(Expired {
            papers: Papers::Offer(Box::new(self.offer)),
            at_ms: now_ms,
        })
    }

    /// Withdraws the offer.
    #[must_use]
    pub fn revoke(self, reason: String, now_ms: u64) -> Revoked {
        Revoked {
            papers: Papers::Offer(Box::new(self.offer)),
            reason,
            at_ms: now_ms,
        }
    }
}

/// We accepted an offer and wait for the countersignature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub(super) offer: Offer,
    pub(super) acceptance: Acceptance,
}

impl Accepted {
    /// Accepts an offer with a statement of our own. `confirmed` is the offerer's fingerprint as
    /// its administrator read it aloud.
    ///
    /// # Errors
    /// When the offer is not for us, not by whom it should be, too old, or has nothing in common
    /// with our statement.
    pub fn accept(
        offer: Offer,
        confirmed: &Fingerprint,
        statement: Statement,
        key: &IssuingKey,
        random: &dyn SecureRandom,
        now_ms: u64,
    ) -> Result<Self, AgreementError> {
        check_statement(offer.statement())?;
        check_statement(&statement)?;
        check_fingerprint(&offer, confirmed)?;
        let body = AcceptanceBody {
            statement,
            offer_sha256: offer.sha256(),
        };
        let acceptance = Document::make(&body, key, random)?;
        check_pair(&offer, &acceptance, now_ms)?;
        Ok(Self { offer, acceptance })
    }

    /// The offer.
    #[must_use]
    pub const fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Our acceptance.
    #[must_use]
    pub const fn acceptance(&self) -> &Acceptance {
        &self.acceptance
    }

    /// The countersignature has come: the agreement is active.
    ///
    /// # Errors
    /// When it is not the offerer's for these two documents, was not made in time, comes too late,
    /// or the agreement has expired.
    pub fn activate(
        self,
        countersignature: Countersignature,
        now_ms: u64,
    ) -> Result<Active, Rejected<Self>> {
        let checked = countersignature
            .check(&self.offer, &self.acceptance)
            .map_err(AgreementError::from)
            .and_then(|()| self.check_time(countersignature.body().made_ms, now_ms));
        match checked {
            Ok(()) => Ok(Active {
                signed: Signed {
                    side: Side::Accepter,
                    offer: self.offer,
                    acceptance: self.acceptance,
                    countersignature,
                    charter: None,
                    since_ms: now_ms,
                    by_offerer: Amendments::default(),
                    by_accepter: Amendments::default(),
                    declared_ms: 0,
                    heard: Heard::default(),
                },
            }),
            Err(error) => Err(Rejected {
                state: Box::new(self),
                error,
            }),
        }
    }

    fn check_time(&self, made_ms: u64, now_ms: u64) -> Result<(), AgreementError> {
        if made_ms > now_ms.saturating_add(CLOCK_SKEW_MS_MAX) {
            return Err(DocumentError::FromTheFuture.into());
        }
        if now_ms >= expiry(&self.offer, &self.acceptance) {
            return Err(AgreementError::Expired);
        }
        if made_ms > self.offer.body().answer_by_ms || now_ms >= self.ends_ms() {
            return Err(AgreementError::TooLate);
        }
        Ok(())
    }

    /// When the acceptance has ended unless a countersignature has come, milliseconds since the Unix
    /// epoch. The offerer must have signed by the offer's last day; its delivery may take longer.
    #[must_use]
    pub fn ends_ms(&self) -> u64 {
        let last_ms = self.offer.body().answer_by_ms;
        let delivered_ms = last_ms.saturating_add(COUNTERSIGNATURE_DELIVERY_MS_MAX);
        let after_last = delivered_ms.saturating_add(1);
        after_last.min(expiry(&self.offer, &self.acceptance))
    }

    /// Ends it when no countersignature may come any more; otherwise it stays as it is.
    ///
    /// # Errors
    /// The acceptance, when a countersignature may still come.
    pub fn expire(self, now_ms: u64) -> Result<Expired, Box<Self>> {
        if now_ms < self.ends_ms() {
            return Err(Box::new(self));
        }
        Ok(Expired {
            papers: Papers::Acceptance(Box::new(self)),
            at_ms: now_ms,
        })
    }

    /// Takes the acceptance back, as far as this side is concerned.
    #[must_use]
    pub fn revoke(self, reason: String, now_ms: u64) -> Revoked {
        Revoked {
            papers: Papers::Acceptance(Box::new(self)),
            reason,
            at_ms: now_ms,
        }
    }
}

fn check_statement(statement: &Statement) -> Result<(), AgreementError> {
    statement.terms.check()?;
    if statement.from == statement.to {
        return Err(AgreementError::WithItself);
    }
    if statement.serial != 1 || statement.previous != Digest::ZERO {
        return Err(AgreementError::NotTheFirst);
    }
    Ok(())
}

fn check_fingerprint<B: DocumentBody>(
    document: &Document<B>,
    confirmed: &Fingerprint,
) -> Result<(), AgreementError> {
    let found = document.manifest().identity().fingerprint();
    if found == *confirmed {
        Ok(())
    } else {
        Err(AgreementError::WrongFingerprint { found })
    }
}

/// What both the accepter, before it hands out its acceptance, and the offerer, before it
/// countersigns, check of the pair.
fn check_pair(offer: &Offer, acceptance: &Acceptance, now_ms: u64) -> Result<(), AgreementError> {
    check_fit(offer, acceptance)?;
    if now_ms > offer.body().answer_by_ms {
        return Err(AgreementError::TooLate);
    }
    if now_ms >= expiry(offer, acceptance) {
        return Err(AgreementError::Expired);
    }
    Ok(())
}

/// The part of it that holds at any time.
pub(super) fn check_fit(offer: &Offer, acceptance: &Acceptance) -> Result<(), AgreementError> {
    let (first, second) = (offer.statement(), acceptance.statement());
    check_statement(first)?;
    check_statement(second)?;
    if acceptance.body().offer_sha256 != offer.sha256() {
        return Err(AgreementError::OtherOffer);
    }
    if second.from != first.to {
        return Err(AgreementError::OtherPartner {
            expected: first.to.clone(),
            found: second.from.clone(),
        });
    }
    if second.to != first.from {
        return Err(AgreementError::NotForUs {
            us: first.from.clone(),
            found: second.to.clone(),
        });
    }
    if negotiate(&first.versions, &second.versions).is_none() {
        return Err(AgreementError::NoCommonVersion {
            offerer: first.from.clone(),
            offered: first.versions.clone(),
            accepter: second.from.clone(),
            accepted: second.versions.clone(),
        });
    }
    let effective = EffectiveTerms::intersection(
        &first.terms,
        first.expires_ms,
        &second.terms,
        second.expires_ms,
    );
    if effective.is_empty() {
        return Err(AgreementError::NothingInCommon);
    }
    Ok(())
}
