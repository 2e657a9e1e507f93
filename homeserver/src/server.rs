//! The composition root: opens the store, loads the keys, starts listeners and tasks, ends them.
//!
//! Everything that was answered is durable before it is answered, so ending is never a matter of
//! correctness: connections get `SHUTDOWN_TIME_MAX` to finish what they are at, then the process
//! ends. When the store stops taking writes the process ends too, with a failure: it can promise
//! nothing any more.

mod admin_socket;
mod client;
mod cluster;
mod connections;
pub mod engines;
mod federation;
mod heads;
mod health;
mod open_files;
mod refusals;
pub mod store_keys;
mod strangers;
mod syslog;
mod systemd;
mod tasks;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ring::rand::SystemRandom;
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, UdpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::clock::{Clock, SystemClock};
use crate::cluster::{ClusterError, Secret};
use crate::config::{Config, ListenConfig};
use crate::delivery::mailboxes::Ring;
use crate::node::Node;
use crate::organisation::{KeyFolder, OrganisationError};
use crate::store::{Store, StoreError, restored};
use crate::tls::{self, TlsError};
use connections::Ending;
use health::Health;

/// How long open connections may take to finish at the end.
const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(5);

/// Why the homeserver could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Keys or certificates are not as they should be.
    #[error("the organisation's keys can't be used:\n{}", lines(.0))]
    Keys(Vec<OrganisationError>),
    /// The store does not open, or takes no more writes.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This process can't be a node of its cluster.
    #[error(transparent)]
    Cluster(ClusterError),
    /// TLS can't be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Something of the system was refused.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// Why not.
        error: std::io::Error,
    },
    /// A task that must not end has ended.
    #[error("the task `{0}` ended unexpectedly")]
    Task(&'static str),
}

fn lines(errors: &[OrganisationError]) -> String {
    let lines: Vec<_> = errors.iter().map(|error| format!("  {error}")).collect();
    lines.join("\n")
}

fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> ServerError {
    let what = what.into();
    move |error| ServerError::System { what, error }
}

/// TLS of both listeners, replaced when certificates are renewed.
struct ListenerTls {
    client: ArcSwap<rustls::ServerConfig>,
    federation: watch::Sender<Shown>,
}

/// What a listener shows to peers.
#[derive(Clone)]
struct Shown {
    tls: Arc<rustls::ServerConfig>,
    /// The certificate in it.
    leaf: CertificateDer<'static>,
}

impl ListenerTls {
    fn new(node: &Node) -> Result<Self, TlsError> {
        Ok(Self {
            client: ArcSwap::new(tls::client_listener(&node.keys, node.clock.clone())?),
            federation: watch::Sender::new(Self::federation(node)?),
        })
    }

    fn refresh(&self, node: &Node) -> Result<(), TlsError> {
        self.client
            .store(tls::client_listener(&node.keys, node.clock.clone())?);
        self.federation.send_replace(Self::federation(node)?);
        Ok(())
    }

    fn federation(node: &Node) -> Result<Shown, TlsError> {
        // First: should the keys change in between, connections give way once too often, and not once too seldom.
        let leaf = node.keys.tls_leaf();
        let (roots, clock) = (node.peer_roots.clone(), node.clock.clone());
        let tls = tls::federation_listener(&node.keys, roots, clock)?;
        Ok(Shown { tls, leaf })
    }
}

/// Runs the homeserver until a signal ends it.
pub async fn run(config: Config) -> Result<(), ServerError> {
    let mut signals = Signals::listen()?;
    let (node, secret) = open_node(config).await?;
    tasks::prepare(&node).await?;
    open_files::look(&node.config.limits);
    let tls = Arc::new(ListenerTls::new(&node)?);
    let health = Arc::new(Health::new(&node));
    let (ending, ended) = connections::ending();

    // Everything is bound before anything is served: a start either succeeds whole or fails. But for a homeserver that was
    // restored and that nobody has confirmed: it listens to its operator alone.
    let is_confirmed = restored::is_confirmed(&node.store).await?;
    let listen = &node.config.listen;
    let doors = match is_confirmed {
        true => Some(Doors::open(listen).await?),
        false => None,
    };
    let metrics = match listen.metrics {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let hints = match &node.config.cluster {
        Some(cluster) => Some(bind_hints(cluster.listen).await?),
        None => None,
    };
    let admin = admin_socket::bind(&listen.admin_socket).map_err(system(format!(
        "admin socket {}",
        listen.admin_socket.display()
    )))?;

    let mut tasks = tasks::Tasks::default();
    tasks::start_first(&mut tasks, &node, &tls);
    // Others have to know of this one also while nobody is served.
    if let (Some(secret), Some(socket)) = (secret, hints) {
        tasks.spawn("cluster", cluster::rounds(node.clone()));
        tasks.spawn("hints", cluster::hints(node.clone(), secret, socket));
    }
    tasks.spawn(
        "admin socket",
        admin_socket::serve(node.clone(), admin, ending.clone()),
    );
    if let Some(metrics) = metrics {
        tasks.spawn(
            "metrics listener",
            health::serve(health.clone(), metrics, ending.clone()),
        );
    }
    let doors = match doors {
        Some(doors) => doors,
        None => {
            health.set_unconfirmed(true);
            // systemd waits for this; `/readyz` says how it is.
            systemd::notify("READY=1");
            systemd::notify("STATUS=restored, and not confirmed: hsctl restored");
            tracing::warn!(
                "this homeserver was restored, and nobody has confirmed what came back: nobody is served before \
                 `hsctl restored confirm`"
            );
            tokio::select! {
                confirmed = tasks::confirmed(&node) => confirmed?,
                result = until_the_end(&mut signals, &node, &mut tasks) => {
                    systemd::notify("STOPPING=1");
                    tracing::info!("ending");
                    wind_down(ending, ended, tasks).await;
                    cluster::leave(&node).await;
                    return result;
                }
            }
            tracing::info!("what came back is confirmed: everybody is served from now on");
            health.set_unconfirmed(false);
            // Another node may have changed agreements meanwhile.
            node.peers.refresh(&node).await?;
            Doors::open(listen).await?
        }
    };
    tasks::start(&mut tasks, &node);
    doors.serve(&mut tasks, &node, (&tls, &health, &ending));
    health.set_ready(true);
    if is_confirmed {
        systemd::notify("READY=1");
    } else {
        systemd::notify("STATUS=");
    }
    tracing::info!(
        server = %node.server,
        client = %listen.client,
        federation = %listen.federation,
        version = env!("CARGO_PKG_VERSION"),
        "ready"
    );

    let result = until_the_end(&mut signals, &node, &mut tasks).await;
    health.set_ready(false);
    systemd::notify("STOPPING=1");
    tracing::info!("ending");
    node.mailboxes.ring_all(Ring::Stopping);
    wind_down(ending, ended, tasks).await;
    cluster::leave(&node).await;
    result
}

/// Resolves when the process has to end, or is asked to.
async fn until_the_end(
    signals: &mut Signals,
    node: &Node,
    tasks: &mut tasks::Tasks,
) -> Result<(), ServerError> {
    tokio::select! {
        () = signals.asked_to_end() => Ok(()),
        error = node.store.stopped() => Err(ServerError::Store(error)),
        name = tasks.first_ended() => Err(ServerError::Task(name)),
    }
}

/// What people, peers and strangers come in by.
struct Doors {
    client: TcpListener,
    federation: TcpListener,
    offers: Option<TcpListener>,
}

impl Doors {
    async fn open(listen: &ListenConfig) -> Result<Self, ServerError> {
        Ok(Self {
            client: bind(listen.client).await?,
            federation: bind(listen.federation).await?,
            offers: match listen.offers {
                Some(address) => Some(bind(address).await?),
                None => None,
            },
        })
    }

    /// Serves whoever comes in.
    fn serve(
        self,
        tasks: &mut tasks::Tasks,
        node: &Arc<Node>,
        (tls, health, ending): (&Arc<ListenerTls>, &Arc<Health>, &Ending),
    ) {
        tasks.spawn(
            "client listener",
            client::serve(
                node.clone(),
                self.client,
                tls.clone(),
                health.client.clone(),
                ending.clone(),
            ),
        );
        tasks.spawn(
            "federation listener",
            federation::serve(
                node.clone(),
                self.federation,
                tls.clone(),
                health.federation.clone(),
                ending.clone(),
            ),
        );
        if let Some(offers) = self.offers {
            tasks.spawn(
                "listener for strangers",
                strangers::serve(
                    node.clone(),
                    offers,
                    tls.clone(),
                    health.strangers.clone(),
                    ending.clone(),
                ),
            );
        }
    }
}

/// Opens the store and loads the keys. With other nodes, the secret that they share comes beside.
async fn open_node(config: Config) -> Result<(Arc<Node>, Option<Arc<Secret>>), ServerError> {
    #[expect(clippy::disallowed_methods, reason = "the process's own randomness")]
    let random = Arc::new(SystemRandom::new());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let keys = KeyFolder::at(config.server.keys_dir())
        .load(&config.server.name, clock.now_ms(), random.as_ref())
        .map_err(ServerError::Keys)?;
    let membership = match &config.cluster {
        Some(cluster) => {
            let (clock, random) = (clock.as_ref(), random.as_ref());
            Some(cluster::membership(cluster, clock, random)?)
        }
        None => None,
    };
    let generations = store_keys::open(&config).await?;
    let engine = engines::open(&config).await?;
    let store = Store::sealed(engine, generations, random.clone()).await?;
    let (cluster, secret) = membership
        .map(|membership| (membership.cluster, membership.secret))
        .unzip();
    let (cluster, keys) = (cluster.unwrap_or_default(), Arc::new(keys));
    let mut node = Node::among(cluster, config, keys, store, (clock, random));
    if let Some(secret) = &secret {
        node.keeper.share(Arc::clone(secret));
    }
    Ok((Arc::new(node), secret))
}

async fn bind_hints(address: SocketAddr) -> Result<UdpSocket, ServerError> {
    UdpSocket::bind(address)
        .await
        .map_err(system(format!("can't listen for hints on {address}")))
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address)
        .await
        .map_err(system(format!("can't listen on {address}")))
}

/// What asks the process to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on a signal ends the process in order, not at once.
    fn listen() -> Result<Self, ServerError> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(system("signal handler"))?,
            interrupt: signal(SignalKind::interrupt()).map_err(system("signal handler"))?,
        })
    }

    /// Resolves when the process is asked to end.
    async fn asked_to_end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!("terminated by signal"),
            _ = self.interrupt.recv() => tracing::info!("interrupted"),
        }
    }
}

/// Lets open connections finish, for a while.
async fn wind_down(ending: Ending, ended: connections::Ended, tasks: tasks::Tasks) {
    ending.begin();
    drop(ending);
    drop(tasks);
    if tokio::time::timeout(SHUTDOWN_TIME_MAX, ended.wait())
        .await
        .is_err()
    {
        tracing::warn!("some connections did not end in time");
    }
}
