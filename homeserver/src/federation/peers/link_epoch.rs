//! A new numbering of what goes to a peer, when the old one can't be relied on any more.

use std::sync::Arc;

use federation_proto::ids::ServerName;
use federation_proto::link::next_link_epoch;

use super::change::{Change, change_under};
use super::error::PeeringError;
use crate::audit::Actor;
use crate::cluster::Fence;
use crate::node::Node;
use crate::store::peer::PeerRecord;

/// Begins a new link epoch towards the peer: what waits is numbered anew, and what is not answered yet
/// is sent again. For a homeserver that was restored from an old copy, whose lanes are held because the
/// peer is ahead of them; and for one with whose stolen keys somebody has raised the link epoch at the peer.
pub async fn begin_link_epoch(
    node: &Arc<Node>,
    actor: &Actor,
    server: &ServerName,
) -> Result<u64, PeeringError> {
    begin_link_epoch_under(node, actor, server, None).await
}

/// As [`begin_link_epoch`], while the fence holds, if there is one.
pub async fn begin_link_epoch_under(
    node: &Arc<Node>,
    actor: &Actor,
    server: &ServerName,
    fence: Option<&Fence>,
) -> Result<u64, PeeringError> {
    let now_ms = node.clock.now_ms();
    change_under(node, actor, (server, fence), |found| {
        if found
            .restored
            .and_then(|restored| restored.current)
            .is_none()
        {
            return Err(PeeringError::UnknownPeer(server.clone()));
        }
        let before = found.record.link_epoch;
        // Beyond everything that was used after the copy was made, as far as the clock tells.
        let link_epoch = next_link_epoch(before, now_ms);
        Ok(Ok(Change {
            record: PeerRecord {
                link_epoch,
                renumbered: true,
                ..found.record
            },
            action: "link.epoch-begun",
            detail: format!("link epoch {link_epoch} after {before}"),
            answer: link_epoch,
        }))
    })
    .await
}
