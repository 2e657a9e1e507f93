//! Two servers, the link between them, and what their stores hold of it.

use super::*;

/// Lanes of the link: few, so that much is remembered of each.
const LANES: u64 = 3;

/// Two servers and what their stores hold of the link a → b.
pub struct World {
    pub a: Organisation,
    pub b: Organisation,
    pub a_manifest: Manifest,
    pub b_manifest: Manifest,
    pub link: Link,
    pub sender: Sender,
    // The outbox: what waits, by lane and position.
    pub outbox: BTreeMap<(Lane, u64), Outgoing>,
    pub positions: BTreeMap<Lane, LanePosition>,
    pub recent: BTreeMap<(Lane, u64), Recent>,
    // What took effect at b, in order, by lane.
    pub delivered: BTreeMap<Lane, Vec<Bytes>>,
    // What b refuses for good, and what it does not take now.
    pub refused: Vec<Bytes>,
    pub deferred: Vec<Bytes>,
    pub now_ms: u64,
}

pub fn item(sequence: u64) -> Item {
    Item {
        sequence,
        count: 1,
        tombstone: false,
        bytes: 100,
    }
}

impl World {
    pub fn new() -> Self {
        let a = Organisation::new("a.example", 1);
        let b = Organisation::new("b.example", 2);
        let link = link(&a, &b, 5);
        Self {
            a_manifest: a.manifest(1),
            b_manifest: b.manifest(1),
            sender: Sender::new(link.link_epoch),
            link,
            a,
            b,
            outbox: BTreeMap::new(),
            positions: BTreeMap::new(),
            recent: BTreeMap::new(),
            delivered: BTreeMap::new(),
            refused: Vec::new(),
            deferred: Vec::new(),
            now_ms: NOW_MS,
        }
    }

    pub fn queue(&mut self, lane: Lane, sequence: u64) {
        let payload = format!("{lane} {sequence}");
        self.outbox.insert(
            (lane, sequence),
            outgoing(lane, sequence, payload.as_bytes()),
        );
        self.sender.enqueue(lane, item(sequence)).unwrap();
    }

    pub fn bury(&mut self, lane: Lane, first: u64, count: u32) {
        let tombstone = Tombstone {
            count,
            code: RefusalCode::Expired,
        };
        for sequence in first..first + u64::from(count) {
            self.outbox.remove(&(lane, sequence));
        }
        let payload = HashedPayload::new(tombstone.to_bytes().unwrap());
        self.outbox.insert(
            (lane, first),
            Outgoing {
                kind: Kind::Tombstone,
                expires_ms: 0,
                payload,
                ..outgoing(lane, first, b"")
            },
        );
        let item = Item {
            count,
            tombstone: true,
            ..item(first)
        };
        self.sender.replace_by_tombstone(lane, item).unwrap();
    }

    pub fn poll(&mut self, envelopes_max: usize) -> Option<(Batch, SignedTransaction)> {
        let limits = BatchLimits {
            envelopes_max,
            ..BatchLimits::default()
        };
        let batch = self.sender.poll_batch(self.now_ms, limits)?;
        let envelopes: Vec<_> = batch
            .items()
            .iter()
            .map(|item| self.outbox[&(item.lane, item.item.sequence)].clone())
            .collect();
        let signed = sign(&self.a.envelope_key, &self.link, &envelopes).unwrap();
        Some((batch, signed))
    }

    /// What b does with a transaction: judge, decide, store, answer.
    pub fn receive(&mut self, bytes: Bytes) -> Bytes {
        let verified = transaction::decode(bytes)
            .unwrap()
            .verify(&self.a_manifest, &self.a.name, &self.b.name, self.now_ms)
            .unwrap();
        let mut results = Vec::new();
        let mut lanes = BTreeMap::new();
        let mut receivers: BTreeMap<Lane, Receiver> = BTreeMap::new();
        for envelope in verified.envelopes() {
            let lane = envelope.header().lane;
            let stored = self.positions.get(&lane).copied();
            let receiver = receivers
                .entry(lane)
                .or_insert_with(|| Receiver::resume(verified.link().link_epoch, stored));
            let slot = Recent::slot(envelope.header().sequence, LANES);
            let record = self.recent.get(&(lane, slot)).copied();
            let arrival = receiver.judge(envelope, record.as_ref());
            let settled = arrival.settled();
            let payload = envelope.payload();
            let (result, consumed) = match arrival {
                Arrival::Next(next) if self.refused.contains(&payload) => {
                    let refusal = Refusal::new(RefusalCode::OutOfScope, "no");
                    (
                        ItemResult::Refused(refusal),
                        Some(next.refuse(RefusalCode::OutOfScope)),
                    )
                }
                Arrival::Next(_) if self.deferred.contains(&payload) => (
                    ItemResult::Deferred {
                        code: RefusalCode::Unavailable,
                        retry_after_ms: 2000,
                    },
                    None,
                ),
                Arrival::Next(next) => {
                    if envelope.header().kind == Kind::Message {
                        self.delivered.entry(lane).or_default().push(payload);
                    }
                    (ItemResult::Accepted, Some(next.accept()))
                }
                _ => (settled.unwrap(), None),
            };
            if let Some(consumed) = consumed {
                self.positions.insert(lane, consumed.position);
                if let Some(record) = consumed.record() {
                    self.recent
                        .insert((lane, Recent::slot(record.sequence, LANES)), record);
                }
            }
            results.push(result);
            lanes.insert(lane, receivers[&lane].position().head());
        }
        ReceiptBody {
            link: verified.link().clone(),
            root: verified.root(),
            at_ms: self.now_ms,
            results,
            lanes,
        }
        .sign(&self.b.envelope_key)
        .unwrap()
    }

    pub fn settle(
        &mut self,
        batch: Batch,
        signed: &SignedTransaction,
        receipt: Bytes,
    ) -> Result<Settled, ReceiptError> {
        let receipt = receipt::decode(receipt)
            .unwrap()
            .verify(&self.b_manifest, &self.link, self.now_ms)
            .unwrap();
        let settled = self
            .sender
            .handle_receipt(batch, signed, &receipt, self.now_ms, 0)?;
        for done in &settled.done {
            self.outbox.remove(&(done.lane, done.item.sequence));
        }
        for (refused, _) in &settled.refused {
            self.outbox.remove(&(refused.lane, refused.item.sequence));
        }
        Ok(settled)
    }

    pub fn exchange(&mut self, envelopes_max: usize) -> Settled {
        let (batch, signed) = self.poll(envelopes_max).unwrap();
        let receipt = self.receive(signed.bytes.clone());
        self.settle(batch, &signed, receipt).unwrap()
    }

    /// a restarts: what was in memory is gone, the outbox is not.
    pub fn restart_sender(&mut self) {
        self.sender = Sender::new(self.link.link_epoch);
        for ((lane, sequence), envelope) in &self.outbox {
            let tombstone = envelope.kind == Kind::Tombstone;
            let count = if tombstone {
                Tombstone::from_bytes(envelope.payload.bytes().clone())
                    .unwrap()
                    .count
            } else {
                1
            };
            let item = Item {
                count,
                tombstone,
                ..item(*sequence)
            };
            self.sender.enqueue(*lane, item).unwrap();
        }
    }
}
