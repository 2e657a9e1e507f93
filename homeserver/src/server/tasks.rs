//! What runs beside the listeners, and what happens once before them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{ListenerTls, ServerError, system};
use crate::audit::{self, Actor, Event};
use crate::delivery;
use crate::federation::outbound::TlsNetwork;
use crate::node::Node;
use crate::organisation::KeyFolder;
use crate::store::{Part, schema};

/// How often it is looked whether keys and certificates are due.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(60 * 60);

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
    // Before anyone sees them: what is due is never shown.
    renew(node, &folder(node)).await?;
    node.peers.refresh(node).await?;
    Ok(())
}

/// Starts every task.
pub(super) fn start(tasks: &mut Tasks, node: &Arc<Node>, tls: &Arc<ListenerTls>) {
    tasks.spawn("renewal", renewals(node.clone(), tls.clone()));
    let network = TlsNetwork::new(
        node.keys.clone(),
        node.peer_roots.clone(),
        node.clock.clone(),
        node.random.clone(),
        &node.config.discovery,
        node.links.clone(),
    );
    tasks.spawn("federation", federation(node.clone(), network));
    tasks.spawn("sweeper", delivery::expiry::run(node.clone()));
    let sequencer = audit::run_sequencer(
        node.store.clone(),
        node.clock.clone(),
        node.repeated.clone(),
    );
    tasks.spawn("audit sequencer", sequencer);
}

/// Renews keys and certificates that are due: made, written to the audit log and to the folder, and only
/// then used, so that what can't be written is not used either and is made again the next time.
async fn renew(node: &Node, folder: &KeyFolder) -> Result<bool, ServerError> {
    let now_ms = node.clock.now_ms();
    let renewal = node
        .keys
        .renewal(now_ms, node.random.as_ref())
        .map_err(|error| ServerError::Keys(vec![error]))?;
    let Some(renewal) = renewal else {
        return Ok(false);
    };
    // The folder is not part of the store. An entry without new keys tells of an attempt that failed; new
    // keys without an entry there are none.
    let event = Event {
        at_ms: now_ms,
        actor: Actor::System,
        action: "keys.renewed",
        subject: node.server.to_string(),
        detail: renewal.what(),
    };
    let mut part = Part::default();
    audit::record(&mut part, &event);
    node.store.commit(part).await?;
    folder.replace(&renewal).map_err(system("keys folder"))?;
    tracing::info!(what = renewal.what(), "what was due is renewed");
    node.keys.take(renewal);
    Ok(true)
}

fn folder(node: &Node) -> KeyFolder {
    KeyFolder::at(node.config.server.keys_dir())
}

/// Sends to peers and fetches from them; the store's failure ends the process in any case.
async fn federation(node: Arc<Node>, network: TlsNetwork) {
    if let Err(error) = crate::federation::run(node, Arc::new(network)).await {
        tracing::error!(%error, "exchanging with peers has ended");
    }
}

/// Keeps keys and certificates valid while the process runs.
async fn renewals(node: Arc<Node>, tls: Arc<ListenerTls>) {
    let folder = folder(&node);
    // Renewed, and not yet shown by the listeners.
    let mut to_show = false;
    loop {
        tokio::time::sleep(RENEWAL_INTERVAL).await;
        match renew(&node, &folder).await {
            Ok(renewed) => to_show |= renewed,
            Err(error) => {
                tracing::error!(%error, "keys and certificates could not be renewed; trying again");
            }
        }
        if to_show {
            match tls.refresh(&node) {
                Ok(()) => to_show = false,
                Err(error) => {
                    tracing::error!(%error, "renewed certificates can't be shown; trying again");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::testing;

    const DAY_MS: u64 = 24 * 60 * 60 * 1000;

    /// Goal: a renewal that can't be written is not used, is made again the next time, and each is in the
    /// audit log; by a folder that is missing at first.
    #[tokio::test]
    async fn what_is_not_written_is_renewed_again() {
        let (node, clock) = testing::node("a.example");
        let place = tempfile::tempdir().unwrap();
        let folder = KeyFolder::at(place.path().join("keys"));
        assert!(!renew(&node, &folder).await.unwrap(), "nothing is due");
        clock.advance_ms(61 * DAY_MS);
        let before = (node.keys.tls_identity().chain, node.keys.manifest());
        for _ in 0..2 {
            renew(&node, &folder).await.unwrap_err();
            let now = (node.keys.tls_identity().chain, node.keys.manifest());
            assert_eq!(now, before, "in use is what is on the disk");
        }

        folder.create(&node.keys).unwrap();
        assert!(renew(&node, &folder).await.unwrap());
        let loaded = folder
            .load(&node.server, node.clock.now_ms(), node.random.as_ref())
            .unwrap();
        assert_eq!(loaded.manifest(), node.keys.manifest());
        assert_ne!(node.keys.manifest(), before.1);
        assert_ne!(node.keys.tls_identity().chain, before.0);
        assert!(
            !renew(&node, &folder).await.unwrap(),
            "nothing is due any more"
        );

        let log = audit::page(&node.store, 0, 9).await.unwrap();
        let acts: Vec<_> = log.entries.iter().map(|entry| &entry.action).collect();
        assert_eq!(acts, ["keys.renewed"; 3]);
    }
}
