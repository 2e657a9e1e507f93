//! What runs beside the listeners, and what happens once before them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{ListenerTls, ServerError, cluster, store_keys, syslog, system};
use crate::audit::{self, Actor};
use crate::backup;
use crate::delivery;
use crate::federation::outbound::TlsNetwork;
use crate::node::{Node, to_its_end};
use crate::organisation::{Act, KeeperError};
use crate::store::notice::Notice;
use crate::store::{StoreError, restored, schema};

/// How often it is looked whether keys and certificates are due, and whether a new issuing CA or root waits.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(60);
/// From when on the log tells that the issuing CA ends, which only the root's owner can renew,
const ISSUING_WARNED_MS: u64 = 90 * 24 * 60 * 60 * 1000;
/// and how often.
const WARNING_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// How often it is looked whether a restored homeserver may serve. An administrator may have said so to another node.
const CONFIRMATION_INTERVAL: Duration = Duration::from_millis(500);

/// Tasks that live as long as the process; dropping this ends them.
#[derive(Default)]
pub(super) struct Tasks(JoinSet<&'static str>);

impl Tasks {
    /// Starts a task that must not end before the process does.
    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.0.spawn(async move {
            task.await;
            name
        });
    }

    /// Resolves with its name when a task ended all the same.
    pub(super) async fn first_ended(&mut self) -> &'static str {
        match self.0.join_next().await {
            Some(Ok(name)) => name,
            Some(Err(error)) => {
                tracing::error!(%error, "a task panicked");
                "a task that panicked"
            }
            None => std::future::pending().await,
        }
    }
}

/// What has to be in memory before anyone is served.
pub(super) async fn prepare(node: &Arc<Node>) -> Result<(), ServerError> {
    schema::check(&node.store).await?;
    cluster::nobody_unminded(node).await?;
    let (store, random) = (&node.store, node.random.as_ref());
    let met = node.keeper.meet(store, node.clock.now_ms(), random).await;
    met.map_err(keeper_failed)?;
    backup::resume(node).await?;
    // Before anyone sees them: what is due is never shown.
    renew(node).await?;
    node.peers.refresh(node).await?;
    delivery::space::look(node).await;
    cluster::join(node).await
}

/// Resolves when a restored homeserver may serve.
pub(super) async fn confirmed(node: &Node) -> Result<(), StoreError> {
    let mut looks = tokio::time::interval(CONFIRMATION_INTERVAL);
    loop {
        looks.tick().await;
        if restored::is_confirmed(&node.store).await? {
            return Ok(());
        }
    }
}

/// Starts what runs whether anybody is served or not.
pub(super) fn start_first(tasks: &mut Tasks, node: &Arc<Node>, tls: &Arc<ListenerTls>) {
    tasks.spawn("renewal", renewals(node.clone(), tls.clone()));
    let sequencer = audit::run_sequencer(
        (node.store.clone(), node.random.clone()),
        node.clock.clone(),
        (node.repeated.clone(), node.from_peers.clone()),
    );
    tasks.spawn("audit sequencer", sequencer);
}

/// Starts what belongs to serving people and peers.
pub(super) fn start(tasks: &mut Tasks, node: &Arc<Node>) {
    let network = TlsNetwork::new(
        node.keys.clone(),
        node.peer_roots.clone(),
        node.clock.clone(),
        node.random.clone(),
        &node.config.discovery,
        node.links.clone(),
    );
    tasks.spawn("federation", federation(node.clone(), network));
    tasks.spawn("disk", delivery::space::run(node.clone()));
    tasks.spawn("sweeper", delivery::expiry::run(node.clone()));
    tasks.spawn("store keys", store_keys::rotate(node.clone()));
    tasks.spawn("keys at hand", store_keys::mind(node.clone()));
    tasks.spawn("departures", delivery::departures::run(node.clone()));
    tasks.spawn("lapsed devices", delivery::lapsed::run(node.clone()));
    tasks.spawn("endings", delivery::endings::run(node.clone()));
    if let Some(config) = &node.config.audit.syslog {
        tasks.spawn("log server", syslog::run(node.clone(), config.clone()));
    }
}

/// Takes up an issuing CA or a root that waits, and renews what is due.
async fn renew(node: &Arc<Node>) -> Result<(), ServerError> {
    for act in [Act::TakeIssuing, Act::TakeRoot, Act::Due] {
        let (for_act, now_ms) = (Arc::clone(node), node.clock.now_ms());
        let done = to_its_end(async move {
            let (store, random) = (&for_act.store, for_act.random.as_ref());
            let keeper = &for_act.keeper;
            keeper
                .act(store, &Actor::System, &act, now_ms, random)
                .await
        });
        match done.await {
            Ok(true) => node.cluster.tell([Notice::Peers]),
            Ok(false) => {}
            Err(error) => return Err(keeper_failed(error)),
        }
    }
    Ok(())
}

fn keeper_failed(error: KeeperError) -> ServerError {
    match error {
        KeeperError::Keys(error) => ServerError::Keys(vec![error]),
        KeeperError::Store(error) => error.into(),
        KeeperError::Folder(error) => system("keys folder")(error),
    }
}

/// Sends to peers and fetches from them; the store's failure ends the process in any case.
async fn federation(node: Arc<Node>, network: TlsNetwork) {
    if let Err(error) = crate::federation::run(node, Arc::new(network)).await {
        tracing::error!(%error, "exchanging with peers has ended");
    }
}

/// Keeps keys and certificates valid while the process runs, and shows the new ones from the moment on that
/// they are in use.
pub(super) async fn renewals(node: Arc<Node>, tls: Arc<ListenerTls>) {
    let mut changed = node.keys.changed();
    let mut looks = tokio::time::interval(RENEWAL_INTERVAL);
    let mut warned: Option<Instant> = None;
    loop {
        tokio::select! {
            _ = changed.changed() => {}
            _ = looks.tick() => {
                if let Err(error) = renew(&node).await {
                    tracing::error!(%error, "keys and certificates could not be renewed; trying again");
                }
                if warned.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL) {
                    warned = Some(Instant::now());
                    warn_of_issuing_end(&node);
                }
            }
        }
        // Also when nothing has changed: what failed before is tried again.
        if let Err(error) = tls.refresh(&node) {
            tracing::error!(%error, "renewed certificates can't be shown; trying again");
        }
    }
}

fn warn_of_issuing_end(node: &Node) {
    let now_ms = node.clock.now_ms();
    let left_ms = node
        .keys
        .status(now_ms)
        .issuing_not_after_ms
        .saturating_sub(now_ms);
    if left_ms <= ISSUING_WARNED_MS {
        tracing::warn!(
            days = left_ms / (24 * 60 * 60 * 1000),
            "the issuing CA ends soon: renew it with the root key (`homeserver ca --help`)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit;
    use crate::node::testing;
    use crate::organisation::{Keeper, KeyFolder};

    const DAY_MS: u64 = 24 * 60 * 60 * 1000;

    /// Goal: a renewal that can't be written is not used, is made again the next time, and each is in the
    /// audit log; by a folder that is missing at first.
    #[tokio::test]
    async fn what_is_not_written_is_renewed_again() {
        let (node, clock) = testing::node("a.example");
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("keys");
        let mut node = Arc::into_inner(node).unwrap();
        node.keeper = Keeper::new(Arc::clone(&node.keys), KeyFolder::at(&path));
        let (node, folder) = (Arc::new(node), KeyFolder::at(&path));
        renew(&node).await.unwrap();
        clock.advance_ms(61 * DAY_MS);
        let before = (node.keys.tls_identity().chain, node.keys.manifest());
        for _ in 0..2 {
            renew(&node).await.unwrap_err();
            let now = (node.keys.tls_identity().chain, node.keys.manifest());
            assert_eq!(now, before, "in use is what is on the disk");
        }

        folder.create(&node.keys).unwrap();
        renew(&node).await.unwrap();
        let load = || folder.load(&node.server, node.clock.now_ms(), node.random.as_ref());
        assert_eq!(load().unwrap().manifest(), node.keys.manifest());
        assert_ne!(node.keys.manifest(), before.1);
        assert_ne!(node.keys.tls_identity().chain, before.0);
        let now = node.keys.manifest();
        renew(&node).await.unwrap();
        assert_eq!(node.keys.manifest(), now, "nothing is due any more");

        let log = audit::page(&node.store, node.random.as_ref(), 0, 9)
            .await
            .unwrap();
        let acts: Vec<_> = log.entries.iter().map(|entry| &entry.action).collect();
        assert_eq!(acts, ["keys.renewed"; 3]);
    }
}
