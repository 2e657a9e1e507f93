//! What waits, what was given up, and what was done.

pub(super) mod audit;
pub(super) mod dead_letters;
pub(super) mod outbox;
pub(super) mod receipts;
pub(super) mod renumber;
pub(super) mod retry;
