//! One envelope that can't be read among many good ones of its lane.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Fates, Hostile};
use crate::failure::Result;

/// Envelopes of one transaction.
const BATCH: u64 = 1000;

pub(super) async fn run(hostile: &mut Hostile, count: u32) -> Result<Value> {
    let count = u64::from(count);
    let mut envelopes = hostile.messages(count);
    let middle = envelopes.len() / 2;
    if let Some(poison) = envelopes.get_mut(middle) {
        poison.payload = b"this is no message".to_vec();
    }
    let transactions: Vec<(Vec<u8>, u64)> = envelopes
        .chunks(usize::try_from(BATCH).unwrap_or(1))
        .map(|chunk| {
            let size = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            (hostile.signed(chunk), size)
        })
        .collect();
    let begun = Instant::now();
    let mut fates = Fates::default();
    for (bytes, size) in transactions {
        fates += hostile.send(bytes, size).await;
    }
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let not_taken = [fates.deferred, fates.whole, fates.unjudged, fates.duplicate];
    Ok(json!({
        "sent": count,
        "accepted": fates.accepted,
        "refused": fates.refused,
        "not_taken": not_taken.into_iter().fold(0, u64::saturating_add),
        "took_ms": took_ms,
    }))
}
