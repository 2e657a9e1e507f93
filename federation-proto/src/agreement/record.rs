//! An agreement as a store keeps it: the signed documents themselves, and what this side decided.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::agreement::amendment::{Amended, Amendments, Undo};
use crate::agreement::ceremony::{Accepted, AgreementError, Offered, check_fit};
use crate::agreement::consent::Consent;
use crate::agreement::consortium;
use crate::agreement::declaration::{Declaration, Heard};
use crate::agreement::detached::Countersignature;
use crate::agreement::documents::{Acceptance, Document, DocumentError, Offer};
use crate::agreement::states::{
    Active, Agreement, Expired, Papers, Revoked, Side, Signed, Suspended,
};
use crate::hash::Digest;

/// An agreement as a store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// We made an offer.
    Offered(OfferRecord),
    /// We accepted an offer.
    Accepted(AcceptanceRecord),
    /// Both signed.
    Active(SignedRecord),
    /// This side paused it.
    Suspended {
        /// What was signed.
        signed: SignedRecord,
        /// Why it was paused.
        reason: String,
        /// When, milliseconds since the Unix epoch.
        at_ms: u64,
    },
    /// Past its last day.
    Expired {
        /// What had been signed.
        papers: PapersRecord,
        /// When its end was noticed, milliseconds since the Unix epoch.
        at_ms: u64,
    },
    /// Ended by this side.
    Revoked {
        /// What had been signed.
        papers: PapersRecord,
        /// Why it was ended.
        reason: String,
        /// When, milliseconds since the Unix epoch.
        at_ms: u64,
    },
}

/// Our offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferRecord {
    /// The offer's bytes.
    pub offer: Bytes,
}

/// Their offer and our acceptance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptanceRecord {
    /// The offer's bytes.
    pub offer: Bytes,
    /// The acceptance's bytes.
    pub acceptance: Bytes,
}

/// What both signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRecord {
    /// Which side this server is.
    pub side: Side,
    /// The offer's bytes.
    pub offer: Bytes,
    /// The acceptance's bytes.
    pub acceptance: Bytes,
    /// The countersignature's bytes.
    pub countersignature: Bytes,
    /// The charter that the three follow from, with both sides' introductions and signatures.
    pub charter: Option<Bytes>,
    /// Since when it has been signed by both, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// The offerer's amendments.
    pub by_offerer: AmendmentsRecord,
    /// The accepter's amendments.
    pub by_accepter: AmendmentsRecord,
    /// The time of our last declaration, milliseconds since the Unix epoch.
    pub declared_ms: u64,
    /// What the partner has declared.
    pub heard: HeardRecord,
}

/// An amendment, and the consent to it.
pub type AmendedRecord = (Bytes, Option<Bytes>);

/// One side's amendments.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AmendmentsRecord {
    /// The amendment in force.
    pub in_force: Option<AmendedRecord>,
    /// The amendment that waits for consent.
    pub proposed: Option<Bytes>,
    /// What was in force before, while that may come back.
    pub undo: Option<Option<AmendedRecord>>,
    /// The last amendment known: its SHA-256 and its time.
    pub last: Option<([u8; 32], u64)>,
}

/// What the partner has declared.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HeardRecord {
    /// The time of the last declaration, milliseconds since the Unix epoch.
    pub last_ms: u64,
    /// The last one about the agreement's standing.
    pub standing: Option<Bytes>,
    /// The last one that refused a proposal.
    pub refusal: Option<Bytes>,
}

/// What had been signed when an agreement ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PapersRecord {
    /// Our offer.
    Offer(OfferRecord),
    /// Their offer and our acceptance.
    Acceptance(AcceptanceRecord),
    /// All of it.
    Signed(Box<SignedRecord>),
}

impl Agreement {
    /// What a store keeps.
    #[must_use]
    pub fn record(&self) -> Record {
        match self {
            Self::Offered(Offered { offer }) => Record::Offered(OfferRecord {
                offer: offer.bytes().clone(),
            }),
            Self::Accepted(accepted) => Record::Accepted(acceptance_record(accepted)),
            Self::Active(Active { signed }) => Record::Active(signed_record(signed)),
            Self::Suspended(Suspended {
                signed,
                reason,
                at_ms,
            }) => Record::Suspended {
                signed: signed_record(signed),
                reason: reason.clone(),
                at_ms: *at_ms,
            },
            Self::Expired(Expired { papers, at_ms }) => Record::Expired {
                papers: papers_record(papers),
                at_ms: *at_ms,
            },
            Self::Revoked(Revoked {
                papers,
                reason,
                at_ms,
            }) => Record::Revoked {
                papers: papers_record(papers),
                reason: reason.clone(),
                at_ms: *at_ms,
            },
        }
    }

    /// The agreement that a store kept. Every signature is checked again, at the time when its
    /// document was made, and that the documents are of each other; whether the agreement may be used now is the state's to say.
    ///
    /// # Errors
    /// When the record was damaged.
    pub fn restore(record: &Record) -> Result<Self, DocumentError> {
        Ok(match record {
            Record::Offered(OfferRecord { offer }) => Self::Offered(Offered {
                offer: Document::restore(offer.clone())?,
            }),
            Record::Accepted(accepted) => Self::Accepted(restore_accepted(accepted)?),
            Record::Active(signed) => Self::Active(Active {
                signed: restore_signed(signed)?,
            }),
            Record::Suspended {
                signed,
                reason,
                at_ms,
            } => Self::Suspended(Suspended {
                signed: restore_signed(signed)?,
                reason: reason.clone(),
                at_ms: *at_ms,
            }),
            Record::Expired { papers, at_ms } => Self::Expired(Expired {
                papers: restore_papers(papers)?,
                at_ms: *at_ms,
            }),
            Record::Revoked {
                papers,
                reason,
                at_ms,
            } => Self::Revoked(Revoked {
                papers: restore_papers(papers)?,
                reason: reason.clone(),
                at_ms: *at_ms,
            }),
        })
    }
}

fn signed_record(signed: &Signed) -> SignedRecord {
    SignedRecord {
        side: signed.side,
        offer: signed.offer.bytes().clone(),
        acceptance: signed.acceptance.bytes().clone(),
        countersignature: signed.countersignature.bytes().clone(),
        charter: signed.charter.clone(),
        since_ms: signed.since_ms,
        by_offerer: amendments_record(&signed.by_offerer),
        by_accepter: amendments_record(&signed.by_accepter),
        declared_ms: signed.declared_ms,
        heard: HeardRecord {
            last_ms: signed.heard.last_ms,
            standing: declared(signed.heard.standing.as_ref()),
            refusal: declared(signed.heard.refusal.as_ref()),
        },
    }
}

fn acceptance_record(accepted: &Accepted) -> AcceptanceRecord {
    AcceptanceRecord {
        offer: accepted.offer.bytes().clone(),
        acceptance: accepted.acceptance.bytes().clone(),
    }
}

fn papers_record(papers: &Papers) -> PapersRecord {
    match papers {
        Papers::Offer(offer) => PapersRecord::Offer(OfferRecord {
            offer: offer.bytes().clone(),
        }),
        Papers::Acceptance(accepted) => PapersRecord::Acceptance(acceptance_record(accepted)),
        Papers::Signed(signed) => PapersRecord::Signed(Box::new(signed_record(signed))),
    }
}

fn restore_signed(record: &SignedRecord) -> Result<Signed, DocumentError> {
    let (offer, acceptance, countersignature) = match &record.charter {
        Some(charter) => restore_derived(record, charter)?,
        None => {
            let (offer, acceptance) = restore_pair(&record.offer, &record.acceptance)?;
            let countersignature = Countersignature::decode(record.countersignature.clone())?;
            countersignature.check(&offer, &acceptance)?;
            (offer, acceptance, countersignature)
        }
    };
    let signed = Signed {
        side: record.side,
        offer,
        acceptance,
        countersignature,
        charter: record.charter.clone(),
        since_ms: record.since_ms,
        by_offerer: restore_amendments(&record.by_offerer)?,
        by_accepter: restore_amendments(&record.by_accepter)?,
        declared_ms: record.declared_ms,
        heard: Heard {
            last_ms: record.heard.last_ms,
            standing: restore_declaration(record.heard.standing.as_ref())?,
            refusal: restore_declaration(record.heard.refusal.as_ref())?,
        },
    };
    let heard = [&signed.heard.standing, &signed.heard.refusal];
    if heard
        .into_iter()
        .flatten()
        .all(|heard| heard.is_between(&signed))
    {
        Ok(signed)
    } else {
        Err(DocumentError::OtherDocuments)
    }
}

fn declared(declaration: Option<&Declaration>) -> Option<Bytes> {
    declaration.map(|declaration| declaration.bytes().clone())
}

/// As with a consent, the keys behind it may have changed since it was checked.
fn restore_declaration(bytes: Option<&Bytes>) -> Result<Option<Declaration>, DocumentError> {
    bytes.cloned().map(Declaration::decode).transpose()
}

/// Documents without signatures of their own hold as far as the charter behind them does.
fn restore_derived(
    record: &SignedRecord,
    charter: &Bytes,
) -> Result<(Offer, Acceptance, Countersignature), DocumentError> {
    let derived = consortium::restore_pair(charter)?;
    let same = *derived.offer.bytes() == record.offer
        && *derived.acceptance.bytes() == record.acceptance
        && *derived.countersignature.bytes() == record.countersignature;
    if same {
        Ok((derived.offer, derived.acceptance, derived.countersignature))
    } else {
        Err(DocumentError::OtherDocuments)
    }
}

fn amendments_record(amendments: &Amendments) -> AmendmentsRecord {
    AmendmentsRecord {
        in_force: amendments.in_force().map(amended_record),
        proposed: amendments.proposed().map(|made| made.bytes().clone()),
        undo: amendments
            .undo
            .as_ref()
            .map(|Undo(before)| before.as_ref().map(amended_record)),
        last: amendments
            .last
            .map(|(hash, at_ms)| (*hash.as_bytes(), at_ms)),
    }
}

fn amended_record(amended: &Amended) -> AmendedRecord {
    let consent = amended.consent().map(|consent| consent.bytes().clone());
    (amended.amendment().bytes().clone(), consent)
}

fn restore_amendments(record: &AmendmentsRecord) -> Result<Amendments, DocumentError> {
    let undo = match &record.undo {
        None => None,
        Some(before) => Some(Undo(before.as_ref().map(restore_amended).transpose()?)),
    };
    let proposed = record.proposed.clone().map(Document::restore).transpose()?;
    Ok(Amendments {
        in_force: record.in_force.as_ref().map(restore_amended).transpose()?,
        proposed: proposed.map(Box::new),
        undo,
        last: record
            .last
            .map(|(hash, at_ms)| (Digest::from_bytes(hash), at_ms)),
    })
}

/// The keys behind a consent may have changed since it was checked, so only what it is of is checked again.
fn restore_amended((amendment, consent): &AmendedRecord) -> Result<Amended, DocumentError> {
    let amendment = Box::new(Document::restore(amendment.clone())?);
    let consent = consent.clone().map(Consent::decode).transpose()?;
    if consent
        .as_ref()
        .is_some_and(|consent| !consent.fits(&amendment))
    {
        return Err(DocumentError::OtherDocuments);
    }
    Ok(Amended { amendment, consent })
}

fn restore_accepted(record: &AcceptanceRecord) -> Result<Accepted, DocumentError> {
    let (offer, acceptance) = restore_pair(&record.offer, &record.acceptance)?;
    Ok(Accepted { offer, acceptance })
}

fn restore_pair(offer: &Bytes, acceptance: &Bytes) -> Result<(Offer, Acceptance), DocumentError> {
    let offer = Document::restore(offer.clone())?;
    let acceptance = Document::restore(acceptance.clone())?;
    match check_fit(&offer, &acceptance) {
        Ok(()) => Ok((offer, acceptance)),
        Err(AgreementError::Document(error)) => Err(error),
        // They fitted when they were stored.
        Err(_) => Err(DocumentError::OtherDocuments),
    }
}

fn restore_papers(record: &PapersRecord) -> Result<Papers, DocumentError> {
    Ok(match record {
        PapersRecord::Offer(OfferRecord { offer }) => {
            Papers::Offer(Box::new(Document::restore(offer.clone())?))
        }
        PapersRecord::Acceptance(accepted) => {
            Papers::Acceptance(Box::new(restore_accepted(accepted)?))
        }
        PapersRecord::Signed(signed) => Papers::Signed(Box::new(restore_signed(signed)?)),
    })
}
