//! What this process knows of each link: who to wake, and how the last delivery went.
//!
//! For waking and for administrators' eyes only: what was delivered is decided by the store.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use federation_proto::envelope::Lane;
use federation_proto::ids::ServerName;
use tokio::sync::Notify;

/// Lanes with new mail that are told apart; beyond that the whole outbox is read.
const NEWS_LANES_MAX: usize = 16 * 1024;

/// How things stand with one peer, since this process started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkStatus {
    /// Whether the peer answered last time, and if not, why; `None`: never tried.
    pub reachable: Option<Result<(), String>>,
    /// What went wrong last, until something goes right.
    pub last_error: Option<String>,
    /// When the peer is tried next, milliseconds since the Unix epoch.
    pub next_attempt_ms: Option<u64>,
    /// How the peer's address was found last and what DNSSEC says of it, or why it was not.
    pub found: Option<String>,
    /// Envelopes that the peer has acknowledged.
    pub acknowledged: u64,
}

/// Which lanes have new mail.
///
/// Reading the others would be correct and slow: a range over rows that were just deleted passes over
/// each of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// These.
    In(BTreeSet<Lane>),
    /// Any of them.
    Anywhere,
}

impl Default for News {
    fn default() -> Self {
        Self::In(BTreeSet::new())
    }
}

/// One link's bell and status.
#[derive(Default)]
pub(super) struct Link {
    /// New mail: the peer is worth a transaction when it is reachable.
    pub(super) mail: Notify,
    /// The peer talked to us, or an administrator asks: every delay ends.
    pub(super) now: Notify,
    /// The peer uses a key that its known manifest does not list.
    pub(super) stale_manifest: AtomicBool,
    delayed: AtomicBool,
    news: Mutex<News>,
    status: Mutex<LinkStatus>,
}

impl Link {
    /// Whether the task waits for a delay to pass.
    pub(super) fn set_delayed(&self, delayed: bool) {
        self.delayed.store(delayed, Ordering::Release);
    }

    /// Where new mail came in since the last call.
    pub(super) fn take_news(&self) -> News {
        std::mem::take(&mut lock(&self.news))
    }

    fn add_news(&self, lanes: impl IntoIterator<Item = Lane>) {
        let mut news = lock(&self.news);
        if let News::In(known) = &mut *news {
            known.extend(lanes);
            if known.len() > NEWS_LANES_MAX {
                *news = News::Anywhere;
            }
        }
    }

    /// Changes the status.
    pub(super) fn update(&self, change: impl FnOnce(&mut LinkStatus)) {
        change(&mut lock(&self.status));
    }
}

/// All links.
#[derive(Default)]
pub struct Links {
    links: Mutex<HashMap<ServerName, Arc<Link>>>,
}

impl Links {
    /// Rings for new mail to `server` in these lanes.
    pub fn mail(&self, server: &ServerName, lanes: impl IntoIterator<Item = Lane>) {
        let link = self.link(server);
        link.add_news(lanes);
        link.mail.notify_one();
    }

    /// Ends every delay towards `server`: it talked to us, or an administrator asks.
    pub fn retry_now(&self, server: &ServerName) {
        self.link(server).now.notify_one();
    }

    /// `server` has talked to us: it is there, and a delay towards it ends.
    pub fn heard_from(&self, server: &ServerName) {
        let link = self.link(server);
        if link.delayed.load(Ordering::Acquire) {
            link.now.notify_one();
        }
    }

    /// `server` signs with a key that its known manifest does not list: the newer one is fetched.
    pub fn fetch_manifest(&self, server: &ServerName) {
        let link = self.link(server);
        link.stale_manifest.store(true, Ordering::Release);
        link.now.notify_one();
    }

    /// How things stand with `server`.
    pub fn status(&self, server: &ServerName) -> LinkStatus {
        lock(&self.link(server).status).clone()
    }

    pub(super) fn link(&self, server: &ServerName) -> Arc<Link> {
        let mut links = lock(&self.links);
        if let Some(link) = links.get(server) {
            return Arc::clone(link);
        }
        let link = Arc::<Link>::default();
        links.insert(server.clone(), Arc::clone(&link));
        link
    }
}

/// Nothing that holds these locks can leave its map half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
