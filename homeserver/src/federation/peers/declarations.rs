//! What a partner has decided about the agreement, as it tells us.

use std::sync::Arc;

use bytes::Bytes;
use federation_proto::agreement::{Agreement, Decided, Declaration};
use federation_proto::ids::ServerName;

use super::ceremony::note_refused;
use super::change::{Change, change};
use super::consortium;
use super::error::PeeringError;
use super::standing::{by_current_keys, current};
use crate::audit::Actor;
use crate::node::Node;
use crate::store::peer::{OurHalf, PeerRecord};

/// Takes a declaration that the peer itself has brought.
pub async fn declaration_from(
    node: &Arc<Node>,
    peer: &ServerName,
    document: Bytes,
) -> Result<(), PeeringError> {
    let actor = Actor::Peer(peer.clone());
    let taken = match Declaration::decode(document).map_err(PeeringError::from) {
        Ok(declaration) => take_declaration(node, &actor, peer, declaration).await,
        Err(error) => Err(error),
    };
    note_refused(node, &actor, peer, &taken).await?;
    taken
}

/// Takes a declaration of `server`. A paused agreement takes no new mail and keeps what waits; one that was
/// ended is over here too, and what waits for the peer returns to its senders.
pub(super) async fn take_declaration(
    node: &Arc<Node>,
    actor: &Actor,
    server: &ServerName,
    declaration: Declaration,
) -> Result<(), PeeringError> {
    if declaration.body().from != *server {
        return Err(PeeringError::Document(format!(
            "the declaration is of {}, not of {server}",
            declaration.body().from
        )));
    }
    let now_ms = node.clock.now_ms();
    change(node, actor, server, |found| {
        let (mut record, agreement) = current(found, server)?;
        let agreement = agreement.ok_or_else(|| {
            PeeringError::State(format!("there is no agreement with {server} to speak of"))
        })?;
        let body = declaration.body();
        by_current_keys(&record, &agreement, &body.manifest)?;
        let (agreement, news) = agreement
            .change(|signed| signed.hear(declaration.clone(), now_ms))
            .map_err(|rejected| rejected.error)?;
        if !news {
            return Ok(Err(()));
        }
        let mut detail = body.reason.clone();
        let (agreement, action) = match (body.decided, agreement) {
            (Decided::Revoked, Agreement::Active(active)) => {
                let revoked = active.revoke(body.reason.clone(), now_ms);
                (Agreement::Revoked(revoked), "peer.revoked-by-partner")
            }
            (Decided::Revoked, Agreement::Suspended(suspended)) => {
                let revoked = suspended.revoke(body.reason.clone(), now_ms);
                (Agreement::Revoked(revoked), "peer.revoked-by-partner")
            }
            (Decided::Suspended, agreement) => (agreement, "peer.suspended-by-partner"),
            (Decided::Resumed, agreement) => (agreement, "peer.resumed-by-partner"),
            (Decided::Refused(amendment), agreement) => {
                detail = format!("amendment {amendment}: {}", body.reason);
                consortium::settle(&mut record, amendment, OurHalf::Refused);
                (agreement, "peer.amendment-refused-by-partner")
            }
            (Decided::Revoked, _) => {
                return Err(PeeringError::Internal(
                    "an agreement that has ended was changed".to_owned(),
                ));
            }
        };
        if matches!(agreement, Agreement::Revoked(_)) {
            record.outgoing.clear();
            record.to_deliver = false;
        }
        Ok(Ok(Change {
            record: PeerRecord {
                current: Some(agreement.record()),
                ..record
            },
            action,
            detail,
            answer: (),
        }))
    })
    .await
}
