//! User types: what accounts may do.

pub(super) mod delete;
pub(super) mod list;
pub(super) mod put;
