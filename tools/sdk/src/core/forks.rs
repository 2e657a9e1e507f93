//! Whether all members of a room are in the same one.
//!
//! A hub that orders two commits for one epoch, each for some of the members, makes two rooms of one. Nothing that is encrypted in
//! one can be opened in the other, so no message can tell of it. Two things show it: a commit for an epoch that another one
//! has ended here, and the room's number, which two people compare by another way.

use homeserver_api::Digest;
use homeserver_api::ids::RoomId;

use super::Core;
use super::devices::safety::read_aloud;
use super::records::OrderedRecord;
use crate::error::Error;
use crate::event::Event;
use crate::store::Family;

/// How many epochs back a second commit is noticed.
const ORDERED_EPOCHS_MAX: u64 = 32;
const LABEL: &[u8] = b"entente room number";

/// What members read to each other to see that they are in the same room: it is the same for all who are in the same epoch, and
/// another one in each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomNumber {
    /// The epoch that it is of.
    pub epoch: u64,
    /// As 60 decimal digits in groups of five.
    pub digits: String,
    /// As 24 words.
    pub words: Vec<&'static str>,
}

impl Core {
    /// The number of a room's present epoch.
    pub(crate) fn room_number(&mut self, room: RoomId) -> Result<RoomNumber, Error> {
        self.open_room(room)?;
        let group = self.group(room)?;
        let epoch = group.current_epoch();
        let authenticator = group.epoch_authenticator().map_err(crate::mls::error)?;
        let length = [u8::try_from(LABEL.len()).unwrap_or(u8::MAX)];
        let number = Digest::of_parts(&[
            &length,
            LABEL,
            room.as_bytes(),
            &epoch.to_be_bytes(),
            authenticator.as_bytes(),
        ]);
        let (digits, words) = read_aloud(number);
        Ok(RoomNumber {
            epoch,
            digits,
            words,
        })
    }

    /// Notes which commit has ended an epoch.
    pub(super) fn note_ordered(
        &mut self,
        room: RoomId,
        epoch: u64,
        commit: &[u8],
    ) -> Result<(), Error> {
        if let Some(old) = epoch.checked_sub(ORDERED_EPOCHS_MAX) {
            self.store.delete(Family::Ordered, room.as_bytes(), old);
        }
        let record = OrderedRecord {
            sha256: Digest::of(commit),
            forked: false,
        };
        self.store
            .put(Family::Ordered, room.as_bytes(), epoch, &record)
    }

    /// Tells of a commit for an epoch that another one has ended here, once for each epoch.
    pub(super) fn check_ordered(
        &mut self,
        room: RoomId,
        epoch: u64,
        commit: &[u8],
    ) -> Result<(), Error> {
        let scope = room.as_bytes();
        let Some(record) = self
            .store
            .get::<OrderedRecord>(Family::Ordered, scope, epoch)?
        else {
            return Ok(());
        };
        if record.forked || record.sha256 == Digest::of(commit) {
            return Ok(());
        }
        let record = OrderedRecord {
            forked: true,
            ..record
        };
        self.store.put(Family::Ordered, scope, epoch, &record)?;
        self.effects.events.push(Event::RoomForked { room, epoch });
        Ok(())
    }

    /// Forgets which commits a room had.
    pub(super) fn forget_ordered(&mut self, room: RoomId) -> Result<(), Error> {
        for epoch in self.store.numbers(Family::Ordered, room.as_bytes())? {
            self.store.delete(Family::Ordered, room.as_bytes(), epoch);
        }
        Ok(())
    }
}
