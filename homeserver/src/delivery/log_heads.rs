//! Heads of device logs between homeservers: ours is told to each peer as it grows, theirs are held to what was
//! known, so that a log that is shown differently to different people shows.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use federation_proto::codec::Wire as _;
use federation_proto::device_log::{Growth, LogError, SignedHead};
use federation_proto::ids::ServerName;
use federation_proto::payload::{LogHead, Payload};
use federation_proto::refusal::RefusalCode;

use super::batch::{Batch, NotTaken, Times};
use super::envelope::malformed;
use super::limits::{LOG_FAULT_NOTED_MS, LOG_HEAD_TTL_MS, LOG_HEADS_PAUSE_MS};
use crate::audit::Actor;
use crate::identity::device_log::Reader;
use crate::node::Node;
use crate::store::log_heads::{self, Known, Told};
use crate::store::{PartOutcome, StoreError};

/// Tells `peer` how our log stands, if it has grown since the last time and that was a while ago.
pub async fn tell(node: &Node, peer: &ServerName) -> Result<(), StoreError> {
    let (told, read) = log_heads::told(&node.store, peer).await?;
    let mut batch = Batch::open(node).await?;
    let since_ms = batch.now_ms.abs_diff(told.at_ms);
    if told.at_ms != 0 && since_ms < LOG_HEADS_PAUSE_MS {
        return Ok(());
    }
    let (head, growth) = node
        .device_log
        .head(node, Reader::Peer(peer), told.size)
        .await?;
    let size = head.claims().size;
    if size <= told.size {
        return Ok(());
    }
    let now = Told {
        size,
        at_ms: batch.now_ms,
    };
    log_heads::put_told(&mut batch.part, peer, now, read)?;
    let growth = growth.filter(|growth| growth.from > 0);
    let payload = Payload::LogHead(LogHead { head, growth });
    let times = Times {
        accepted_ms: batch.now_ms,
        expires_ms: batch.now_ms.saturating_add(LOG_HEAD_TTL_MS),
    };
    match batch.send(peer, None, &payload, times, None).await {
        Ok(()) => {}
        // As much waits for it as may: it is told the next time.
        Err(NotTaken::Refused(_) | NotTaken::Deferred { .. }) => return Ok(()),
        Err(NotTaken::Store(error)) => return Err(error),
    }
    match batch.commit().await? {
        PartOutcome::Committed => Ok(()),
        // Somebody else has told it, or agreements have changed: the next round looks again.
        PartOutcome::Conflict => Ok(()),
    }
}

/// Takes what a peer says of its own log.
pub(super) async fn take(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    said: LogHead,
) -> Result<(), NotTaken> {
    verify(batch, peer, &said.head)?;
    let (known, read) = log_heads::known(&batch.node.store, peer).await?.unzip();
    let Some(mut known) = known else {
        let known = Known::first(said.head);
        return Ok(log_heads::put_known(&mut batch.part, peer, &known, read)?);
    };
    let (before, now) = (known.head.claims(), said.head.claims());
    // Overtaken on its way by a newer one.
    if now.size < before.size && now.at_ms <= before.at_ms {
        return Ok(());
    }
    let growth = said.growth.as_ref();
    let from = growth.map(|growth| growth.from);
    // One that was only heard of is held to as well.
    if let Some(heard) = known.heard.clone()
        && (now.size == heard.claims().size || from == Some(heard.claims().size))
        && let Err(fault) = now.follows(heard.claims(), growth)
    {
        return faulty(batch, peer, known, read, (&heard, &said.head, &fault));
    }
    if now.size <= before.size || before.size == 0 || from == Some(before.size) {
        if let Err(fault) = now.follows(before, growth) {
            let before = known.head.clone();
            return faulty(batch, peer, known, read, (&before, &said.head, &fault));
        }
        known.grow(said.head);
    } else {
        // What it has grown from never arrived here: the next answer has to have grown from both.
        known.heard = Some(said.head);
    }
    Ok(log_heads::put_known(&mut batch.part, peer, &known, read)?)
}

/// Holds the head in an answer against what the peer has told before. It is not kept: what is kept grows from
/// one LogHead to the next. But one that was only heard of is taken, once the answer has grown from both. What the
/// question has `named` the answer has to have grown from.
pub(super) async fn check(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    (head, growth): (&SignedHead, &[Growth]),
    named: &[u64],
) -> Result<(), NotTaken> {
    verify(batch, peer, head)?;
    let Some((mut known, read)) = log_heads::known(&batch.node.store, peer).await? else {
        return Ok(());
    };
    let now = head.claims();
    let mut all_shown = true;
    for signed in std::iter::once(&known.head).chain(&known.heard) {
        let before = signed.claims();
        let shown = growth.iter().find(|growth| growth.from == before.size);
        // Both may have been told since the question.
        let may_miss = now.size != before.size && !named.contains(&before.size);
        if may_miss && (now.size < before.size || shown.is_none()) {
            all_shown = false;
            continue;
        }
        if let Err(fault) = now.follows(before, shown) {
            let signed = signed.clone();
            return faulty(batch, peer, known, Some(read), (&signed, head, &fault));
        }
    }
    match known.heard.take() {
        Some(heard) if all_shown => {
            known.grow(heard);
            Ok(log_heads::put_known(
                &mut batch.part,
                peer,
                &known,
                Some(read),
            )?)
        }
        _ => Ok(()),
    }
}

fn verify(batch: &mut Batch<'_>, peer: &ServerName, head: &SignedHead) -> Result<(), NotTaken> {
    let view = batch.peer(peer).ok_or_else(|| {
        NotTaken::refused(RefusalCode::NoAgreement, "there is no agreement with you")
    })?;
    let (root, now_ms) = (Bytes::from(view.root.clone()), batch.now_ms);
    head.verify(peer, &root, &view.former_roots(), now_ms)
        .map(|_| ())
        .map_err(|error| malformed(error.to_string()))
}

/// The log has forked or gone back: both heads go to the audit log, as they were signed. What was known stays.
fn faulty(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    known: Known,
    read: Option<crate::store::Value>,
    (before, shown, fault): (&SignedHead, &SignedHead, &LogError),
) -> Result<(), NotTaken> {
    let noted = known
        .fault_ms
        .is_some_and(|at_ms| batch.now_ms.abs_diff(at_ms) < LOG_FAULT_NOTED_MS);
    if noted {
        return Ok(());
    }
    tracing::error!(%peer, %fault, "a partner shows its device log differently than before");
    let text = |head: &SignedHead| head.to_bytes().map(|bytes| STANDARD.encode(bytes));
    for (which, head) in [("known before", before), ("shown now", shown)] {
        let signed = text(head).unwrap_or_default();
        let detail = format!("{fault}; {which}: {signed}");
        batch.audit(Actor::Peer(peer.clone()), "device-log.fault", peer, detail);
    }
    let known = Known {
        fault_ms: Some(batch.now_ms),
        ..known
    };
    Ok(log_heads::put_known(&mut batch.part, peer, &known, read)?)
}
