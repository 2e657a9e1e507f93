//! What every room of the house needs: the organisation's name and keys, the store, the clock,
//! randomness, and hints to tasks of this process.
//!
//! Time, randomness and storage are arguments, so that a whole network of servers can run in one
//! process under a seed. Hints only save waiting: correctness never depends on one arriving.

use std::future::Future;
use std::sync::Arc;

use federation_proto::ids::{FileId, ServerName};
use ring::rand::SecureRandom;
use tokio::sync::{Semaphore, broadcast};

use crate::audit::{FromPeers, Repeated};
use crate::clock::Clock;
use crate::config::{Config, StoreConfig};
use crate::delivery::fetches::Fetches;
use crate::delivery::group_info::Rates;
use crate::delivery::mailboxes::{Mailboxes, Ring};
use crate::delivery::space::Space;
use crate::federation::outbound::Links;
use crate::federation::peers::Directory;
use crate::identity::{AccountsCache, DeviceLog, SignInGuard};
use crate::organisation::{Keeper, KeyFolder, Keys};
use crate::rooms::ObservedRooms;
use crate::rooms::pace::Paces;
use crate::store::{Store, StoreError};
use crate::tls::PeerRoots;

/// Hints kept for a slow listener; one that lags behind reads the store afresh.
const HINTS_WAITING_MAX: usize = 4096;

/// Something happened that a task of this process may wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// Agreements changed: who may connect, and what may pass.
    PeersChanged,
    /// An account or a device is to leave its rooms.
    Departed,
    /// A device asks for a peer's file that is not here yet.
    FileWanted {
        /// The peer.
        server: ServerName,
        /// The file.
        file: FileId,
    },
}

/// The node of one organisation that this process is.
pub struct Node {
    /// The organisation's server name.
    pub server: ServerName,
    /// What the operator decided.
    pub config: Config,
    /// The organisation's keys.
    pub keys: Arc<Keys>,
    /// Changes them.
    pub keeper: Keeper,
    /// The peers that may connect: kept up to date by `federation::peers`.
    pub peer_roots: Arc<PeerRoots>,
    /// What the agreements with peers allow: kept up to date by `federation::peers`.
    pub peers: Arc<Directory>,
    /// Wakes the task that sends to a peer, and knows how that last went.
    pub links: Arc<Links>,
    /// Accounts in memory, each under the policy's serial.
    pub accounts: AccountsCache,
    /// The device log, as far as it was read.
    pub device_log: DeviceLog,
    /// Open sessions and the fill of inboxes.
    pub mailboxes: Arc<Mailboxes>,
    /// Files of peers that could not be fetched.
    pub fetches: Fetches,
    /// How many group infos devices and peers have asked for lately.
    pub group_info_rates: Rates,
    /// How many consents to rooms they have asked for lately.
    pub consent_rates: Rates,
    /// Rooms that are ordered here, as their last commits left them.
    pub observed_rooms: ObservedRooms,
    /// How often rooms were changed lately, and by whom.
    pub paces: Arc<Paces>,
    /// What slows down the guessing of passwords.
    pub sign_in: SignInGuard,
    /// Events that come again and again, to be counted instead of written each.
    pub repeated: Arc<Repeated>,
    /// Events that peers bring about, of which only the first of a minute are written each.
    pub from_peers: Arc<FromPeers>,
    /// Lets one backup be made at a time.
    pub backups: Arc<Semaphore>,
    /// The store.
    pub store: Store,
    /// The disk that the store lies on.
    pub space: Space,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness fit for keys.
    pub random: Arc<dyn SecureRandom + Send + Sync>,
    hints: broadcast::Sender<Hint>,
}

impl Node {
    /// A node over an opened store.
    pub fn new(
        config: Config,
        keys: Arc<Keys>,
        store: Store,
        clock: Arc<dyn Clock>,
        random: Arc<dyn SecureRandom + Send + Sync>,
    ) -> Self {
        Self {
            server: config.server.name.clone(),
            keeper: Keeper::new(Arc::clone(&keys), KeyFolder::at(config.server.keys_dir())),
            keys,
            peer_roots: Arc::default(),
            peers: Arc::default(),
            links: Arc::default(),
            accounts: AccountsCache::default(),
            device_log: DeviceLog::default(),
            mailboxes: Arc::default(),
            fetches: Fetches::default(),
            group_info_rates: Rates::of_group_infos(),
            consent_rates: Rates::of_consents(),
            observed_rooms: ObservedRooms::default(),
            paces: Arc::default(),
            sign_in: SignInGuard::default(),
            repeated: Arc::default(),
            from_peers: Arc::default(),
            backups: Arc::new(Semaphore::new(1)),
            space: space(&config),
            config,
            store,
            clock,
            random,
            hints: broadcast::Sender::new(HINTS_WAITING_MAX),
        }
    }

    /// A new random identifier.
    pub fn random_id(&self) -> Result<[u8; 16], StoreError> {
        let mut id = [0; 16];
        self.random
            .fill(&mut id)
            .map_err(|_| StoreError::Engine("the system has no randomness".to_owned()))?;
        Ok(id)
    }

    /// Tells this process's tasks that something happened; call it after the commit.
    pub fn hint(&self, hint: Hint) {
        self.hinting(hint)();
    }

    /// What tells this process's tasks that something happened, for a part's
    /// [`Store::commit_then`].
    pub fn hinting(&self, hint: Hint) -> impl FnOnce() + Send + use<> {
        let (hints, mailboxes) = (self.hints.clone(), Arc::clone(&self.mailboxes));
        move || {
            if hint == Hint::PeersChanged {
                mailboxes.ring_all(Ring::Peers);
            }
            // Nobody listening is fine: whoever starts later reads the store first.
            let _ = hints.send(hint);
        }
    }

    /// All hints from now on.
    pub fn hints(&self) -> broadcast::Receiver<Hint> {
        self.hints.subscribe()
    }
}

/// The disk that the store lies on, as the configuration says.
fn space(config: &Config) -> Space {
    let least = config.limits.disk_free_bytes_min;
    match config.store {
        StoreConfig::Postgresql(_) => Space::unknown(),
        StoreConfig::Fjall { .. } | StoreConfig::Sled => {
            Space::of_folder(least, config.server.store_dir())
        }
    }
}

/// Does `act` to its end even when nobody waits for it any more: a request's future is dropped when its
/// client goes away, but whoever is concerned by what was committed has to hear of it all the same.
pub async fn to_its_end<T: Send + 'static>(act: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(act).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and with it whoever waits here.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A node in memory whose clock stands still until a test moves it.

    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use ring::rand::SystemRandom;
    use zeroize::Zeroizing;

    use super::*;
    use crate::organisation;

    /// A clock that a test sets.
    pub(crate) struct ManualClock(AtomicU64);

    impl ManualClock {
        /// Moves the clock ahead.
        pub(crate) fn advance_ms(&self, by: u64) {
            self.0.fetch_add(by, Ordering::SeqCst);
        }
    }

    impl Clock for ManualClock {
        fn now_ms(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }
    }

    /// A node of a new organisation, over an empty memory engine; November 2026.
    pub(crate) fn node(server: &str) -> (Arc<Node>, Arc<ManualClock>) {
        node_with(server, |_| ())
    }

    /// Such a node, with something set otherwise than by default.
    pub(crate) fn node_with(
        server: &str,
        change: impl FnOnce(&mut Config),
    ) -> (Arc<Node>, Arc<ManualClock>) {
        let (node, clock, _) = founded_with(server, change);
        (Arc::new(node), clock)
    }

    /// A node, with the root's private key (PKCS#8).
    pub(crate) fn founded(server: &str) -> (Node, Arc<ManualClock>, Zeroizing<Vec<u8>>) {
        founded_with(server, |_| ())
    }

    /// Such a node, with something set otherwise than by default.
    #[expect(clippy::disallowed_methods, reason = "a test draws its own randomness")]
    pub(crate) fn founded_with(
        server: &str,
        change: impl FnOnce(&mut Config),
    ) -> (Node, Arc<ManualClock>, Zeroizing<Vec<u8>>) {
        let clock = Arc::new(ManualClock(AtomicU64::new(1_795_000_000_000)));
        let server: ServerName = server.parse().unwrap();
        let random = Arc::new(SystemRandom::new());
        let made = organisation::create(&server, clock.now_ms(), random.as_ref()).unwrap();
        let keys = Arc::new(made.keys);
        let store = Store::sealed_in_memory(random.clone()).unwrap();
        let mut config = Config::minimal(server, "/nonexistent".into());
        // Nobody watches the wires of a test.
        config.federation.receipt_delay_max = Duration::ZERO;
        change(&mut config);
        let mut node = Node::new(config, Arc::clone(&keys), store, clock.clone(), random);
        node.keeper = Keeper::in_memory(keys);
        (node, clock, made.root_key)
    }
}
