//! The room that is left on the disk. Where it is little nothing new is taken: no submission, no file, no envelope of a
//! peer; all of them are put off, nothing is lost. Reading, acknowledging and deleting go on in what is kept back for
//! them, and make room. Then everything goes on by itself.
//!
//! It is looked at by the clock, not at each write: what is kept back holds more than is written in between.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use federation_proto::refusal::{Refusal, RefusalCode};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::limits::SPACE_LOOK_INTERVAL;
use crate::audit::{self, Actor, Event};
use crate::node::Node;
use crate::store::Part;

/// Bytes that may still be written; `None`: nobody can tell.
type Look = dyn Fn() -> Option<u64> + Send;

/// After so many looks that told nothing the disk does not count as short any more.
const LOOKS_FAILED_MAX: u32 = 5;

/// A disk, and how much of it is kept back.
pub struct Space {
    look: Mutex<Box<Look>>,
    least: u64,
    is_short: AtomicBool,
    /// How many looks in a row have told nothing.
    failed: AtomicU32,
    free: Gauge,
    short: Gauge,
}

/// How much is free, and how much has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    /// Bytes that may still be written.
    pub bytes: u64,
    /// So many are kept back.
    pub least: u64,
}

impl Space {
    /// A disk of which `least` bytes are kept back, and what tells how much is free.
    pub fn new(least: u64, look: impl Fn() -> Option<u64> + Send + 'static) -> Self {
        Self {
            look: Mutex::new(Box::new(look)),
            least,
            is_short: AtomicBool::new(false),
            failed: AtomicU32::new(0),
            free: Gauge::default(),
            short: Gauge::default(),
        }
    }

    /// The disk that a folder lies on.
    pub fn of_folder(least: u64, folder: PathBuf) -> Self {
        Self::new(least, move || {
            let about = rustix::fs::statvfs(&folder).ok()?;
            Some(about.f_bavail.saturating_mul(about.f_frsize))
        })
    }

    /// One of which nobody can tell: a database's.
    pub fn unknown() -> Self {
        Self::new(0, || None)
    }

    /// Whether nothing new is taken, as last seen.
    pub fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    /// What whoever brings something new is told, while nothing is taken.
    pub fn refusal(&self) -> Option<Refusal> {
        self.is_short().then(|| {
            Refusal::new(
                RefusalCode::Unavailable,
                "this homeserver's disk is nearly full: nothing new is taken until there is room again; what waits can \
                 be read and deleted all the same; try again later",
            )
        })
    }

    /// How much is free, where somebody can tell.
    pub fn free(&self) -> Option<Free> {
        let look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = (*look)()?;
        self.free.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        Some(Free {
            bytes,
            least: self.least,
        })
    }

    /// Adds the figures to `registry`, where there are any.
    pub fn register_metrics(&self, registry: &mut Registry) {
        if self.free().is_none() {
            return;
        }
        let disk = registry.sub_registry_with_prefix("disk");
        let about = "Bytes of the store's disk that may still be written";
        disk.register_with_unit("free", about, Unit::Bytes, self.free.clone());
        let about = "1 while nothing new is taken because too little is free";
        disk.register("short", about, self.short.clone());
    }

    /// Looks; how much is free, when it has become too little or enough again.
    fn look_again(&self) -> Option<Free> {
        let Some(free) = self.free() else {
            self.look_failed();
            return None;
        };
        self.failed.store(0, Ordering::Relaxed);
        let was_short = self.is_short();
        let is_short = match was_short {
            true => free.bytes < free.enough(),
            false => free.bytes < free.least,
        };
        self.is_short.store(is_short, Ordering::Relaxed);
        self.short.set(i64::from(is_short));
        (is_short != was_short).then_some(free)
    }

    /// Nobody can tell how much is free. Where that goes on, what was seen last counts no more: a full disk makes itself known by
    /// what can't be written, and a disk with room must not stay closed.
    fn look_failed(&self) {
        let failed = self
            .failed
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1);
        if failed >= LOOKS_FAILED_MAX && self.is_short.swap(false, Ordering::Relaxed) {
            self.short.set(0);
            tracing::warn!(
                "nobody can tell any more how full the disk is: new things are taken again"
            );
        }
    }
}

impl Free {
    /// From so many on everything goes on: some more, so that it does not change its mind all the time.
    pub const fn enough(&self) -> u64 {
        self.least.saturating_add(self.least / 4)
    }
}

impl fmt::Display for Free {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, least } = self;
        write!(f, "{bytes} bytes are free, {least} are kept back")
    }
}

/// Looks at the disk for as long as the process lives.
pub async fn run(node: Arc<Node>) {
    let mut looks = tokio::time::interval(SPACE_LOOK_INTERVAL);
    loop {
        looks.tick().await;
        look(&node).await;
    }
}

/// Looks at the disk once, and tells when too little has become free, or enough again.
pub async fn look(node: &Node) {
    let Some(free) = node.space.look_again() else {
        return;
    };
    let action = if node.space.is_short() {
        tracing::warn!(%free, "the disk is nearly full: nothing new is taken");
        "disk.short"
    } else {
        tracing::info!(%free, "the disk has room again");
        "disk.room-again"
    };
    let mut part = Part::default();
    let event = Event {
        at_ms: node.clock.now_ms(),
        actor: Actor::System,
        action,
        subject: node.server.to_string(),
        detail: free.to_string(),
    };
    audit::record(&mut part, &event);
    // A store that fails ends the process in any case.
    if let Err(error) = node.store.commit(part).await {
        tracing::error!(%error, "what the disk has left could not be audited");
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A disk that a test fills.

    use super::*;

    /// So many bytes are free at the node from now on, and seen to be.
    pub(crate) async fn set_free(node: &Node, bytes: u64) {
        *node.space.look.lock().unwrap() = Box::new(move || Some(bytes));
        look(node).await;
    }

    /// Nobody can tell any more how many are free.
    pub(super) fn hide_free(space: &Space) {
        *space.look.lock().unwrap() = Box::new(|| None);
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{hide_free, set_free};
    use super::*;
    use crate::node::testing::node_with;

    /// Goal: nothing is taken below what is kept back, everything goes on some way above it, and each is told once. Method: a
    /// disk that fills and empties, looked at again and again.
    #[tokio::test]
    async fn it_is_told_once_and_ends_by_itself() {
        let (node, _) = node_with("a.example", |config| {
            config.limits.disk_free_bytes_min = 1000;
        });
        set_free(&node, 1000).await;
        let mut registry = Registry::default();
        node.space.register_metrics(&mut registry);
        for (bytes, is_short) in [
            (1000, false),
            (999, true),
            (0, true),
            (1000, true),
            (1249, true),
            (1250, false),
            (1000, false),
        ] {
            for _ in 0..2 {
                set_free(&node, bytes).await;
                assert_eq!(node.space.is_short(), is_short, "{bytes}");
                assert_eq!(node.space.refusal().is_some(), is_short);
            }
        }
        let log = audit::page(&node.store, node.random.as_ref(), 0, 9)
            .await
            .unwrap();
        let told: Vec<_> = log.entries.iter().map(|entry| &entry.action).collect();
        assert_eq!(told, ["disk.short", "disk.room-again"]);
        let mut figures = String::new();
        prometheus_client::encoding::text::encode(&mut figures, &registry).unwrap();
        assert!(figures.contains("disk_free_bytes 1000\n"), "{figures}");
        assert!(figures.contains("disk_short 0\n"), "{figures}");
    }

    /// Goal: a disk that was short and of which nobody can tell any more does not keep everybody out for ever. Method: looks that tell
    /// nothing, one of which tells something in between.
    #[test]
    fn a_short_disk_that_nobody_sees_is_not_short_for_ever() {
        let space = Space::new(1000, || Some(0));
        assert!(space.look_again().is_some());
        for _ in 1..LOOKS_FAILED_MAX {
            hide_free(&space);
            assert_eq!(space.look_again(), None);
            assert!(space.is_short());
        }
        *space.look.lock().unwrap() = Box::new(|| Some(0));
        assert_eq!(space.look_again(), None);
        hide_free(&space);
        for looks in 1..=LOOKS_FAILED_MAX {
            assert_eq!(space.look_again(), None);
            assert_eq!(space.is_short(), looks < LOOKS_FAILED_MAX);
        }
    }

    /// Goal: where nobody can tell, nothing is held back; a folder's disk can be told of. Method: one that is not there, and one
    /// of the machine.
    #[test]
    fn where_nobody_can_tell_nothing_is_held_back() {
        let nowhere = Space::of_folder(u64::MAX, "/nonexistent".into());
        for space in [nowhere, Space::unknown()] {
            assert_eq!(space.free(), None);
            assert_eq!(space.look_again(), None);
            assert!(!space.is_short());
        }
        let folder = tempfile::tempdir().unwrap();
        let space = Space::of_folder(u64::MAX, folder.path().to_owned());
        assert!(space.look_again().is_some());
        assert!(space.is_short(), "nothing has so much");
    }
}
