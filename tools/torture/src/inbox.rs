//! Reading an inbox.

use homeserver::store::{Order, Store, tally};

use crate::message::{Entry, Label, item_key, tally_key};
use crate::sender::People;
use crate::{hex, say};

/// Up to `limit` messages that wait in an inbox, with numbers from `from` on, oldest first. What is none is told.
pub(crate) async fn read(
    store: &Store,
    inbox: u32,
    from: u64,
    limit: usize,
) -> Result<Vec<(u64, Label)>, String> {
    let (from, to) = (item_key(inbox, from), item_key(inbox, u64::MAX));
    let entries = store
        .range(&from, &to, limit, Order::Ascending)
        .await
        .map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for (key, value) in entries {
        match Entry::of(&key, &value) {
            Entry::Item { number, label, .. } => found.push((number, label)),
            _ => say(&format!("w {}\n", hex(&key))),
        }
    }
    Ok(found)
}

/// How many messages wait in all inboxes, as they are counted.
pub(crate) async fn waiting(store: &Store, people: People) -> Result<u64, String> {
    let mut waiting = 0_u64;
    for inbox in 0..people.inboxes {
        let counted = tally::get(store, &tally_key(inbox)).await;
        let counted = counted.map_err(|error| error.to_string())?;
        waiting = waiting.saturating_add(counted.entries);
    }
    Ok(waiting)
}
