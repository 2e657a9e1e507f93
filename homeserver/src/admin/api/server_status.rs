//! `GET /admin/v1/server`

use std::sync::Arc;

use axum::extract::State;
use federation_proto::fingerprint::Fingerprint;
use homeserver_api::admin::{NodeStatus, PAGE_ENTRIES_MAX, ServerStatus, StoreKeys};

use super::error::AdminError;
use crate::audit::syslog;
use crate::clock::as_text;
use crate::delivery::{audit_heads, reports};
use crate::federation::peers;
use crate::identity::accounts;
use crate::node::Node;
use crate::store::{reconcile, restored};

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
    let mut warnings = peers::warnings(&node).await?;
    warnings.extend(audit_heads::warnings(&node).await?);
    warnings.extend(log_server_waits(&node).await?);
    warnings.extend(reports_wait(&node).await?);
    warnings.extend(disk_is_short(&node));
    warnings.extend(was_restored(&node).await?);
    Ok(axum::Json(ServerStatus {
        server: node.server.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        root_sha256: hex::encode(node.keys.root_sha256()),
        root_words: Fingerprint::of_root(&node.keys.root()).words().join(" "),
        server_time_ms: node.clock.now_ms(),
        accounts: count,
        devices,
        sessions: wide(node.mailboxes.sessions()),
        nodes: nodes(&node).await?,
        store_keys: store_keys(&node),
        warnings,
    }))
}

/// The nodes of this organisation, when there are several, and which leases each holds.
async fn nodes(node: &Node) -> Result<Vec<NodeStatus>, AdminError> {
    let nodes = node.cluster.status(&node.store).await?;
    let shown = nodes.into_iter().map(|node| NodeStatus {
        name: node.name,
        is_this: node.is_this,
        is_alive: node.is_alive,
        version: node.version,
        started_ms: node.started_ms,
        leases: node.duties,
    });
    Ok(shown.collect())
}

/// That the log server does not get the audit log.
async fn log_server_waits(node: &Node) -> Result<Option<String>, AdminError> {
    /// So long nothing is said of it: a log server may be restarted.
    const SILENCE_MS: u64 = 10 * 60 * 1000;
    let Some(server) = &node.config.audit.syslog else {
        return Ok(None);
    };
    let (count, since_ms) = syslog::waiting(&node.store).await?;
    let is_late = since_ms.is_none_or(|at_ms| node.clock.now_ms().abs_diff(at_ms) >= SILENCE_MS);
    let last = since_ms.map_or_else(
        || "it has not got any yet".to_owned(),
        |at_ms| format!("it got the last one on {}", as_text(at_ms)),
    );
    Ok((count > 0 && is_late).then(|| {
        format!(
            "{count} entries of the audit log wait for the log server {}, and {last}: this homeserver's log says why.",
            server.host
        )
    }))
}

fn store_keys(node: &Node) -> Option<StoreKeys> {
    let status = node.store.seals()?.status();
    Some(StoreKeys {
        generation: status.generation,
        since_ms: status.since_ms,
        destroyed_ms: status.destroyed_ms,
    })
}

/// That the homeserver was restored lately, and with whom it has yet to find out what they have had.
async fn was_restored(node: &Node) -> Result<Vec<String>, AdminError> {
    /// So long it is told.
    const TOLD_MS: u64 = 30 * 24 * 60 * 60 * 1000;
    let Some(record) = restored::get(&node.store).await? else {
        return Ok(Vec::new());
    };
    let mut warnings = Vec::new();
    if !record.is_confirmed {
        warnings.push(
            "Nobody is served yet, for devices, users and agreements may have ended after the backup: `hsctl restored` shows \
             what came back, and `hsctl restored confirm` lets everybody in."
                .to_owned(),
        );
    }
    if node.clock.now_ms().saturating_sub(record.restored_ms) < TOLD_MS {
        warnings.push(format!(
            "This homeserver was restored on {} from a backup of {}: what was answered in between is lost.",
            as_text(record.restored_ms),
            as_text(record.made_ms)
        ));
    }
    for peer in node.peers.all() {
        if reconcile::is_due(&node.store, &peer.server).await? {
            warnings.push(format!(
                "{} has not been reached since this homeserver was restored: mail for it waits until it says what it has had.",
                peer.server
            ));
        }
    }
    Ok(warnings)
}

/// That nothing new is taken.
fn disk_is_short(node: &Node) -> Option<String> {
    let free = node.space.free().filter(|_| node.space.is_short())?;
    Some(format!(
        "The disk is nearly full ({free}): new messages and files are put off until {} bytes are free; people read and \
         delete as ever.",
        free.enough()
    ))
}

/// That reports of abuse wait for somebody to look at them.
async fn reports_wait(node: &Node) -> Result<Option<String>, AdminError> {
    /// More need not be counted.
    const COUNTED_MAX: usize = 100;
    let open = reports::list(node, None, Some(true), COUNTED_MAX).await?;
    Ok(match open.len() {
        0 => None,
        1 => Some("1 report of abuse is open: `hsctl reports list` shows it.".to_owned()),
        count => {
            let more = if count == COUNTED_MAX { " or more" } else { "" };
            Some(format!(
                "{count}{more} reports of abuse are open: `hsctl reports list` shows them."
            ))
        }
    })
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
