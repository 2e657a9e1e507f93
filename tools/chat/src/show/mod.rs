//! What a person sees: times, lengths of time, messages, and nothing that could harm a terminal.

pub(crate) mod clock;
pub(crate) mod duration;
pub(crate) mod event;
pub(crate) mod message;
pub(crate) mod output;
pub(crate) mod safe;
