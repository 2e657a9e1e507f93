//! Documents from files: said in plain language, and taken where they can't arrive online.

use std::sync::Arc;

use federation_proto::agreement::{
    Acceptance, Agreement, Amendment, Consent, Countersignature, Decided, Declaration, Document,
    DocumentBody, Offer,
};
use federation_proto::armor::{self, Kind};
use federation_proto::fingerprint::Fingerprint;
use federation_proto::ids::ServerName;
use homeserver_api::admin::DocumentSummary;

use super::amendments::{take_amendment, take_consent};
use super::ceremony::{made_already, take_countersignature};
use super::declarations::take_declaration;
use super::error::PeeringError;
use super::view::Restored;
use crate::audit::Actor;
use crate::node::Node;
use crate::store::peer;

const EVIDENCE: &str = "this is evidence of deprovisioning: `hsctl evidence verify` reads it";

/// A document in plain language; changes nothing.
pub async fn inspect(node: &Node, text: &str) -> Result<DocumentSummary, PeeringError> {
    let now_ms = node.clock.now_ms();
    let kind = armor::detect(text).map_err(|error| PeeringError::Document(error.to_string()))?;
    let (from, to, fingerprint, mut lines) = match kind {
        Kind::Offer => {
            let offer = Offer::from_armor(text, now_ms)?;
            let mut shown = described(&offer, Offer::summary);
            if offer.body().answer_by_ms < now_ms {
                let line = "Its time to be accepted is over: ask for a new one.";
                shown.3.push(line.to_owned());
            }
            shown
        }
        Kind::Acceptance => described(&Acceptance::from_armor(text, now_ms)?, Acceptance::summary),
        Kind::Amendment => {
            let amendment = Amendment::from_armor(text, now_ms)?;
            let changes = changes(node, &amendment).await?;
            let mut shown = described(&amendment, Amendment::summary);
            shown.3.extend(changes);
            shown
        }
        Kind::Countersignature => {
            let body = Countersignature::from_armor(text)?.body().clone();
            let line = format!(
                "{} countersigns the acceptance by {}: the agreement is complete.",
                body.from, body.to
            );
            let known = known_fingerprint(node, &body.from);
            (body.from, body.to, known, vec![line])
        }
        Kind::Consent => {
            let body = Consent::from_armor(text)?.body().clone();
            let line = format!("{} consents to an amendment by {}.", body.from, body.to);
            let known = known_fingerprint(node, &body.from);
            (body.from, body.to, known, vec![line])
        }
        Kind::Declaration => {
            let body = Declaration::from_armor(text)?.body().clone();
            let what = match body.decided {
                Decided::Suspended => "has suspended its agreement with",
                Decided::Resumed => "has resumed its agreement with",
                Decided::Revoked => "has revoked its agreement with",
                Decided::Refused(_) => "does not consent to an amendment by",
            };
            let line = format!("{} {what} {}: {:?}.", body.from, body.to, body.reason);
            let known = known_fingerprint(node, &body.from);
            (body.from, body.to, known, vec![line])
        }
        Kind::Evidence => return Err(PeeringError::Document(EVIDENCE.to_owned())),
        Kind::Introduction | Kind::Charter => {
            return Err(PeeringError::Document(format!(
                "this is of a consortium ({kind}): `hsctl consortium show` reads charters"
            )));
        }
    };
    let obstacle = match taken_here(node, text, kind, [&from, &to]).await? {
        Taken::Never(obstacle) => Some(obstacle),
        Taken::Before(line) => {
            lines.push(line);
            None
        }
        Taken::NotYet => None,
    };
    Ok(DocumentSummary {
        kind: kind.to_string(),
        from,
        to,
        obstacle,
        fingerprint: fingerprint.map_or_else(String::new, |known| known.to_string()),
        words: fingerprint.map_or_else(String::new, |known| known.words().join(" ")),
        lines,
    })
}

/// Whether an offer or an acceptance can be taken here, as far as that does not depend on who really made it. It
/// is judged again when the document is taken.
enum Taken {
    /// It can, or is of another kind.
    NotYet,
    /// It was, and what came of it can be had again.
    Before(String),
    /// It can't: why.
    Never(String),
}

async fn taken_here(
    node: &Node,
    text: &str,
    kind: Kind,
    [from, to]: [&ServerName; 2],
) -> Result<Taken, PeeringError> {
    if !matches!(kind, Kind::Offer | Kind::Acceptance) {
        return Ok(Taken::NotYet);
    }
    if *from == node.server {
        return Ok(Taken::Never(format!(
            "this {kind} is your own: send it to the administrator of {to}"
        )));
    }
    if *to != node.server {
        return Ok(Taken::Never(format!(
            "the {kind} is for {to}, and this is {}",
            node.server
        )));
    }
    let stored = peer::get(&node.store, from).await?;
    let restored = stored
        .map(|(record, _)| Restored::of(&record))
        .transpose()?;
    let (current, ceremony) = match &restored {
        Some(restored) => (restored.current.as_ref(), restored.ceremony.as_ref()),
        None => (None, None),
    };
    let signed = current.and_then(Agreement::signed);
    let now_ms = node.clock.now_ms();
    Ok(if kind == Kind::Offer {
        let offer = Offer::from_armor(text, now_ms)?;
        let waits = matches!(ceremony, Some(Agreement::Accepted(own)) if *own.offer() == offer);
        let stands = signed.is_some_and(|signed| *signed.offer() == offer);
        match (waits, stands) {
            (true, _) => Taken::Before(format!(
                "This offer was accepted here already, and waits for the countersignature of {from}. Should the \
                 acceptance be lost, the same `hsctl peer accept` gives it again."
            )),
            (_, true) => Taken::Never(made_already(from)),
            _ => Taken::NotYet,
        }
    } else {
        let acceptance = Acceptance::from_armor(text, now_ms)?;
        if signed.is_some_and(|signed| *signed.acceptance() == acceptance) {
            Taken::Before(format!(
                "This acceptance was countersigned already: see `hsctl peer show {from}`. Should the \
                 countersignature be lost, `hsctl peer countersign` gives it again."
            ))
        } else if matches!(ceremony, Some(Agreement::Offered(_))) {
            Taken::NotYet
        } else {
            Taken::Never(format!(
                "there is no offer to {from} that waits for an acceptance: make one first"
            ))
        }
    })
}

/// Who states what to whom, and under which root.
fn described<B: DocumentBody>(
    document: &Document<B>,
    summary: impl Fn(&Document<B>) -> Vec<String>,
) -> (ServerName, ServerName, Option<Fingerprint>, Vec<String>) {
    let statement = document.statement();
    (
        statement.from.clone(),
        statement.to.clone(),
        Some(document.manifest().identity().fingerprint()),
        summary(document),
    )
}

fn known_fingerprint(node: &Node, server: &ServerName) -> Option<Fingerprint> {
    let peer = node.peers.get(server)?;
    Some(peer.manifest.as_ref()?.identity().fingerprint())
}

/// What an amendment changes in the agreement that stands here, a sentence a line.
async fn changes(node: &Node, amendment: &Amendment) -> Result<Vec<String>, PeeringError> {
    let (ours, from) = (&node.server, &amendment.statement().from);
    let partner = if from == ours {
        &amendment.statement().to
    } else {
        from
    };
    let stored = peer::get(&node.store, partner).await?;
    let restored = stored
        .map(|(record, _)| Restored::of(&record))
        .transpose()?;
    let signed = restored
        .as_ref()
        .and_then(|restored| restored.current.as_ref()?.signed());
    let changes = signed.and_then(|signed| {
        let statement = signed.statement_of(signed.side_of(from)?);
        Some(statement.changes_to(amendment.statement()))
    });
    Ok(match changes {
        Some(changes) => changes.iter().map(ToString::to_string).collect(),
        None => vec![format!(
            "There is no agreement with {partner} that it could amend."
        )],
    })
}

/// Takes what a partner could not deliver online: a countersignature, an amendment, a consent or a
/// declaration. Returns the partner.
pub async fn take(node: &Arc<Node>, actor: &Actor, text: &str) -> Result<ServerName, PeeringError> {
    let kind = armor::detect(text).map_err(|error| PeeringError::Document(error.to_string()))?;
    match kind {
        Kind::Countersignature => {
            let document = Countersignature::from_armor(text)?;
            let server = document.body().from.clone();
            take_countersignature(node, actor, &server, document).await?;
            Ok(server)
        }
        Kind::Amendment => {
            let document = Amendment::from_armor(text, node.clock.now_ms())?;
            let server = document.statement().from.clone();
            take_amendment(node, actor, &server, document).await?;
            Ok(server)
        }
        Kind::Consent => {
            let document = Consent::from_armor(text)?;
            let server = document.body().from.clone();
            take_consent(node, actor, &server, document).await?;
            Ok(server)
        }
        Kind::Declaration => {
            let document = Declaration::from_armor(text)?;
            let server = document.body().from.clone();
            take_declaration(node, actor, &server, document).await?;
            Ok(server)
        }
        Kind::Offer => Err(PeeringError::Document(
            "this is an offer: accept it with `hsctl peer accept`".to_owned(),
        )),
        Kind::Acceptance => Err(PeeringError::Document(
            "this is an acceptance: countersign it with `hsctl peer countersign`".to_owned(),
        )),
        Kind::Evidence => Err(PeeringError::Document(EVIDENCE.to_owned())),
        Kind::Introduction | Kind::Charter => Err(PeeringError::Document(format!(
            "this is of a consortium ({kind}): `hsctl consortium` takes it"
        ))),
    }
}
