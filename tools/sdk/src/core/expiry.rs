//! What is due by the clock: deletion of what has expired or burnt, and what was put off.
//!
//! A deleted message's content can't be read any more by anyone: see the store's salts.

use super::Core;
use super::records::{MessageMeta, Place};
use crate::error::Error;
use crate::event::Event;
use crate::store::Family;

/// Most messages deleted in one job.
const DELETED_AT_ONCE_MAX: usize = 4096;

impl Core {
    /// When something may be due next; milliseconds since the Unix epoch.
    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        let deletion = self.schedule.first().map(|(deadline, _, _)| *deadline);
        deletion
            .into_iter()
            .chain(self.refresh_after.values().copied())
            .chain(self.commits_at.values().copied())
            .chain(self.resync_at.values().copied())
            .chain(self.take_up_at.values().copied())
            .chain(self.renew_at.values().copied())
            .chain(self.missing_at.values().copied())
            .chain(self.gone_at.values().copied())
            .min()
    }

    /// Deletes what is due, and tries again what was put off until now.
    pub(crate) fn do_due(&mut self) -> Result<(), Error> {
        self.delete_due()?;
        self.tell_missing_due()?;
        self.retry_refreshes()?;
        self.commits_due()?;
        self.take_up_due()?;
        self.renew_consents_due()?;
        self.gone_due()?;
        self.resync_due()
    }

    /// Deletes what is due.
    pub(crate) fn delete_due(&mut self) -> Result<(), Error> {
        let now = self.now_ms();
        let due: Vec<_> = self
            .schedule
            .iter()
            .take_while(|(deadline, _, _)| *deadline <= now)
            .take(DELETED_AT_ONCE_MAX)
            .copied()
            .collect();
        for (deadline, room, number) in due {
            let place = Place { room, number };
            match self.meta(place)? {
                Some(meta) if meta.deadline_ms().is_some_and(|at| at <= now) => {
                    self.delete_message(place, &meta)?;
                }
                Some(meta) => self.schedule_deletion(place, meta.deadline_ms()),
                None => {}
            }
            self.deleted.push((deadline, room, number));
        }
        Ok(())
    }

    fn delete_message(&mut self, place: Place, meta: &MessageMeta) -> Result<(), Error> {
        let Place { room, number } = place;
        self.tell_if_unsent(place, meta)?;
        self.store
            .delete(Family::MessageContent, room.as_bytes(), number);
        self.store
            .delete(Family::MessageMeta, room.as_bytes(), number);
        self.store
            .delete(Family::MessageIndex, meta.id.as_bytes(), 0);
        self.store.delete(Family::Queue, room.as_bytes(), number);
        self.forget_past(place, meta)?;
        if let Some(counter) = meta.counter {
            self.store.delete(Family::Sent, b"", counter);
        }
        self.effects.events.push(Event::Deleted {
            room,
            message: meta.id,
        });
        Ok(())
    }

    pub(super) fn schedule_deletion(&mut self, place: Place, deadline_ms: Option<u64>) {
        if let Some(deadline) = deadline_ms {
            self.schedule.insert((deadline, place.room, place.number));
            self.effects.schedule_changed = true;
        }
    }

    /// Reads every message's deadline once, when the store is opened.
    pub(super) fn load_schedule(&mut self) -> Result<(), Error> {
        for room in self.rooms_with_messages() {
            for number in self.store.numbers(Family::MessageMeta, room.as_bytes())? {
                let place = Place { room, number };
                if let Some(meta) = self.meta(place)? {
                    self.schedule_deletion(place, meta.deadline_ms());
                }
            }
        }
        Ok(())
    }
}
