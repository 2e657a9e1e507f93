//! What every room of the house needs: the organisation's name and keys, the store, the clock,
//! randomness, and hints to tasks of this process.
//!
//! Time, randomness and storage are arguments, so that a whole network of servers can run in one
//! process under a seed. Hints only save waiting: correctness never depends on one arriving.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use federation_proto::ids::{AccountId, DeviceId, ServerName};
use ring::rand::SecureRandom;
use tokio::sync::broadcast;

use crate::store::Store;

/// Hints kept for a slow listener; one that lags behind reads the store afresh.
const HINTS_WAITING_MAX: usize = 4096;

/// The wall clock.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;
}

/// The machine's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    fn now_ms(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Something happened that a task of this process may wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// A device's inbox has something new.
    DeviceMail(DeviceId),
    /// An outbox has something new.
    PeerMail(ServerName),
    /// Agreements changed: who may connect, and what may pass.
    PeersChanged,
    /// An account's policy, type or state changed.
    AccountChanged(AccountId),
    /// User types changed.
    PolicyChanged,
    /// A device was removed: its session ends now.
    DeviceRemoved(DeviceId),
}

/// The node of one organisation that this process is.
pub struct Node {
    /// The organisation's server name.
    pub server: ServerName,
    /// The store.
    pub store: Store,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness fit for keys.
    pub random: Arc<dyn SecureRandom + Send + Sync>,
    hints: broadcast::Sender<Hint>,
}

impl Node {
    /// A node over an opened store.
    pub fn new(
        server: ServerName,
        store: Store,
        clock: Arc<dyn Clock>,
        random: Arc<dyn SecureRandom + Send + Sync>,
    ) -> Self {
        Self {
            server,
            store,
            clock,
            random,
            hints: broadcast::Sender::new(HINTS_WAITING_MAX),
        }
    }

    /// Tells this process's tasks that something happened; call it after the commit.
    pub fn hint(&self, hint: Hint) {
        // Nobody listening is fine: whoever starts later reads the store first.
        let _ = self.hints.send(hint);
    }

    /// All hints from now on.
    pub fn hints(&self) -> broadcast::Receiver<Hint> {
        self.hints.subscribe()
    }
}
