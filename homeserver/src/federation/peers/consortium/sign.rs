//! Signing a charter that the administrators of all its members have compared.

use std::sync::Arc;

use federation_proto::agreement::{Charter, ConsortiumError};
use federation_proto::hash::Digest;
use homeserver_api::consortium::SignCharterRequest;

use super::super::ceremony::parse_fingerprint;
use super::super::change::ATTEMPTS_MAX;
use super::super::error::PeeringError;
use super::{Known, known, named, own_root};
use crate::audit::{self, Actor, Event};
use crate::node::{Node, to_its_end};
use crate::store::consortium::{self, ConsortiumRecord};
use crate::store::{Part, PartOutcome, StoreError, Value};

/// Signs a charter whose fingerprint was confirmed, and keeps it as the newest of its consortium.
/// Returns it as text, with the signatures that came with it and our own. Signing again gives the same.
pub async fn sign(
    node: &Arc<Node>,
    actor: &Actor,
    request: &SignCharterRequest,
) -> Result<String, PeeringError> {
    let charter = Charter::from_armor(&request.document, node.clock.now_ms())?;
    let signed = sign_checked(node, actor, charter.clone(), &request.fingerprint).await;
    if let Err(error @ (PeeringError::Document(_) | PeeringError::State(_))) = &signed {
        // Somebody may be trying.
        let event = Event {
            at_ms: node.clock.now_ms(),
            actor: actor.clone(),
            action: "consortium.charter-refused",
            subject: charter.body().consortium.to_string(),
            detail: format!("{}: {error}", named(&charter)),
        };
        node.repeated.note(&node.store, event).await?;
    }
    signed
}

async fn sign_checked(
    node: &Arc<Node>,
    actor: &Actor,
    charter: Charter,
    fingerprint: &str,
) -> Result<String, PeeringError> {
    let confirmed = parse_fingerprint(fingerprint)?;
    for _ in 0..ATTEMPTS_MAX {
        let now_ms = node.clock.now_ms();
        let mut charter = charter.clone();
        let known = known(node, charter.body().consortium).await?;
        let (signed_ms, read) = match known {
            Some(known) => {
                let signed_ms = follow(&mut charter, &known)?.unwrap_or(now_ms);
                (signed_ms, Some(known.read))
            }
            None => (now_ms, None),
        };
        check_our_keys(node, &charter)?;
        let root = own_root(node);
        charter.sign(
            (&node.server, &root),
            &confirmed,
            &node.keys.issuing_key(),
            node.random.as_ref(),
            now_ms,
        )?;
        let record = ConsortiumRecord {
            charter: charter.to_bytes()?,
            signed_ms,
        };
        let action = "consortium.charter-signed";
        if keep(node, actor, action, &charter, &record, read).await? {
            return Ok(charter.to_armor()?);
        }
    }
    Err(PeeringError::Busy)
}

/// When the charter was signed here, if it is the one that is known; then its signatures are joined.
/// Another one must follow the known one.
fn follow(charter: &mut Charter, known: &Known) -> Result<Option<u64>, PeeringError> {
    if charter.sha256() == known.charter.sha256() {
        charter.merge(&known.charter)?;
        return Ok(Some(known.record.signed_ms));
    }
    let (asked, newest) = (charter.body().serial, known.charter.body().serial);
    charter.check_follows(&known.charter).map_err(|_| {
        PeeringError::State(format!(
            "charter {newest} of this consortium was signed here, and this charter {asked} does not follow it: \
             ask for one that was made from charter {newest}"
        ))
    })?;
    Ok(None)
}

/// The others would look for us with these keys: they must be the ones that we show.
fn check_our_keys(node: &Node, charter: &Charter) -> Result<(), PeeringError> {
    let manifest = charter
        .manifest_of(&node.server)
        .ok_or_else(|| ConsortiumError::NotAMember(node.server.clone()))?;
    let current = node.keys.tls_pins().map(Digest::from_bytes);
    let shown = current.iter().any(|pin| manifest.has_tls_pin(pin));
    if !shown && charter.check_ours((&node.server, &own_root(node))).is_ok() {
        return Err(ConsortiumError::OldKeys(node.server.clone()).into());
    }
    Ok(())
}

/// Writes the charter with its audit; false: somebody else was faster.
async fn keep(
    node: &Arc<Node>,
    actor: &Actor,
    action: &'static str,
    charter: &Charter,
    record: &ConsortiumRecord,
    read: Option<Value>,
) -> Result<bool, StoreError> {
    let id = charter.body().consortium;
    let mut part = Part::default();
    consortium::put(&mut part, id, record, read)?;
    let event = Event {
        at_ms: node.clock.now_ms(),
        actor: actor.clone(),
        action,
        subject: id.to_string(),
        detail: named(charter),
    };
    audit::record(&mut part, &event);
    let node = Arc::clone(node);
    let outcome = to_its_end(async move { node.store.commit(part).await }).await?;
    Ok(outcome == PartOutcome::Committed)
}

/// Keeps the signatures that have come to a charter which was signed here.
pub(super) async fn keep_signatures(
    node: &Arc<Node>,
    actor: &Actor,
    charter: &Charter,
    record: &ConsortiumRecord,
    read: Value,
) -> Result<bool, StoreError> {
    let action = "consortium.signatures-kept";
    keep(node, actor, action, charter, record, Some(read)).await
}
