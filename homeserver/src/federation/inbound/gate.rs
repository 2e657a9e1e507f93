//! How much one peer may ask for at a time: a bad peer costs this much and no more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use federation_proto::ids::ServerName;
use federation_proto::limits::TRANSACTION_BYTES_MAX;

/// Transactions of one peer that are read or worked on at the same time.
const UNDER_WAY_MAX: usize = 2;
/// Files that are sent to one peer at the same time.
const FILES_UNDER_WAY_MAX: usize = 8;
/// Bytes of transactions that one peer may send in a second, on average,
const BYTES_PER_SECOND: u64 = 64 * 1024 * 1024;
/// and at once.
const BYTES_BURST: u64 = 2 * BYTES_PER_SECOND;
/// Documents of one peer that are read and written to the audit log: so many at once,
const DOCUMENTS_BURST: u64 = 32;
/// and then one in this time.
const DOCUMENT_EVERY_MS: u64 = 10_000;
/// Of a peer's transactions that are refused whole, one in this time is audited.
const REFUSAL_NOTED_EVERY_MS: u64 = 10_000;

/// Most transactions in flight times their largest size is what one peer can make us hold.
const _: () = assert!(UNDER_WAY_MAX * TRANSACTION_BYTES_MAX <= 16 * 1024 * 1024);

/// One gate per peer.
#[derive(Default)]
pub(super) struct Gates {
    gates: Mutex<HashMap<ServerName, Gate>>,
}

struct Gate {
    under_way: usize,
    files_under_way: usize,
    bytes: u64,
    filled_ms: u64,
    refusal_noted_ms: Option<u64>,
    /// When the peer will have its whole burst of documents again.
    documents_idle_ms: u64,
}

impl Gate {
    const fn new(now_ms: u64) -> Self {
        Self {
            under_way: 0,
            files_under_way: 0,
            bytes: BYTES_BURST,
            filled_ms: now_ms,
            refusal_noted_ms: None,
            documents_idle_ms: 0,
        }
    }
}

/// Lets one transaction or one file through, until it is dropped.
pub(super) struct Pass {
    gates: Arc<Gates>,
    peer: ServerName,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Transaction,
    File,
}

impl Gates {
    /// Lets a transaction of `bytes` pass, or says after how many seconds to come again.
    pub(super) fn enter(
        self: &Arc<Self>,
        peer: &ServerName,
        bytes: u64,
        now_ms: u64,
    ) -> Result<Pass, u64> {
        let mut gates = self.lock();
        let gate = gates
            .entry(peer.clone())
            .or_insert_with(|| Gate::new(now_ms));
        let elapsed_ms = now_ms.saturating_sub(gate.filled_ms);
        let earned = elapsed_ms.saturating_mul(BYTES_PER_SECOND) / 1000;
        gate.bytes = gate.bytes.saturating_add(earned).min(BYTES_BURST);
        gate.filled_ms = now_ms;
        if gate.under_way >= UNDER_WAY_MAX {
            return Err(1);
        }
        if gate.bytes < bytes {
            return Err((bytes - gate.bytes).div_ceil(BYTES_PER_SECOND).max(1));
        }
        gate.bytes -= bytes;
        gate.under_way += 1;
        Ok(self.pass(peer, What::Transaction))
    }

    /// Lets a file be sent to the peer, or says after how many seconds to come again.
    pub(super) fn enter_file(
        self: &Arc<Self>,
        peer: &ServerName,
        now_ms: u64,
    ) -> Result<Pass, u64> {
        let mut gates = self.lock();
        let gate = gates
            .entry(peer.clone())
            .or_insert_with(|| Gate::new(now_ms));
        if gate.files_under_way >= FILES_UNDER_WAY_MAX {
            return Err(1);
        }
        gate.files_under_way += 1;
        Ok(self.pass(peer, What::File))
    }

    /// Lets a document of the peer be read, or says after how many seconds to come again.
    pub(super) fn take_document(&self, peer: &ServerName, now_ms: u64) -> Result<(), u64> {
        let mut gates = self.lock();
        let gate = gates
            .entry(peer.clone())
            .or_insert_with(|| Gate::new(now_ms));
        let idle_ms = gate.documents_idle_ms.max(now_ms) + DOCUMENT_EVERY_MS;
        let latest_ms = now_ms + DOCUMENTS_BURST * DOCUMENT_EVERY_MS;
        if idle_ms > latest_ms {
            return Err((idle_ms - latest_ms).div_ceil(1000));
        }
        gate.documents_idle_ms = idle_ms;
        Ok(())
    }

    fn pass(self: &Arc<Self>, peer: &ServerName, what: What) -> Pass {
        Pass {
            gates: Arc::clone(self),
            peer: peer.clone(),
            what,
        }
    }

    /// Whether a refused transaction of the peer is worth another line in the audit log.
    pub(super) fn note_refusal(&self, peer: &ServerName, now_ms: u64) -> bool {
        let mut gates = self.lock();
        let gate = gates
            .entry(peer.clone())
            .or_insert_with(|| Gate::new(now_ms));
        let due = gate
            .refusal_noted_ms
            .is_none_or(|noted_ms| now_ms.saturating_sub(noted_ms) >= REFUSAL_NOTED_EVERY_MS);
        if due {
            gate.refusal_noted_ms = Some(now_ms);
        }
        due
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServerName, Gate>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(gate) = self.gates.lock().get_mut(&self.peer) {
            let count = match self.what {
                What::Transaction => &mut gate.under_way,
                What::File => &mut gate.files_under_way,
            };
            *count = count.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a peer gets two transactions at a time and its bytes per second, and what one peer uses
    /// up is not missing for another.
    #[test]
    fn one_peer_has_its_share() {
        let gates = Arc::new(Gates::default());
        let a: ServerName = "a.example".parse().unwrap();
        let b: ServerName = "b.example".parse().unwrap();
        let first = gates.enter(&a, 10, 0).unwrap_or_else(|_| panic!("first"));
        let second = gates.enter(&a, BYTES_BURST - 10, 0);
        assert!(second.is_ok());
        assert_eq!(gates.enter(&a, 1, 0).err(), Some(1));
        assert!(gates.enter(&b, BYTES_BURST, 0).is_ok());
        drop((first, second));
        assert_eq!(gates.enter(&a, BYTES_PER_SECOND * 2, 0).err(), Some(2));
        assert!(gates.enter(&a, BYTES_PER_SECOND, 1000).is_ok());
    }

    /// Goal: a peer brings documents in a burst and then slowly, whatever another does; by more than that.
    #[test]
    fn documents_come_slowly() {
        let gates = Gates::default();
        let a: ServerName = "a.example".parse().unwrap();
        let b: ServerName = "b.example".parse().unwrap();
        for _ in 0..DOCUMENTS_BURST {
            assert_eq!(gates.take_document(&a, 0), Ok(()));
        }
        assert_eq!(gates.take_document(&a, 0), Err(10));
        assert_eq!(gates.take_document(&b, 0), Ok(()));
        assert_eq!(gates.take_document(&a, DOCUMENT_EVERY_MS - 1), Err(1));
        assert_eq!(gates.take_document(&a, DOCUMENT_EVERY_MS), Ok(()));
    }
}
