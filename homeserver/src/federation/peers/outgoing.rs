//! Documents on their way to a peer: kept in its record until it has them.

use std::sync::Arc;

use bytes::Bytes;
use federation_proto::agreement::{Agreement, Consent, Decided, Declaration};
use federation_proto::ids::ServerName;

use super::amendments::newest_after_consent;
use super::change::{Change, change};
use super::error::PeeringError;
use super::standing::current;
use crate::audit::Actor;
use crate::node::Node;
use crate::store::StoreError;
use crate::store::peer::{OutgoingDocument, OutgoingKind, PeerRecord};

/// Documents that wait for one peer.
const WAITING_MAX: usize = 64;

/// Adds a document.
pub(super) fn push(
    outgoing: &mut Vec<OutgoingDocument>,
    kind: OutgoingKind,
    bytes: &Bytes,
) -> Result<(), PeeringError> {
    if outgoing.len() >= WAITING_MAX {
        return Err(PeeringError::State(format!(
            "{WAITING_MAX} documents wait for the peer already: try again when it has taken them"
        )));
    }
    outgoing.push(OutgoingDocument {
        kind,
        bytes: bytes.clone(),
    });
    Ok(())
}

/// Adds a declaration about the agreement's standing; it takes the place of those that still wait, so
/// that pausing never fails for want of room.
pub(super) fn push_standing(outgoing: &mut Vec<OutgoingDocument>, declaration: &Declaration) {
    outgoing.retain(|waits| !is_of_standing(waits));
    outgoing.push(OutgoingDocument {
        kind: OutgoingKind::Declaration,
        bytes: declaration.bytes().clone(),
    });
}

fn is_of_standing(document: &OutgoingDocument) -> bool {
    document.kind == OutgoingKind::Declaration
        && Declaration::decode(document.bytes.clone())
            .is_ok_and(|known| !matches!(known.body().decided, Decided::Refused(_)))
}

/// The peer has the document, or will never take it: `refusal` says why.
pub async fn document_settled(
    node: &Arc<Node>,
    server: &ServerName,
    document: &OutgoingDocument,
    refusal: Option<&str>,
) -> Result<(), StoreError> {
    let now_ms = node.clock.now_ms();
    let noted = change(node, &Actor::System, server, |found| {
        let (mut record, agreement) = current(found, server)?;
        if record.outgoing.first() != Some(document) {
            return Ok(Err(()));
        }
        record.outgoing.remove(0);
        let agreement = match refusal {
            None => agreement.map(|agreement| arrived(agreement, document)),
            Some(_) => agreement,
        };
        let signed = agreement.as_ref().and_then(Agreement::signed);
        if let Some(signed) = signed.filter(|_| document.kind == OutgoingKind::Consent) {
            // From here on the new root alone counts, when there is one.
            let newest = newest_after_consent(&record, signed, now_ms);
            record.manifest = newest.or(record.manifest);
        }
        let current = agreement.map(|agreement| agreement.record());
        let kind = match document.kind {
            OutgoingKind::Amendment => "amendment",
            OutgoingKind::Consent => "consent",
            OutgoingKind::Declaration => "declaration",
        };
        let (action, detail) = match refusal {
            None => ("peer.document-delivered", kind.to_owned()),
            Some(why) => ("peer.document-not-taken", format!("{kind}: {why}")),
        };
        Ok(Ok(Change {
            record: PeerRecord { current, ..record },
            action,
            detail,
            answer: (),
        }))
    })
    .await;
    match noted {
        Err(PeeringError::Store(error)) => Err(error),
        // It is delivered again, which does no harm.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What the arrival of the document means here.
fn arrived(agreement: Agreement, document: &OutgoingDocument) -> Agreement {
    if document.kind != OutgoingKind::Consent {
        return agreement;
    }
    let Ok(consent) = Consent::decode(document.bytes.clone()) else {
        return agreement;
    };
    match agreement.change(|signed| Ok((signed.consent_arrived(&consent), ()))) {
        Ok((agreement, ())) => agreement,
        // It has ended meanwhile.
        Err(rejected) => *rejected.state,
    }
}
