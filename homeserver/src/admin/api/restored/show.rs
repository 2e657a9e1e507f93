//! `GET /admin/v1/restored`

use std::sync::Arc;

use axum::extract::State;
use homeserver_api::admin::{PAGE_ENTRIES_MAX, RestoredAgreement, RestoredStatus};

use super::super::error::AdminError;
use super::record;
use crate::identity::accounts;
use crate::node::Node;

/// `GET /admin/v1/restored`: as of when everything is, and what there is to compare with what has ended since.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
) -> Result<axum::Json<RestoredStatus>, AdminError> {
    let record = record(&node).await?;
    let (mut users, mut suspended, mut devices) = (0_u64, 0_u64, 0_u64);
    let mut after = None;
    loop {
        let page = accounts::list(&node, after.as_ref(), PAGE_ENTRIES_MAX).await?;
        let Some(last) = page.last() else {
            break;
        };
        after = Some(last.address.handle.clone());
        for user in &page {
            users = users.saturating_add(1);
            suspended = suspended.saturating_add(u64::from(user.suspended));
            devices = devices.saturating_add(u64::try_from(user.devices).unwrap_or(u64::MAX));
        }
        tokio::task::yield_now().await;
    }
    let peers = node.peers.all();
    let agreements = peers.iter().map(|peer| RestoredAgreement {
        server: peer.server.clone(),
        state: peer.state,
    });
    Ok(axum::Json(RestoredStatus {
        made_ms: record.made_ms,
        restored_ms: record.restored_ms,
        is_confirmed: record.is_confirmed,
        users,
        suspended,
        devices,
        agreements: agreements.collect(),
    }))
}
