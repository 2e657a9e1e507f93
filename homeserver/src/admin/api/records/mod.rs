//! What waits, what was given up, and what was done.

pub(super) mod dead_letters;
pub(super) mod outbox;
pub(super) mod receipts;
pub(super) mod renumber;
pub(super) mod retry;

use homeserver_api::admin::PAGE_ENTRIES_MAX;

use super::extract::Number;

/// How many entries a page has, when so many are asked for.
pub(super) fn entries(asked: Option<Number>) -> usize {
    let asked = asked.map(|Number(asked)| usize::try_from(asked).unwrap_or(PAGE_ENTRIES_MAX));
    asked.unwrap_or(PAGE_ENTRIES_MAX).clamp(1, PAGE_ENTRIES_MAX)
}
