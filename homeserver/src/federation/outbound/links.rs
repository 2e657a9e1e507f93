//! What this process knows of each link: who to wake, and how the last delivery went.
//!
//! For waking and for administrators' eyes only: what was delivered is decided by the store.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use federation_proto::envelope::Lane;
use federation_proto::ids::{RoomId, ServerName};
use federation_proto::keys::KeyId;
use tokio::sync::Notify;

use super::cuts::Cuts;
use crate::cluster::Cluster;
use crate::store::lease::Duty;
use crate::store::notice::Notice;

/// Lanes with new mail that are told apart; beyond that the whole outbox is read.
const NEWS_LANES_MAX: usize = 16 * 1024;
/// A peer that talks to us ends a delay towards it this often at most, and its manifest is asked for
/// no more often.
pub(super) const RING_EVERY_MS: u64 = 1_000;
/// So many newer manifests of one peer are taken at once: whoever walks through a drill needs a few in a row,
pub(in crate::federation) const MANIFESTS_AT_ONCE_MAX: u32 = 16;
/// and from then on one in this time. Each is an act that stays in the audit log, and ends every delay towards
/// the peer.
pub(in crate::federation) const MANIFEST_EVERY_MS: u64 = 5 * 60 * 1000;
/// Where none is taken at present it is asked for this often, for it may be of a new issuing CA.
const ASK_AGAIN_MS: u64 = 30 * 1000;
/// How long mail signed with a key that is in no known manifest waits for the manifest that lists it.
const UNKNOWN_KEY_PATIENCE_MS: u64 = 5 * 60 * 1000;
/// Most such keys remembered for one peer; beyond that the patience with all of them starts anew.
const UNKNOWN_KEYS_MAX: usize = 64;

/// How things stand with one peer, since this process started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkStatus {
    /// Whether the peer answered last time, and if not, why; `None`: never tried.
    pub reachable: Option<Result<(), String>>,
    /// What went wrong last, until something goes right.
    pub last_error: Option<String>,
    /// When the peer is tried next, milliseconds since the Unix epoch.
    pub next_attempt_ms: Option<u64>,
    /// Lanes that wait because the peer is ahead of them, for an administrator to number them anew.
    pub held_lanes: u64,
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

/// Lets something happen once in a while.
#[derive(Default)]
struct Limiter(AtomicU64);

impl Limiter {
    fn allows(&self, now_ms: u64, every_ms: u64) -> bool {
        let last_ms = self.0.load(Ordering::Acquire);
        // A clock that was set back must not silence it.
        let due = last_ms == 0 || now_ms.abs_diff(last_ms) >= every_ms;
        if due {
            self.0.store(now_ms, Ordering::Release);
        }
        due
    }
}

/// How many of [`MANIFESTS_AT_ONCE_MAX`] have been taken, less one for each [`MANIFEST_EVERY_MS`] since.
#[derive(Default)]
struct Manifests {
    taken: u32,
    since_ms: u64,
}

impl Manifests {
    fn left(&mut self, now_ms: u64) -> u32 {
        // A clock that was set back must not silence it.
        let back = now_ms.abs_diff(self.since_ms) / MANIFEST_EVERY_MS;
        self.taken = self
            .taken
            .saturating_sub(u32::try_from(back).unwrap_or(u32::MAX));
        if self.taken == 0 || now_ms < self.since_ms {
            self.since_ms = now_ms;
        } else {
            let passed_ms = back.saturating_mul(MANIFEST_EVERY_MS);
            self.since_ms = self.since_ms.saturating_add(passed_ms);
        }
        MANIFESTS_AT_ONCE_MAX.saturating_sub(self.taken)
    }

    fn take(&mut self, now_ms: u64) -> Option<u32> {
        let left = self.left(now_ms).checked_sub(1)?;
        self.taken = self.taken.saturating_add(1);
        Some(left)
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
    /// Rings for that.
    pub(super) manifest: Notify,
    /// The hub that has relayed mail under such a key, and the room: it knows the newer manifest.
    hub: Mutex<Option<(ServerName, RoomId)>>,
    /// The serial of our newest manifest that the peer is known to have; 0: it has not said.
    known_of_us: AtomicU64,
    /// Our keys have changed, and the peer has yet to hear of it.
    pub(super) to_announce: AtomicBool,
    manifest_asked: Limiter,
    manifests: Mutex<Manifests>,
    /// Of those by another issuing CA than the one before: whoever has stolen the former one can't use these up.
    new_issuers: Mutex<Manifests>,
    /// Held while the manifest is asked for because of a receipt: others that need it wait for that answer.
    pub(super) asking: tokio::sync::Mutex<()>,
    /// Whether the task waits only because the peer could not be reached.
    unreachable: AtomicBool,
    /// When what is under way with the peer was cut.
    pub(super) cuts: Cuts,
    heard: Limiter,
    /// Keys that no known manifest lists, and since when they are asked for.
    unknown_keys: Mutex<HashMap<KeyId, u64>>,
    news: Mutex<News>,
    status: Mutex<LinkStatus>,
}

impl Link {
    /// Whether the task waits only because the peer could not be reached: a sign of life of the peer
    /// ends that, and no delay that the peer itself has asked for.
    pub(super) fn set_unreachable(&self, unreachable: bool) {
        self.unreachable.store(unreachable, Ordering::Release);
    }

    /// Where new mail came in since the last call.
    pub(super) fn take_news(&self) -> News {
        std::mem::take(&mut lock(&self.news))
    }

    /// The hub that may know the peer's newer manifest, and the room that they share.
    pub(super) fn hub(&self) -> Option<(ServerName, RoomId)> {
        lock(&self.hub).clone()
    }

    /// Whether the manifest may be asked for again: whoever makes us ask can't make us ask often, and even less for
    /// what would hardly be taken yet.
    pub(super) fn may_ask_for_manifest(&self, now_ms: u64) -> bool {
        let every_ms = if self.may_take_manifest(now_ms) {
            RING_EVERY_MS
        } else {
            ASK_AGAIN_MS
        };
        self.manifest_asked.allows(now_ms, every_ms)
    }

    /// Whether a newer manifest of the issuing CA that is known would be taken.
    pub(super) fn may_take_manifest(&self, now_ms: u64) -> bool {
        lock(&self.manifests).left(now_ms) > 0
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
    /// The other nodes: one of them may be the one that sends to a peer.
    others: Arc<Cluster>,
    links: Mutex<HashMap<ServerName, Arc<Link>>>,
}

impl Links {
    /// Of a node among these others.
    pub fn among(others: Arc<Cluster>) -> Self {
        Self {
            others,
            links: Mutex::default(),
        }
    }

    /// Whether it is this node that sends to `server`.
    pub fn is_served_here(&self, server: &ServerName) -> bool {
        self.others.is_alone() || self.others.holds(&Duty::Outbound(server.clone()))
    }

    /// Rings for new mail to `server` in these lanes.
    pub fn mail(&self, server: &ServerName, lanes: impl IntoIterator<Item = Lane>) {
        if !self.is_served_here(server) {
            let notice = |lane| Notice::Outbox(server.clone(), lane);
            return self.others.tell(lanes.into_iter().map(notice));
        }
        let link = self.link(server);
        link.add_news(lanes);
        link.mail.notify_one();
    }

    /// Ends every delay towards `server`: it talked to us, or an administrator asks.
    pub fn retry_now(&self, server: &ServerName) {
        if !self.is_served_here(server) {
            self.others.tell([Notice::Retry(server.clone())]);
        }
        self.link(server).now.notify_one();
    }

    /// `server` has talked to us: it is there, and need not be waited for any longer.
    pub fn heard_from(&self, server: &ServerName, now_ms: u64) {
        let link = self.link(server);
        if !self.is_served_here(server) {
            if link.heard.allows(now_ms, RING_EVERY_MS) {
                self.others.tell([Notice::Heard(server.clone())]);
            }
            return;
        }
        if link.unreachable.load(Ordering::Acquire) && link.heard.allows(now_ms, RING_EVERY_MS) {
            link.now.notify_one();
        }
    }

    /// `server` signs with a key that its known manifest does not list: the newer one is fetched.
    pub fn fetch_manifest(&self, server: &ServerName) {
        if !self.is_served_here(server) {
            self.others.tell([Notice::Manifest(server.clone())]);
        }
        let link = self.link(server);
        link.stale_manifest.store(true, Ordering::Release);
        link.manifest.notify_one();
    }

    /// Whether a newer manifest of `server` is taken now: how many more would be at once. `None`: not yet, and it
    /// is asked for again. Those of a new issuing CA count for themselves.
    pub fn take_manifest(&self, server: &ServerName, new_issuer: bool, now_ms: u64) -> Option<u32> {
        let link = self.link(server);
        let manifests = if new_issuer {
            &link.new_issuers
        } else {
            &link.manifests
        };
        let left = lock(manifests).take(now_ms);
        if left.is_none() {
            link.stale_manifest.store(true, Ordering::Release);
        }
        left
    }

    /// Should the newer manifest of `server` not be had from itself, this hub of a room with it knows it.
    pub fn ask_hub_too(&self, server: &ServerName, hub: &ServerName, room: RoomId) {
        *lock(&self.link(server).hub) = Some((hub.clone(), room));
    }

    /// `server` knows our manifest with this serial.
    pub fn knows_our_manifest(&self, server: &ServerName, serial: u64) {
        self.link(server)
            .known_of_us
            .store(serial, Ordering::Release);
    }

    /// The serial of our newest manifest that `server` knows; `None`: it has not said since this process
    /// started.
    pub fn known_of_us(&self, server: &ServerName) -> Option<u64> {
        let known = self.link(server).known_of_us.load(Ordering::Acquire);
        (known > 0).then_some(known)
    }

    /// Our keys have changed: `server` is told at once, or as soon as it is reached.
    pub(super) fn announce(&self, server: &ServerName) {
        let link = self.link(server);
        link.to_announce.store(true, Ordering::Release);
        link.manifest.notify_one();
    }

    /// As [`Links::fetch_manifest`]; whether it is worth waiting for, or has been waited for long
    /// enough.
    pub fn await_key(&self, server: &ServerName, key: KeyId, now_ms: u64) -> bool {
        let since_ms = {
            let link = self.link(server);
            let mut keys = lock(&link.unknown_keys);
            if keys.len() >= UNKNOWN_KEYS_MAX && !keys.contains_key(&key) {
                keys.clear();
            }
            *keys.entry(key).or_insert(now_ms)
        };
        self.fetch_manifest(server);
        now_ms.saturating_sub(since_ms) < UNKNOWN_KEY_PATIENCE_MS
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: so many manifests are taken at once and one more in each while afterwards, none is saved up beyond that,
    /// and a clock that is set back takes nothing away; by taking as many as there are.
    #[test]
    fn manifests_come_back_one_by_one() {
        let mut manifests = Manifests::default();
        let start_ms = 1_795_000_000_000;
        let mut take_all = |now_ms| std::iter::from_fn(|| manifests.take(now_ms)).count();
        let at_once = usize::try_from(MANIFESTS_AT_ONCE_MAX).unwrap();
        assert_eq!(take_all(start_ms), at_once);
        assert_eq!(take_all(start_ms + MANIFEST_EVERY_MS - 1), 0);
        assert_eq!(take_all(start_ms + MANIFEST_EVERY_MS), 1);
        assert_eq!(take_all(start_ms + 3 * MANIFEST_EVERY_MS + 1), 2);
        assert_eq!(take_all(start_ms + 4 * MANIFEST_EVERY_MS), 1);
        assert_eq!(take_all(start_ms + 1000 * MANIFEST_EVERY_MS), at_once);
        assert_eq!(take_all(start_ms), at_once, "set back");
        assert_eq!(take_all(start_ms + 2), 0);
    }
}
