//! Charters and consortia as administrators see them.

use federation_proto::agreement::{Agreement, Charter};
use federation_proto::fingerprint::Fingerprint;
use federation_proto::ids::ServerName;
use homeserver_api::consortium::{CharterMember, CharterSummary, Consortia, Consortium, LeftOut};

use super::super::ceremony::is_in_force;
use super::super::error::PeeringError;
use super::super::prepared::lines;
use super::super::view::{Restored, has_renewed};
use super::renew::{our_statement, renewal};
use super::{Known, restored};
use crate::node::Node;
use crate::store::consortium::ConsortiumRecord;
use crate::store::peer::OurHalf;
use crate::store::{StoreError, Value, consortium, peer};

/// A charter in plain language; changes nothing.
pub async fn inspect(node: &Node, text: &str) -> Result<CharterSummary, PeeringError> {
    let charter = Charter::from_armor(text, node.clock.now_ms())?;
    let known = super::known(node, charter.body().consortium).await?;
    let signed = known.filter(|known| known.charter.sha256() == charter.sha256());
    // One that is not signed here yet would be from now on.
    let known = match signed {
        Some(signed) => Known { charter, ..signed },
        None => as_signed_now(node, charter)?,
    };
    Ok(summary(node, &known).await?)
}

fn as_signed_now(node: &Node, charter: Charter) -> Result<Known, PeeringError> {
    Ok(Known {
        record: ConsortiumRecord {
            charter: charter.to_bytes()?,
            // What has been narrowed so far, the signature speaks of.
            signed_ms: node.clock.now_ms().saturating_add(1),
        },
        charter,
        read: Value::new(),
    })
}

/// The consortia whose charters were signed here.
pub async fn consortia(node: &Node) -> Result<Consortia, StoreError> {
    let mut consortia = Vec::new();
    for record in consortium::all(&node.store).await? {
        let known = Known {
            charter: restored(&record)?,
            record,
            read: Value::new(),
        };
        consortia.push(Consortium {
            charter: summary(node, &known).await?,
            signed_ms: known.record.signed_ms,
        });
    }
    Ok(Consortia { consortia })
}

async fn summary(node: &Node, known: &Known) -> Result<CharterSummary, StoreError> {
    let charter = &known.charter;
    let body = charter.body();
    let mut members = Vec::with_capacity(body.members.len());
    for introduction in charter.introductions() {
        let server = &introduction.server;
        members.push(CharterMember {
            server: server.clone(),
            fingerprint: Fingerprint::of_root(&introduction.root).to_string(),
            signed: charter.is_signed_by(server),
            peer: node.peers.get(server).map(|view| view.state),
            lines: introduction.summary(),
            changes: changes(node, known, server).await?,
        });
    }
    Ok(CharterSummary {
        consortium: body.consortium,
        name: body.name.clone(),
        serial: body.serial,
        fingerprint: charter.fingerprint().to_string(),
        words: charter.fingerprint().words().join(" "),
        expires_ms: body.expires_ms,
        members,
        left_out: left_out(node, charter),
        lines: charter.summary(),
    })
}

/// What the charter still changes in the agreement with a member that it renews, each side's half.
async fn changes(
    node: &Node,
    known: &Known,
    server: &ServerName,
) -> Result<Vec<String>, StoreError> {
    let Some((record, _)) = peer::get(&node.store, server).await? else {
        return Ok(Vec::new());
    };
    let restored = Restored::of(&record)?;
    let current = restored.current.filter(|_| is_in_force(&record));
    let Some(signed) = current.as_ref().and_then(Agreement::signed) else {
        return Ok(Vec::new());
    };
    if known.charter.would_renew(signed).is_err() {
        return Ok(Vec::new());
    }
    let renewal = renewal(&record, known);
    let mut changes = Vec::new();
    if renewal.ours != OurHalf::InForce
        && let Ok(Some(next)) = our_statement(&record, signed.ours(), known)
    {
        changes.extend(lines(&signed.ours().changes_to(&next)));
    }
    if !has_renewed(signed.theirs(), &renewal)
        && let Ok(next) = known.charter.renewed(signed.theirs())
    {
        changes.extend(lines(&signed.theirs().changes_to(&next)));
    }
    Ok(changes)
}

/// Whose agreement a former charter has made, and this one lets run out.
fn left_out(node: &Node, charter: &Charter) -> Vec<LeftOut> {
    let body = charter.body();
    let is_member =
        |server: &ServerName| body.members.iter().any(|member| member.server == *server);
    let peers = node.peers.all().into_iter().filter(|peer| {
        let former = peer.chartered.as_ref().filter(|_| peer.is_signed());
        former.is_some_and(|former| {
            former.consortium == body.consortium && former.serial < body.serial
        }) && !is_member(&peer.server)
    });
    peers
        .map(|peer| LeftOut {
            server: peer.server.clone(),
            expires_ms: peer.agreement.expires_ms,
        })
        .collect()
}
