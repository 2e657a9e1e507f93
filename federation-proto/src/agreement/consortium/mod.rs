//! Consortia: one document that many sign, instead of a ceremony for each pair.
//!
//! Each member hands in an [`Introduction`]; one of them makes a [`Charter`] of all; every administrator
//! compares the charter's one fingerprint with all the others and signs. From the charter and two
//! members' signatures each of the two derives the same ordinary agreement ([`Charter::pair`]), byte for
//! byte and without asking the other. Below that nothing knows of consortia: the agreement is amended,
//! suspended and revoked as any other.
//!
//! Invariants:
//! - What is derived depends on the charter's signed bytes alone: on no signature's bytes, no clock, no
//!   order of arrival.
//! - A charter binds a pair when both have signed it, and nobody else. A later charter takes nothing
//!   back; an agreement that stands it renews by amendments of both sides.
//! - Documents that are derived carry an empty signature, which no reader of documents takes: they are
//!   made from a charter with both signatures, or not at all.

mod body;
mod charter;
mod derive;
mod renew;
mod words;

pub use body::{CharterBody, CharterMember, Introduction};
pub(super) use charter::body_of;
pub use charter::{Charter, ConsortiumError};
pub(super) use derive::restore_pair;
