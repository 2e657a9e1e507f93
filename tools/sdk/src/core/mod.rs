//! The core of a client: what it knows, and what each input does to it. It does no network I/O.
//!
//! Inputs are the application's calls, the homeserver's frames and time. Each runs as a job
//! ([`Core::job`]): whole or not at all. Jobs gather in one batch; [`Core::commit`] makes the batch
//! durable and only then hands out its effects. So nothing is sent, acknowledged or told before it
//! is durable, and a crash at any point continues from the last batch: the outbox is sent again
//! byte for byte, deliveries that were not acknowledged come again and are told apart by number.
//!
//! What is kept in memory is a cache of the store and is read again after a failed job.

mod consents;
mod detached;
mod devices;
mod expiry;
mod forks;
mod history;
mod keys;
mod leaving;
mod look_ups;
mod messages;
mod opening;
mod operations;
mod plan;
mod receive;
mod records;
mod reports;
mod results;
mod resync;
mod rooms;
mod sequence;
mod successors;
mod verdicts;
mod welcomes;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use homeserver_api::client::Anchor;
use homeserver_api::ids::{Address, RequestId, RoomId};
use homeserver_api::policy::UserTypePolicy;
use homeserver_api::refusal::Refusal;
use homeserver_api::session::{FRAME_BYTES_MAX, Listing, Submission, SubmissionBody};
use ring::rand::{SecureRandom as _, SystemRandom};

pub use detached::DetachedRoom;
pub use devices::safety::SafetyNumber;
pub(crate) use devices::safety::{device_code, read_code};
pub use forks::RoomNumber;
pub use history::PastRoom;
pub(crate) use history::{Bounds as HistoryBounds, Taken};
pub(crate) use records::Identity;
#[cfg(feature = "fuzzing")]
pub(crate) use records::read_any;
use records::{Operation, OutboxEntry, Purpose, RoomRecord, State};
pub(crate) use results::Again;

use crate::certificate::{self, AnchorSet, Roots};
use crate::clock::Clock;
use crate::error::Error;
use crate::event::Event;
use crate::message::MessageId;
use crate::mls::{self, Group, Identities, MlsClient, MlsStorage};
use crate::store::{Family, NewStore, Store, StoreKey};
use crate::tls::RootPin;

/// Most groups kept in memory.
const GROUPS_CACHED_MAX: usize = 64;
/// Most bytes of submissions in one frame; the rest of a frame is framing.
const FRAME_SUBMISSIONS_BYTES_MAX: usize = FRAME_BYTES_MAX / 2;

/// What a durable batch makes happen.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// For the application, in order.
    pub(crate) events: Vec<Event>,
    /// Operations that ended.
    pub(crate) operations: Vec<(u64, Result<RoomId, Error>)>,
    /// Own messages that the homeserver answered.
    pub(crate) answers: Vec<(MessageId, Result<u64, Refusal>)>,
    /// Look-ups that were answered.
    pub(crate) look_ups: Vec<(RequestId, Result<Listing, Refusal>)>,
    /// Reports that the homeserver answered, by the submission's counter.
    pub(crate) reports: Vec<(u64, Result<(), Refusal>)>,
    /// Whether an answer about somebody's devices has come.
    pub(crate) devices_answered: bool,
    /// Whether there is more to send.
    pub(crate) outbox_grew: bool,
    /// Whether a deadline may have come nearer.
    pub(crate) schedule_changed: bool,
    /// Whether replaced records are still to be made unreadable.
    pub(crate) replaced: bool,
}

struct CachedGroup {
    group: Group,
    dirty: bool,
    /// Whether it holds what is to be kept and is not written yet.
    kept: bool,
    /// The epoch whose tree is stored, if any is: a tree changes with its epoch only, and is by far the largest part
    /// of a group in a large room.
    stored_tree: Option<u64>,
    /// In which epoch it was read who is in the group, and who was in it then.
    leaves: Option<(u64, Arc<[rooms::Leaf]>)>,
}

/// How steps in groups are kept while a job does several, one of which may fail and be undone.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Steps {
    /// Each is written for itself.
    #[default]
    KeptAlone,
    /// All are written when the job ends.
    KeptTogether,
    /// A step was undone, and one that was to be kept with it: the job has to be done again.
    Lost,
}

/// One device's knowledge.
pub(crate) struct Core {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    random: SystemRandom,
    storage: MlsStorage,
    identities: Identities,
    mls: MlsClient,
    identity: Identity,
    anchors: AnchorSet,
    state: State,
    saved_state: State,
    rooms: BTreeMap<RoomId, RoomRecord>,
    operations: BTreeMap<u64, Operation>,
    outbox: BTreeSet<u64>,
    /// Highest counter that this store can have sent: what it knew when it was opened, until the
    /// homeserver's first hello was held against that.
    sent_at_most: Option<u64>,
    groups: HashMap<RoomId, CachedGroup>,
    steps: Steps,
    /// When which message may be due for deletion. A hint: the message's record decides, so an
    /// entry too many is harmless.
    schedule: BTreeSet<(u64, RoomId, u64)>,
    /// What this job has looked after: it leaves the schedule when the job has succeeded.
    deleted: Vec<(u64, RoomId, u64)>,
    /// Rooms whose own leaf could not be renewed, and when that is tried again.
    refresh_after: BTreeMap<RoomId, u64>,
    /// Rooms in which no commit is made for the moment, and when the next one may be.
    commits_at: BTreeMap<RoomId, u64>,
    /// What is known of people's devices.
    known: devices::Known,
    /// Rooms that this device is on its way back into, and when their hub is asked again.
    resync_at: BTreeMap<RoomId, u64>,
    /// Histories that are on their way, and conversations of those that came.
    history: history::Histories,
    /// Rooms in which removals wait, and when it is this device's turn to take them up.
    take_up_at: BTreeMap<RoomId, u64>,
    /// Devices of rooms of whose messages some are missing, and when that is told.
    missing_at: BTreeMap<u64, u64>,
    /// Rooms to which the own organisation's consent is to be renewed, and when.
    renew_at: BTreeMap<RoomId, u64>,
    /// Rooms with devices that their accounts have removed, and when that is told.
    gone_at: BTreeMap<RoomId, u64>,
    effects: Effects,
    /// Key packages used up since the last refill.
    key_packages_used: usize,
    /// Whether an unknown organisation is an answer, or a reason to fetch the roots and try again.
    roots_are_fresh: bool,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Core({})", self.identity.address)
    }
}

impl Core {
    /// Takes over the store of a device that has just enrolled.
    pub(crate) fn create(
        folder: &Path,
        store: NewStore,
        clock: Arc<dyn Clock>,
        identity: &Identity,
        anchors: &AnchorSet,
    ) -> Result<Self, Error> {
        let store = store.finish(|store| {
            store.put(Family::Identity, b"", 0, identity)?;
            store.put(Family::Anchors, b"", 0, anchors)
        })?;
        Self::with_store(folder, store, clock)
    }

    /// Opens the store of an enrolled device.
    pub(crate) fn open(
        folder: &Path,
        key: &StoreKey,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        Self::with_store(folder, Store::open(folder, key)?, clock)
    }

    fn with_store(folder: &Path, store: Store, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let store = Arc::new(store);
        let identity: Identity = store
            .get(Family::Identity, b"", 0)?
            .ok_or_else(|| Error::NotEnrolled(folder.to_owned()))?;
        let anchors: AnchorSet = store.get(Family::Anchors, b"", 0)?.unwrap_or_default();
        let storage = MlsStorage::new(Arc::clone(&store), Arc::clone(&clock));
        let identities = mls::identities(anchors.clone());
        let mls = mls_client(&identity, &storage, &identities, clock.now_ms())?;
        let mut core = Self {
            store,
            clock,
            random: SystemRandom::new(),
            storage,
            identities,
            mls,
            identity,
            anchors,
            state: State::default(),
            saved_state: State::default(),
            rooms: BTreeMap::new(),
            operations: BTreeMap::new(),
            outbox: BTreeSet::new(),
            sent_at_most: None,
            groups: HashMap::new(),
            steps: Steps::default(),
            schedule: BTreeSet::new(),
            deleted: Vec::new(),
            refresh_after: BTreeMap::new(),
            commits_at: BTreeMap::new(),
            resync_at: BTreeMap::new(),
            take_up_at: BTreeMap::new(),
            renew_at: BTreeMap::new(),
            gone_at: BTreeMap::new(),
            missing_at: BTreeMap::new(),
            known: devices::Known::default(),
            history: history::Histories::default(),
            effects: Effects::default(),
            key_packages_used: 0,
            roots_are_fresh: true,
        };
        core.reload()?;
        core.sent_at_most = Some(core.state.last_counter);
        core.load_schedule()?;
        while core
            .next_deadline_ms()
            .is_some_and(|at| at <= core.now_ms())
        {
            core.job(Self::do_due)?;
            core.commit()?;
        }
        Ok(core)
    }

    /// Reads everything that is cached from the store again, this batch's changes included.
    fn reload(&mut self) -> Result<(), Error> {
        self.state = self.store.get(Family::State, b"", 0)?.unwrap_or_default();
        self.saved_state = self.state.clone();
        self.rooms = self
            .store
            .scan::<RoomRecord>(Family::Room, b"")?
            .into_iter()
            .map(|(_, record)| (record.room, record))
            .collect();
        self.resync_at.clear();
        self.take_up_at.clear();
        self.renew_at.clear();
        self.gone_at.clear();
        for record in self.rooms.values().cloned().collect::<Vec<_>>() {
            self.schedule_resync(&record);
            self.schedule_take_up(&record);
            self.schedule_renewal(&record);
            self.schedule_gone(&record);
        }
        self.operations = self
            .store
            .scan::<Operation>(Family::Operation, b"")?
            .into_iter()
            .collect();
        self.outbox = self
            .store
            .numbers(Family::Outbox, b"")?
            .into_iter()
            .collect();
        self.groups.clear();
        self.known = devices::Known::load(&self.store)?;
        self.history = history::Histories::load(&self.store)?;
        self.load_missing()?;
        let identity: Option<Identity> = self.store.get(Family::Identity, b"", 0)?;
        if let Some(identity) = identity.filter(|found| found.chain != self.identity.chain) {
            let now = self.clock.now_ms();
            self.mls = mls_client(&identity, &self.storage, &self.identities, now)?;
            self.identity = identity;
        }
        let anchors: AnchorSet = self.store.get(Family::Anchors, b"", 0)?.unwrap_or_default();
        if anchors != self.anchors {
            self.identities.set_anchors(anchors.clone());
            self.anchors = anchors;
        }
        Ok(())
    }

    /// Runs one job: whole, or not at all.
    pub(crate) fn job<T>(
        &mut self,
        job: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.store.mark();
        let before = self.effects.lengths();
        self.deleted.clear();
        let outcome = job(self).and_then(|value| self.save().map(|()| value));
        if outcome.is_ok() {
            for entry in self.deleted.drain(..) {
                self.schedule.remove(&entry);
            }
        } else {
            self.take_back(before)?;
        }
        outcome
    }

    /// Takes back what a job has done; its effects go back to these lengths.
    fn take_back(&mut self, effects: [usize; 5]) -> Result<(), Error> {
        self.store.undo();
        self.effects.truncate(effects);
        self.reload()
    }

    /// Makes the batch durable and hands out its effects.
    pub(crate) fn commit(&mut self) -> Result<Effects, Error> {
        self.hide_transfers();
        self.store.commit()?;
        self.effects.replaced = self.store.has_replaced();
        Ok(std::mem::take(&mut self.effects))
    }

    /// Makes unreadable what the last batch replaced.
    pub(crate) fn forget_replaced(&self) -> Result<(), Error> {
        self.store.forget_replaced()
    }

    /// Writes what the job changed in memory into the batch.
    fn save(&mut self) -> Result<(), Error> {
        self.save_groups()?;
        if self.groups.len() > GROUPS_CACHED_MAX {
            self.groups.clear();
        }
        if self.state != self.saved_state {
            self.store.put(Family::State, b"", 0, &self.state)?;
            self.saved_state = self.state.clone();
        }
        Ok(())
    }

    pub(crate) const fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn policy(&self) -> UserTypePolicy {
        self.state.policy.clone().unwrap_or_default()
    }

    /// The account's policy, when the homeserver has told it.
    pub(crate) fn known_policy(&self) -> Option<UserTypePolicy> {
        self.state.policy.clone()
    }

    /// Takes over the account's policy.
    pub(crate) fn set_policy(&mut self, policy: UserTypePolicy) {
        self.state.policy = Some(policy);
    }

    /// Takes over the own homeserver's room certificate, with the issuing CA's.
    pub(crate) fn set_hub_chain(&mut self, chain: Vec<Vec<u8>>) -> Result<(), Error> {
        let hub = self.anchors.verify_hub(&chain)?;
        if hub.server != self.identity.member.server {
            return Err(Error::Certificate(
                "the room certificate is another homeserver's".to_owned(),
            ));
        }
        self.state.hub_chain = chain;
        Ok(())
    }

    /// Takes over the organisations' roots; the own one's, when the one before has signed for it. Returns the own root
    /// when it is another than before: it is the one to trust in TLS from now on.
    pub(crate) fn set_anchors(&mut self, named: &[Anchor]) -> Result<Option<RootPin>, Error> {
        let mut anchors = self.anchors.clone();
        let own = self.identity.member.server.clone();
        let others = named.iter().filter(|anchor| anchor.server != own);
        let others = others.map(|anchor| (anchor.server.clone(), roots(anchor)));
        anchors.replace_others(&own, others);
        let mut pin = None;
        if let Some(anchor) = named.iter().find(|anchor| anchor.server == own) {
            let handover = anchor.handover.as_ref().map_or(&[][..], |der| &der.0);
            match anchors.take_own(&own, roots(anchor), handover, self.now_ms()) {
                Ok(true) => pin = Some(RootPin(certificate::hash(&anchor.root.0))),
                Ok(false) => {}
                // The others' count all the same.
                Err(error) => tracing::warn!(%error, "the homeserver's root is not taken"),
            }
        }
        if let Some(pin) = pin {
            self.identity.root_sha256 = pin.0;
            self.store.put(Family::Identity, b"", 0, &self.identity)?;
        }
        self.take_anchors(anchors)?;
        Ok(pin)
    }

    /// Takes over the roots of organisations with which the agreement has ended: by them this device judges who is in
    /// rooms that it is in too, and nothing else.
    pub(crate) fn set_former_partners(&mut self, named: &[Anchor]) -> Result<(), Error> {
        let mut anchors = self.anchors.clone();
        let named = named.iter();
        anchors.replace_ended(named.map(|anchor| (anchor.server.clone(), roots(anchor))));
        self.take_anchors(anchors)
    }

    fn take_anchors(&mut self, anchors: AnchorSet) -> Result<(), Error> {
        if anchors != self.anchors {
            self.store.put(Family::Anchors, b"", 0, &anchors)?;
            self.identities.set_anchors(anchors.clone());
            self.anchors = anchors;
        }
        Ok(())
    }

    /// Counters of the submissions without an answer: the lowest, and the last one made.
    pub(crate) fn outbox_bounds(&self) -> (Option<u64>, u64) {
        (self.outbox.first().copied(), self.state.last_counter)
    }

    /// The number of the newest message.
    pub(crate) const fn last_number(&self) -> u64 {
        self.state.last_number
    }

    /// Holds the homeserver's memory, the last counter that it took, against this store's own.
    ///
    /// # Errors
    /// When one of the two is an older copy of itself.
    pub(crate) fn greeted(&mut self, last_counter: u64) -> Result<(), Error> {
        // What was written since the store was opened has not been sent before the first hello, so
        // it says nothing about what an older copy's original has sent.
        let sent_at_most = self.sent_at_most.unwrap_or(self.state.last_counter);
        if last_counter > sent_at_most {
            return Err(Error::StaleStore);
        }
        let next = self.outbox.first().copied();
        if last_counter + 1 < next.unwrap_or(self.state.last_counter + 1) {
            return Err(Error::RestoredServer);
        }
        self.sent_at_most = None;
        Ok(())
    }

    /// The next submissions after `counter`, at most `count`, as many as fit a frame.
    pub(crate) fn submissions_after(
        &self,
        counter: u64,
        count: usize,
    ) -> Result<Vec<Submission>, Error> {
        let mut submissions = Vec::new();
        let mut bytes = 0;
        for number in self.outbox.range(counter.saturating_add(1)..).take(count) {
            let Some(entry) = self
                .store
                .get::<OutboxEntry>(Family::Outbox, b"", *number)?
            else {
                break;
            };
            bytes += submission_bytes(&entry.submission);
            if bytes > FRAME_SUBMISSIONS_BYTES_MAX && !submissions.is_empty() {
                break;
            }
            submissions.push(entry.submission);
        }
        Ok(submissions)
    }

    fn enqueue(&mut self, body: SubmissionBody, purpose: Purpose) -> Result<u64, Error> {
        let counter = self.state.last_counter + 1;
        let entry = OutboxEntry {
            submission: Submission { counter, body },
            purpose,
        };
        self.store.put(Family::Outbox, b"", counter, &entry)?;
        self.state.last_counter = counter;
        self.outbox.insert(counter);
        self.effects.outbox_grew = true;
        Ok(counter)
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    fn random_bytes(&self) -> Result<[u8; 16], Error> {
        let mut bytes = [0; 16];
        self.random
            .fill(&mut bytes)
            .map_err(|_| Error::Store("no random bytes".to_owned()))?;
        Ok(bytes)
    }

    #[cfg(test)]
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    fn own_address(&self) -> &Address {
        &self.identity.address
    }
}

impl Effects {
    const fn lengths(&self) -> [usize; 5] {
        [
            self.events.len(),
            self.operations.len(),
            self.answers.len(),
            self.look_ups.len(),
            self.reports.len(),
        ]
    }

    fn truncate(&mut self, [events, operations, answers, look_ups, reports]: [usize; 5]) {
        self.events.truncate(events);
        self.operations.truncate(operations);
        self.answers.truncate(answers);
        self.look_ups.truncate(look_ups);
        self.reports.truncate(reports);
    }
}

/// As the homeserver names them.
fn roots(anchor: &Anchor) -> Roots {
    let former = anchor.former.iter();
    let former = former.map(|former| (former.root.0.clone(), former.until_ms));
    Roots::new(anchor.root.0.clone(), former)
}

fn mls_client(
    identity: &Identity,
    storage: &MlsStorage,
    identities: &Identities,
    now_ms: u64,
) -> Result<MlsClient, Error> {
    let left_ms = identity.not_after_ms.saturating_sub(now_ms);
    mls::client(
        &identity.key,
        &identity.chain,
        storage,
        identities,
        Duration::from_millis(left_ms),
    )
}

fn submission_bytes(submission: &Submission) -> usize {
    match &submission.body {
        SubmissionBody::ClaimKeys { .. }
        | SubmissionBody::AskDevices { .. }
        | SubmissionBody::LookUp { .. }
        | SubmissionBody::RequestGroupInfo { .. }
        | SubmissionBody::AskConsent { .. }
        | SubmissionBody::Leave { .. } => 512,
        SubmissionBody::Report(report) => {
            let texts = report
                .messages
                .iter()
                .map(|message| message.text.len() + 64);
            report.note.len() + texts.sum::<usize>() + 512
        }
        SubmissionBody::Commit(commit) => {
            let members = commit.adds.len() + commit.removes.len();
            let welcome = commit.welcome.as_ref().map_or(0, |welcome| welcome.len());
            commit.commit.len() + welcome + commit.group_info.len() + 300 * members
        }
        SubmissionBody::Message { message, .. } => message.len() + 64,
    }
}

#[cfg(test)]
mod tests;
