//! This process among the homeserver processes of its organisation that share one database.
//!
//! Nothing here decides what is accepted: preconditions in the store do, on whichever node. This room says which node
//! does what only one may do at a time (a lease, which is a precondition of all that is written under it), and carries
//! news from node to node. News travels as a hint, at once and without any promise; what is worth it is also written
//! down with the node's next sign of life, and read within a second. Who has told something may be gone before it was
//! written: whoever sees that a node is gone looks at everything once.
//!
//! No clock of another machine is believed. A node is gone when its row has not changed for a while in which others
//! could look.

mod datagrams;
mod rounds;
mod seal;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

pub use datagrams::DATAGRAM_BYTES_MAX;
pub use rounds::{ClusterError, Heard, ROUND};
pub use seal::{SealError, Secret};

use crate::store::lease::{self, Duty, Lease};
use crate::store::node_row::{self, Incarnation, NodeRecord};
use crate::store::notice::Notice;
use crate::store::{Part, Precondition, Store, StoreError, Value};

/// A node takes its own leases for doubtful when its last sign of life is this old: others may have taken them,
const DOUBTFUL_AFTER: Duration = Duration::from_secs(3);
/// and they take one for gone that has not changed for so long while they could look.
const GONE_AFTER: Duration = Duration::from_secs(4);
const _: () = assert!(DOUBTFUL_AFTER.as_millis() < GONE_AFTER.as_millis());
/// Notices that wait to be told; with more, everything is to be looked at.
const NOTICES_WAITING_MAX: usize = 4096;

/// This process among the others of its organisation. Without others it holds every duty, and tells nobody anything.
pub struct Cluster {
    /// `None`: there are no others.
    member: Option<Member>,
    /// Changes when duties come or go.
    duties: watch::Sender<()>,
    /// Changes with each round.
    rounds: watch::Sender<()>,
}

struct Member {
    name: String,
    incarnation: Incarnation,
    started_ms: u64,
    state: Mutex<State>,
    /// Rings for something to send.
    unsent: Notify,
}

#[derive(Default)]
struct State {
    /// Leases of this node, as they are stored.
    held: HashMap<Duty, (Lease, Value)>,
    /// Its own row, as it was written last.
    row: Option<(NodeRecord, Value)>,
    /// When the writing of that began.
    beat: Option<Instant>,
    others: BTreeMap<String, Other>,
    /// When it last looked at the others.
    looked: Option<Instant>,
    /// What no hint was sent of yet,
    unsent: Pending,
    /// and what was not written down yet,
    untold: Pending,
    /// or is being written down at this moment, which may fail.
    in_flight: Vec<Notice>,
    /// How much there was to write down so far,
    told: u64,
    /// and how much of that is written.
    told_written: u64,
    /// Whether it is still at what others have told: until that is done they don't hear that it is.
    is_acting: bool,
    /// Whether something that others have told could not be acted on.
    missed: bool,
    /// Hints sent by this node.
    hints: u64,
    /// The number of the last hint of each other node.
    hints_of: HashMap<Incarnation, u64>,
}

/// Another node, as this one sees it.
struct Other {
    record: NodeRecord,
    /// Up to which number its notices were taken,
    taken: u64,
    /// and up to which they were acted on.
    acted: u64,
    /// For how long it has not changed.
    silent: Duration,
    is_gone: bool,
}

/// Notices in the making, none twice.
#[derive(Default)]
struct Pending(BTreeSet<Notice>);

impl Pending {
    fn add(&mut self, notice: Notice) {
        if self.0.contains(&Notice::Everything) {
            return;
        }
        if self.0.len() >= NOTICES_WAITING_MAX || notice == Notice::Everything {
            self.0.clear();
            self.0.insert(Notice::Everything);
        } else {
            self.0.insert(notice);
        }
    }

    fn take(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.0).into_iter().collect()
    }
}

/// What a part is written under: it is refused once the duty has passed to another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence(Option<Precondition>);

impl Fence {
    /// The part holds only while the duty is this node's.
    pub fn require(&self, part: &mut Part) {
        if let Some(lease) = &self.0 {
            part.require(lease.clone());
        }
    }
}

/// A node as administrators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Whether it is the one that says so.
    pub is_this: bool,
    /// Whether it gives signs of life.
    pub is_alive: bool,
    /// Its version of the homeserver.
    pub version: String,
    /// When it started, milliseconds since the Unix epoch, by its own clock.
    pub started_ms: u64,
    /// The duties that it has leases for.
    pub duties: Vec<String>,
}

impl Default for Cluster {
    /// Without others.
    fn default() -> Self {
        Self {
            member: None,
            duties: watch::Sender::new(()),
            rounds: watch::Sender::new(()),
        }
    }
}

impl Cluster {
    /// A node of this name; [`Cluster::join`] makes it known.
    pub fn member(name: String, incarnation: Incarnation, started_ms: u64) -> Self {
        Self {
            member: Some(Member {
                name,
                incarnation,
                started_ms,
                state: Mutex::default(),
                unsent: Notify::new(),
            }),
            ..Self::default()
        }
    }

    /// Whether there are no others to mind.
    pub const fn is_alone(&self) -> bool {
        self.member.is_none()
    }

    /// Tells the other nodes; call it after the commit.
    pub fn tell(&self, notices: impl IntoIterator<Item = Notice>) {
        let Some(member) = &self.member else { return };
        let mut state = member.lock();
        for notice in notices {
            if notice.is_kept() {
                state.untold.add(notice.clone());
                state.told = state.told.saturating_add(1);
            }
            state.unsent.add(notice);
        }
        drop(state);
        member.unsent.notify_one();
    }

    /// What to write under to do this duty; `None`: it is not this node's, or may be another's by now.
    pub fn fence(&self, duty: &Duty) -> Option<Fence> {
        let Some(member) = &self.member else {
            return Some(Fence(None));
        };
        let state = member.lock();
        let is_doubtful = state
            .beat
            .is_none_or(|beat| beat.elapsed() >= DOUBTFUL_AFTER);
        let (_, stored) = state.held.get(duty).filter(|_| !is_doubtful)?;
        Some(Fence(Some(lease::is_still(duty, stored.clone()))))
    }

    /// Whether the duty is this node's.
    pub fn holds(&self, duty: &Duty) -> bool {
        self.fence(duty).is_some()
    }

    /// Changes whenever duties come or go.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.duties.subscribe()
    }

    /// Waits until the duty is this node's.
    pub async fn until_held(&self, duty: &Duty) {
        let mut changed = self.changed();
        while !self.holds(duty) {
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether this node is still at what others have told: then the next round neither says that it has acted on that, nor
    /// takes more.
    pub fn set_acting(&self, is_acting: bool) {
        if let Some(member) = &self.member {
            member.lock().is_acting = is_acting;
        }
    }

    /// Something that others have told could not be acted on: the next round tells to look at everything.
    pub fn set_missed(&self) {
        if let Some(member) = &self.member {
            member.lock().missed = true;
        }
    }

    /// Waits until each other node that is not gone has acted on all that this one has told before.
    pub async fn until_heard(&self) {
        let Some(member) = &self.member else { return };
        let mut rounds = self.rounds.subscribe();
        let told = member.lock().told;
        // Of the notices that it is among; known once they are written.
        let mut number = None;
        loop {
            let is_heard = {
                let state = member.lock();
                if number.is_none() && state.told_written >= told {
                    number = Some(state.written());
                }
                let is_in = |other: &Other| {
                    let heard = other.record.heard.iter();
                    let mut of_us = heard.filter(|(of, _)| *of == member.incarnation);
                    other.is_gone || of_us.any(|(_, heard)| Some(*heard) >= number)
                };
                number.is_some_and(|number| number == 0 || state.others.values().all(is_in))
            };
            if is_heard || rounds.changed().await.is_err() {
                return;
            }
        }
    }

    /// The nodes that there are; empty when there is one alone.
    pub async fn status(&self, store: &Store) -> Result<Vec<NodeStatus>, StoreError> {
        let Some(member) = &self.member else {
            return Ok(Vec::new());
        };
        let leases = lease::all(store).await?;
        let nodes = node_row::all(store).await?;
        let state = member.lock();
        let status = |(name, record, _): (String, NodeRecord, Value)| {
            let is_this = name == member.name;
            let of_it = leases
                .iter()
                .filter(|(_, (lease, _))| lease.owner == Some(record.incarnation));
            NodeStatus {
                is_alive: is_this || state.others.get(&name).is_some_and(|other| !other.is_gone),
                is_this,
                duties: of_it.map(|(duty, _)| duty.name()).collect(),
                version: record.version,
                started_ms: record.started_ms,
                name,
            }
        };
        Ok(nodes.into_iter().map(status).collect())
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.member.as_ref().map(|member| &member.name);
        f.debug_struct("Cluster")
            .field("node", &name)
            .finish_non_exhaustive()
    }
}

impl State {
    /// The number of this node's last notices that are written down.
    fn written(&self) -> u64 {
        self.row.as_ref().map_or(0, |(record, _)| record.notices)
    }
}

impl Member {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds it can leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
