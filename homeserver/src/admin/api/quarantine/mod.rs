//! What strangers have dropped.

pub(super) mod discard;
pub(super) mod list;
pub(super) mod show;
pub(super) mod take;
