//! Which rule says what somebody may do.

pub(super) mod ask;
pub(super) mod partner;
