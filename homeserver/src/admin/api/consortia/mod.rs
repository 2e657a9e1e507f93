//! Consortia: one charter that many organisations sign.

pub(super) mod charter;
pub(super) mod inspect;
pub(super) mod introduce;
pub(super) mod join;
pub(super) mod list;
pub(super) mod merge;
pub(super) mod sign;
