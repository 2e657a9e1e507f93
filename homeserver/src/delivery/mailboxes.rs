//! What this process keeps in mind about devices: their open sessions, and how full their inboxes
//! are.
//!
//! Nothing here decides correctness: a session that misses a ring reads the store at its next one,
//! and a lost count is taken again from the store.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use federation_proto::ids::DeviceId;
use tokio::sync::Notify;

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
}

impl Bell {
    /// Rings.
    pub fn ring(&self, ring: Ring) {
        self.waiting.fetch_or(ring.bit(), Ordering::AcqRel);
        self.notify.notify_one();
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

/// How full an inbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fill {
    /// Items.
    pub items: u64,
    /// Their stored bytes.
    pub bytes: u64,
}

impl Fill {
    /// With one more item of this many bytes.
    pub fn add(&mut self, bytes: usize) {
        self.items = self.items.saturating_add(1);
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    fn subtract(&mut self, other: Self) {
        self.items = self.items.saturating_sub(other.items);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

/// All devices of this process.
#[derive(Debug, Default)]
pub struct Mailboxes {
    bells: Mutex<HashMap<DeviceId, Arc<Bell>>>,
    fills: Mutex<HashMap<DeviceId, Fill>>,
}

impl Mailboxes {
    /// A session opens; another one of the same device is told to end.
    pub fn open(&self, device: DeviceId) -> Arc<Bell> {
        let bell = Arc::new(Bell::default());
        if let Some(former) = lock(&self.bells).insert(device, Arc::clone(&bell)) {
            former.ring(Ring::Replaced);
        }
        bell
    }

    /// A session has ended.
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

    /// Rings for these devices' sessions.
    pub fn ring(&self, devices: impl IntoIterator<Item = DeviceId>, ring: Ring) {
        let bells = lock(&self.bells);
        for device in devices {
            if let Some(bell) = bells.get(&device) {
                bell.ring(ring);
            }
        }
    }

    /// Rings for every session.
    pub fn ring_all(&self, ring: Ring) {
        for bell in lock(&self.bells).values() {
            bell.ring(ring);
        }
    }

    pub(super) fn fill(&self, device: DeviceId) -> Option<Fill> {
        lock(&self.fills).get(&device).copied()
    }

    pub(crate) fn set_fill(&self, device: DeviceId, fill: Fill) {
        lock(&self.fills).insert(device, fill);
    }

    pub(super) fn filled(&self, device: DeviceId, bytes: usize) {
        if let Some(fill) = lock(&self.fills).get_mut(&device) {
            fill.add(bytes);
        }
    }

    pub(super) fn emptied(&self, device: DeviceId, by: Fill) {
        if let Some(fill) = lock(&self.fills).get_mut(&device) {
            fill.subtract(by);
        }
    }

    /// Forgets a removed device's count.
    pub fn forget(&self, device: DeviceId) {
        lock(&self.fills).remove(&device);
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
