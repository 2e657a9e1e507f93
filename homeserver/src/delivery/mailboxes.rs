//! What this process keeps in mind about devices: their open sessions, and how full their inboxes
//! are.
//!
//! Nothing here decides who may do what: a session that misses a ring reads the store at its next one,
//! and a count that is lost, or that would have something refused, is taken again from the store. A hold only keeps acceptance
//! stamps and the time of a cut in their order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use federation_proto::ids::{DeviceId, ServerName};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::store::inbox::{InboxBody, InboxRecord};
use crate::store::notice::Notice;

/// A session is not ended for one at another node that opened about when it did itself: which was first is not known
/// then, and what has left its device ends by its silence.
const OPENED_TOGETHER: Duration = Duration::from_secs(2);

/// How long a session is waited for that is to look at its rules.
const LOOK_TIME_MAX: Duration = Duration::from_secs(2);

/// Why a session is rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    /// The inbox has something new.
    Mail,
    /// The account, its devices or its user type may have changed.
    Rules,
    /// Agreements changed.
    Peers,
    /// A device has come to the account, has left it, or waits to come.
    Devices,
    /// Another session of the same device took its place.
    Replaced,
    /// The homeserver stops.
    Stopping,
}

impl Ring {
    /// What it is to the other nodes, whose sessions are rung too; `None`: it is about this process alone.
    const fn notice(self, device: DeviceId) -> Option<Notice> {
        match self {
            Self::Mail => Some(Notice::Mail(device)),
            Self::Rules => Some(Notice::Rules(device)),
            Self::Devices => Some(Notice::Devices(device)),
            Self::Peers | Self::Replaced | Self::Stopping => None,
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Mail => 1,
            Self::Rules => 2,
            Self::Peers => 4,
            Self::Replaced => 8,
            Self::Stopping => 16,
            Self::Devices => 32,
        }
    }
}

/// Everything that a session was rung for since it last looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rings(u8);

impl Rings {
    /// Whether this was among it.
    pub const fn has(self, ring: Ring) -> bool {
        self.0 & ring.bit() != 0
    }

    /// Both together.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What wakes one session.
#[derive(Debug, Default)]
pub struct Bell {
    waiting: AtomicU8,
    notify: Notify,
    /// The session does nothing more for its device.
    ended: AtomicBool,
    /// How often it was rung for rules,
    for_rules: AtomicU64,
    /// and how often of those it has looked at them since.
    looked: AtomicU64,
    opened: Opened,
}

/// When a session opened.
#[derive(Debug)]
struct Opened(Instant);

impl Default for Opened {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Bell {
    /// Rings.
    pub fn ring(&self, ring: Ring) {
        if ring == Ring::Rules {
            self.for_rules.fetch_add(1, Ordering::AcqRel);
        }
        self.waiting.fetch_or(ring.bit(), Ordering::AcqRel);
        self.notify.notify_one();
    }

    /// How often it was rung for rules: to be asked before these are read, and said to [`Self::looked`] afterwards.
    pub fn for_rules(&self) -> u64 {
        self.for_rules.load(Ordering::Acquire)
    }

    /// The session has read the rules, and goes on by them.
    pub fn looked(&self, for_rules: u64) {
        self.looked.fetch_max(for_rules, Ordering::AcqRel);
    }

    /// Whether the session has read the rules since it was rung so often for them, or has ended.
    fn has_looked(&self, for_rules: u64) -> bool {
        self.ended.load(Ordering::Acquire) || self.looked.load(Ordering::Acquire) >= for_rules
    }

    /// What it has rung for so far, without waiting.
    pub fn heard(&self) -> Rings {
        Rings(self.waiting.swap(0, Ordering::AcqRel))
    }

    /// Waits until it rings, and says what for.
    pub async fn rung(&self) -> Rings {
        loop {
            match self.waiting.swap(0, Ordering::AcqRel) {
                0 => self.notify.notified().await,
                rings => return Rings(rings),
            }
        }
    }
}

/// What an item in an inbox is to the bounds: each class has its own, so that neither takes the other's room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// What people say to each other.
    Message,
    /// What keeps rooms going, and answers.
    Handshake,
}

impl Class {
    const fn of(body: &InboxBody) -> Self {
        match body {
            InboxBody::Message { .. } | InboxBody::Contact { .. } => Self::Message,
            InboxBody::Commit { .. }
            | InboxBody::Welcome { .. }
            | InboxBody::Removals { .. }
            | InboxBody::KeyMaterial { .. }
            | InboxBody::CommitRefused { .. }
            | InboxBody::Returned { .. }
            | InboxBody::Directory { .. }
            | InboxBody::ReportReturned { .. }
            | InboxBody::GroupInfo { .. }
            | InboxBody::RoomConsent { .. }
            | InboxBody::RoomClosed { .. }
            | InboxBody::OutOfStep { .. } => Self::Handshake,
        }
    }
}

/// An item as inboxes count it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    class: Class,
    source: Option<ServerName>,
    bytes: u64,
}

impl Item {
    /// An item that takes so many bytes in the store.
    pub fn new(class: Class, source: Option<ServerName>, bytes: usize) -> Self {
        Self {
            class,
            source,
            bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
        }
    }

    /// A stored item.
    pub fn of(record: &InboxRecord, bytes: usize) -> Self {
        Self::new(Class::of(&record.body), record.source.clone(), bytes)
    }

    /// The peer that brought it.
    pub const fn source(&self) -> Option<&ServerName> {
        self.source.as_ref()
    }
}

/// How much there is of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Items.
    pub items: u64,
    /// Their stored bytes.
    pub bytes: u64,
}

impl Count {
    const fn add(&mut self, bytes: u64) {
        self.items = self.items.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    const fn subtract(&mut self, bytes: u64) {
        self.items = self.items.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// How full an inbox is: by class, and how much of that each peer has brought.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fill {
    all: [Count; 2],
    by_source: HashMap<ServerName, [Count; 2]>,
}

impl Fill {
    /// With one more item.
    pub fn add(&mut self, item: &Item) {
        count_of(&mut self.all, item.class).add(item.bytes);
        if let Some(source) = &item.source {
            let brought = self.by_source.entry(source.clone()).or_default();
            count_of(brought, item.class).add(item.bytes);
        }
    }

    /// With one item less.
    pub fn subtract(&mut self, item: &Item) {
        count_of(&mut self.all, item.class).subtract(item.bytes);
        let Some(source) = &item.source else { return };
        if let Some(brought) = self.by_source.get_mut(source) {
            count_of(brought, item.class).subtract(item.bytes);
            if brought.iter().all(|count| count.items == 0) {
                self.by_source.remove(source);
            }
        }
    }

    /// Of a class all that waits, and what of it `source` has brought.
    pub fn of(&self, class: Class, source: Option<&ServerName>) -> (Count, Count) {
        let [all, brought] = [
            Some(&self.all),
            source.and_then(|source| self.by_source.get(source)),
        ]
        .map(|counts| counts.copied().unwrap_or_default());
        (pick(&all, class), pick(&brought, class))
    }

    /// Without room for anything of a class.
    #[cfg(test)]
    pub fn full_of(class: Class) -> Self {
        let mut full = Self::default();
        *count_of(&mut full.all, class) = Count {
            items: u64::MAX,
            bytes: u64::MAX,
        };
        full
    }
}

const fn pick([messages, handshakes]: &[Count; 2], class: Class) -> Count {
    match class {
        Class::Message => *messages,
        Class::Handshake => *handshakes,
    }
}

const fn count_of([messages, handshakes]: &mut [Count; 2], class: Class) -> &mut Count {
    match class {
        Class::Message => messages,
        Class::Handshake => handshakes,
    }
}

/// How full an inbox is, and when all of it was counted, milliseconds since the Unix epoch.
#[derive(Debug)]
struct Counted {
    fill: Fill,
    at_ms: u64,
}

/// All devices of this process.
#[derive(Debug, Default)]
pub struct Mailboxes {
    /// The other nodes, whose sessions are rung with those here.
    others: Arc<Cluster>,
    bells: Mutex<HashMap<DeviceId, Arc<Bell>>>,
    fills: Mutex<HashMap<DeviceId, Counted>>,
    /// Devices of which nothing is taken at present, each with how many holds there are.
    held: Mutex<HashMap<DeviceId, usize>>,
    /// Rung when a session has ended.
    ended: Notify,
    /// Sessions that were rung for rules on another node's word, with the number of that ring, and until when they are waited
    /// for.
    looking: Mutex<Vec<(Arc<Bell>, u64, Instant)>>,
}

impl Mailboxes {
    /// Of a node among these others.
    pub fn among(others: Arc<Cluster>) -> Self {
        Self {
            others,
            ..Self::default()
        }
    }

    /// A session opens; another one of the same device is told to end, on whichever node.
    pub fn open(&self, device: DeviceId) -> Arc<Bell> {
        let bell = Arc::new(Bell::default());
        if let Some(former) = lock(&self.bells).insert(device, Arc::clone(&bell)) {
            former.ring(Ring::Replaced);
        }
        self.others.tell([Notice::Opened(device)]);
        bell
    }

    /// A session of the device has opened at another node.
    pub fn opened_elsewhere(&self, device: DeviceId) {
        let bells = lock(&self.bells);
        let bell = bells.get(&device);
        if let Some(bell) = bell.filter(|bell| bell.opened.0.elapsed() >= OPENED_TOGETHER) {
            bell.ring(Ring::Replaced);
        }
    }

    /// A session does nothing more for its device; it may still say why.
    pub fn end(&self, bell: &Bell) {
        bell.ended.store(true, Ordering::Release);
        self.ended.notify_waiters();
    }

    /// Nothing that is judged from now on is taken of these devices, until the hold is dropped.
    pub fn hold(self: &Arc<Self>, devices: Vec<DeviceId>) -> Held {
        let mut held = lock(&self.held);
        for device in &devices {
            *held.entry(*device).or_default() += 1;
        }
        drop(held);
        Held {
            mailboxes: Arc::clone(self),
            devices,
        }
    }

    /// Whether nothing is taken of a device at present. Whoever judges asks after he has looked at the clock.
    pub fn is_held(&self, device: DeviceId) -> bool {
        lock(&self.held).contains_key(&device)
    }

    /// How many of these devices have a session that serves them.
    pub fn serving(&self, devices: &[DeviceId]) -> usize {
        let bells = lock(&self.bells);
        let serving = |device: &&DeviceId| {
            let bell = bells.get(*device);
            bell.is_some_and(|bell| !bell.ended.load(Ordering::Acquire))
        };
        devices.iter().filter(serving).count()
    }

    /// Waits until none of these devices has a session that serves it.
    pub async fn ended(&self, devices: &[DeviceId]) {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            // Before looking: what ends in between is not missed.
            ended.as_mut().enable();
            if self.serving(devices) == 0 {
                return;
            }
            ended.await;
        }
    }

    /// A session is gone.
    pub fn close(&self, device: DeviceId, bell: &Arc<Bell>) {
        let mut bells = lock(&self.bells);
        if bells.get(&device).is_some_and(|now| Arc::ptr_eq(now, bell)) {
            bells.remove(&device);
        }
    }

    /// How many sessions are open.
    pub fn sessions(&self) -> usize {
        lock(&self.bells).len()
    }

    /// Rings for these devices' sessions, on every node.
    pub fn ring(&self, devices: impl IntoIterator<Item = DeviceId>, ring: Ring) {
        if self.others.is_alone() {
            return self.ring_here(devices, ring);
        }
        let devices: Vec<_> = devices.into_iter().collect();
        let notices = devices.iter().filter_map(|device| ring.notice(*device));
        self.others.tell(notices);
        self.ring_here(devices, ring);
    }

    /// Rings for those of these devices' sessions that are open here.
    pub fn ring_here(&self, devices: impl IntoIterator<Item = DeviceId>, ring: Ring) {
        let bells = lock(&self.bells);
        for device in devices {
            if let Some(bell) = bells.get(&device) {
                bell.ring(ring);
            }
        }
    }

    /// Rings the session of this device here (`None`: every session) for rules, on another node's word.
    pub fn look_again(&self, device: Option<DeviceId>) {
        let bells = lock(&self.bells);
        let rung: Vec<&Arc<Bell>> = match device {
            Some(device) => bells.get(&device).into_iter().collect(),
            None => bells.values().collect(),
        };
        let until = Instant::now() + LOOK_TIME_MAX;
        let mut looking = lock(&self.looking);
        for bell in rung {
            bell.ring(Ring::Rules);
            let number = bell.for_rules();
            let mut before = looking.iter_mut();
            match before.find(|(of, ..)| Arc::ptr_eq(of, bell)) {
                Some((_, of, _)) => *of = number,
                None => looking.push((Arc::clone(bell), number, until)),
            }
        }
    }

    /// Whether all sessions that [`Self::look_again`] has rung have read the rules since, or have ended; one that takes too
    /// long is not waited for.
    pub fn have_looked(&self) -> bool {
        let (mut looking, now) = (lock(&self.looking), Instant::now());
        looking.retain(|(bell, rung, until)| !bell.has_looked(*rung) && now < *until);
        looking.is_empty()
    }

    /// Everybody's rules may have changed: rings for every session, on every node.
    pub fn ring_for_rules(&self) {
        self.others.tell([Notice::EveryonesRules]);
        self.ring_all(Ring::Rules);
    }

    /// Rings for every session here.
    pub fn ring_all(&self, ring: Ring) {
        for bell in lock(&self.bells).values() {
            bell.ring(ring);
        }
    }

    pub(crate) fn fill(&self, device: DeviceId) -> Option<Fill> {
        let fills = lock(&self.fills);
        fills.get(&device).map(|counted| counted.fill.clone())
    }

    /// When the inbox was counted last.
    pub(super) fn counted_ms(&self, device: DeviceId) -> Option<u64> {
        lock(&self.fills).get(&device).map(|counted| counted.at_ms)
    }

    /// All of the inbox was counted just now.
    pub(crate) fn set_fill(&self, device: DeviceId, fill: Fill, now_ms: u64) {
        let at_ms = now_ms;
        lock(&self.fills).insert(device, Counted { fill, at_ms });
    }

    pub(super) fn filled(&self, device: DeviceId, item: &Item) {
        if let Some(counted) = lock(&self.fills).get_mut(&device) {
            counted.fill.add(item);
        }
    }

    pub(super) fn emptied<'a>(&self, device: DeviceId, items: impl Iterator<Item = &'a Item>) {
        if let Some(counted) = lock(&self.fills).get_mut(&device) {
            items.for_each(|item| counted.fill.subtract(item));
        }
    }

    /// Forgets a removed device's count.
    pub fn forget(&self, device: DeviceId) {
        lock(&self.fills).remove(&device);
    }
}

/// Devices of which nothing is taken; see [`Mailboxes::hold`].
pub struct Held {
    mailboxes: Arc<Mailboxes>,
    devices: Vec<DeviceId>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Held").field(&self.devices).finish()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = lock(&self.mailboxes.held);
        for device in &self.devices {
            if let Some(holds) = held.get_mut(device) {
                *holds -= 1;
                if *holds == 0 {
                    held.remove(device);
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a second session ends the first, and the first's leaving does not unhook the second.
    #[tokio::test]
    async fn second_session_replaces_first() {
        let mailboxes = Mailboxes::default();
        let device = DeviceId::from_bytes([1; 16]);
        let first = mailboxes.open(device);
        let second = mailboxes.open(device);
        assert!(first.rung().await.has(Ring::Replaced));
        mailboxes.close(device, &first);
        mailboxes.ring([device], Ring::Mail);
        assert!(second.rung().await.has(Ring::Mail));
        mailboxes.close(device, &second);
        assert_eq!(mailboxes.sessions(), 0);
    }
}
