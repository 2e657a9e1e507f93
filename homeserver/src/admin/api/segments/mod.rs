//! Segments: barriers inside the organisation.

pub(super) mod put;
pub(super) mod show;
