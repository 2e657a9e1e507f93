//! The homeserver's answers to submissions.

use homeserver_api::refusal::{Refusal, RefusalCode};
use homeserver_api::session::{Outcome, SubmissionResult};

use super::Core;
use super::records::{OutboxEntry, Place, ProgressRecord, Purpose};
use crate::error::Error;
use crate::store::Family;

/// A submission that is to be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Again {
    /// The first counter to send again.
    pub(crate) counter: u64,
    /// How long to wait before.
    pub(crate) after_ms: u64,
}

impl Core {
    /// Takes in results; what is to be sent again, if anything.
    ///
    /// # Errors
    /// As for [`Self::receive`].
    pub(crate) fn take_results(
        &mut self,
        results: Vec<SubmissionResult>,
        roots_are_fresh: bool,
    ) -> Result<Option<Again>, Error> {
        self.roots_are_fresh = roots_are_fresh;
        let taken = self.take_all_results(results);
        self.roots_are_fresh = true;
        taken
    }

    fn take_all_results(&mut self, results: Vec<SubmissionResult>) -> Result<Option<Again>, Error> {
        let mut again: Option<Again> = None;
        for SubmissionResult { counter, outcome } in results {
            let wait = match &outcome {
                Outcome::Deferred { retry_after_ms, .. } => Some(*retry_after_ms),
                // An earlier one was deferred, so this one was out of turn: it is not final.
                Outcome::Refused(refusal) if refusal.code == RefusalCode::CounterGap => Some(0),
                Outcome::Accepted { .. } | Outcome::Refused(_) => None,
            };
            if let Some(after_ms) = wait {
                again = Some(again.map_or(Again { counter, after_ms }, |earlier| Again {
                    counter: earlier.counter.min(counter),
                    after_ms: earlier.after_ms.max(after_ms),
                }));
                continue;
            }
            let Some(entry) = self
                .store
                .get::<OutboxEntry>(Family::Outbox, b"", counter)?
            else {
                // Answered before; the answer was repeated.
                continue;
            };
            self.store.delete(Family::Outbox, b"", counter);
            self.outbox.remove(&counter);
            match outcome {
                Outcome::Accepted { accepted_ms } => {
                    self.accepted(counter, &entry.purpose, accepted_ms)?
                }
                Outcome::Refused(refusal) => {
                    self.refused(counter, entry.purpose, refusal)?;
                }
                Outcome::Deferred { .. } => {}
            }
        }
        Ok(again)
    }

    fn accepted(&mut self, counter: u64, purpose: &Purpose, accepted_ms: u64) -> Result<(), Error> {
        match purpose {
            Purpose::Message { room, number } => {
                let place = Place {
                    room: *room,
                    number: *number,
                };
                self.accept_message(place, accepted_ms)
            }
            // Their real answers come as deliveries.
            Purpose::Claim { .. }
            | Purpose::Commit { .. }
            | Purpose::GroupInfo { .. }
            | Purpose::LookUp { .. }
            | Purpose::Devices { .. }
            | Purpose::Consent { .. }
            | Purpose::Resync { .. } => Ok(()),
            Purpose::Leave { room, operation } => {
                self.leave_answered(*room, *operation, Ok(()));
                Ok(())
            }
            Purpose::Report => {
                self.report_answered(counter, Ok(()));
                Ok(())
            }
            Purpose::History { room } => self.history_answered(*room, Ok(())),
        }
    }

    fn refused(&mut self, counter: u64, purpose: Purpose, refusal: Refusal) -> Result<(), Error> {
        match purpose {
            Purpose::Message { room, number } => {
                let stale = matches!(
                    refusal.code,
                    RefusalCode::EpochTooOld | RefusalCode::WrongEpoch
                );
                if stale && self.encrypt_again(Place { room, number })? {
                    return Ok(());
                }
                self.answer_message(room, number, ProgressRecord::Refused(refusal))
            }
            Purpose::Claim { request, .. } | Purpose::Devices { request } => {
                self.take_key_material(request, Err(refusal))
            }
            Purpose::Consent { request } => self.take_room_consent(request, Err(refusal)),
            Purpose::Commit { .. } | Purpose::Resync { .. } => {
                self.commit_refused(counter, refusal)
            }
            Purpose::LookUp { request } => {
                self.take_directory(request, Err(refusal));
                Ok(())
            }
            Purpose::Report => {
                self.report_answered(counter, Err(refusal));
                Ok(())
            }
            Purpose::History { room } => self.history_answered(room, Err(refusal)),
            Purpose::Leave { room, operation } => {
                self.leave_answered(room, operation, Err(refusal));
                Ok(())
            }
            Purpose::GroupInfo { room, request } => {
                self.take_group_info(room, request, Err(refusal))
            }
        }
    }
}
