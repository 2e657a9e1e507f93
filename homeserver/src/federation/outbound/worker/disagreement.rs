//! Both ends of the link disagree, or the peer answers what can't be used: an administrator has to know, in
//! words, and not from the log alone.

use std::collections::BTreeSet;

use federation_proto::envelope::Lane;
use federation_proto::link::{Anomaly, Settled};

use super::Worker;
use crate::audit::{Actor, Event};
use crate::federation::outbound::request::RequestError;
use crate::store::StoreError;

/// Lanes that are known to be held; beyond that they are counted no further.
const HELD_LANES_MAX: usize = 1024;

impl Worker {
    /// Lanes that are held now.
    pub(super) fn held_lanes(&self) -> u64 {
        u64::try_from(self.held.len()).unwrap_or(u64::MAX)
    }

    /// Takes note of what an answer shows both ends to disagree about. A lane that is held is tried again
    /// and again, and is audited when it begins to be.
    pub(super) async fn report(&mut self, settled: &Settled) -> Result<(), StoreError> {
        let done = settled.done.iter().map(|item| item.lane);
        let refused = settled.refused.iter().map(|(item, _)| item.lane);
        let deferred = settled.deferred.iter().map(|(item, _)| item.lane);
        let answered: BTreeSet<Lane> = done.chain(refused).chain(deferred).collect();
        self.held.retain(|lane| !answered.contains(lane));
        for anomaly in &settled.anomalies {
            let (action, detail) = match *anomaly {
                Anomaly::PeerAhead { lane, theirs, ours } => {
                    if self.held.len() >= HELD_LANES_MAX || !self.held.insert(lane) {
                        continue;
                    }
                    let detail = format!(
                        "lane {lane}: {server} has position {theirs}, and {ours} is the last that was \
                         given out: this homeserver may have been restored from an old copy. The lane's \
                         mail waits: `hsctl outbox renumber {server}` sends it again",
                        server = self.server
                    );
                    ("link.held", detail)
                }
                Anomaly::PeerBehind { lane, theirs, ours } => {
                    let detail = format!(
                        "lane {lane}: {server} has position {theirs}, and what it had acknowledged goes up \
                         to before {ours}: it was restored from an old copy, and what lies between is lost \
                         there. What waits is sent under new numbers, unless that was done in the last ten \
                         minutes; `hsctl outbox renumber {server}` does it at once",
                        server = self.server
                    );
                    ("link.behind", detail)
                }
                Anomaly::ChainMismatch { lane, sequence } => {
                    let detail = format!(
                        "lane {lane}: {} signs another chain hash at position {sequence} than this homeserver \
                         computes: it has taken other envelopes there, or computes it wrongly. Both sides' \
                         receipts (`hsctl outbox receipts`) show which",
                        self.server
                    );
                    ("link.chain-mismatch", detail)
                }
            };
            self.note(action, detail).await?;
        }
        Ok(())
    }

    /// The peer's answer to a transaction is not what the protocol says: the mail goes out again.
    pub(super) async fn note_unusable(&mut self, error: &RequestError) -> Result<(), StoreError> {
        if matches!(error, RequestError::Unusable(_)) {
            self.note("receipt.refused", error.to_string()).await?;
        }
        Ok(())
    }

    async fn note(&mut self, action: &'static str, detail: String) -> Result<(), StoreError> {
        tracing::warn!(server = %self.server, action, detail, "the link is not as it should be");
        let event = Event {
            at_ms: self.node.clock.now_ms(),
            actor: Actor::System,
            action,
            subject: self.server.to_string(),
            detail,
        };
        self.node.repeated.note(&self.node.store, event).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::audit;
    use crate::federation::testing::sides;

    /// Goal: whatever both ends disagree about stands in the audit log in words; by one of each kind, a held
    /// lane twice, and an answer that can't be used.
    #[tokio::test]
    async fn disagreements_are_told() {
        let [a, b] = sides(["a.example", "b.example"]);
        let (node, network) = (Arc::clone(&a.node), a.network.clone());
        let mut worker = Worker::new(node, network, b.node.server.clone());
        let lane = Lane::from_bytes([1; 16]);
        let (theirs, ours, sequence) = (7, 3, 5);
        let settled = Settled {
            anomalies: vec![
                Anomaly::PeerAhead { lane, theirs, ours },
                Anomaly::PeerBehind { lane, theirs, ours },
                Anomaly::ChainMismatch { lane, sequence },
            ],
            ..Settled::default()
        };
        worker.report(&settled).await.unwrap();
        let again = Settled {
            anomalies: settled.anomalies[..1].to_vec(),
            ..Settled::default()
        };
        worker.report(&again).await.unwrap();
        assert_eq!(worker.held_lanes(), 1);
        let unusable = RequestError::Unusable("its receipt: no".to_owned());
        worker.note_unusable(&unusable).await.unwrap();
        let log = audit::page(&a.node.store, a.node.random.as_ref(), 0, 100)
            .await
            .unwrap();
        let actions: Vec<&str> = log.entries.iter().map(|entry| &*entry.action).collect();
        assert_eq!(
            actions,
            [
                "link.held",
                "link.behind",
                "link.chain-mismatch",
                "receipt.refused"
            ]
        );
        for entry in &log.entries {
            assert_eq!(entry.subject, "b.example");
            assert!(!entry.detail.contains('{'), "{}", entry.detail);
        }
    }
}
