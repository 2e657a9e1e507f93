//! The organisation's keys: shown, changed by hand, revoked; and its root.

pub(super) mod revoke_envelope;
pub(super) mod revoke_tls;
pub(super) mod root_announce;
pub(super) mod root_cancel;
pub(super) mod root_forget;
pub(super) mod root_show;
pub(super) mod root_switch;
pub(super) mod rotate_envelope;
pub(super) mod rotate_tls;
pub(super) mod show;

use std::sync::Arc;

use homeserver_api::admin::PeerState;
use homeserver_api::keys::{KeysStatus, PartnerKnowledge, RootStatus};

use super::error::AdminError;
use crate::audit::Actor;
use crate::federation::peers::root;
use crate::node::{Hint, Node, to_its_end};
use crate::organisation::{Act, Asked};

/// Does what is asked, and shows the keys as they are then.
async fn change(
    node: Arc<Node>,
    actor: Actor,
    asked: Asked,
) -> Result<axum::Json<KeysStatus>, AdminError> {
    act(&node, actor, asked).await?;
    Ok(axum::Json(shown(&node)))
}

/// As [`change`], for what shows the root.
async fn change_root(
    node: Arc<Node>,
    actor: Actor,
    asked: Asked,
) -> Result<axum::Json<RootStatus>, AdminError> {
    act(&node, actor, asked).await?;
    // Devices ask for the roots again.
    node.hint(Hint::PeersChanged);
    Ok(axum::Json(root::status(&node)))
}

async fn act(node: &Arc<Node>, actor: Actor, asked: Asked) -> Result<(), AdminError> {
    let now_ms = node.clock.now_ms();
    let for_act = Arc::clone(node);
    // Keys that are written have to be used, whether whoever asked still waits or not.
    to_its_end(async move {
        let (store, random) = (&for_act.store, for_act.random.as_ref());
        let act = Act::Asked(asked);
        for_act
            .keeper
            .act(store, &actor, &act, now_ms, random)
            .await
    })
    .await?;
    Ok(())
}

/// The keys, and which partners know of them.
fn shown(node: &Node) -> KeysStatus {
    let peers = node.peers.all();
    let partners = peers
        .iter()
        .filter(|peer| matches!(peer.agreed, Some(PeerState::Active | PeerState::Suspended)))
        .map(|peer| PartnerKnowledge {
            server: peer.server.clone(),
            manifest_serial: node.links.known_of_us(&peer.server),
        });
    KeysStatus {
        partners: partners.collect(),
        ..node.keys.status(node.clock.now_ms())
    }
}

/// A pin or a key's id from its hexadecimal digits.
fn bytes<const N: usize>(what: &str, text: &str) -> Result<[u8; N], AdminError> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| {
        AdminError::Malformed(format!(
            "{what} has {} hexadecimal digits, as `GET /admin/v1/keys` shows it",
            2 * N
        ))
    })?;
    Ok(bytes)
}
