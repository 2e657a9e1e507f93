//! Takes a request and says nothing: how long does the server hold on to a peer that has been revoked meanwhile?

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{say, told};
use crate::failure::Result;
use crate::served::Stall;

/// How long it waits to be let go.
const HELD_MAX: Duration = Duration::from_secs(5);

pub(super) async fn run(stall: &Stall) -> Result<Value> {
    stall.heard().await;
    say("stalling")?;
    told("revoking").await?;
    let revoked = Instant::now();
    let ended = timeout(HELD_MAX, stall.ended()).await.ok().flatten();
    // Nothing, when it ended before.
    let after = ended.and_then(|ended| ended.checked_duration_since(revoked));
    let after_ms = after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    Ok(json!({ "closed_after_ms": after_ms }))
}
