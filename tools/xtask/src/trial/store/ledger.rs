//! Who was answered what, kept outside of the process under test, and what a store must therefore hold.
//!
//! What is known of a message goes through the lines that a writer prints and that this process has read; a crash ends
//! that for everything under way, and what is then found in the store decides: what was answered has to be there, what was
//! being written may be there or not, but as a whole, and what was found to be there stays.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

/// Senders, the inboxes that they are spread over in turn, and commits of each that are under way.
pub(super) const SENDERS: u64 = 64;
pub(super) const INBOXES: u64 = 16;
pub(super) const WINDOW: u64 = 4;
/// Most errors that are kept in words.
const ERRORS_MAX: usize = 20;

/// What is known of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// It was never written.
    #[default]
    Absent,
    /// Its commit is under way.
    Begun,
    /// It is there.
    Answered,
    /// It is there or not: its acknowledgement is under way.
    Leaving,
    /// It was there, and is acknowledged.
    Gone,
}

impl State {
    /// Whether its commit is known to have been written.
    const fn is_written(self) -> bool {
        matches!(self, Self::Answered | Self::Leaving | Self::Gone)
    }

    /// Whether anything of it may be in the store.
    const fn may_be_there(self) -> bool {
        matches!(self, Self::Begun | Self::Answered | Self::Leaving)
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Message {
    state: State,
    /// The life of the writer that has written it.
    life: u64,
}

/// What a store has come to. Everything but the first count has to be 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Commits that were answered.
    pub(super) answered: u64,
    /// Messages that were answered and are not there as a whole.
    pub(super) lost: u64,
    /// Items that are in an inbox twice.
    pub(super) duplicated: u64,
    /// Values that were never written where they are.
    pub(super) wrong: u64,
    /// Messages that are there though they were acknowledged, or never written.
    pub(super) resurrected: u64,
    /// Commits that are there in part.
    pub(super) halves: u64,
    /// Numbers that were passed over, and items out of order.
    pub(super) holes: u64,
    /// Answers where none could be: refusals of what was in turn, answers after a failure.
    pub(super) out_of_turn: u64,
}

impl Verdict {
    /// Whether the store has kept what it promised, and has promised anything.
    pub(super) fn holds(&self) -> bool {
        self.answered > 0 && self.is_clean()
    }

    /// Whether nothing is wrong with what was seen.
    pub(super) fn is_clean(&self) -> bool {
        let faults = Self {
            answered: 0,
            ..self.clone()
        };
        faults == Self::default()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} answered; lost {}, duplicated {}, wrong bytes {}, resurrected {}, half written {}, holes {}, out of turn {}",
            self.answered,
            self.lost,
            self.duplicated,
            self.wrong,
            self.resurrected,
            self.halves,
            self.holes,
            self.out_of_turn
        )
    }
}

/// What a store holds, as `torture show` has printed it.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    /// Inbox, number, sender, sequence number and life of each item, in the store's order.
    items: Vec<[u64; 5]>,
    /// Lives of payloads, by sender and sequence number.
    payloads: HashMap<(u64, u64), u64>,
    counters: BTreeMap<u64, u64>,
    tails: BTreeMap<u64, u64>,
    tallies: BTreeMap<u64, u64>,
    wrong: u64,
    /// Whether it was printed to the end.
    pub(super) is_whole: bool,
}

impl Found {
    /// Takes a line up.
    pub(super) fn take(&mut self, line: &str) {
        let mut words = line.split(' ');
        let kind = words.next().unwrap_or_default();
        let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        match (kind, numbers.as_slice()) {
            ("q", [inbox, number, sender, sequence, life]) => {
                self.items
                    .push([*inbox, *number, *sender, *sequence, *life]);
            }
            ("p", [sender, sequence, life]) => {
                self.payloads.insert((*sender, *sequence), *life);
            }
            ("c", [sender, sequence]) => {
                self.counters.insert(*sender, *sequence);
            }
            ("t", [inbox, number]) => {
                self.tails.insert(*inbox, *number);
            }
            ("n", [inbox, entries]) => {
                self.tallies.insert(*inbox, *entries);
            }
            ("end", []) => self.is_whole = true,
            // `w`, and what is no line at all.
            _ => more(&mut self.wrong),
        }
    }
}

/// Everything that a writer has told, over its lives.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    life: u64,
    /// Each sender's messages, by sequence number.
    senders: BTreeMap<u64, Vec<Message>>,
    /// What was begun after a failure.
    begun_too_late: HashSet<(u64, u64)>,
    has_failed: bool,
    answered_in_life: u64,
    /// What was noticed while the writer lived.
    noticed: Verdict,
    errors: Vec<String>,
}

impl Ledger {
    /// A new life of the writer begins; its number.
    pub(super) fn begin_life(&mut self) -> u64 {
        more(&mut self.life);
        self.answered_in_life = 0;
        self.has_failed = false;
        self.begun_too_late.clear();
        self.life
    }

    /// Commits of messages that were answered in this life.
    pub(super) const fn answered_in_life(&self) -> u64 {
        self.answered_in_life
    }

    /// Commits that failed, in words, some of them.
    pub(super) fn errors(&self) -> &[String] {
        &self.errors
    }

    /// Takes a line of the writer up.
    pub(super) fn take(&mut self, line: &str) {
        if let Some(error) = line.strip_prefix("e ") {
            self.has_failed = true;
            if self.errors.len() < ERRORS_MAX {
                self.errors.push(error.to_owned());
            }
            return;
        }
        let mut words = line.split(' ');
        let kind = words.next().unwrap_or_default();
        let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        match (kind, numbers.as_slice()) {
            ("s", [sender, sequence]) => self.begun(*sender, *sequence),
            ("a", [sender, sequence]) => self.answered(*sender, *sequence),
            ("d", [sender, sequence]) => self.leaving(*sender, *sequence),
            ("r", [sender, sequence]) => self.gone(*sender, *sequence),
            ("h", [_, _]) => more(&mut self.noticed.halves),
            ("w", _) => more(&mut self.noticed.wrong),
            // `x`, and what is no line at all.
            _ => more(&mut self.noticed.out_of_turn),
        }
    }

    fn begun(&mut self, sender: u64, sequence: u64) {
        if self.has_failed {
            self.begun_too_late.insert((sender, sequence));
        }
        let life = self.life;
        match self.state(sender, sequence) {
            // The second time when a sender tries on after a failure.
            State::Absent | State::Begun => {
                self.set(sender, sequence, State::Begun);
                self.change(sender, sequence, |message| message.life = life);
            }
            State::Answered | State::Leaving | State::Gone => more(&mut self.noticed.out_of_turn),
        }
    }

    fn answered(&mut self, sender: u64, sequence: u64) {
        more(&mut self.noticed.answered);
        more(&mut self.answered_in_life);
        if self.begun_too_late.contains(&(sender, sequence)) {
            more(&mut self.noticed.out_of_turn);
        }
        match self.state(sender, sequence) {
            State::Begun => self.set(sender, sequence, State::Answered),
            // It was read before its sender was told.
            State::Leaving | State::Gone => {}
            State::Absent | State::Answered => more(&mut self.noticed.out_of_turn),
        }
    }

    fn leaving(&mut self, sender: u64, sequence: u64) {
        match self.state(sender, sequence) {
            State::Begun | State::Answered => self.set(sender, sequence, State::Leaving),
            State::Absent | State::Leaving | State::Gone => more(&mut self.noticed.resurrected),
        }
    }

    fn gone(&mut self, sender: u64, sequence: u64) {
        match self.state(sender, sequence) {
            State::Leaving => self.set(sender, sequence, State::Gone),
            _ => more(&mut self.noticed.out_of_turn),
        }
    }

    fn state(&self, sender: u64, sequence: u64) -> State {
        self.message(sender, sequence).state
    }

    fn message(&self, sender: u64, sequence: u64) -> Message {
        let messages = self.senders.get(&sender);
        let message = messages.and_then(|messages| messages.get(place(sequence)));
        message.copied().unwrap_or_default()
    }

    fn set(&mut self, sender: u64, sequence: u64, state: State) {
        self.change(sender, sequence, |message| message.state = state);
    }

    fn change(&mut self, sender: u64, sequence: u64, change: impl FnOnce(&mut Message)) {
        let messages = self.senders.entry(sender).or_default();
        let place = place(sequence);
        if messages.len() <= place {
            messages.resize(place.saturating_add(1), Message::default());
        }
        if let Some(message) = messages.get_mut(place) {
            change(message);
        }
    }

    /// What the store has come to that holds this. Of what was not shown to its end nothing is said that is missing.
    pub(super) fn judge(&self, found: &Found) -> Verdict {
        let mut verdict = self.noticed.clone();
        verdict.wrong = verdict.wrong.saturating_add(found.wrong);
        let items = judge_items(found, &mut verdict);
        let shown: HashSet<&(u64, u64)> = items.keys().chain(found.payloads.keys()).collect();
        let unwanted = shown
            .into_iter()
            .filter(|(sender, sequence)| !self.message(*sender, *sequence).state.may_be_there());
        for _ in unwanted {
            more(&mut verdict.resurrected);
        }
        for (sender, messages) in &self.senders {
            let of_interest = (0..)
                .zip(messages)
                .filter(|(_, message)| message.state.may_be_there());
            for (sequence, message) in of_interest {
                let at = (*sender, sequence);
                let (item, payload) = (items.get(&at), found.payloads.get(&at));
                judge_message(*message, item, payload, found.is_whole, &mut verdict);
            }
        }
        if found.is_whole {
            self.judge_numbers(found, &items, &mut verdict);
        }
        verdict
    }

    /// Each sender's messages are written one after the other, and each inbox's items numbered in that order.
    fn judge_numbers(
        &self,
        found: &Found,
        items: &HashMap<(u64, u64), u64>,
        verdict: &mut Verdict,
    ) {
        let mut tails: BTreeMap<u64, u64> = BTreeMap::new();
        for (sender, messages) in &self.senders {
            let (mut last, mut count) = (0, 0_u64);
            for (sequence, message) in (0_u64..).zip(messages) {
                let is_written = match message.state {
                    State::Begun => items.contains_key(&(*sender, sequence)),
                    state => state.is_written(),
                };
                if is_written {
                    last = sequence;
                    more(&mut count);
                }
            }
            verdict.holes = verdict.holes.saturating_add(last.saturating_sub(count));
            if found.counters.get(sender).copied().unwrap_or_default() != last {
                more(&mut verdict.holes);
            }
            let tail = tails
                .entry(sender.checked_rem(INBOXES).unwrap_or_default())
                .or_default();
            *tail = tail.saturating_add(count);
        }
        for (inbox, expected) in tails {
            if found.tails.get(&inbox).copied().unwrap_or_default() != expected {
                more(&mut verdict.holes);
            }
            let there = found.items.iter().filter(|[of, ..]| *of == inbox).count();
            let counted = found.tallies.get(&inbox).copied().unwrap_or_default();
            if u64::try_from(there) != Ok(counted) {
                more(&mut verdict.halves);
            }
        }
    }

    /// What was under way when the writer ended is decided by what was found: it stays so.
    pub(super) fn settle(&mut self, found: &Found) {
        let there: HashSet<(u64, u64)> = found
            .items
            .iter()
            .map(|[_, _, sender, sequence, _]| (*sender, *sequence))
            .collect();
        for (sender, messages) in &mut self.senders {
            for (sequence, message) in (0..).zip(messages) {
                let is_there = || there.contains(&(*sender, sequence));
                message.state = match message.state {
                    State::Begun | State::Leaving if is_there() => State::Answered,
                    State::Begun => State::Absent,
                    State::Leaving => State::Gone,
                    state => state,
                };
            }
        }
    }
}

/// Items by their messages, with the life of each; and what is there twice or out of order.
fn judge_items(found: &Found, verdict: &mut Verdict) -> HashMap<(u64, u64), u64> {
    let mut items = HashMap::new();
    let mut last: HashMap<(u64, u64), u64> = HashMap::new();
    for [inbox, _, sender, sequence, life] in &found.items {
        if items.insert((*sender, *sequence), *life).is_some() {
            more(&mut verdict.duplicated);
            continue;
        }
        if sender.checked_rem(INBOXES) != Some(*inbox) {
            more(&mut verdict.wrong);
        }
        let before = last.insert((*inbox, *sender), *sequence);
        if before.is_some_and(|before| before > *sequence) {
            more(&mut verdict.holes);
        }
    }
    items
}

/// Holds what is there of a message, its item and its payload with the lives that have written them, to what is known
/// of it.
fn judge_message(
    message: Message,
    item: Option<&u64>,
    payload: Option<&u64>,
    is_whole: bool,
    verdict: &mut Verdict,
) {
    match (item.is_some(), payload.is_some()) {
        (true, true) => {}
        // What is missing was perhaps not shown any more.
        _ if !is_whole => {}
        _ if message.state == State::Answered => more(&mut verdict.lost),
        (false, false) => {}
        _ => more(&mut verdict.halves),
    }
    let lives = item.into_iter().chain(payload);
    for _ in lives.filter(|life| **life != message.life) {
        more(&mut verdict.wrong);
    }
}

/// The place of a sequence number; the first one, 0, is never used.
fn place(sequence: u64) -> usize {
    usize::try_from(sequence).unwrap_or(usize::MAX)
}

fn more(count: &mut u64) {
    *count = count.saturating_add(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sender 1 has sent four messages: the first is acknowledged, the second is there, the third is being acknowledged
    /// and the fourth was never answered.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.begin_life();
        for line in [
            "s 1 1", "s 1 2", "a 1 1", "s 1 3", "a 1 2", "a 1 3", "d 1 1", "s 1 4", "r 1 1",
            "d 1 3",
        ] {
            ledger.take(line);
        }
        ledger
    }

    /// What `show` prints when these of its messages are there.
    fn shown(messages: &[u64], last: u64) -> Vec<String> {
        let mut lines = Vec::new();
        for sequence in messages {
            lines.push(format!("p 1 {sequence} 1"));
            lines.push(format!("q 1 {sequence} 1 {sequence} 1"));
        }
        lines.push(format!("c 1 {last}"));
        lines.push(format!("t 1 {last}"));
        lines.push(format!("n 1 {}", messages.len()));
        lines.push("end".to_owned());
        lines
    }

    fn found(lines: &[String]) -> Found {
        let mut found = Found::default();
        for line in lines {
            found.take(line);
        }
        found
    }

    fn judged(lines: &[String]) -> Verdict {
        ledger().judge(&found(lines))
    }

    /// Goal: what was under way may have come to anything, as a whole, and stays as it was found. Method: each outcome,
    /// and then the other one.
    #[test]
    fn what_was_under_way_is_open_and_then_settled() {
        let outcomes = [
            shown(&[2], 3),
            shown(&[2, 3], 3),
            shown(&[2, 4], 4),
            shown(&[2, 3, 4], 4),
        ];
        for outcome in &outcomes {
            assert!(judged(outcome).holds(), "{outcome:?}: {}", judged(outcome));
            let mut settled = ledger();
            settled.settle(&found(outcome));
            for other in &outcomes {
                let verdict = settled.judge(&found(other));
                assert_eq!(verdict.holds(), outcome == other, "{outcome:?} {other:?}");
            }
        }
    }

    /// Goal: each kind of fault is noticed as what it is. Method: spoil what a good store shows in one place.
    #[test]
    fn faults_are_noticed() {
        let good = shown(&[2], 3);
        let without = |what: &str| -> Vec<String> {
            let kept = good.iter().filter(|line| !line.starts_with(what));
            kept.cloned().collect()
        };
        let with = |line: &str| -> Vec<String> {
            let added = std::iter::once(line.to_owned());
            added.chain(good.iter().cloned()).collect()
        };
        assert_eq!(judged(&without("p")).lost, 1);
        assert_eq!(judged(&without("q")).lost, 1);
        assert_eq!(judged(&with("q 1 9 1 2 1")).duplicated, 1);
        assert_eq!(judged(&with("w 50")).wrong, 1);
        assert_eq!(judged(&with("p 1 1 1")).resurrected, 1);
        assert_eq!(judged(&with("p 9 1 1")).resurrected, 1, "nobody sent it");
        assert_eq!(judged(&with("p 1 4 1")).halves, 1);
        assert_eq!(judged(&shown(&[2], 2)).holes, 2, "counter and tail");
        let replaced = |from: &str, to: &str| -> Vec<String> {
            let lines = good.iter().map(|line| line.replace(from, to));
            lines.collect()
        };
        assert_eq!(judged(&replaced("p 1 2 1", "p 1 2 7")).wrong, 1);
        assert_eq!(judged(&replaced("n 1 1", "n 1 2")).halves, 1);
        let mut turned = shown(&[2, 3], 3);
        turned.swap(1, 3);
        assert_eq!(judged(&turned).holes, 1);
    }

    /// Goal: a message that was passed over is a hole. Method: the fifth is there, the fourth is not.
    #[test]
    fn a_hole_is_noticed() {
        let mut ledger = ledger();
        ledger.take("s 1 5");
        let verdict = ledger.judge(&found(&shown(&[2, 5], 5)));
        assert_eq!((verdict.lost, verdict.resurrected), (0, 0));
        assert_eq!(verdict.holes, 2, "the fourth, and the inbox's last number");
    }

    /// Goal: what was not shown to its end may lack anything, and has no right to anything wrong. Method: cut off what a
    /// good store shows, and show what was acknowledged.
    #[test]
    fn what_was_not_shown_is_not_missed() {
        assert!(judged(&[]).is_clean());
        assert!(judged(&["p 1 2 1".to_owned()]).is_clean());
        assert_eq!(judged(&["p 1 1 1".to_owned()]).resurrected, 1);
        assert_eq!(judged(&["p 1 2 7".to_owned()]).wrong, 1);
    }

    /// Goal: an answer to what was begun after a failure is noticed, one to what was begun before is not. Method: both.
    #[test]
    fn an_answer_after_a_failure_is_noticed() {
        let mut ledger = ledger();
        ledger.take("e the store failed: input/output error");
        ledger.take("a 1 4");
        assert!(ledger.judge(&found(&shown(&[2, 4], 4))).holds());
        ledger.take("s 1 5");
        ledger.take("a 1 5");
        assert_eq!(ledger.judge(&found(&shown(&[2, 4, 5], 5))).out_of_turn, 1);
        assert_eq!(ledger.errors().len(), 1);
    }

    /// Goal: a number that was never written is written by the next life, and the former life's value is then wrong.
    /// Method: both values.
    #[test]
    fn a_former_life_is_told_apart() {
        let mut ledger = ledger();
        ledger.settle(&found(&shown(&[2], 3)));
        assert_eq!(ledger.begin_life(), 2);
        ledger.take("s 1 4");
        ledger.take("a 1 4");
        let mut lines = shown(&[2, 4], 4);
        assert_eq!(ledger.judge(&found(&lines)).wrong, 2, "item and payload");
        for line in &mut lines {
            if let Some(start) = line.strip_suffix(" 4 1") {
                *line = format!("{start} 4 2");
            }
        }
        assert!(ledger.judge(&found(&lines)).holds(), "{lines:?}");
    }
}
