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
//! A side that changes its mind signs an [`Amendment`], its whole new statement: what only tightens is
//! in force at once, what widens waits for the partner's [`Consent`]. What a side decides alone, it tells the
//! partner in a [`Declaration`].
//!
//! Many organisations may sign one [`Charter`] instead: the agreement of each two follows from it.

mod amendment;
mod ceremony;
mod consent;
mod consortium;
mod declaration;
mod detached;
mod diff;
mod documents;
mod endpoint;
mod narrowing;
mod record;
mod states;
mod summary;
mod terms;

pub use amendment::{Amended, Amendment, AmendmentBody, Amendments, Effect};
pub use ceremony::{Accepted, AgreementError, Draft, Offered, Rejected};
pub use consent::{Consent, ConsentBody};
pub use consortium::{Charter, CharterBody, CharterMember, ConsortiumError, Introduction};
pub use declaration::{Decided, Declaration, DeclarationBody, Heard};
pub use detached::{Countersignature, CountersignatureBody, Detached, DetachedBody};
pub use diff::{Change, Tendency};
pub use documents::{
    Acceptance, AcceptanceBody, Document, DocumentBody, DocumentError, Offer, OfferBody, Statement,
};
pub use endpoint::{Endpoint, EndpointError};
pub use narrowing::Term;
pub use record::{
    AcceptanceRecord, AmendedRecord, AmendmentsRecord, HeardRecord, OfferRecord, PapersRecord,
    Record, SignedRecord,
};
pub use states::{Active, Agreement, Expired, Papers, Revoked, Side, Signed, State, Suspended};
pub use terms::{
    Direction, EffectiveTerms, Grants, Operation, Terms, TermsError, TtlBounds, UserTypes,
};
