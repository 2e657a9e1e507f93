//! What of a conversation is on the screen: the end of what the device had, and everything that is new.

use entente_sdk::Message;

/// How much of what the device had before is shown at first.
const HISTORY_MESSAGES: usize = 20;

/// How far the history was shown. What comes in while it is read is in it, and is told by an event as well: it must
/// not be shown twice.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// The last message's number; they grow.
    last: u64,
}

impl Shown {
    /// Notes what the history has.
    pub(super) fn history(&mut self, numbers: impl Iterator<Item = u64>) {
        self.last = numbers.fold(self.last, u64::max);
    }

    /// Whether a message that an event tells is not in what was shown.
    pub(super) const fn lacks(&self, number: u64) -> bool {
        number > self.last
    }
}

/// How many messages at a conversation's beginning are not shown: old ones alone. What has come in since the device
/// went on line is new to the reader, however much it is.
pub(super) fn passed_over(numbers: impl Iterator<Item = u64>, known: u64) -> usize {
    let old = numbers.take_while(|number| *number <= known).count();
    old.saturating_sub(HISTORY_MESSAGES)
}

/// Several conversations in one, by time; each keeps its own order.
pub(super) fn by_time(histories: Vec<Vec<Message>>) -> Vec<Message> {
    let mut all: Vec<(u64, Message)> = Vec::new();
    for history in histories {
        let mut at_ms = 0;
        for message in history {
            at_ms = message.accepted_ms.unwrap_or(message.sent_ms).max(at_ms);
            all.push((at_ms, message));
        }
    }
    all.sort_by_key(|(at_ms, _)| *at_ms);
    all.into_iter().map(|(_, message)| message).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a message that came in while the history was read is shown once, and one that came later is shown.
    /// Method: events of messages in the history, its last one among them, and behind it.
    #[test]
    fn shown_once() {
        let mut shown = Shown::default();
        assert!(shown.lacks(1));
        shown.history([3, 4, 7].into_iter());
        for (number, news) in [(3, false), (7, false), (8, true), (9, true)] {
            assert_eq!(shown.lacks(number), news, "{number}");
        }
        shown.history(std::iter::empty());
        assert!(!shown.lacks(7));
    }

    /// Goal: nothing that came in since the device went on line is passed over, and old messages are but for the last
    /// twenty. Method: few and many of either.
    #[test]
    fn news_are_not_passed_over() {
        for (count, known, expected) in [
            (5, 5, 0),
            (20, 20, 0),
            (26, 26, 6),
            (26, 1, 0),
            (90, 50, 30),
            (90, 0, 0),
        ] {
            assert_eq!(
                passed_over(1..=count, known),
                expected,
                "{count} of which {known} old"
            );
        }
    }
}
