//! `GET /admin/v1/server`

use std::sync::Arc;

use axum::extract::State;
use homeserver_api::admin::{PAGE_ENTRIES_MAX, ServerStatus};

use super::error::AdminError;
use crate::federation::peers;
use crate::identity::accounts;
use crate::node::Node;

/// `GET /admin/v1/server`: the homeserver at a glance.
pub(super) async fn handle(
    State(node): State<Arc<Node>>,
) -> Result<axum::Json<ServerStatus>, AdminError> {
    let (mut count, mut devices, mut after) = (0_u64, 0_u64, None);
    loop {
        let page = accounts::list(&node, after.as_ref(), PAGE_ENTRIES_MAX).await?;
        let Some(last) = page.last() else {
            break;
        };
        after = Some(last.address.handle.clone());
        count = count.saturating_add(wide(page.len()));
        devices = devices.saturating_add(wide(page.iter().map(|user| user.devices).sum()));
        tokio::task::yield_now().await;
    }
    Ok(axum::Json(ServerStatus {
        server: node.server.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        root_sha256: hex::encode(node.keys.root_sha256()),
        server_time_ms: node.clock.now_ms(),
        accounts: count,
        devices,
        sessions: wide(node.mailboxes.sessions()),
        warnings: peers::warnings(&node),
    }))
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
