//! What goes out to peers: one task for each, which sends what waits in the outbox.
//!
//! A task does one thing at a time, beside the few transactions that it has under way. It is woken by its own
//! bell, never by polling; what it knows is in the store, so that it may die at any moment.
//!
//! Of several nodes one sends to a peer: whatever its task writes is written under that node's lease.

mod backoff;
mod cuts;
mod damage;
mod links;
mod network;
mod queue;
mod request;
mod serials;
mod settle;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use federation_proto::ids::ServerName;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::delivery::{audit_heads, log_heads};
use crate::federation::files;
use crate::federation::peers::{self, PeerView};
use crate::node::{Hint, Node};
use crate::store::lease::Duty;
use crate::store::{Part, StoreError, dead_letters, report};

pub use links::{LinkStatus, Links};
pub(in crate::federation) use links::{MANIFEST_EVERY_MS, MANIFESTS_AT_ONCE_MAX};
pub use network::{Network, ResponseBody, TlsNetwork};
pub(in crate::federation) use request::PROBLEM_BYTES_MAX;
pub(super) use settle::clear;

use damage::Damage;
use serials::Serials;
use worker::{Worker, reached};

/// How often agreements, and offers under way, are looked through for those whose last day is past, and old dead letters are
/// deleted.
const ROUND: Duration = Duration::from_secs(30);
/// An agreement whose end could not be noted is looked at again after this time.
const LOOK_AGAIN_MS: u64 = 100;
/// How long a task that has ended stays away.
const RESPAWN_DELAY: Duration = Duration::from_millis(500);
/// Reports of abuse deleted in one round.
const REPORTS_DELETED: usize = 1000;

/// Serves all peers, and fetches files from them, until it is dropped. It ends when the store does, and not for a
/// record that does not decode.
pub async fn run(node: Arc<Node>, network: Arc<dyn Network>) -> Result<(), StoreError> {
    let network: Arc<dyn Network> = Arc::new(Serials::over(Arc::clone(&node), network));
    let mut hints = node.hints();
    let mut keys = node.keys.changed();
    let mut duties = node.cluster.changed();
    let mut damage = Damage::default();
    refresh(&node, &mut damage).await?;
    let mut tasks = JoinSet::new();
    let mut fetching: Option<AbortHandle> = None;
    let mut workers: HashMap<ServerName, AbortHandle> = HashMap::new();
    let mut rounds = tokio::time::interval(ROUND);
    // From when on tasks that have ended are started again; `None`: at once, should there be any.
    let mut respawn_at: Option<Instant> = None;
    loop {
        respawn_at = respawn_at.filter(|at| *at > Instant::now());
        while tasks.try_join_next().is_some() {
            respawn_at.get_or_insert_with(|| Instant::now() + RESPAWN_DELAY);
        }
        let may_start = |task: &AbortHandle| task.is_finished() && respawn_at.is_none();
        // Files that are asked for are fetched beside the mail, and must not wait for it.
        if fetching.as_ref().is_none_or(may_start) {
            let fetches = files::run(Arc::clone(&node), Arc::clone(&network));
            fetching = Some(tasks.spawn(fetches));
        }
        for peer in node.peers.all() {
            if !node.links.is_served_here(&peer.server) {
                // Another node sends to it. What is cut off here is under way there again, and the peer takes it once.
                if let Some(former) = workers.remove(&peer.server) {
                    former.abort();
                }
            } else if workers.get(&peer.server).is_none_or(may_start) {
                let worker =
                    Worker::new(Arc::clone(&node), Arc::clone(&network), peer.server.clone());
                workers.insert(peer.server.clone(), tasks.spawn(worker.run()));
            }
            // What is under way there ends now, not when it is answered.
            cut_if_ended(&node, network.as_ref(), &peer.server);
        }
        tokio::select! {
            // Whoever made the change may have gone before taking the snapshot anew.
            () = changed(&mut hints) => refresh(&node, &mut damage).await?,
            Ok(()) = keys.changed() => {
                for peer in node.peers.all() {
                    node.links.announce(&peer.server);
                }
            }
            Ok(()) = duties.changed() => {}
            _ = rounds.tick() => round(&node, &mut damage).await?,
            () = first_end(&node) => round(&node, &mut damage).await?,
            // Not at once: what has just failed most likely fails again. What else there is to do, a cut above all,
            // does not wait with it.
            Some(_) = tasks.join_next() => {
                respawn_at.get_or_insert_with(|| Instant::now() + RESPAWN_DELAY);
            }
            () = reached(respawn_at) => {}
        }
    }
}

/// Takes the snapshot of agreements anew.
async fn refresh(node: &Arc<Node>, damage: &mut Damage) -> Result<(), StoreError> {
    let refreshed = node.peers.refresh(node).await;
    let act = ("agreements are read", "");
    damage.pass_over(node, act, refreshed).await?;
    Ok(())
}

/// Cuts what is under way with `server`, once its agreement is no longer in force.
fn cut_if_ended(node: &Node, network: &dyn Network, server: &ServerName) {
    let agreed = || node.peers.get(server).and_then(|peer| peer.agreed);
    let link = node.links.link(server);
    link.cuts.look(agreed, || network.cut(server));
}

/// Waits until agreements have changed.
async fn changed(hints: &mut tokio::sync::broadcast::Receiver<Hint>) {
    loop {
        match hints.recv().await {
            Ok(Hint::PeersChanged) | Err(RecvError::Lagged(_)) => return,
            Ok(_) => {}
            // The node is gone; whoever runs this is about to drop it.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Waits until the first of the agreements ends, while that is nearer than the next round: nothing of it
/// passes after its last day, and connections are cut then.
async fn first_end(node: &Node) {
    if !node.cluster.holds(&Duty::Tasks) {
        return std::future::pending().await;
    }
    let now_ms = node.clock.now_ms();
    let ends = node
        .peers
        .all()
        .into_iter()
        .filter_map(|peer| peer.ends_ms());
    let left_ms = ends
        .min()
        .map(|ends_ms| ends_ms.saturating_sub(now_ms).max(LOOK_AGAIN_MS));
    match left_ms.map(Duration::from_millis) {
        Some(left) if left < ROUND => tokio::time::sleep(left).await,
        Some(_) | None => std::future::pending().await,
    }
}

/// What is due by the clock. What meets a record that does not decode is passed over: all else is due nevertheless.
async fn round(node: &Arc<Node>, damage: &mut Damage) -> Result<(), StoreError> {
    if !node.cluster.holds(&Duty::Tasks) {
        return Ok(());
    }
    let now_ms = node.clock.now_ms();
    for peer in node.peers.all() {
        let server = &peer.server;
        let done = round_with(node, &peer, now_ms).await;
        damage
            .pass_over(node, ("an agreement's last days", server.as_str()), done)
            .await?;
        if peer.in_force(now_ms).is_ok() {
            let told = log_heads::tell(node, server).await;
            damage
                .pass_over(node, ("telling of the device log", server.as_str()), told)
                .await?;
            let told = audit_heads::tell(node, server).await;
            damage
                .pass_over(node, ("telling of the audit log", server.as_str()), told)
                .await?;
        }
    }
    let deleted = dead_letters::delete_old(&node.store, now_ms).await;
    let act = ("deleting old dead letters", "");
    damage.pass_over(node, act, deleted).await?;
    let mut part = Part::default();
    report::delete_old(&node.store, &mut part, now_ms, REPORTS_DELETED).await?;
    if !part.writes.is_empty() {
        node.store.commit(part).await?;
    }
    Ok(())
}

/// What is due of the agreement with one peer.
async fn round_with(node: &Arc<Node>, peer: &PeerView, now_ms: u64) -> Result<(), StoreError> {
    if peer.ends_ms().is_some_and(|ends_ms| now_ms >= ends_ms) {
        return peers::expire(node, &peer.server).await;
    }
    if peer.is_signed() {
        peers::consortium::catch_up(node, &peer.server).await?;
        peers::warn(node, peer).await?;
    }
    Ok(())
}
