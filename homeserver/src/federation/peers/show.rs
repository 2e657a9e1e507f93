//! Peers as administrators see them.

use federation_proto::agreement::{Agreement, Papers};
use federation_proto::fingerprint::Fingerprint;
use federation_proto::ids::ServerName;
use homeserver_api::admin::{PeerDetail, PeerSummary};

use super::directory::PeerView;
use super::error::PeeringError;
use super::view::{self, Restored};
use crate::node::Node;
use crate::store::{StoreError, peer};

/// All peers, by name.
pub async fn summaries(node: &Node) -> Result<Vec<PeerSummary>, StoreError> {
    let peers = peer::all(&node.store).await?;
    peers
        .iter()
        .map(|(server, record)| Ok(summary(node, &view::of(server, record)?)))
        .collect()
}

/// One peer in full.
pub async fn detail(node: &Node, server: &ServerName) -> Result<PeerDetail, PeeringError> {
    let (record, _) = peer::get(&node.store, server)
        .await?
        .ok_or_else(|| PeeringError::UnknownPeer(server.clone()))?;
    let view = view::of(server, &record)?;
    let restored = Restored::of(&record)?;
    let shown = restored.shown();
    let mut lines = shown.map(lines).unwrap_or_default();
    let in_force = shown.is_some_and(|shown| shown.signed().is_some());
    if in_force && let Some(ceremony) = &restored.ceremony {
        lines.push(match ceremony {
            Agreement::Offered(_) => {
                "We have made a new offer that is not accepted yet.".to_owned()
            }
            _ => "We have accepted a new offer that is not countersigned yet.".to_owned(),
        });
    }
    if let Some(found) = node.links.status(server).found {
        lines.push(format!("Its address: {found}."));
    }
    let reason = match shown {
        Some(Agreement::Suspended(suspended)) => Some(suspended.reason().to_owned()),
        Some(Agreement::Revoked(revoked)) => Some(revoked.reason().to_owned()),
        _ => None,
    };
    Ok(PeerDetail {
        summary: summary(node, &view),
        fingerprint: (!view.root.is_empty()).then(|| Fingerprint::of_root(&view.root).to_string()),
        endpoints: view.endpoints.clone(),
        lines,
        reason,
    })
}

fn summary(node: &Node, view: &PeerView) -> PeerSummary {
    PeerSummary {
        server: view.server.clone(),
        state: view.state,
        reachable: node.links.status(&view.server).reachable,
        expires_ms: (view.agreement.expires_ms != 0).then_some(view.agreement.expires_ms),
    }
}

fn lines(shown: &Agreement) -> Vec<String> {
    match shown {
        Agreement::Offered(offered) => offered.offer().summary(),
        Agreement::Accepted(accepted) => accepted.acceptance().summary(),
        Agreement::Active(active) => active.signed().summary(),
        Agreement::Suspended(suspended) => suspended.signed().summary(),
        Agreement::Expired(expired) => papers_lines(expired.papers()),
        Agreement::Revoked(revoked) => papers_lines(revoked.papers()),
    }
}

fn papers_lines(papers: &Papers) -> Vec<String> {
    match papers {
        Papers::Offer(offer) => offer.summary(),
        Papers::Acceptance(accepted) => accepted.acceptance().summary(),
        Papers::Signed(signed) => signed.summary(),
    }
}
