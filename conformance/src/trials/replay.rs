//! Everything that was accepted once, again: as it was, over other connections and links, after a restart and after
//! the keys have changed.

use ring::signature::Ed25519KeyPair;
use serde_json::{Map, Value, json};
use tokio::time::{Duration, Instant, sleep};

use super::{Fates, Hostile, TrialArguments, open, say, send_until_judged, signed_by, told};
use crate::agreement::{EVERYTHING, now_ms};
use crate::ceremony::agree;
use crate::failure::{Failure, Result};
use crate::organisation::{Organisation, new_envelope_key};
use crate::transaction::{Envelope, key_id};

/// Envelopes of one transaction.
const BATCH: usize = 250;
/// Nothing listens there: the second peer is called by nobody.
const NOWHERE: &str = "127.0.0.1:9";
/// How long the server has to fetch a new manifest.
const MANIFEST_PATIENCE: Duration = Duration::from_secs(20);
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// A transaction as it was sent.
struct Captured {
    envelopes: Vec<Envelope>,
    bytes: Vec<u8>,
}

impl Captured {
    fn size(&self) -> u64 {
        u64::try_from(self.envelopes.len()).unwrap_or(u64::MAX)
    }
}

pub(super) async fn run(hostile: &mut Hostile, arguments: &TrialArguments) -> Result<Value> {
    let captured = capture(hostile, arguments.count).await?;
    let mut found = Map::new();
    let mut note = |way: &str, fates: Fates| {
        found.insert(
            way.to_owned(),
            json!({
                "accepted": fates.accepted,
                "duplicate": fates.duplicate,
                "refused": fates.refused,
                "refused_whole": fates.whole,
                "deferred": fates.deferred,
                "not_judged": fates.unjudged,
            }),
        );
    };
    note("same link", again(hostile, captured.iter()).await);
    note(
        "same link, last first",
        again(hostile, captured.iter().rev()).await,
    );
    hostile.session = open(&hostile.target, &hostile.peer).await?;
    note("another connection", again(hostile, captured.iter()).await);
    let (as_sent, as_own) = other_link(hostile, arguments, &captured).await?;
    note("another peer's link", as_sent);
    note("another peer's link, signed by that peer", as_own);

    say("restart")?;
    told("restarted").await?;
    hostile.session = open(&hostile.target, &hostile.peer).await?;
    note("after a restart", again(hostile, captured.iter()).await);

    let new = new_envelope_key()?;
    let both: [&Ed25519KeyPair; 2] = [&hostile.peer.envelope_key, &new];
    let manifest = hostile.peer.manifest_of(2, &both, now_ms())?;
    hostile.served.replace(manifest);
    settle_key(hostile, &new).await?;
    note("after a new key", again(hostile, captured.iter()).await);
    let mut signed_anew = Fates::default();
    for one in &captured {
        let envelopes: Vec<Envelope> = one.envelopes.iter().map(|old| under(&new, old)).collect();
        let bytes = signed_by(&new, &envelopes);
        signed_anew += hostile.send_until_judged(&bytes, one.size()).await;
    }
    note("signed anew with the new key", signed_anew);

    // The server looks for a newer manifest when it meets a key that it does not know.
    let third = new_envelope_key()?;
    let manifest = hostile.peer.manifest_of(3, &[&new, &third], now_ms())?;
    hostile.served.replace(manifest);
    settle_key(hostile, &third).await?;
    note(
        "after the old key has ended",
        again(hostile, captured.iter()).await,
    );
    Ok(json!({"captured": arguments.count, "ways": found}))
}

/// Sends messages that are all accepted.
async fn capture(hostile: &mut Hostile, count: u32) -> Result<Vec<Captured>> {
    let all = hostile.messages(u64::from(count));
    let mut captured = Vec::new();
    let mut fates = Fates::default();
    for chunk in all.chunks(BATCH) {
        let one = Captured {
            envelopes: chunk.to_vec(),
            bytes: hostile.signed(chunk),
        };
        fates += hostile.send_until_judged(&one.bytes, one.size()).await;
        captured.push(one);
    }
    if fates.accepted == u64::from(count) {
        Ok(captured)
    } else {
        Err(Failure::Operator(format!(
            "not all messages were accepted in the first place: {fates:?}"
        )))
    }
}

async fn again(hostile: &mut Hostile, captured: impl Iterator<Item = &Captured>) -> Fates {
    let mut fates = Fates::default();
    for one in captured {
        fates += hostile.send_until_judged(&one.bytes, one.size()).await;
    }
    fates
}

/// A second peer with an agreement of its own shows what it captured: as it was, and signed by itself.
async fn other_link(
    hostile: &Hostile,
    arguments: &TrialArguments,
    captured: &[Captured],
) -> Result<(Fates, Fates)> {
    let other = Organisation::new(&format!("other.{}", hostile.peer.name))?;
    agree(&arguments.ceremony, &other, NOWHERE, &EVERYTHING).await?;
    let mut session = open(&hostile.target, &other).await?;
    let (mut as_sent, mut as_own) = (Fates::default(), Fates::default());
    for one in captured {
        let own: Vec<Envelope> = one
            .envelopes
            .iter()
            .map(|old| under(&other.envelope_key, old))
            .collect();
        for (bytes, sum) in [
            (one.bytes.clone(), &mut as_sent),
            (signed_by(&other.envelope_key, &own), &mut as_own),
        ] {
            let who = (&hostile.target, &other);
            *sum += send_until_judged(who, &mut session, &bytes, one.size()).await;
        }
    }
    Ok((as_sent, as_own))
}

/// The same envelope under another key: its position hash stays.
fn under(key: &Ed25519KeyPair, envelope: &Envelope) -> Envelope {
    Envelope {
        key_id: key_id(key),
        ..envelope.clone()
    }
}

/// Sends one more message under the new key until it is judged: then the server knows the newest manifest.
async fn settle_key(hostile: &mut Hostile, key: &Ed25519KeyPair) -> Result {
    let payload = hostile.room.message(hostile.next);
    let envelope = under(key, &hostile.envelope(crate::room::MESSAGE, payload));
    let bytes = signed_by(key, &[envelope]);
    let begun = Instant::now();
    loop {
        let fates = hostile.send(bytes.clone(), 1).await;
        // Whatever its receipt says of it, it has been verified.
        if fates.has_receipt() {
            return Ok(());
        }
        if begun.elapsed() > MANIFEST_PATIENCE {
            return Err(Failure::Operator(format!(
                "the server does not learn of a new key: {fates:?}"
            )));
        }
        sleep(ASK_AGAIN).await;
    }
}
