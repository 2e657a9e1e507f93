//! What a homeserver keeps, in small: messages whose records say themselves what they are.
//!
//! | key | value |
//! |---|---|
//! | `P`, sender, sequence number | the payload |
//! | `Q`, inbox, number | which message waits there |
//! | `S`, sender | its last sequence number |
//! | `T`, inbox | its last number |
//! | `w`, inbox | how many wait there, and their bytes |
//!
//! Senders and inboxes have four bytes, numbers eight, big-endian. The first three values are a label and a checksum of
//! all of the value: what is served at a wrong key, from a former life or with one bit turned is no value of that key.

use homeserver::store::{Key, Part, Precondition, Value};

const PAYLOAD: u8 = b'P';
const ITEM: u8 = b'Q';
const COUNTER: u8 = b'S';
const TAIL: u8 = b'T';
const TALLY: u8 = b'w';

/// The message that a value is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) sender: u32,
    /// Each sender's messages are numbered from 1.
    pub(crate) sequence: u64,
    /// The life of the writer that has written it: one before may have begun the same number and died.
    pub(crate) life: u32,
}

impl Label {
    /// The value of a kind, with so many bytes behind the label.
    fn value(&self, kind: u8, bytes: usize) -> Value {
        let mut value = vec![kind];
        value.extend_from_slice(&self.sender.to_be_bytes());
        value.extend_from_slice(&self.sequence.to_be_bytes());
        value.extend_from_slice(&self.life.to_be_bytes());
        fill(&mut value, bytes);
        let sum = crc32c::crc32c(&value);
        value.extend_from_slice(&sum.to_be_bytes());
        value.into()
    }

    /// The label of a value of a kind; `None`: it is none.
    fn read(kind: u8, value: &[u8]) -> Option<Self> {
        let (told, sum) = value.split_last_chunk::<4>()?;
        let (found, rest) = told.split_first()?;
        let (sender, rest) = rest.split_first_chunk::<4>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (life, _) = rest.split_first_chunk::<4>()?;
        let whole = crc32c::crc32c(told) == u32::from_be_bytes(*sum);
        (whole && *found == kind).then(|| Self {
            sender: u32::from_be_bytes(*sender),
            sequence: u64::from_be_bytes(*sequence),
            life: u32::from_be_bytes(*life),
        })
    }
}

/// Adds bytes that no other message has, and that nothing compresses.
fn fill(value: &mut Vec<u8>, bytes: usize) {
    let end = value.len().saturating_add(bytes);
    let mut state = u64::from(crc32c::crc32c(value)) | 1 << 40;
    while value.len() < end {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        value.extend_from_slice(&state.to_le_bytes());
    }
    value.truncate(end);
}

/// Length of a message's payload: most are short, some as long as a picture, a few longer than what sled keeps in one row.
pub(crate) const fn payload_bytes(sequence: u64) -> usize {
    match sequence % 512 {
        0 => 200 * 1024,
        1..=8 => 24 * 1024,
        _ => 1024,
    }
}

/// The commit of a message: its payload, an item in the recipient's inbox, which is counted, and the sender's counter,
/// which nobody may have moved meanwhile. Also the counter's new value.
pub(crate) fn submission(
    label: &Label,
    inbox: u32,
    bytes: usize,
    counter_before: Option<Value>,
) -> (Part, Value) {
    let counter = label.value(COUNTER, 0);
    let item = label.value(ITEM, 0);
    let mut part = Part::default();
    part.require(Precondition::unchanged(
        counter_key(label.sender),
        counter_before,
    ))
    .put(counter_key(label.sender), counter.clone())
    .put(payload_key(label), label.value(PAYLOAD, bytes))
    .count(tally_key(inbox), item.len())
    .append(key(TAIL, inbox, &[]), key(ITEM, inbox, &[]), item);
    (part, counter)
}

/// Adds to a commit that a message is acknowledged: neither item nor payload is there from then on.
pub(crate) fn acknowledge(part: &mut Part, inbox: u32, number: u64, label: &Label) {
    let item = item_key(inbox, number);
    part.uncount(tally_key(inbox), item.clone())
        .delete(item)
        .delete(payload_key(label));
}

/// Where a message's payload lies.
pub(crate) fn payload_key(label: &Label) -> Key {
    key(PAYLOAD, label.sender, &label.sequence.to_be_bytes())
}

/// Where an inbox's item of this number lies.
pub(crate) fn item_key(inbox: u32, number: u64) -> Key {
    key(ITEM, inbox, &number.to_be_bytes())
}

/// Where it is written how far a sender has come.
pub(crate) fn counter_key(sender: u32) -> Key {
    key(COUNTER, sender, &[])
}

/// Where it is counted what waits in an inbox.
pub(crate) fn tally_key(inbox: u32) -> Key {
    key(TALLY, inbox, &[])
}

fn key(kind: u8, whose: u32, number: &[u8]) -> Key {
    [&[kind][..], &whose.to_be_bytes(), number].concat().into()
}

/// What an entry of the store is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A message waits in an inbox.
    Item {
        inbox: u32,
        number: u64,
        label: Label,
    },
    /// A message's payload.
    Payload(Label),
    /// The last message of a sender.
    Counter(Label),
    /// The last number of an inbox.
    Tail { inbox: u32, number: u64 },
    /// How many wait in an inbox.
    Tally { inbox: u32, entries: u64 },
    /// Nothing that was ever written at this key.
    Wrong,
}

impl Entry {
    /// What the entry is that has this key and this value.
    pub(crate) fn of(key: &[u8], value: &[u8]) -> Self {
        read(key, value).unwrap_or(Self::Wrong)
    }
}

fn read(key: &[u8], value: &[u8]) -> Option<Entry> {
    let (kind, rest) = key.split_first()?;
    let (whose, rest) = rest.split_first_chunk::<4>()?;
    let whose = u32::from_be_bytes(*whose);
    match *kind {
        PAYLOAD => {
            let label = Label::read(PAYLOAD, value)?;
            let fits = label.sender == whose && label.sequence == number(rest)?;
            fits.then_some(Entry::Payload(label))
        }
        ITEM => Some(Entry::Item {
            inbox: whose,
            number: number(rest)?,
            label: Label::read(ITEM, value)?,
        }),
        COUNTER => {
            let label = Label::read(COUNTER, value)?;
            (label.sender == whose && rest.is_empty()).then_some(Entry::Counter(label))
        }
        TAIL => Some(Entry::Tail {
            inbox: whose,
            number: number(value)?,
        }),
        TALLY => {
            let (entries, bytes) = value.split_first_chunk::<8>()?;
            number(bytes)?;
            Some(Entry::Tally {
                inbox: whose,
                entries: u64::from_be_bytes(*entries),
            })
        }
        _ => None,
    }
}

fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: Label = Label {
        sender: 3,
        sequence: 258,
        life: 7,
    };

    /// Goal: a value is read at its own key as what was written, and nowhere else. Method: a payload at its key, at its
    /// neighbour's, and an item's value there.
    #[test]
    fn a_value_fits_its_key_alone() {
        let payload = LABEL.value(PAYLOAD, 100);
        let at = payload_key(&LABEL);
        assert_eq!(Entry::of(&at, &payload), Entry::Payload(LABEL));
        let neighbour = Label {
            sequence: 259,
            ..LABEL
        };
        assert_eq!(Entry::of(&payload_key(&neighbour), &payload), Entry::Wrong);
        assert_eq!(Entry::of(&at, &LABEL.value(ITEM, 100)), Entry::Wrong);
        let item = Entry::of(&item_key(5, 9), &LABEL.value(ITEM, 0));
        let expected = Entry::Item {
            inbox: 5,
            number: 9,
            label: LABEL,
        };
        assert_eq!(item, expected);
    }

    /// Goal: no damage passes for a value. Method: turn each bit of one, and cut it at each byte.
    #[test]
    fn damage_is_no_value() {
        let payload = LABEL.value(PAYLOAD, 40);
        let at = payload_key(&LABEL);
        for place in 0..payload.len() {
            for bit in 0..8 {
                let mut turned = payload.to_vec();
                turned[place] ^= 1 << bit;
                assert_eq!(Entry::of(&at, &turned), Entry::Wrong, "{place} {bit}");
            }
            assert_eq!(Entry::of(&at, &payload[..place]), Entry::Wrong, "{place}");
        }
    }

    /// Goal: what two lives write under one number differs, behind the label too. Method: both payloads.
    #[test]
    fn lives_are_told_apart() {
        let other = Label { life: 8, ..LABEL };
        let (one, other) = (LABEL.value(PAYLOAD, 64), other.value(PAYLOAD, 64));
        assert_ne!(one[20..60], other[20..60]);
    }
}
