//! This process among the others of its organisation: hints over the wire, rounds through the database, and what
//! comes of what others tell.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, MissedTickBehavior};
use zeroize::Zeroizing;

use super::{ServerError, system};
use crate::clock::Clock;
use crate::cluster::{Cluster, ClusterError, DATAGRAM_BYTES_MAX, ROUND, Secret};
use crate::config::ClusterConfig;
use crate::delivery::mailboxes::Ring;
use crate::node::{Hint, Node};
use crate::store::StoreError;
use crate::store::lease::Duty;
use crate::store::node_row::{self, Incarnation};
use crate::store::notice::Notice;

/// Largest file of the secret.
const SECRET_BYTES_MAX: u64 = 4096;
/// How long it may take to tell the others that this node ends.
const LEAVING_TIME_MAX: Duration = Duration::from_secs(2);
/// Names of other nodes are looked up again after this time.
const LOOKED_UP_FOR: Duration = Duration::from_secs(30);

/// What a node of several needs beside a single one.
pub(super) struct Membership {
    pub(super) cluster: Arc<Cluster>,
    pub(super) secret: Arc<Secret>,
}

/// Reads the secret, and draws what this process is called among the others.
pub(super) fn membership(
    config: &ClusterConfig,
    clock: &dyn Clock,
    random: &dyn ring::rand::SecureRandom,
) -> Result<Membership, ServerError> {
    let mut content = Zeroizing::new(Vec::<u8>::new());
    File::open(&config.key_file)
        .and_then(|file| file.take(SECRET_BYTES_MAX).read_to_end(&mut content))
        .map_err(system(format!(
            "cluster.key_file {}",
            config.key_file.display()
        )))?;
    let mut incarnation = [0; 16];
    random
        .fill(&mut incarnation)
        .map_err(|_| StoreError::Engine("the system has no randomness".to_owned()))?;
    let cluster = Cluster::member(
        config.node.clone(),
        Incarnation(incarnation),
        clock.now_ms(),
    );
    Ok(Membership {
        cluster: Arc::new(cluster),
        secret: Arc::new(Secret::new(&content)),
    })
}

/// Makes this node known to the others, if it is to have any, and finds out which of them are there.
pub(super) async fn join(node: &Node) -> Result<(), ServerError> {
    let (cluster, store) = (&node.cluster, &node.store);
    cluster.join(store, node.clock.now_ms()).await?;
    // What it hears now it has not missed: nothing is in memory yet.
    let nothing = BTreeSet::new();
    let looked = cluster.round(store, node.clock.now_ms(), &nothing).await?;
    drop(looked);
    Ok(())
}

/// A process that minds no others must not work beside them. Ask before anything is changed.
pub(super) async fn nobody_unminded(node: &Node) -> Result<(), ServerError> {
    if !node.cluster.is_alone() {
        return Ok(());
    }
    let alive = node_row::seen_lately(&node.store, node.clock.now_ms()).await?;
    if alive.is_empty() {
        return Ok(());
    }
    Err(ServerError::Store(StoreError::Engine(format!(
        "nodes of a cluster work on it ({}): write a [cluster] section, or stop them and wait a minute",
        alive.join(", ")
    ))))
}

/// Twice a second, until the node is another process or the store stops.
pub(super) async fn rounds(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(ROUND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match round(&node).await {
            Ok(()) => {}
            Err(ClusterError::Store(StoreError::Stopped)) => std::future::pending().await,
            Err(ClusterError::Store(error)) => {
                tracing::error!(%error, "other nodes can't be looked at; trying again");
            }
            Err(error @ ClusterError::Replaced(_)) => {
                tracing::error!(%error, "this process ends");
                return;
            }
        }
    }
}

/// One round, and what comes of it.
pub(super) async fn round(node: &Arc<Node>) -> Result<(), ClusterError> {
    let peers = node.peers.all().into_iter();
    let mut duties: BTreeSet<Duty> = peers
        .map(|peer| Duty::Outbound(peer.server.clone()))
        .collect();
    duties.insert(Duty::Tasks);
    let now_ms = node.clock.now_ms();
    // Of what others wait for: sessions that were rung have to look, and to end where they are to.
    node.cluster.set_acting(!node.mailboxes.have_looked());
    let heard = node.cluster.round(&node.store, now_ms, &duties).await?;
    apply(node, heard).await;
    Ok(())
}

/// Lets this process go by what has happened at another. What can't be taken up now comes again with the next round, and is
/// not said to have been heard before.
pub(super) async fn apply(node: &Arc<Node>, notices: Vec<Notice>) {
    let mut is_all = true;
    // Each once, and by the most that any of them says.
    let mut notices: BTreeSet<Notice> = notices.into_iter().collect();
    if notices.contains(&Notice::Everything) {
        notices = BTreeSet::from([Notice::Everything]);
    }
    for notice in notices {
        match notice {
            Notice::Everything => is_all &= everything(node).await,
            Notice::Mail(device) => node.mailboxes.ring_here([device], Ring::Mail),
            Notice::Rules(device) => node.mailboxes.look_again(Some(device)),
            Notice::EveryonesRules => node.mailboxes.look_again(None),
            Notice::Devices(device) => node.mailboxes.ring_here([device], Ring::Devices),
            Notice::Opened(device) => node.mailboxes.opened_elsewhere(device),
            Notice::Peers => is_all &= agreements(node).await,
            Notice::Departed => node.hint_here(Hint::Departed),
            // Whoever does not send to the peer has told the one that does.
            Notice::Outbox(server, lane) if node.links.is_served_here(&server) => {
                node.links.mail(&server, [lane]);
            }
            Notice::Retry(server) if node.links.is_served_here(&server) => {
                node.links.retry_now(&server);
            }
            Notice::Heard(server) if node.links.is_served_here(&server) => {
                node.links.heard_from(&server, node.clock.now_ms());
            }
            Notice::Manifest(server) if node.links.is_served_here(&server) => {
                node.links.fetch_manifest(&server);
            }
            Notice::Outbox(..) | Notice::Retry(_) | Notice::Heard(_) | Notice::Manifest(_) => {}
        }
    }
    if !is_all {
        node.cluster.set_missed();
    }
}

/// Something may have been missed, whatever it was; whether all of it is taken up.
async fn everything(node: &Arc<Node>) -> bool {
    let is_all = agreements(node).await;
    node.hint_here(Hint::Departed);
    node.mailboxes.look_again(None);
    node.mailboxes.ring_all(Ring::Mail);
    node.mailboxes.ring_all(Ring::Devices);
    for peer in node.peers.all() {
        if node.links.is_served_here(&peer.server) {
            node.links.retry_now(&peer.server);
        }
    }
    is_all
}

/// Agreements or keys may have changed; whether they are taken up.
async fn agreements(node: &Arc<Node>) -> bool {
    let (store, random) = (&node.store, node.random.as_ref());
    let caught_up = node
        .keeper
        .catch_up(store, node.clock.now_ms(), random)
        .await;
    let mut is_all = true;
    if let Err(error) = caught_up {
        is_all = false;
        tracing::error!(%error, "the keys that another node has written can't be used; trying again");
    }
    if let Err(error) = node.peers.refresh(node).await {
        is_all = false;
        tracing::error!(%error, "agreements can't be read; trying again");
    }
    node.hint_here(Hint::PeersChanged);
    is_all
}

/// Sends hints to the other nodes, and takes theirs.
pub(super) async fn hints(node: Arc<Node>, secret: Arc<Secret>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let sending = send(Arc::clone(&node), Arc::clone(&secret), Arc::clone(&socket));
    tokio::join!(sending, receive(node, secret, socket));
}

async fn send(node: Arc<Node>, secret: Arc<Secret>, socket: Arc<UdpSocket>) {
    let others = node.config.cluster.as_ref();
    let others = others.map_or_else(Vec::new, |cluster| cluster.others.clone());
    let mut addresses: Vec<SocketAddr> = Vec::new();
    let mut looked_up: Option<Instant> = None;
    loop {
        let datagrams = node.cluster.to_send(&secret).await;
        if looked_up.is_none_or(|at| at.elapsed() >= LOOKED_UP_FOR) {
            addresses = look_up(&others).await;
            looked_up = Some(Instant::now());
        }
        for datagram in &datagrams {
            for address in &addresses {
                // One that does not arrive is read from the database in a moment.
                if let Err(error) = socket.send_to(datagram, address).await {
                    tracing::debug!(%address, %error, "a hint could not be sent");
                }
            }
        }
    }
}

/// Where the other nodes are: the first address of each.
async fn look_up(others: &[String]) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for other in others {
        match tokio::net::lookup_host(other.as_str()).await {
            Ok(mut found) => addresses.extend(found.next()),
            Err(error) => tracing::debug!(other, %error, "another node's name is not found"),
        }
    }
    addresses
}

async fn receive(node: Arc<Node>, secret: Arc<Secret>, socket: Arc<UdpSocket>) {
    // One byte more: a longer one is none of ours, and is not taken for its beginning.
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX + 1];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, _)) if length <= DATAGRAM_BYTES_MAX => {
                let datagram = buffer.get(..length).unwrap_or_default();
                let notices = node.cluster.received(&secret, datagram);
                apply(&node, notices).await;
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "a hint could not be received");
                // Errors of an earlier send come back here; one that stays must not keep a processor busy.
                tokio::time::sleep(ROUND).await;
            }
        }
    }
}

/// Gives back what this node alone was doing, for others to go on at once. Nothing may be accepted here any more: nobody
/// would be told.
pub(super) async fn leave(node: &Node) {
    let left = tokio::time::timeout(LEAVING_TIME_MAX, node.cluster.leave(&node.store)).await;
    if !matches!(left, Ok(Ok(()))) {
        tracing::warn!(
            "the other nodes could not be told that this one ends; they see it in a moment"
        );
    }
}

impl From<ClusterError> for ServerError {
    fn from(error: ClusterError) -> Self {
        match error {
            ClusterError::Store(error) => Self::Store(error),
            ClusterError::Replaced(_) => Self::Cluster(error),
        }
    }
}

#[cfg(test)]
mod tests;
