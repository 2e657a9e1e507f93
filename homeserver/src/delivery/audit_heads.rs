//! Heads of audit logs between homeservers: each tells its own to every peer, holds theirs to what it saw before, and
//! signs what it has seen; so a log that was rewritten is known outside (protocol section 17).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use federation_proto::audit_log::{Sighting, SignedAuditHead, SignedSighting};
use federation_proto::codec::Wire;
use federation_proto::device_log::LogError;
use federation_proto::ids::ServerName;
use federation_proto::payload::{AuditHead, Payload};
use federation_proto::refusal::RefusalCode;

use super::batch::{Batch, NotTaken, Times};
use super::envelope::malformed;
use super::limits::{
    AUDIT_FAULT_NOTED_MS, AUDIT_HEAD_TTL_MS, AUDIT_HEADS_PAUSE_MS, AUDIT_SIGHTINGS_PAUSE_MS,
};
use crate::audit::{self, Actor, Event, Signer};
use crate::identity::device_log::Reader;
use crate::node::Node;
use crate::store::audit_heads::{self as rows, Told, Witnessed};
use crate::store::{Part, PartOutcome, StoreError, Value};

/// Tries of an administrator's act that meets another one.
const ATTEMPTS_MAX: usize = 8;

/// Our log's head as of now, signed so that it holds for `reader`.
pub async fn head(node: &Node, reader: Reader<'_>) -> Result<SignedAuditHead, StoreError> {
    let (issuing, key) = (reader.issuing(node), node.keys.issuing_key());
    let signer = Signer {
        server: &node.server,
        issuing: &issuing,
        key: &key,
    };
    let (store, random) = (&node.store, node.random.as_ref());
    audit::signed_head(store, random, signer, node.clock.now_ms()).await
}

/// Tells `peer` how our log stands, if it has grown since the last time and that was a while ago.
pub async fn tell(node: &Node, peer: &ServerName) -> Result<(), StoreError> {
    let (told, read) = rows::told(&node.store, peer).await?;
    let since_ms = node.clock.now_ms().abs_diff(told.at_ms);
    if told.at_ms != 0 && since_ms < AUDIT_HEADS_PAUSE_MS {
        return Ok(());
    }
    let head = head(node, Reader::Peer(peer)).await?;
    let size = head.claims().size;
    if size <= told.size {
        return Ok(());
    }
    let seen = told
        .sighting
        .as_ref()
        .map_or(0, |sighting| sighting.claims().size);
    let growth = match seen {
        0 => None,
        seen => audit::growth(&node.store, seen, size).await?,
    };
    let mut batch = Batch::open(node).await?;
    let now = Told {
        size,
        at_ms: batch.now_ms,
        ..told
    };
    rows::put_told(&mut batch.part, peer, &now, read)?;
    let payload = Payload::AuditHead(AuditHead { head, growth });
    let times = times(&batch);
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

fn times(batch: &Batch<'_>) -> Times {
    Times {
        accepted_ms: batch.now_ms,
        expires_ms: batch.now_ms.saturating_add(AUDIT_HEAD_TTL_MS),
    }
}

/// Takes what a peer says of its own log.
pub(super) async fn take(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    said: AuditHead,
) -> Result<(), NotTaken> {
    let view = batch.peer(peer).ok_or_else(no_agreement)?;
    let (root, now_ms) = (Bytes::from(view.root.clone()), batch.now_ms);
    said.head
        .verify(peer, &root, &view.former_roots(), now_ms)
        .map_err(|error| malformed(error.to_string()))?;
    let (known, read) = rows::witnessed(&batch.node.store, peer).await?.unzip();
    let Some(mut known) = known else {
        return answer(batch, peer, Witnessed::first(said.head), read).await;
    };
    let (before, now) = (known.head.claims(), said.head.claims());
    // Overtaken on its way by a newer one.
    if now.size < before.size && now.at_ms <= before.at_ms {
        return Ok(());
    }
    let from = said.growth.as_ref().map(|growth| growth.from);
    // Else nothing shows that it has grown: the peer has not heard yet what was seen of its log, and hears it now.
    if now.size <= before.size || before.size == 0 || from == Some(before.size) {
        if let Err(fault) = now.follows(before, said.growth.as_ref()) {
            return faulty(batch, peer, (known, read), said.head, &fault);
        }
        known.head = said.head;
    }
    answer(batch, peer, known, read).await
}

/// Notes what is known of the peer's log and tells the peer, signed.
async fn answer(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    mut known: Witnessed,
    read: Option<Value>,
) -> Result<(), NotTaken> {
    let now_ms = batch.now_ms;
    let waits =
        known.answered_ms != 0 && now_ms.abs_diff(known.answered_ms) < AUDIT_SIGHTINGS_PAUSE_MS;
    if !waits {
        let seen = sighting(batch.node, peer, &known, now_ms)?;
        let (payload, times) = (Payload::AuditSighting(seen), times(batch));
        match batch.send(peer, None, &payload, times, None).await {
            Ok(()) => known.answered_ms = now_ms,
            // As much waits for it as may: with its next head.
            Err(NotTaken::Refused(_) | NotTaken::Deferred { .. }) => {}
            Err(error @ NotTaken::Store(_)) => return Err(error),
        }
    }
    Ok(rows::put_witnessed(&mut batch.part, peer, &known, read)?)
}

fn sighting(
    node: &Node,
    peer: &ServerName,
    known: &Witnessed,
    now_ms: u64,
) -> Result<SignedSighting, StoreError> {
    let head = known.head.claims();
    let sighting = Sighting {
        witness: node.server.clone(),
        server: peer.clone(),
        size: head.size,
        root: head.root,
        seen_ms: now_ms,
    };
    let issuing = Reader::Peer(peer).issuing(node);
    sighting
        .sign(issuing, &node.keys.issuing_key(), node.random.as_ref())
        .map_err(|error| StoreError::Engine(format!("a sighting could not be signed: {error}")))
}

/// The log has forked or gone back: both heads go to our own audit log, as they were signed. What was known stays.
fn faulty(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    (known, read): (Witnessed, Option<Value>),
    shown: SignedAuditHead,
    fault: &LogError,
) -> Result<(), NotTaken> {
    let is_noted = known
        .fault
        .as_ref()
        .is_some_and(|(_, at_ms)| batch.now_ms.abs_diff(*at_ms) < AUDIT_FAULT_NOTED_MS);
    if is_noted {
        return Ok(());
    }
    tracing::error!(%peer, %fault, "a partner shows its audit log differently than before");
    for (which, head) in [("known before", &known.head), ("shown now", &shown)] {
        let detail = format!("{fault}; {which}: {}", text(head));
        batch.audit(Actor::Peer(peer.clone()), "audit-log.fault", peer, detail);
    }
    let known = Witnessed {
        fault: Some((shown, batch.now_ms)),
        ..known
    };
    Ok(rows::put_witnessed(&mut batch.part, peer, &known, read)?)
}

/// Takes what a peer has seen of our log, and holds our log to it.
pub(super) async fn take_sighting(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    seen: &SignedSighting,
) -> Result<(), NotTaken> {
    let view = batch.peer(peer).ok_or_else(no_agreement)?;
    let (root, now_ms) = (Bytes::from(view.root.clone()), batch.now_ms);
    let claims = seen
        .verify(peer, &root, &view.former_roots(), now_ms)
        .map_err(|error| malformed(error.to_string()))?;
    if claims.server != batch.node.server {
        return Err(malformed(format!(
            "the sighting is of the audit log of {}, not of ours",
            claims.server
        )));
    }
    let store = &batch.node.store;
    let (mut told, read) = rows::told(store, peer).await?;
    // Also what it was never told, as far as is known here: a store that was put back has forgotten that too.
    if audit::root_of(store, claims.size).await? == Some(claims.root) {
        let newer = told.sighting.as_ref().is_none_or(|known| {
            // A smaller one too: a peer that was restored knows less than it did, and hears growth from there.
            let known = known.claims();
            (known.seen_ms, known.size) < (claims.seen_ms, claims.size)
        });
        if !newer {
            return Ok(());
        }
        told.sighting = Some(seen.clone());
    } else {
        let is_noted = told
            .contradiction
            .as_ref()
            .is_some_and(|(_, at_ms)| now_ms.abs_diff(*at_ms) < AUDIT_FAULT_NOTED_MS);
        if is_noted {
            return Ok(());
        }
        tracing::error!(%peer, size = claims.size, "a partner has seen an audit log of ours that is not there");
        let detail = format!(
            "it has seen {} entries that this log never had, or had otherwise: {}",
            claims.size,
            text(seen)
        );
        let actor = Actor::Peer(peer.clone());
        batch.audit(actor, "audit-log.contradicted", peer, detail);
        told.contradiction = Some((seen.clone(), now_ms));
    }
    Ok(rows::put_told(&mut batch.part, peer, &told, read)?)
}

fn no_agreement() -> NotTaken {
    NotTaken::refused(RefusalCode::NoAgreement, "there is no agreement with you")
}

/// As it was signed, for whoever reads the audit log.
fn text(signed: &impl Wire) -> String {
    let bytes = signed.to_bytes();
    bytes.map_or_else(|_| String::new(), |bytes| STANDARD.encode(bytes))
}

/// What is known between a peer and us of both logs.
pub async fn between(
    node: &Node,
    peer: &ServerName,
) -> Result<(Told, Option<Witnessed>), StoreError> {
    let (told, _) = rows::told(&node.store, peer).await?;
    let witnessed = rows::witnessed(&node.store, peer).await?;
    Ok((told, witnessed.map(|(witnessed, _)| witnessed)))
}

/// What administrators should look at: logs that are not what they were.
pub async fn warnings(node: &Node) -> Result<Vec<String>, StoreError> {
    let mut warnings = Vec::new();
    for view in node.peers.all() {
        let peer = &view.server;
        let (told, witnessed) = between(node, peer).await?;
        if let Some((seen, _)) = &told.contradiction {
            warnings.push(format!(
                "{peer} has seen {} entries of this homeserver's audit log, and those are not what is there: the log was \
                 rewritten or restored. `hsctl audit witnesses` shows it; `hsctl audit settle {peer}` ends this warning.",
                seen.claims().size
            ));
        }
        if let Some((fault, _)) = witnessed.and_then(|witnessed| witnessed.fault) {
            warnings.push(format!(
                "The audit log of {peer} is not what it was: it now shows one of {} entries that has not grown from what was \
                 seen before. Ask its administrators; `hsctl audit settle {peer}` takes the new one.",
                fault.claims().size
            ));
        }
    }
    Ok(warnings)
}

/// What became of [`settle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Nothing is warned of any more.
    Done,
    /// Nothing was warned of.
    Nothing,
    /// Others were at the same rows again and again.
    Busy,
}

/// An administrator has seen that logs are not what they were: what the peer shows now counts from here on, and what it
/// has seen of ours is no longer warned of.
pub async fn settle(node: &Node, actor: &Actor, peer: &ServerName) -> Result<Settled, StoreError> {
    for _ in 0..ATTEMPTS_MAX {
        let (mut told, told_read) = rows::told(&node.store, peer).await?;
        let witnessed = rows::witnessed(&node.store, peer).await?;
        let mut part = Part::default();
        if told.contradiction.take().is_some() {
            rows::put_told(&mut part, peer, &told, told_read)?;
        }
        if let Some((mut witnessed, read)) = witnessed
            && let Some((shown, _)) = witnessed.fault.take()
        {
            witnessed.head = shown;
            rows::put_witnessed(&mut part, peer, &witnessed, Some(read))?;
        }
        if part.writes.is_empty() {
            return Ok(Settled::Nothing);
        }
        let event = Event {
            at_ms: node.clock.now_ms(),
            actor: actor.clone(),
            action: "audit-log.settled",
            subject: peer.to_string(),
            detail: String::new(),
        };
        audit::record(&mut part, &event);
        if node.store.commit(part).await? == PartOutcome::Committed {
            return Ok(Settled::Done);
        }
    }
    Ok(Settled::Busy)
}
