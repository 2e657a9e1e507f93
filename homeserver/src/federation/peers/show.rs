//! Peers as administrators see them.

use federation_proto::agreement::{Agreement, Papers, Signed};
use federation_proto::fingerprint::Fingerprint;
use federation_proto::ids::ServerName;
use homeserver_api::admin::{PeerDetail, PeerSummary};

use super::amendments::proposal;
use super::consortium;
use super::directory::PeerView;
use super::error::PeeringError;
use super::expiry::due;
use super::view::{self, Restored};
use crate::node::Node;
use crate::store::{StoreError, peer};

/// All peers, by name.
pub async fn summaries(node: &Node) -> Result<Vec<PeerSummary>, StoreError> {
    let peers = peer::all(&node.store).await?;
    let mut summaries = Vec::with_capacity(peers.len());
    for (server, record) in &peers {
        summaries.push(summary(node, &view::of(server, record)?).await?);
    }
    Ok(summaries)
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
    let signed = shown.and_then(Agreement::signed);
    lines.extend(signed.into_iter().flat_map(told));
    lines.extend(
        signed
            .into_iter()
            .flat_map(|signed| consortium::lines(signed, &record)),
    );
    let waiting = record.outgoing.len();
    if waiting > 0 {
        lines.push(match waiting {
            1 => "One of our documents has yet to reach it.".to_owned(),
            more => format!("{more} of our documents have yet to reach it."),
        });
    }
    Ok(PeerDetail {
        summary: summary(node, &view).await?,
        fingerprint: (!view.root.is_empty()).then(|| Fingerprint::of_root(&view.root).to_string()),
        endpoints: view.endpoints.clone(),
        lines,
        reason: shown.and_then(|shown| reason(shown, server)),
        proposal: signed.and_then(|signed| proposal(signed, false)),
        own_proposal: signed.and_then(|signed| proposal(signed, true)),
    })
}

/// What an administrator should look at, of all peers.
pub async fn warnings(node: &Node) -> Result<Vec<String>, StoreError> {
    let now_ms = node.clock.now_ms();
    let mut warnings = Vec::new();
    for peer in node.peers.all() {
        warnings.extend(peer_warnings(node, &peer, now_ms).await?);
    }
    Ok(warnings)
}

async fn peer_warnings(
    node: &Node,
    view: &PeerView,
    now_ms: u64,
) -> Result<Vec<String>, StoreError> {
    let mut warnings = Vec::new();
    let server = &view.server;
    if view.is_signed() {
        if let Some(days) = due(view.agreement.expires_ms, now_ms) {
            let mut warning = match days {
                1 => format!("The agreement with {server} ends within 1 day."),
                days => format!("The agreement with {server} ends within {days} days."),
            };
            if let Some(prospect) = consortium::prospect(node, view).await? {
                warning.push(' ');
                warning.push_str(&prospect);
            }
            warnings.push(warning);
        }
        if view.proposed {
            warnings.push(format!(
                "{server} proposes an amendment that waits for an answer."
            ));
        }
    }
    let held = node.links.status(server).held_lanes;
    if held > 0 {
        let lanes = if held == 1 { "lane" } else { "lanes" };
        warnings.push(format!(
            "Mail for {server} is held in {held} {lanes}: it has positions that this homeserver never gave \
             out, so this one may have been restored from an old copy. `hsctl outbox renumber {server}` \
             sends it under new numbers."
        ));
    }
    Ok(warnings)
}

/// What the partner has told us.
fn told(signed: &Signed) -> Vec<String> {
    let partner = &signed.theirs().from;
    let mut lines = Vec::new();
    if signed.heard().pause().is_some() {
        lines.push(format!("{partner} has suspended it."));
    }
    if let Some(refusal) = signed.heard().refusal() {
        lines.push(format!(
            "{partner} did not consent to an amendment of ours: {:?}.",
            refusal.reason
        ));
    }
    lines
}

/// Why it was suspended or revoked, when anybody said so.
fn reason(shown: &Agreement, partner: &ServerName) -> Option<String> {
    let by_partner = |reason: &str| format!("{partner} says: {reason:?}");
    match shown {
        Agreement::Suspended(suspended) => Some(suspended.reason().to_owned()),
        Agreement::Active(active) => {
            let pause = active.signed().heard().pause()?;
            Some(by_partner(&pause.reason))
        }
        Agreement::Revoked(revoked) => Some(match revoked.papers() {
            Papers::Signed(signed) if signed.heard().end().is_some() => {
                by_partner(revoked.reason())
            }
            _ => revoked.reason().to_owned(),
        }),
        _ => None,
    }
}

async fn summary(node: &Node, view: &PeerView) -> Result<PeerSummary, StoreError> {
    Ok(PeerSummary {
        server: view.server.clone(),
        state: view.state,
        reachable: node.links.status(&view.server).reachable.map(Into::into),
        warnings: peer_warnings(node, view, node.clock.now_ms()).await?,
        expires_ms: (view.agreement.expires_ms != 0).then_some(view.agreement.expires_ms),
    })
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
