//! What is missing: each device numbers its messages in a room, inside of what is encrypted, and whoever reads them sees what
//! did not come and what came late.
//!
//! A server can leave messages out, put them off and exchange them; it can't change the numbers. A gap is told
//! [`MISSING_TOLD_AFTER_MS`] after the message that showed it: what its author knows not to have been sent, his next message may
//! say meanwhile. Each message also tells when those before it expire, so that what nobody could have fetched in time is told
//! as that.
//!
//! Deliberately absent: what comes after the last message that came. That there is one, nothing shows.

use homeserver_api::Digest;
use homeserver_api::ids::{Member, RoomId};

use super::Core;
use super::records::{MissingRange, MissingRecord, SentRecord, SequenceRecord};
use super::rooms::Leaf;
use crate::content::{Order, RECENT_MAX};
use crate::error::Error;
use crate::event::Event;
use crate::store::Family;

/// How long a gap may be filled before it is told.
pub(super) const MISSING_TOLD_AFTER_MS: u64 = 30_000;
/// Most gaps of one device in one room that wait to be told; with more all are told at once.
const MISSING_RANGES_MAX: usize = 64;

impl SentRecord {
    /// The next message's place; it has expired by `ends`.
    pub(super) fn next(&mut self, in_epoch: u32, ends: u32) -> Order {
        self.number = self.number.saturating_add(1);
        let order = Order {
            number: self.number,
            in_epoch,
            recent: self.recent.clone(),
            older: self.older,
        };
        self.recent.insert(0, ends.max(1));
        if self.recent.len() > RECENT_MAX
            && let Some(oldest) = self.recent.pop()
        {
            self.older = self.older.max(oldest);
        }
        order
    }

    /// That message has not reached everybody, and this device's user knows: nobody need miss it.
    fn came_to_nothing(&mut self, number: u64) {
        let back = self.number.checked_sub(number);
        let back = back.and_then(|back| usize::try_from(back).ok());
        if let Some(ends) = back.and_then(|back| self.recent.get_mut(back)) {
            *ends = 0;
        }
    }
}

impl MissingRecord {
    /// Notes what lies between the highest number so far and this one.
    fn open(&mut self, highest: u64, order: &Order, noticed_ms: u64) {
        let before = order.number.saturating_sub(1);
        let told = u64::try_from(order.recent.len()).unwrap_or(u64::MAX);
        // Of those further back it is known when all have expired.
        let oldest = before.saturating_sub(told);
        if oldest > highest {
            self.ranges.push(MissingRange {
                first: highest.saturating_add(1),
                last: oldest,
                ends: order.older,
                noticed_ms,
            });
        }
        for (number, ends) in (oldest.saturating_add(1)..=before).zip(order.recent.iter().rev()) {
            if number > highest && *ends != 0 {
                self.ranges.push(MissingRange {
                    first: number,
                    last: number,
                    ends: *ends,
                    noticed_ms,
                });
            }
        }
    }

    /// That one is not missing.
    fn fill(&mut self, number: u64) {
        let mut kept = Vec::with_capacity(self.ranges.len());
        for range in &self.ranges {
            if !(range.first..=range.last).contains(&number) {
                kept.push(*range);
                continue;
            }
            if range.first < number {
                kept.push(MissingRange {
                    last: number.saturating_sub(1),
                    ..*range
                });
            }
            if number < range.last {
                kept.push(MissingRange {
                    first: number.saturating_add(1),
                    ..*range
                });
            }
        }
        self.ranges = kept;
    }
}

impl Core {
    /// The place of the next own message in a room, which is encrypted now and lives for so long.
    pub(super) fn next_order(&mut self, room: RoomId, ttl_seconds: u32) -> Result<Order, Error> {
        let ends = (self.now_ms() / 1000).saturating_add(u64::from(ttl_seconds));
        let mut record = self.room(room)?.clone();
        let in_epoch = record.sent_in_epoch;
        let order = record
            .sent
            .next(in_epoch, u32::try_from(ends).unwrap_or(u32::MAX));
        record.sent_in_epoch = in_epoch.saturating_add(1);
        self.put_room(record)?;
        Ok(order)
    }

    /// An own message with that number is not there for everybody, which is known here.
    pub(super) fn came_to_nothing(
        &mut self,
        room: RoomId,
        number: Option<u64>,
    ) -> Result<(), Error> {
        let (Some(number), Some(record)) = (number, self.rooms.get(&room)) else {
            return Ok(());
        };
        let mut record = record.clone();
        record.sent.came_to_nothing(number);
        self.put_room(record)
    }

    /// Takes note of where somebody's message stands; whether it came after later ones of the same device.
    pub(super) fn note_order(
        &mut self,
        room: RoomId,
        sender: &Leaf,
        order: &Order,
    ) -> Result<bool, Error> {
        if !order.is_possible() {
            return Err(Error::Mls(
                "it does not say which of its device's messages it is".to_owned(),
            ));
        }
        let device = &sender.device.member;
        let (scope, place) = (room.as_bytes(), place_of(room, device));
        let since_epoch = self.room(room)?.readable_from;
        let known = self
            .store
            .get::<SequenceRecord>(Family::Sequence, scope, place)?
            .filter(|known| known.device == *device && known.since_epoch == since_epoch);
        // Who has heard nothing of the device has been here for the message's whole epoch.
        let at_first = order.number.saturating_sub(1 + u64::from(order.in_epoch));
        let highest = known.map_or(at_first, |known| known.highest);
        let is_late = order.number <= highest;
        let before = self
            .store
            .get::<MissingRecord>(Family::Missing, b"", place)?;
        let mut missing = before.clone().unwrap_or_else(|| MissingRecord {
            room,
            address: sender.device.address.clone(),
            device: device.clone(),
            ranges: Vec::new(),
        });
        if is_late {
            missing.fill(order.number);
        } else {
            missing.open(highest, order, self.now_ms());
            let record = SequenceRecord {
                device: device.clone(),
                since_epoch,
                highest: order.number,
            };
            self.store.put(Family::Sequence, scope, place, &record)?;
        }
        for (back, ends) in (1..).zip(&order.recent) {
            if *ends == 0 {
                missing.fill(order.number.saturating_sub(back));
            }
        }
        if before.as_ref() != Some(&missing) {
            self.put_missing(place, missing)?;
        }
        Ok(is_late)
    }

    /// Tells what has been missing for long enough.
    pub(super) fn tell_missing_due(&mut self) -> Result<(), Error> {
        let now = self.now_ms();
        let due = self.missing_at.iter().filter(|(_, at)| **at <= now);
        for place in due.map(|(place, _)| *place).collect::<Vec<_>>() {
            self.tell_missing(place, now.saturating_sub(MISSING_TOLD_AFTER_MS))?;
        }
        Ok(())
    }

    /// Tells what is missing in a room that this device is leaving, or can't follow any more, and begins anew there.
    pub(super) fn end_sequences(&mut self, room: RoomId) -> Result<(), Error> {
        for place in self.missing_at.keys().copied().collect::<Vec<_>>() {
            let record: Option<MissingRecord> = self.store.get(Family::Missing, b"", place)?;
            if record.is_some_and(|record| record.room == room) {
                self.tell_missing(place, u64::MAX)?;
            }
        }
        for place in self.store.numbers(Family::Sequence, room.as_bytes())? {
            self.store.delete(Family::Sequence, room.as_bytes(), place);
        }
        Ok(())
    }

    /// Tells what was noticed by then.
    fn tell_missing(&mut self, place: u64, noticed_by_ms: u64) -> Result<(), Error> {
        let Some(mut record) = self
            .store
            .get::<MissingRecord>(Family::Missing, b"", place)?
        else {
            self.missing_at.remove(&place);
            return Ok(());
        };
        let now = self.now_ms();
        let (told, kept): (Vec<_>, Vec<_>) = record
            .ranges
            .iter()
            .copied()
            .partition(|range| range.noticed_ms <= noticed_by_ms);
        for expired in [false, true] {
            let count: u64 = told
                .iter()
                .filter(|range| range.is_over(now) == expired)
                .fold(0, |sum, range| sum.saturating_add(range.count()));
            if count > 0 {
                self.effects.events.push(Event::MessagesMissing {
                    room: record.room,
                    sender: record.address.clone(),
                    device: record.device.clone(),
                    count,
                    expired,
                });
            }
        }
        record.ranges = kept;
        self.put_missing(place, record)
    }

    fn put_missing(&mut self, place: u64, record: MissingRecord) -> Result<(), Error> {
        if record.ranges.len() > MISSING_RANGES_MAX {
            self.store.put(Family::Missing, b"", place, &record)?;
            return self.tell_missing(place, u64::MAX);
        }
        self.schedule_missing(place, &record);
        if record.ranges.is_empty() {
            self.store.delete(Family::Missing, b"", place);
            return Ok(());
        }
        self.store.put(Family::Missing, b"", place, &record)
    }

    fn schedule_missing(&mut self, place: u64, record: &MissingRecord) {
        let noticed = record.ranges.iter().map(|range| range.noticed_ms).min();
        match noticed {
            Some(at) => {
                let at = at.saturating_add(MISSING_TOLD_AFTER_MS);
                self.missing_at.insert(place, at);
                self.effects.schedule_changed = true;
            }
            None => drop(self.missing_at.remove(&place)),
        }
    }

    /// Reads again what is missing.
    pub(super) fn load_missing(&mut self) -> Result<(), Error> {
        self.missing_at.clear();
        for (place, record) in self.store.scan::<MissingRecord>(Family::Missing, b"")? {
            self.schedule_missing(place, &record);
        }
        Ok(())
    }
}

impl MissingRange {
    const fn count(&self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }

    fn is_over(&self, now_ms: u64) -> bool {
        self.ends != 0 && u64::from(self.ends).saturating_mul(1000) <= now_ms
    }
}

/// Where a device's records for a room are.
fn place_of(room: RoomId, device: &Member) -> u64 {
    let name = Digest::of_parts(&[
        room.as_bytes(),
        device.account.as_bytes(),
        device.device.as_bytes(),
        device.server.as_str().as_bytes(),
    ]);
    let bytes = name.as_bytes().first_chunk::<8>();
    bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing() -> MissingRecord {
        MissingRecord {
            room: RoomId::from_bytes([1; 16]),
            address: "bob@b.example".parse().unwrap(),
            device: Member {
                server: "b.example".parse().unwrap(),
                account: homeserver_api::ids::AccountId::from_bytes([2; 16]),
                device: homeserver_api::ids::DeviceId::from_bytes([3; 16]),
            },
            ranges: Vec::new(),
        }
    }

    fn numbers(record: &MissingRecord) -> Vec<u64> {
        let ranges = record.ranges.iter();
        ranges.flat_map(|range| range.first..=range.last).collect()
    }

    /// Goal: each message tells of the sixteen before it when they end, what came to nothing as that, and of older ones when all
    /// have. Method: thirty messages, of which one comes to nothing while it is told of.
    #[test]
    fn what_was_sent() {
        let mut sent = SentRecord::default();
        for number in 1..=20_u32 {
            let order = sent.next(number - 1, 100 + number);
            assert!(order.is_possible());
            assert_eq!(order.number, u64::from(number));
        }
        sent.came_to_nothing(18);
        sent.came_to_nothing(1);
        sent.came_to_nothing(99);
        let order = sent.next(20, 121);
        assert_eq!(order.recent.len(), RECENT_MAX);
        assert_eq!(&order.recent[..4], [120, 119, 0, 117]);
        assert_eq!(order.older, 104);
        for _ in 0..9 {
            sent.next(21, 0);
        }
        assert_eq!(sent.recent[0], 1, "0 is for what came to nothing");
    }

    proptest::proptest! {
        /// Goal: what lies between two numbers is missing, each once, but for what came to nothing; what comes late fills its place.
        /// Method: gaps of any width, with as much told as a message tells.
        #[test]
        fn gaps(highest in 0_u64..50, gap in 0_u64..50, void in 0_u64..100, filled in 0_u64..100) {
            let mut sent = SentRecord::default();
            for _ in 0..highest + gap {
                sent.next(0, 9);
            }
            sent.came_to_nothing(void);
            let order = sent.next(0, 9);
            let mut record = missing();
            record.open(highest, &order, 5);
            let told = order.number.saturating_sub(16)..order.number;
            let is_void = |number: &u64| *number == void && told.contains(number);
            let expected: Vec<u64> = (highest + 1..order.number).filter(|n| !is_void(n)).collect();
            proptest::prop_assert_eq!(numbers(&record), expected.clone());
            record.fill(filled);
            let left: Vec<u64> = expected.into_iter().filter(|n| *n != filled).collect();
            proptest::prop_assert_eq!(numbers(&record), left.clone());
            let sum: u64 = record.ranges.iter().map(MissingRange::count).sum();
            proptest::prop_assert_eq!(sum, u64::try_from(left.len()).unwrap());
        }
    }
}
