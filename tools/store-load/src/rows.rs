//! The work: what one message makes a store write, and under which condition.
//!
//! A payload of 1 KiB, a reference to it in its receiver's inbox, the sender's counter, a row of the outbox: the rows that the
//! engines were chosen by. The condition is that the counter is as the sender left it. Each sender waits for its answer before
//! it sends again, so it always holds; it is judged all the same.

use homeserver::store::{Key, Part, Precondition, Value, Write};

/// Bytes of a payload.
const PAYLOAD_BYTES: usize = 1024;
/// Bytes of what an inbox holds of a message.
const REFERENCE_BYTES: usize = 48;
/// Bytes of what the outbox holds of it.
const OUTBOUND_BYTES: usize = 96;
/// What values are cut out of.
const NOISE_BYTES: usize = 64 * 1024;
/// To whom all messages go.
const PEER: &[u8] = b"b.example\0";

/// A device that sends one message after the other.
pub(crate) struct Sender {
    number: u16,
    /// How many there are.
    of: u16,
    sent: u64,
    noise: Value,
    counter: Key,
    inbox: Sequence,
    outbox: Sequence,
}

/// Where the entries of a sequence lie, and its last number.
struct Sequence {
    tail: Key,
    prefix: Key,
}

/// So many senders, each with a receiver of its own.
pub(crate) fn senders(count: u16) -> Vec<Sender> {
    let noise = noise();
    (0..count)
        .map(|number| Sender::new(number, count, noise.clone()))
        .collect()
}

/// Keys and values of one transaction, as [`Part::bytes_behind`] counts them.
pub(crate) fn transaction_bytes() -> usize {
    Sender::new(0, 1, noise()).transaction().bytes_behind(0)
}

impl Sender {
    fn new(number: u16, of: u16, noise: Value) -> Self {
        let id = u128::from(number).to_be_bytes();
        let lane = [PEER, &id].concat();
        Self {
            number,
            of,
            sent: 0,
            noise,
            counter: key(b'S', &id),
            inbox: Sequence {
                tail: key(b'T', &id),
                prefix: key(b'Q', &id),
            },
            outbox: Sequence {
                tail: key(b'o', &lane),
                prefix: key(b'O', &lane),
            },
        }
    }

    /// What its next message makes a store write.
    pub(crate) fn transaction(&mut self) -> Part {
        // Numbers of all senders grow together: no random keys.
        let message = u128::from(self.sent) * u128::from(self.of) + u128::from(self.number);
        let before = (self.sent > 0).then(|| number_value(self.sent));
        self.sent += 1;
        let mut part = Part::default();
        part.require(Precondition::unchanged(self.counter.clone(), before))
            .put(key(b'P', &message.to_be_bytes()), self.some(PAYLOAD_BYTES))
            .put(self.counter.clone(), number_value(self.sent));
        self.inbox.append(&mut part, self.some(REFERENCE_BYTES));
        self.outbox.append(&mut part, self.some(OUTBOUND_BYTES));
        part
    }

    /// So many bytes, not those of the message before.
    fn some(&self, bytes: usize) -> Value {
        let places = self.noise.len().saturating_sub(bytes).max(1);
        let from = usize::try_from(self.sent).unwrap_or_default() % places;
        let some = self.noise.get(from..from + bytes).unwrap_or_default();
        Value::copy_from_slice(some)
    }
}

impl Sequence {
    fn append(&self, part: &mut Part, value: Value) {
        part.append(self.tail.clone(), self.prefix.clone(), value);
    }
}

/// Adds what `part` writes to `bytes`: as many as [`Part::bytes_behind`] counts.
pub(crate) fn write_down(part: &Part, bytes: &mut Vec<u8>) {
    for write in &part.writes {
        match write {
            Write::Put(key, value) => {
                bytes.extend_from_slice(key);
                bytes.extend_from_slice(value);
            }
            Write::Append {
                tail,
                prefix,
                value,
                ..
            } => {
                bytes.extend_from_slice(tail);
                bytes.extend_from_slice(prefix);
                bytes.extend_from_slice(value);
            }
            // A message does none of these.
            Write::Delete(_) | Write::Count { .. } | Write::Uncount { .. } => {}
        }
    }
}

fn key(family: u8, rest: &[u8]) -> Key {
    [&[family][..], rest].concat().into()
}

fn number_value(number: u64) -> Value {
    Value::copy_from_slice(&number.to_be_bytes())
}

/// Bytes without a pattern, as ciphertext has none; the same in every run.
fn noise() -> Value {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut bytes = Vec::with_capacity(NOISE_BYTES);
    while bytes.len() < NOISE_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes.into()
}

#[cfg(test)]
mod tests {
    use homeserver::store::engine::memory::MemoryEngine;
    use homeserver::store::{Engine, Order, PartOutcome, Range, Read};

    use super::*;

    /// Goal: the condition of every transaction holds when the sender's one before was answered, and each leaves its rows.
    /// Method: two rounds of three senders, applied to an engine in memory, and one transaction that comes twice.
    #[tokio::test]
    async fn conditions_hold_in_order() {
        let engine = MemoryEngine::default();
        let mut senders = senders(3);
        let mut last = Vec::new();
        for _ in 0..2 {
            last = senders.iter_mut().map(Sender::transaction).collect();
            let outcomes = engine.apply(&last).await.unwrap();
            assert_eq!(outcomes, [PartOutcome::Committed; 3]);
        }
        let again = engine.apply(&last).await.unwrap();
        assert_eq!(again, [PartOutcome::Conflict; 3]);
        for family in [b'P', b'Q', b'O'] {
            let range = Range {
                from: &[family],
                to: &[family + 1],
                limit: usize::MAX,
                bytes_max: usize::MAX,
                order: Order::Ascending,
            };
            assert_eq!(engine.range(range).await.unwrap().len(), 6);
        }
    }

    /// Goal: a plain log gets as many bytes as an engine is given. Method: write one transaction down.
    #[test]
    fn a_log_gets_as_many_bytes() {
        let mut bytes = Vec::new();
        write_down(&senders(1).remove(0).transaction(), &mut bytes);
        assert_eq!(bytes.len(), transaction_bytes());
        assert!(bytes.len() > PAYLOAD_BYTES + REFERENCE_BYTES + OUTBOUND_BYTES);
    }
}
