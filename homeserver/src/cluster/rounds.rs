//! What a node does twice a second: gives a sign of life, looks at the others, takes and gives back leases.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ring::digest::{SHA256, digest};
use tokio::time::Instant;

use super::{Cluster, DOUBTFUL_AFTER, GONE_AFTER, Member, Other, State};
use crate::store::lease::{self, Duty, Lease};
use crate::store::node_row::{self, Incarnation, NodeRecord};
use crate::store::notice::{self, Notice};
use crate::store::{Part, PartOutcome, Pending, Store, StoreError, Value};

/// How often a node looks at the others, and tells what has happened.
pub const ROUND: Duration = Duration::from_millis(500);
/// It gives a sign of life this often, also when nothing has.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// Of the time between two looks no more than this counts for silence: nobody is gone because the database was.
const SILENCE_COUNTED_MAX: Duration = Duration::from_secs(1);
/// Notices are kept this long, in numbers: one gives two a second at most, and is gone for others long before.
const NOTICES_KEPT: u64 = 64;
/// A node that has been silent for so long is not expected back.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);
/// Rows deleted at once.
const DELETED_AT_ONCE: usize = 100;
const ATTEMPTS_MAX: usize = 8;

/// Why a node can't go on.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Two processes can't be one node.
    #[error(
        "another process runs as the node `{0}` of this cluster: give each node a name of its own (cluster.node)"
    )]
    Replaced(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a round has heard of the others: in what order it happened is not told.
pub type Heard = Vec<Notice>;

impl Cluster {
    /// Makes this node known to the others, in the place of a former process of its name, which ends as soon as it
    /// notices.
    pub async fn join(&self, store: &Store, now_ms: u64) -> Result<(), ClusterError> {
        let Some(member) = &self.member else {
            return Ok(());
        };
        for _ in 0..ATTEMPTS_MAX {
            let former = node_row::get(store, &member.name).await?;
            if let Some((former, _)) = &former {
                forget_notices(store, former.incarnation).await?;
            }
            let read = former.map(|(_, stored)| stored);
            match member.write(store, now_ms, (Vec::new(), 0), read).await {
                Err(ClusterError::Replaced(_)) => {}
                joined => return joined,
            }
        }
        Err(ClusterError::Replaced(member.name.clone()))
    }

    /// Gives a sign of life, looks at the other nodes, and takes and gives back leases so that each of `duties` is done
    /// by one node. What the others have told comes back; act on it before the next round, which says that it was
    /// acted on, unless [`Cluster::set_acting`] says otherwise.
    pub async fn round(
        &self,
        store: &Store,
        now_ms: u64,
        duties: &BTreeSet<Duty>,
    ) -> Result<Heard, ClusterError> {
        let Some(member) = &self.member else {
            return Ok(Heard::new());
        };
        if member.lock().row.is_none() {
            // It has left.
            return Ok(Heard::new());
        }
        let slept = {
            let beat = member.lock().beat;
            beat.is_some_and(|beat| beat.elapsed() >= DOUBTFUL_AFTER)
        };
        let missed = {
            let mut state = member.lock();
            state.note_acted();
            std::mem::take(&mut state.missed)
        };
        member.beat(store, now_ms).await?;
        let mut heard = member.look(store).await?;
        if missed {
            heard.push(Notice::Everything);
        }
        let mut changed = false;
        if slept {
            tracing::warn!(
                "this node has given no sign of life for a while: what others did meanwhile is looked up"
            );
            heard.push(Notice::Everything);
            member.keep_only_its_own(store).await?;
            changed = true;
        }
        changed |= member.give_back(store, duties).await?;
        changed |= member.take(store, duties).await?;
        if self.holds(&Duty::Tasks) {
            member.forget_dead(store).await?;
        }
        if changed {
            self.duties.send_replace(());
        }
        self.rounds.send_replace(());
        Ok(heard)
    }

    /// Gives back all leases, and tells the others that this node is no more: they need not wait to see it.
    pub async fn leave(&self, store: &Store) -> Result<(), StoreError> {
        let Some(member) = &self.member else {
            return Ok(());
        };
        {
            let mut state = member.lock();
            state.held.clear();
            state.row = None;
        }
        self.duties.send_replace(());
        for _ in 0..ATTEMPTS_MAX {
            // As it is stored: the last round may have been cut off before it heard of that, and be written just now.
            let Some((_, stored)) = member.own_row(store).await? else {
                break;
            };
            let mut part = Part::default();
            node_row::delete(&mut part, &member.name, stored);
            if store.commit(part).await? == PartOutcome::Committed {
                break;
            }
        }
        forget_notices(store, member.incarnation).await
    }
}

impl Member {
    /// Writes this node's row when it is time for that, with whatever there is to tell.
    async fn beat(&self, store: &Store, now_ms: u64) -> Result<(), ClusterError> {
        let (told, up_to, read) = {
            let mut state = self.lock();
            let Some((record, stored)) = &state.row else {
                return Ok(());
            };
            let read = stored.clone();
            let is_due = state.beat.is_none_or(|beat| beat.elapsed() >= BEAT_EVERY);
            let has_told = state.untold.0.is_empty() && state.in_flight.is_empty();
            if has_told && record.heard == state.heard() && !is_due {
                return Ok(());
            }
            // What an earlier round has failed to write, or was cut off with, is told with the rest; twice at worst.
            for notice in std::mem::take(&mut state.in_flight) {
                state.untold.add(notice);
            }
            state.in_flight = state.untold.take();
            (state.in_flight.clone(), state.told, read)
        };
        let told = (told, up_to);
        let written = self.write(store, now_ms, told.clone(), Some(read)).await;
        if !matches!(written, Err(ClusterError::Replaced(_))) {
            return written;
        }
        // Unless it was itself, in a round that was cut off before it heard of that.
        let Some((record, stored)) = self.own_row(store).await? else {
            return written;
        };
        self.lock().row = Some((record, stored.clone()));
        self.write(store, now_ms, told, Some(stored)).await
    }

    /// The row of this node, if it was this process that wrote it.
    async fn own_row(&self, store: &Store) -> Result<Option<(NodeRecord, Value)>, StoreError> {
        let row = node_row::get(store, &self.name).await?;
        Ok(row.filter(|(record, _)| record.incarnation == self.incarnation))
    }

    async fn write(
        &self,
        store: &Store,
        now_ms: u64,
        (told, up_to): (Vec<Notice>, u64),
        read: Option<Value>,
    ) -> Result<(), ClusterError> {
        let begun = Instant::now();
        let record = {
            let state = self.lock();
            let beats = state.row.as_ref().map_or(0, |(record, _)| record.beats);
            NodeRecord {
                incarnation: self.incarnation,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started_ms: self.started_ms,
                at_ms: now_ms,
                beats: beats.saturating_add(1),
                notices: state.written().saturating_add(u64::from(!told.is_empty())),
                heard: state.heard(),
                hints: state.hints,
            }
        };
        let mut part = Part::default();
        let stored = node_row::put(&mut part, &self.name, &record, read)?;
        if !told.is_empty() {
            notice::put(&mut part, self.incarnation, record.notices, &told)?;
            if let Some(old) = record.notices.checked_sub(NOTICES_KEPT) {
                notice::delete(&mut part, self.incarnation, old);
            }
        }
        if store.commit(part).await? == PartOutcome::Conflict {
            return Err(ClusterError::Replaced(self.name.clone()));
        }
        let mut state = self.lock();
        state.row = Some((record, stored));
        state.in_flight.clear();
        state.told_written = state.told_written.max(up_to);
        // When it began, not when it was answered: others count from no later.
        state.beat = Some(begun);
        Ok(())
    }

    /// Looks at the other nodes, and takes their notices.
    async fn look(&self, store: &Store) -> Result<Heard, StoreError> {
        let rows = node_row::all(store).await?;
        let mut heard = Heard::new();
        let news = {
            let mut state = self.lock();
            let news = state.compare(&self.name, rows, &mut heard);
            // Meanwhile it stays to be read.
            if state.is_acting { Vec::new() } else { news }
        };
        for (name, of, taken, last) in news {
            let numbers = (taken.saturating_add(1), last.saturating_add(1));
            let told = notice::read(store, of, numbers).await?;
            let first = told.first().map(|(number, _)| *number);
            if first != Some(taken.saturating_add(1)) {
                // It was here too seldom.
                heard.push(Notice::Everything);
            }
            heard.extend(told.into_iter().flat_map(|(_, notices)| notices));
            let mut state = self.lock();
            let other = state.others.get_mut(&name);
            if let Some(other) = other.filter(|other| other.record.incarnation == of) {
                other.taken = last;
            }
        }
        Ok(heard)
    }

    /// Removes what is left of nodes that have been gone for long: a name that is used no more would stand there for ever.
    async fn forget_dead(&self, store: &Store) -> Result<(), StoreError> {
        let dead: Vec<(String, Incarnation, u64)> = {
            let state = self.lock();
            let others = state.others.iter();
            others
                .filter(|(_, other)| other.is_gone && other.silent >= FORGOTTEN_AFTER)
                .map(|(name, other)| {
                    let record = &other.record;
                    (name.clone(), record.incarnation, record.beats)
                })
                .collect()
        };
        for (name, incarnation, beats) in dead {
            let Some((record, stored)) = node_row::get(store, &name).await? else {
                continue;
            };
            if record.incarnation != incarnation || record.beats != beats {
                continue;
            }
            let mut part = Part::default();
            node_row::delete(&mut part, &name, stored);
            // A conflict: it gives signs of life again.
            if store.commit(part).await? == PartOutcome::Committed {
                tracing::info!(node = %name, "a node that has been gone for long is forgotten");
                forget_notices(store, incarnation).await?;
            }
        }
        Ok(())
    }

    /// Lets go of leases that others have taken.
    async fn keep_only_its_own(&self, store: &Store) -> Result<(), StoreError> {
        let leases = lease::all(store).await?;
        let mut state = self.lock();
        state.held.retain(|duty, (_, stored)| {
            let now = leases.get(duty).map(|(_, now)| now);
            now == Some(stored)
        });
        Ok(())
    }

    /// Gives back what another node is to do, or nobody any more; whether there was any.
    async fn give_back(&self, store: &Store, duties: &BTreeSet<Duty>) -> Result<bool, StoreError> {
        let given: Vec<(Duty, (Lease, Value))> = {
            let mut state = self.lock();
            let nodes = state.nodes(&self.name);
            let is_others =
                |duty: &Duty| !duties.contains(duty) || chosen(duty, &nodes) != Some(&self.name);
            // First of all: from now on nothing is begun under them.
            state.held.extract_if(|duty, _| is_others(duty)).collect()
        };
        let mut parts = Vec::with_capacity(given.len());
        for (duty, (lease, stored)) in &given {
            let free = Lease {
                owner: None,
                ..*lease
            };
            let mut part = Part::default();
            lease::put(&mut part, duty, &free, Some(stored.clone()))?;
            parts.push(store.enqueue(part).await);
        }
        for part in parts {
            // A conflict: another node has taken it.
            part.wait().await?;
        }
        Ok(!given.is_empty())
    }

    /// Takes what this node is to do and nobody does; whether there was any.
    async fn take(&self, store: &Store, duties: &BTreeSet<Duty>) -> Result<bool, StoreError> {
        let (wanted, alive) = {
            let state = self.lock();
            let nodes = state.nodes(&self.name);
            let is_ours = |duty: &&Duty| {
                !state.held.contains_key(*duty) && chosen(duty, &nodes) == Some(&self.name)
            };
            let wanted: Vec<Duty> = duties.iter().filter(is_ours).cloned().collect();
            (wanted, state.alive())
        };
        if wanted.is_empty() {
            return Ok(false);
        }
        let leases = lease::all(store).await?;
        let mut parts: Vec<(Duty, Lease, Value, Pending)> = Vec::new();
        for duty in wanted {
            let (lease, read) = leases.get(&duty).cloned().unzip();
            let owner = lease.and_then(|lease: Lease| lease.owner);
            if owner.is_some_and(|owner| owner != self.incarnation && alive.contains(&owner)) {
                continue;
            }
            let lease = Lease {
                owner: Some(self.incarnation),
                token: lease.map_or(0, |lease| lease.token).saturating_add(1),
            };
            let mut part = Part::default();
            let stored = lease::put(&mut part, &duty, &lease, read)?;
            parts.push((duty, lease, stored, store.enqueue(part).await));
        }
        let mut any = false;
        for (duty, lease, stored, part) in parts {
            if part.wait().await? == PartOutcome::Committed {
                self.lock().held.insert(duty, (lease, stored));
                any = true;
            }
        }
        Ok(any)
    }
}

impl State {
    /// Up to which number the notices of each other node were acted on.
    fn heard(&self) -> Vec<(Incarnation, u64)> {
        let others = self.others.values();
        others
            .map(|other| (other.record.incarnation, other.acted))
            .collect()
    }

    /// What was taken of the others' notices was acted on, unless it still is.
    fn note_acted(&mut self) {
        if !self.is_acting && !self.missed {
            for other in self.others.values_mut() {
                other.acted = other.taken;
            }
        }
    }

    /// The names of the nodes that are there, this one's among them.
    fn nodes(&self, own: &str) -> Vec<String> {
        let others = self.others.iter().filter(|(_, other)| !other.is_gone);
        let names = others.map(|(name, _)| name.clone());
        names.chain([own.to_owned()]).collect()
    }

    /// The processes of other nodes that are there.
    fn alive(&self) -> BTreeSet<Incarnation> {
        let others = self.others.values().filter(|other| !other.is_gone);
        others.map(|other| other.record.incarnation).collect()
    }

    /// Takes up what the nodes say of themselves; which notices are to be read: of whom, and from which number to which.
    fn compare(
        &mut self,
        own: &str,
        rows: Vec<(String, NodeRecord, Value)>,
        heard: &mut Heard,
    ) -> Vec<(String, Incarnation, u64, u64)> {
        let now = Instant::now();
        let passed = self
            .looked
            .map_or(Duration::ZERO, |at| now.duration_since(at));
        let passed = passed.min(SILENCE_COUNTED_MAX);
        self.looked = Some(now);
        let rows: BTreeMap<String, NodeRecord> = rows
            .into_iter()
            .filter(|(name, ..)| name != own)
            .map(|(name, record, _)| (name, record))
            .collect();
        let before = self.others.len();
        self.others.retain(|name, _| rows.contains_key(name));
        if self.others.len() < before {
            // It may have left before it could tell everything.
            heard.push(Notice::Everything);
        }
        let mut news = Vec::new();
        for (name, record) in rows {
            match self.others.entry(name) {
                Entry::Vacant(place) => {
                    tracing::info!(node = %place.key(), "another node is there");
                    heard.push(Notice::Everything);
                    self.hints_of.insert(record.incarnation, record.hints);
                    place.insert(Other::new(record));
                }
                Entry::Occupied(mut place) => {
                    let name = place.key().clone();
                    let other = place.get_mut();
                    other.compare(&name, record, passed, heard);
                    // Known from the first look at this process on.
                    let (of, hints) = (other.record.incarnation, other.record.hints);
                    self.hints_of.entry(of).or_insert(hints);
                    let (taken, last) = (other.taken, other.record.notices);
                    if taken < last {
                        news.push((name, other.record.incarnation, taken, last));
                    }
                }
            }
        }
        let State {
            others, hints_of, ..
        } = self;
        hints_of.retain(|of, _| others.values().any(|other| other.record.incarnation == *of));
        news
    }
}

impl Other {
    fn new(record: NodeRecord) -> Self {
        Self {
            taken: record.notices,
            acted: 0,
            record,
            silent: Duration::ZERO,
            is_gone: false,
        }
    }

    fn compare(&mut self, name: &str, record: NodeRecord, passed: Duration, heard: &mut Heard) {
        if self.record.incarnation != record.incarnation {
            tracing::info!(node = %name, "another node has started anew");
            // The process before it may have ended before it could tell everything.
            heard.push(Notice::Everything);
            *self = Self::new(record);
        } else if self.record.beats == record.beats {
            self.silent = self.silent.saturating_add(passed);
            if self.silent >= GONE_AFTER && !self.is_gone {
                tracing::warn!(node = %name, "another node gives no sign of life any more");
                self.is_gone = true;
                heard.push(Notice::Everything);
            }
        } else {
            if self.is_gone {
                tracing::info!(node = %name, "another node gives signs of life again");
            }
            self.record = record;
            self.silent = Duration::ZERO;
            self.is_gone = false;
        }
    }
}

/// The node of `nodes` that is to do a duty: every node comes to the same one, and one that comes or goes changes
/// nothing of what the others share among them.
fn chosen<'a>(duty: &Duty, nodes: &'a [String]) -> Option<&'a String> {
    let duty = duty.name();
    let rank = |node: &&String| {
        let text = [node.as_bytes(), b"\0", duty.as_bytes()].concat();
        digest(&SHA256, &text).as_ref().to_vec()
    };
    nodes.iter().max_by_key(rank)
}

async fn forget_notices(store: &Store, of: Incarnation) -> Result<(), StoreError> {
    loop {
        let mut part = Part::default();
        let is_all = notice::delete_all(store, &mut part, of, DELETED_AT_ONCE).await?;
        if !part.writes.is_empty() {
            store.commit(part).await?;
        }
        if is_all {
            return Ok(());
        }
    }
}
