//! What runs beside the listeners, and what happens once before them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::SecureRandom;
use tokio::task::JoinSet;

use super::{ListenerTls, ServerError, system};
use crate::audit;
use crate::delivery;
use crate::federation::outbound::TlsNetwork;
use crate::node::Node;
use crate::organisation::{KeyFolder, Keys};
use crate::store::schema;

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
    tasks.spawn("audit sequencer", audit::run_sequencer(node.clone()));
}

/// Renews keys and certificates that are due, and writes them.
pub(super) fn renew(
    keys: &Keys,
    folder: &KeyFolder,
    now_ms: u64,
    random: &dyn SecureRandom,
) -> Result<bool, ServerError> {
    let renewed = keys
        .renew(now_ms, random)
        .map_err(|error| ServerError::Keys(vec![error]))?;
    if renewed {
        folder.replace(keys).map_err(system("keys folder"))?;
        tracing::info!("keys and certificates that were due are renewed");
    }
    Ok(renewed)
}

/// Sends to peers and fetches from them; the store's failure ends the process in any case.
async fn federation(node: Arc<Node>, network: TlsNetwork) {
    if let Err(error) = crate::federation::run(node, Arc::new(network)).await {
        tracing::error!(%error, "exchanging with peers has ended");
    }
}

/// Keeps keys and certificates valid while the process runs.
async fn renewals(node: Arc<Node>, tls: Arc<ListenerTls>) {
    let folder = KeyFolder::at(node.config.server.keys_dir());
    loop {
        tokio::time::sleep(RENEWAL_INTERVAL).await;
        let now_ms = node.clock.now_ms();
        let renewed = renew(&node.keys, &folder, now_ms, node.random.as_ref());
        let refreshed = match renewed {
            Ok(true) => tls.refresh(&node).map_err(ServerError::from),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = refreshed {
            tracing::error!(%error, "keys and certificates could not be renewed; trying again");
        }
    }
}
