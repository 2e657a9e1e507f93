//! The fake peer's mailbox: it takes what the server under test sends, and waits for answers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::signature::Ed25519KeyPair;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::agreement::now_ms;
use crate::arrived::{Arrival, Lanes, Sent, signed_receipt};
use crate::organisation::Organisation;
use crate::transaction::key_id;

/// Why a transaction was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// The keys of the server under test are not known yet: it may come again.
    TooEarly,
    /// It is not what the protocol says.
    Wrong,
}

/// What has come from the server under test.
pub(crate) struct Mailbox {
    own: String,
    key: Arc<Ed25519KeyPair>,
    state: Mutex<State>,
    news: Notify,
}

#[derive(Default)]
struct State {
    /// The server under test and its envelope keys, once they are agreed on.
    partner: Option<(String, Vec<[u8; 32]>)>,
    lanes: Lanes,
    arrived: Vec<Arrival>,
    /// Transactions that were not what the protocol says.
    wrong: u64,
}

impl Mailbox {
    /// An empty one.
    pub(crate) fn new(peer: &Organisation) -> Arc<Self> {
        Arc::new(Self {
            own: peer.name.clone(),
            key: Arc::clone(&peer.envelope_key),
            state: Mutex::default(),
            news: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it takes what this server signs.
    pub(crate) fn open(&self, server: &str, keys: &[[u8; 32]]) {
        self.state().partner = Some((server.to_owned(), keys.to_vec()));
    }

    /// Takes a transaction; its receipt.
    pub(crate) fn take(&self, bytes: Option<&[u8]>) -> std::result::Result<Vec<u8>, NotTaken> {
        let mut state = self.state();
        let Some((server, keys)) = &state.partner else {
            return Err(NotTaken::TooEarly);
        };
        let holds = |sent: &Sent| {
            sent.origin == *server
                && sent.destination == self.own
                && keys.iter().any(|key| sent.is_signed_by(key))
        };
        let Some(sent) = bytes.and_then(Sent::decode).filter(holds) else {
            state.wrong = state.wrong.saturating_add(1);
            return Err(NotTaken::Wrong);
        };
        let (body, taken) = state.lanes.take(&sent, key_id(&self.key), now_ms());
        state.arrived.extend(taken);
        drop(state);
        self.news.notify_waiters();
        let signature = self.key.sign(&signed_receipt(&body));
        Ok([body.as_slice(), signature.as_ref()].concat())
    }

    /// How much has come: what comes from now on stands behind it.
    pub(crate) fn mark(&self) -> usize {
        self.state().arrived.len()
    }

    /// What has come since.
    pub(crate) fn since(&self, mark: usize) -> Vec<Arrival> {
        self.state()
            .arrived
            .get(mark..)
            .unwrap_or_default()
            .to_vec()
    }

    /// How much came that was not as the protocol says.
    pub(crate) fn wrong(&self) -> u64 {
        self.state().wrong
    }

    /// The first of what has come since `mark`, or comes within this time, of which `what` makes something.
    pub(crate) async fn wait_for<T>(
        &self,
        mark: usize,
        within: Duration,
        what: impl Fn(&Arrival) -> Option<T>,
    ) -> Option<T> {
        let waiting = async {
            let mut looked_at = mark;
            loop {
                // Before it is looked: what comes in between is not missed.
                let news = self.news.notified();
                let arrived = self.since(looked_at);
                if let Some(found) = arrived.iter().find_map(&what) {
                    return found;
                }
                looked_at = looked_at.saturating_add(arrived.len());
                news.await;
            }
        };
        timeout(within, waiting).await.ok()
    }
}
