//! Peering by agreement: who may send what to whom, signed by both.
//!
//! The offerer signs an [`Offer`]; the partner's administrator compares the fingerprint and signs an
//! [`Acceptance`] of exactly that offer; the offerer's administrator compares the partner's
//! fingerprint and signs a [`Countersignature`] of exactly that acceptance. Each side states its own
//! [`Terms`]; what is allowed is the intersection ([`EffectiveTerms`]).
//!
//! One type per state ([`Draft`], [`Offered`], [`Accepted`], [`Active`], [`Suspended`], [`Expired`],
//! [`Revoked`]); a transition consumes the state it leaves, and no state can be made without the
//! signatures that it stands for. [`Agreement`] is any of them, and [`Record`] what a store keeps.
//!
//! Deliberately absent: amendments. Statements have the fields they need (a serial, the hash of the
//! statement before), and a first statement has serial 1 and no predecessor.

mod ceremony;
mod documents;
mod record;
mod states;
mod summary;
mod terms;

pub use ceremony::{Accepted, AgreementError, Draft, Offered, Rejected};
pub use documents::{
    Acceptance, AcceptanceBody, Countersignature, CountersignatureBody, Document, DocumentBody,
    DocumentError, Endpoint, EndpointError, Offer, OfferBody, Statement,
};
pub use record::{AcceptanceRecord, OfferRecord, PapersRecord, Record, SignedRecord};
pub use states::{Active, Agreement, Expired, Papers, Revoked, Side, Signed, State, Suspended};
pub use terms::{
    Direction, EffectiveTerms, Grants, Operation, Terms, TermsError, TtlBounds, UserTypes,
};
