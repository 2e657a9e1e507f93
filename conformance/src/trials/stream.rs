//! Sends steadily, and goes on when it is revoked: how long is it heard?

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Fates, Hostile, PROBE, TRANSACTIONS, fates, say, told};
use crate::failure::Result;
use crate::padding::pad;
use crate::session::Session;

/// Between two transactions.
const STEP: Duration = Duration::from_millis(10);
/// How long it sends before anybody is told that it does.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long it goes on after the revocation, over new connections too.
const STUBBORN: Duration = Duration::from_secs(5);
/// Most envelopes of one transaction.
const BATCH_MAX: u64 = 500;

/// What it has seen.
#[derive(Default)]
struct Seen {
    fates: Fates,
    /// Of those, accepted after the revocation began.
    accepted_after: u64,
    /// When the last acceptance came, and when the connection was cut, since the revocation began.
    last_accepted: Option<Duration>,
    cut: Option<Duration>,
    /// New connections that the server let in after that.
    let_in_again: u64,
}

pub(super) async fn run(hostile: &mut Hostile, rate: u32) -> Result<Value> {
    let mut seen = Seen::default();
    let begun = Instant::now();
    let mut sent = 0_u64;
    let mut next = begun;
    let mut revoked = None;
    let mut revocation: Option<tokio::task::JoinHandle<Result<Instant>>> = None;
    while revoked.is_none_or(|at: Instant| at.elapsed() < STUBBORN) {
        if revocation.is_none() && begun.elapsed() >= WARM_UP {
            say("sending")?;
            revocation = Some(tokio::spawn(async {
                told("revoking").await.map(|()| Instant::now())
            }));
        }
        if let Some(task) = revocation
            .as_mut()
            .filter(|task| revoked.is_none() && task.is_finished())
        {
            match task.await {
                Ok(at) => revoked = Some(at?),
                Err(_) => return Ok(Value::Null),
            }
        }
        sleep_until(next).await;
        next += STEP;
        let due = due(begun.elapsed(), rate)
            .saturating_sub(sent)
            .min(BATCH_MAX);
        if due == 0 {
            continue;
        }
        sent = sent.saturating_add(due);
        send(hostile, due, revoked, &mut seen).await?;
    }
    let ms = |time: Option<Duration>| {
        time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    };
    Ok(json!({
        "sent": sent,
        "accepted": seen.fates.accepted,
        "accepted_after": seen.accepted_after,
        "last_accepted_after_ms": ms(seen.last_accepted).unwrap_or(0),
        "cut_after_ms": ms(seen.cut),
        "let_in_again": seen.let_in_again,
    }))
}

/// How many messages are due after this time.
fn due(elapsed: Duration, rate: u32) -> u64 {
    let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    micros.saturating_mul(u64::from(rate)) / 1_000_000
}

async fn send(
    hostile: &mut Hostile,
    count: u64,
    revoked: Option<Instant>,
    seen: &mut Seen,
) -> Result {
    let before = hostile.next;
    let envelopes = hostile.messages(count);
    let bytes = hostile.signed(&envelopes);
    let reply = hostile.session.post(TRANSACTIONS, pad(&bytes)).await;
    let one = fates(&reply, count);
    if one.accepted == 0 {
        // Nothing of it was taken: the lane goes on from there.
        hostile.next = before;
    }
    seen.fates += one;
    let Some(revoked) = revoked else {
        return Ok(());
    };
    if one.accepted > 0 {
        seen.accepted_after = seen.accepted_after.saturating_add(one.accepted);
        seen.last_accepted = Some(revoked.elapsed());
    }
    // A connection that ends says so to its driver a moment later than to the request.
    let ended = !hostile.session.is_open()
        || reply.is_err() && timeout(STEP, hostile.session.ended()).await.is_ok();
    if ended {
        seen.cut.get_or_insert_with(|| revoked.elapsed());
        if let Ok(session) = Session::open(&hostile.target, &hostile.peer.tls).await? {
            // Under TLS 1.3 a refusal shows on the first request.
            hostile.session = session;
            let probe = hostile.session.post(PROBE, Vec::new()).await;
            if probe.is_ok() {
                seen.let_in_again = seen.let_in_again.saturating_add(1);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the rate holds on average. Method: what is due at some moments.
    #[test]
    fn so_many_are_due() {
        assert_eq!(due(Duration::from_millis(10), 500), 5);
        assert_eq!(due(Duration::from_secs(60), 500), 30_000);
        assert_eq!(due(Duration::ZERO, 500), 0);
    }
}
