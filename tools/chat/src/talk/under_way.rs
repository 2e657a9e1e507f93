//! Own messages that the homeserver has not answered for, and which of them stand on the screen.
//!
//! A line that is printed can't be taken back, so an own message is printed when it is decided: at once, as a rule.
//! Only one that takes long is printed as waiting, and then what becomes of it is told in a line of its own.

use std::time::Duration;

use entente_sdk::MessageId;
use tokio::time::Instant;

/// How long an own message may be under way before it is shown as waiting.
const WAITING_SHOWN_AFTER: Duration = Duration::from_secs(1);

/// The messages under way, oldest first.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    messages: Vec<Own>,
}

#[derive(Debug)]
struct Own {
    id: MessageId,
    /// When it is shown as waiting; `None` when it is already.
    shown_at: Option<Instant>,
}

impl UnderWay {
    /// Notes a message that is on the screen as waiting.
    pub(super) fn shown(&mut self, id: MessageId) {
        self.messages.push(Own { id, shown_at: None });
    }

    /// Notes a message that is not on the screen: it is due when it takes long.
    pub(super) fn hidden(&mut self, id: MessageId, now: Instant) {
        let shown_at = Some(now + WAITING_SHOWN_AFTER);
        self.messages.push(Own { id, shown_at });
    }

    /// Takes back that a message counts as shown.
    pub(super) fn hide(&mut self, id: MessageId, now: Instant) {
        self.decided(id);
        self.hidden(id, now);
    }

    /// Notes that a message is decided; whether it stands on the screen as waiting, if it was under way.
    pub(super) fn decided(&mut self, id: MessageId) -> Option<bool> {
        let at = self.messages.iter().position(|own| own.id == id)?;
        Some(self.messages.remove(at).shown_at.is_none())
    }

    /// When the next message is due to be shown as waiting.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.messages.iter().filter_map(|own| own.shown_at).min()
    }

    /// The messages that are to be shown as waiting by `now`, or all of them; they count as shown.
    pub(super) fn due(&mut self, now: Option<Instant>) -> Vec<MessageId> {
        let mut due = Vec::new();
        for own in &mut self.messages {
            if own
                .shown_at
                .is_some_and(|at| now.is_none_or(|now| at <= now))
            {
                own.shown_at = None;
                due.push(own.id);
            }
        }
        due
    }

    pub(super) const fn count(&self) -> usize {
        self.messages.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: MessageId = MessageId::from_bytes([1; 16]);
    const SECOND: MessageId = MessageId::from_bytes([2; 16]);

    /// Goal: what is decided soon never stands as waiting, what takes long does, once. Method: two messages, one
    /// decided in time, with the time moved.
    #[tokio::test(start_paused = true)]
    async fn only_what_takes_long_is_shown_as_waiting() {
        let mut under_way = UnderWay::default();
        let began = Instant::now();
        under_way.hidden(FIRST, began);
        under_way.hidden(SECOND, began);
        assert!(under_way.due(Some(began)).is_empty());
        assert_eq!(under_way.decided(FIRST), Some(false));
        let due = under_way.next_due();
        assert_eq!(due, Some(began + WAITING_SHOWN_AFTER));
        assert_eq!(under_way.due(due), [SECOND]);
        assert!(under_way.due(due).is_empty());
        assert_eq!(under_way.next_due(), None);
        under_way.hide(SECOND, began);
        assert_eq!(under_way.due(due), [SECOND]);
        assert_eq!(under_way.count(), 1);
        assert_eq!(under_way.decided(SECOND), Some(true));
        assert_eq!(under_way.decided(SECOND), None);
    }

    /// Goal: without a connection, and at the end, nothing is kept back. Method: one shown and one hidden message.
    #[tokio::test(start_paused = true)]
    async fn all_are_shown_when_nothing_can_decide_them() {
        let mut under_way = UnderWay::default();
        under_way.shown(FIRST);
        under_way.hidden(SECOND, Instant::now());
        assert_eq!(under_way.due(None), [SECOND]);
    }
}
