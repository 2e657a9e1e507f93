//! From a signed charter to peers.

use std::sync::Arc;

use federation_proto::agreement::{Agreement, Charter, Record};
use federation_proto::ids::ServerName;
use homeserver_api::consortium::{JoinOutcome, Joined, JoinedPair};

use super::super::ceremony::{clear_ended, in_force, is_in_force, not_older};
use super::super::change::{Change, Found, change};
use super::super::error::PeeringError;
use super::super::expiry::expire;
use super::renew::{Progress, renew};
use super::{Known, known, named};
use crate::audit::Actor;
use crate::node::Node;
use crate::store::StoreError;
use crate::store::consortium::ConsortiumRecord;

/// What came of a pair, and that in words.
type Outcome = (JoinOutcome, String);

/// Makes a peer of every member who has signed the charter that was signed here, and lets the agreements that a
/// former charter has made go on by it. Any other that stands is left as it is; joining again makes up for what is
/// missing.
pub async fn join(node: &Arc<Node>, actor: &Actor, text: &str) -> Result<Joined, PeeringError> {
    let mut charter = Charter::from_armor(text, node.clock.now_ms())?;
    let id = charter.body().consortium;
    let serial = charter.body().serial;
    let known = known(node, id).await?.ok_or_else(not_signed_here)?;
    let newest = known.charter.body().serial;
    if serial < newest {
        return Err(PeeringError::State(format!(
            "this is charter {serial}, and charter {newest} of the consortium was signed here since: \
             join with that one"
        )));
    }
    if charter.sha256() != known.charter.sha256() {
        return Err(not_signed_here());
    }
    charter.merge(&known.charter)?;
    let record = ConsortiumRecord {
        charter: charter.to_bytes()?,
        signed_ms: known.record.signed_ms,
    };
    if record != known.record {
        // Somebody who does the same at this moment keeps no less.
        super::sign::keep_signatures(node, actor, &charter, &record, known.read.clone()).await?;
    }
    let known = Known {
        record,
        charter,
        read: known.read,
    };
    let charter = &known.charter;
    let others = charter.body().members.iter().map(|member| &member.server);
    let others: Vec<_> = others.filter(|server| **server != node.server).collect();
    let mut pairs = Vec::with_capacity(others.len());
    for server in others {
        let (outcome, detail) = pair(node, actor, &known, server).await?;
        pairs.push(JoinedPair {
            server: server.clone(),
            outcome,
            detail,
        });
    }
    Ok(Joined {
        consortium: id,
        serial,
        pairs,
    })
}

fn not_signed_here() -> PeeringError {
    PeeringError::State(
        "this charter has not been signed here: compare its fingerprint with all members, and sign it first"
            .to_owned(),
    )
}

async fn pair(
    node: &Arc<Node>,
    actor: &Actor,
    known: &Known,
    server: &ServerName,
) -> Result<Outcome, StoreError> {
    let (charter, signed_ms) = (&known.charter, known.record.signed_ms);
    if !charter.is_signed_by(server) {
        let detail = "has not signed: join again with its signature".to_owned();
        return Ok((JoinOutcome::NotSigned, detail));
    }
    let ends_ms = node.peers.get(server).and_then(|peer| peer.ends_ms());
    if ends_ms.is_some_and(|ends_ms| node.clock.now_ms() >= ends_ms) {
        // Its last day is over: what follows is another agreement.
        expire(node, server).await?;
    }
    let progress = match renew(node, actor, server, known).await {
        Ok(Progress::OfItsOwn) | Err(PeeringError::UnknownPeer(_)) => None,
        Ok(Progress::Renewed) => {
            let detail = "goes on by this charter, with its terms and until its end".to_owned();
            Some((JoinOutcome::Renewed, detail))
        }
        Ok(Progress::Waits(detail)) => Some((JoinOutcome::Renewing, detail)),
        Ok(Progress::Kept(detail)) => Some((JoinOutcome::Kept, detail)),
        Err(PeeringError::Store(error)) => return Err(error),
        Err(error) => Some((JoinOutcome::Refused, error.to_string())),
    };
    if let Some(outcome) = progress {
        return Ok(outcome);
    }
    let made = match clear_ended(node, server).await {
        Ok(()) => {
            change(node, actor, server, |found| {
                decide(node, charter, signed_ms, server, found)
            })
            .await
        }
        Err(error) => Err(error),
    };
    match made {
        Ok(outcome) => Ok(outcome),
        Err(PeeringError::Store(error)) => Err(error),
        // One member's trouble is not the others'.
        Err(error) => Ok((JoinOutcome::Refused, error.to_string())),
    }
}

fn decide(
    node: &Node,
    charter: &Charter,
    signed_ms: u64,
    server: &ServerName,
    found: Found,
) -> Result<Result<Change<Outcome>, Outcome>, PeeringError> {
    let now_ms = node.clock.now_ms();
    let active = charter.pair(&node.server, server, now_ms)?;
    let current = found.restored.as_ref().and_then(|r| r.current.as_ref());
    if is_in_force(&found.record) {
        let standing = current.and_then(Agreement::signed);
        let same = standing.is_some_and(|signed| signed.sha256() == active.signed().sha256());
        return Ok(Err(if same {
            let detail = "follows from this charter already".to_owned();
            (JoinOutcome::Known, detail)
        } else {
            let detail = "another agreement stands and is kept as it is: amend it, or revoke it and join again";
            (JoinOutcome::Kept, detail.to_owned())
        }));
    }
    if found.record.ceremony.is_some() {
        let detail = format!(
            "an offer is under way: finish it, or `hsctl peer revoke {server}` and join again"
        );
        return Ok(Err((JoinOutcome::Kept, detail)));
    }
    if let Some(Record::Revoked { at_ms, .. }) = found.record.current
        && at_ms > signed_ms
    {
        let detail = "was revoked here after the charter was signed: make a new agreement by `hsctl peer offer`";
        return Ok(Err((JoinOutcome::Left, detail.to_owned())));
    }
    not_older(&found.record, active.signed().partner_manifest(), now_ms)?;
    Ok(Ok(Change {
        record: in_force(found.record, active, now_ms),
        action: "peer.joined",
        detail: named(charter),
        answer: (JoinOutcome::Made, "in force from now on".to_owned()),
    }))
}
