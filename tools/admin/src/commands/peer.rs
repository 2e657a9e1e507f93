//! `peer`.

use homeserver_api::admin::{
    AcceptRequest, CountersignRequest, OfferRequest, PeerDetail, PeerState, PeerSummary,
    PeeringDocument, Peers, ReasonRequest, Terms,
};
use homeserver_api::ids::ServerName;

use super::document_file::Destination;
use super::peering_document::{check_usable, confirm_origin, inspect, sheet};
use super::{confirm, read_file};
use super::{peer_amendment, quarantine};
use crate::cli::{PeerCommand, StatementArguments};
use crate::connection::{Admin, Delivery, RootPin};
use crate::failure::Failure;
use crate::output::{Format, facts, list};
use crate::values::{distance, instant_and_distance, now_ms};

/// `peer …`.
pub(super) async fn run(
    admin: &Admin,
    command: PeerCommand,
    format: Format,
) -> Result<(), Failure> {
    match command {
        PeerCommand::List => {
            let peers: Peers = admin.get("/admin/v1/peers").await?;
            format.show(&peers, |peers| peer_list(&peers.peers))
        }
        PeerCommand::Show { server } => {
            let peer: PeerDetail = admin.get(&path(&server)).await?;
            format.show(&peer, peer_sheet)
        }
        PeerCommand::Quarantine(command) => quarantine::run(admin, command, format).await,
        PeerCommand::Offer {
            server,
            deliver,
            deliver_root,
            statement,
            output,
        } => {
            // All of it before the offer, which takes the place of an earlier one.
            let delivery = match (deliver, deliver_root) {
                (Some(url), Some(root)) => {
                    let pin = RootPin::from_hex(&root).map_err(Failure::Usage)?;
                    Some(Delivery::to(&url, &server, pin)?)
                }
                _ => None,
            };
            let destination = Destination::open(&output)?;
            let request = OfferRequest {
                server,
                terms: Some(terms(&statement)?),
                endpoints: statement.endpoints,
                contact: statement.contact,
            };
            let offer: PeeringDocument = admin.post("/admin/v1/peers/offers", &request).await?;
            let next = format!(
                "Send it to the administrator of {}, who runs `hsctl peer accept` on it.",
                request.server
            );
            hand_out(&offer, destination, delivery, format, &next).await
        }
        PeerCommand::Inspect { document } => {
            let (_, summary) = inspect(admin, &document).await?;
            format.show(&summary, sheet)
        }
        PeerCommand::Accept {
            document,
            deliver,
            confirm,
            statement,
            output,
        } => {
            let destination = Destination::open(&output)?;
            let (document, summary) = inspect(admin, &document).await?;
            check_usable(&summary, "offer")?;
            let delivery = match deliver {
                Some(url) => {
                    let pin = RootPin::from_hex(&summary.fingerprint).map_err(Failure::Other)?;
                    Some(Delivery::to(&url, &summary.from, pin)?)
                }
                None => None,
            };
            let request = AcceptRequest {
                document,
                fingerprint: confirm_origin(&summary, &confirm)?,
                terms: Some(terms(&statement)?),
                endpoints: statement.endpoints,
                contact: statement.contact,
            };
            let acceptance: PeeringDocument =
                admin.post("/admin/v1/peers/acceptances", &request).await?;
            let next = format!(
                "Send it back to the administrator of {}, who runs `hsctl peer countersign` on it.",
                summary.from
            );
            hand_out(&acceptance, destination, delivery, format, &next).await
        }
        PeerCommand::Countersign {
            document,
            confirm,
            output,
        } => {
            let destination = Destination::open(&output)?;
            let (document, summary) = inspect(admin, &document).await?;
            check_usable(&summary, "acceptance")?;
            let request = CountersignRequest {
                document,
                fingerprint: confirm_origin(&summary, &confirm)?,
            };
            let countersignature: PeeringDocument = admin
                .post("/admin/v1/peers/countersignatures", &request)
                .await?;
            let next = format!(
                "The agreement with {0} is made; {0} is told online. Should it stay `accepted` there, send this \
                 document for `hsctl peer take`.",
                summary.from
            );
            destination.write(&countersignature, format, &next)
        }
        PeerCommand::Activate { document } => {
            let request = PeeringDocument::new(read_file(&document)?);
            let peer: PeerDetail = admin.post("/admin/v1/peers/activations", &request).await?;
            format.show(&peer, peer_sheet)
        }
        PeerCommand::Amend {
            server,
            change,
            dry_run,
            yes,
            output,
        } => {
            let request = change.request();
            if dry_run {
                return peer_amendment::preview(admin, &server, request, format).await;
            }
            peer_amendment::amend(admin, &server, request, yes, &output, format).await
        }
        PeerCommand::Consent {
            server,
            amendment,
            yes,
            confirm,
            output,
        } => {
            let read = peer_amendment::Read { amendment, yes };
            peer_amendment::consent(admin, &server, read, &confirm, &output, format).await
        }
        PeerCommand::Refuse {
            server,
            reason,
            yes,
        } => {
            let peer = peer_amendment::refuse(admin, &server, reason, yes).await?;
            format.show(&peer, peer_sheet)
        }
        PeerCommand::Suspend { server, reason } => {
            act(admin, &server, "suspend", reason, format).await
        }
        PeerCommand::Resume { server } => {
            let peer: PeerDetail = admin
                .post_empty(&format!("{}/resume", path(&server)))
                .await?;
            format.show(&peer, peer_sheet)
        }
        PeerCommand::Revoke {
            server,
            reason,
            yes,
        } => {
            if !yes {
                confirm(
                    &format!(
                        "End the agreement with {server} for good? What waits returns to its senders."
                    ),
                    "--yes",
                )?;
            }
            act(admin, &server, "revoke", reason, format).await
        }
    }
}

/// Writes a document, and drops it at the partner's. It is written also when the partner can't be reached.
async fn hand_out(
    document: &PeeringDocument,
    destination: Destination,
    delivery: Option<Delivery>,
    format: Format,
    next: &str,
) -> Result<(), Failure> {
    destination.write(document, format, next)?;
    match delivery {
        Some(delivery) => delivery.drop_there(document.document.clone()).await,
        None => Ok(()),
    }
}

pub(super) fn path(server: &ServerName) -> String {
    format!("/admin/v1/peers/{server}")
}

async fn act(
    admin: &Admin,
    server: &ServerName,
    verb: &str,
    reason: String,
    format: Format,
) -> Result<(), Failure> {
    let peer: PeerDetail = admin
        .post(
            &format!("{}/{verb}", path(server)),
            &ReasonRequest { reason },
        )
        .await?;
    format.show(&peer, peer_sheet)
}

pub(super) fn terms(statement: &StatementArguments) -> Result<Terms, Failure> {
    let start = match &statement.terms {
        Some(file) => serde_json::from_str(&read_file(file)?).map_err(|error| {
            Failure::Configuration(format!("{} states no terms: {error}", file.display()))
        })?,
        None => Terms::default(),
    };
    Ok(statement.apply(start))
}

pub(super) fn state(state: PeerState) -> &'static str {
    match state {
        PeerState::Offered => "offered",
        PeerState::Accepted => "accepted",
        PeerState::Active => "active",
        PeerState::Suspended => "suspended",
        PeerState::Expired => "expired",
        PeerState::Revoked => "revoked",
    }
}

fn link(peer: &PeerSummary) -> String {
    match &peer.reachable {
        None => "never tried".to_owned(),
        Some(link) if link.answers => "answers".to_owned(),
        Some(link) => match &link.reason {
            Some(reason) => format!("does not answer: {reason}"),
            None => "does not answer".to_owned(),
        },
    }
}

fn peer_list(peers: &[PeerSummary]) -> String {
    let now_ms = now_ms();
    let rows = peers
        .iter()
        .map(|peer| {
            vec![
                peer.server.to_string(),
                state(peer.state).to_owned(),
                link(peer),
                peer.expires_ms
                    .map_or_else(String::new, |ms| distance(ms, now_ms)),
            ]
        })
        .collect();
    let mut text = list(
        &["peer", "agreement", "link", "expires"],
        rows,
        "No peers yet: make an offer to one with `hsctl peer offer`.",
    );
    for warning in peers.iter().flat_map(|peer| &peer.warnings) {
        text.push_str("\n! ");
        text.push_str(warning);
    }
    text
}

fn peer_sheet(peer: &PeerDetail) -> String {
    let summary = &peer.summary;
    let mut rows = vec![
        ("peer", summary.server.to_string()),
        ("agreement", state(summary.state).to_owned()),
        ("link", link(summary)),
    ];
    rows.extend(
        summary
            .expires_ms
            .map(|ms| ("expires", instant_and_distance(ms))),
    );
    rows.extend(peer.fingerprint.clone().map(|text| ("fingerprint", text)));
    if !peer.endpoints.is_empty() {
        rows.push(("reached at", peer.endpoints.join(", ")));
    }
    rows.extend(
        peer.reason
            .clone()
            .filter(|text| !text.is_empty())
            .map(|text| ("reason", text)),
    );
    let mut text = facts(rows);
    if !peer.lines.is_empty() {
        text.push('\n');
    }
    for line in &peer.lines {
        text.push_str("\n- ");
        text.push_str(line);
    }
    for warning in &summary.warnings {
        text.push_str("\n! ");
        text.push_str(warning);
    }
    let ours = "We propose, and wait for their consent";
    let theirs = "They propose, and wait for `hsctl peer consent` or `hsctl peer refuse`";
    for (title, proposal) in [(ours, &peer.own_proposal), (theirs, &peer.proposal)] {
        if let Some(proposal) = proposal {
            text.push_str("\n\n");
            text.push_str(&peer_amendment::proposal_sheet(title, proposal));
        }
    }
    text
}
