//! What was written, what each device was shown, and what should have been.
//!
//! Moments are counted, not measured: whatever is recorded later has a greater one. A device must be shown whatever its writer
//! began to write after the writer's own device had seen it join; it must not be shown what somebody had been shown before anybody
//! began to add it. In between either is right, but without gaps: from the first of a writer's messages on it is shown all of them.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use entente_sdk::ids::Member;
use entente_sdk::{Body, Event};
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::people::Device;

/// A message.
#[derive(Debug, Clone)]
struct Writing {
    by: usize,
    begun: u64,
    shown_first: Option<u64>,
}

/// One device's view.
#[derive(Debug, Clone, Default)]
struct View {
    /// When somebody began to add it, and in which turn.
    added: Option<(u64, u32)>,
    joined: bool,
    /// Since when it has known which other device to be in the room; 0: it has not.
    knows: Vec<u64>,
    /// Messages as it was shown them.
    shown: Vec<usize>,
    /// Names that the room had here.
    names: HashSet<String>,
}

/// What a run has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    pub(crate) written: usize,
    /// How often a message was shown, over all devices.
    pub(crate) shown: usize,
    /// Devices that came into the room.
    pub(crate) joined: usize,
    /// Devices that joined after the first message was written.
    pub(crate) joined_late: usize,
    pub(crate) lost: usize,
    pub(crate) duplicated: usize,
    pub(crate) out_of_order: usize,
    pub(crate) from_before_joining: usize,
    /// What devices told: of messages that are missing or late, forked rooms, commits that they could not take in, and
    /// what they could not read, or got back.
    pub(crate) told_missing: usize,
    pub(crate) told_forked: usize,
    pub(crate) told_out_of_step: usize,
    pub(crate) told_unreadable: usize,
    pub(crate) told_not_sent: usize,
    /// One of what was told, in words.
    pub(crate) example: Option<String>,
}

impl Verdict {
    /// Whether everybody saw what he should.
    pub(crate) const fn holds(&self) -> bool {
        self.written > 0
            && self.shown > 0
            && self.lost == 0
            && self.duplicated == 0
            && self.out_of_order == 0
            && self.from_before_joining == 0
            && self.told_missing == 0
            && self.told_forked == 0
            // Nobody is hostile, and nobody is away for longer than what rooms retain.
            && self.told_out_of_step == 0
            && self.told_unreadable == 0
            && self.told_not_sent == 0
    }
}

/// What is known of a run so far.
#[derive(Debug, Clone, Default)]
struct State {
    moment: u64,
    writings: Vec<Writing>,
    views: Vec<View>,
    told: Verdict,
}

/// A point that a device has passed.
#[derive(Debug, Clone)]
pub(crate) enum Landmark {
    /// The room had this name.
    Name(String),
    /// This device was in the room.
    Member(usize),
}

/// A run's record.
pub(crate) struct Record {
    places: HashMap<Member, usize>,
    state: Mutex<State>,
    changed: Notify,
}

impl Record {
    pub(crate) fn new(devices: &[Device]) -> Self {
        let places = devices.iter().enumerate();
        Self::of(
            places
                .map(|(place, device)| (device.member(), place))
                .collect(),
        )
    }

    fn of(places: HashMap<Member, usize>) -> Self {
        let view = View {
            knows: vec![0; places.len()],
            ..View::default()
        };
        let state = State {
            views: vec![view; places.len()],
            ..State::default()
        };
        Self {
            places,
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    pub(crate) fn devices(&self) -> usize {
        self.places.len()
    }

    /// Somebody begins to add these devices.
    pub(crate) fn adding(&self, turn: u32, devices: &[usize]) {
        let mut state = self.lock();
        let moment = state.next();
        for device in devices {
            if let Some(view) = state.views.get_mut(*device) {
                view.added = Some((moment, turn));
            }
        }
    }

    /// A device begins to write: the text.
    pub(crate) fn writing(&self, by: usize) -> String {
        let mut state = self.lock();
        let begun = state.next();
        let number = state.writings.len();
        state.writings.push(Writing {
            by,
            begun,
            shown_first: None,
        });
        number.to_string()
    }

    /// Something happened on a device.
    pub(crate) fn happened(&self, device: usize, event: &Event) {
        let mut state = self.lock();
        let moment = state.next();
        match event {
            Event::Message(message) => {
                if let Body::Text { text } = &message.body
                    && let Ok(number) = text.parse()
                {
                    state.shown(device, number, moment);
                }
            }
            Event::RoomJoined { .. } => state.joined(device, moment),
            Event::MembersChanged { added, .. } => {
                let added = added.iter().filter_map(|who| self.places.get(&who.member));
                for other in added {
                    state.knows(device, *other, moment);
                }
            }
            Event::RoomRenamed { name, .. } => {
                if let Some(view) = state.views.get_mut(device) {
                    view.names.insert(name.clone());
                }
            }
            other => state.told(device, other),
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits until these devices have passed a landmark.
    ///
    /// # Errors
    /// When they have not in time, in words.
    pub(crate) async fn passed(
        &self,
        devices: &[usize],
        landmark: &Landmark,
        patience: Duration,
    ) -> Result<(), String> {
        let passed = |state: &State| {
            devices
                .iter()
                .all(|device| state.has_passed(*device, landmark))
        };
        self.wait(patience, passed).await.map_err(|()| {
            format!("not all of the writers have seen {landmark:?} within {patience:?}")
        })
    }

    /// Waits until every device is there and was shown the last message of every writer.
    pub(crate) async fn drained(&self, patience: Duration) {
        // What is missing is said by the verdict.
        let _ = self.wait(patience, State::is_drained).await;
    }

    async fn wait(&self, patience: Duration, so: impl Fn(&State) -> bool) -> Result<(), ()> {
        let deadline = Instant::now() + patience;
        loop {
            let changed = self.changed.notified();
            if so(&self.lock()) {
                return Ok(());
            }
            // Hundreds of devices tell thousands of things: not after each of them is looked anew.
            let pause = tokio::time::sleep(Duration::from_millis(100));
            timeout_at(deadline, async { tokio::join!(changed, pause) })
                .await
                .map_err(|_| ())?;
        }
    }

    /// What it has come to.
    pub(crate) fn judge(&self) -> Verdict {
        self.lock().judge()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    const fn next(&mut self) -> u64 {
        self.moment = self.moment.saturating_add(1);
        self.moment
    }

    fn shown(&mut self, device: usize, number: usize, moment: u64) {
        if let Some(writing) = self.writings.get_mut(number) {
            writing.shown_first.get_or_insert(moment);
            if let Some(view) = self.views.get_mut(device) {
                view.shown.push(number);
            }
        }
    }

    /// It knows of all that were added in its own turn or before.
    fn joined(&mut self, device: usize, moment: u64) {
        let turn = self.views.get(device).and_then(|view| view.added);
        let Some((_, turn)) = turn else { return };
        let there: Vec<bool> = self
            .views
            .iter()
            .map(|view| view.added.is_some_and(|(_, of)| of <= turn))
            .collect();
        if let Some(view) = self.views.get_mut(device) {
            view.joined = true;
            for (knows, there) in view.knows.iter_mut().zip(there) {
                if there && *knows == 0 {
                    *knows = moment;
                }
            }
        }
    }

    fn knows(&mut self, device: usize, other: usize, moment: u64) {
        let view = self.views.get_mut(device);
        if let Some(knows) = view.and_then(|view| view.knows.get_mut(other))
            && *knows == 0
        {
            *knows = moment;
        }
    }

    fn told(&mut self, device: usize, event: &Event) {
        let count = match event {
            Event::MessagesMissing { .. } | Event::OutOfOrder { .. } => &mut self.told.told_missing,
            Event::RoomForked { .. } => &mut self.told.told_forked,
            Event::RoomOutOfStep { .. } => &mut self.told.told_out_of_step,
            Event::Unreadable { .. }
            | Event::RoomOver { .. }
            | Event::Held { .. }
            | Event::AddressChanged { .. }
            | Event::DevicesRefused { .. } => &mut self.told.told_unreadable,
            Event::Refused { .. } | Event::Returned { .. } => &mut self.told.told_not_sent,
            _ => return,
        };
        *count = count.saturating_add(1);
        let words = || format!("device {device}: {event:?}");
        self.told.example.get_or_insert_with(words);
    }

    fn has_passed(&self, device: usize, landmark: &Landmark) -> bool {
        let Some(view) = self.views.get(device) else {
            return false;
        };
        match landmark {
            Landmark::Name(name) => view.names.contains(name),
            Landmark::Member(other) => view.knows.get(*other).is_some_and(|moment| *moment > 0),
        }
    }

    fn is_drained(&self) -> bool {
        let mut last: HashMap<usize, usize> = HashMap::new();
        for (number, writing) in self.writings.iter().enumerate() {
            last.insert(writing.by, number);
        }
        self.views.iter().enumerate().all(|(device, view)| {
            let shown: HashSet<usize> = view.shown.iter().copied().collect();
            let mut others = last.iter().filter(|(by, _)| **by != device);
            view.joined && others.all(|(_, number)| shown.contains(number))
        })
    }

    fn judge(&self) -> Verdict {
        let mut verdict = Verdict {
            written: self.writings.len(),
            ..self.told.clone()
        };
        let first = self.writings.first().map_or(u64::MAX, |first| first.begun);
        for (device, view) in self.views.iter().enumerate() {
            if !view.joined {
                verdict.lost = verdict.lost.saturating_add(1);
                continue;
            }
            let added = view.added.map_or(0, |(moment, _)| moment);
            verdict.joined = verdict.joined.saturating_add(1);
            verdict.joined_late = verdict
                .joined_late
                .saturating_add(usize::from(added > first));
            verdict.shown = verdict.shown.saturating_add(view.shown.len());
            self.judge_one(device, view, added, &mut verdict);
        }
        verdict
    }

    fn judge_one(&self, device: usize, view: &View, added: u64, verdict: &mut Verdict) {
        let mut seen: HashSet<usize> = HashSet::new();
        // Of each writer the first and the last that was shown.
        let mut of: HashMap<usize, (usize, usize)> = HashMap::new();
        for number in &view.shown {
            let Some(writing) = self.writings.get(*number) else {
                continue;
            };
            if !seen.insert(*number) {
                verdict.duplicated = verdict.duplicated.saturating_add(1);
                continue;
            }
            let (first, last) = of.entry(writing.by).or_insert((*number, *number));
            if *number < *last {
                verdict.out_of_order = verdict.out_of_order.saturating_add(1);
            }
            *first = (*first).min(*number);
            *last = (*last).max(*number);
            if writing.shown_first.is_some_and(|shown| shown < added) {
                verdict.from_before_joining = verdict.from_before_joining.saturating_add(1);
            }
        }
        let missing = self
            .writings
            .iter()
            .enumerate()
            .filter(|(number, writing)| {
                let known = self
                    .views
                    .get(writing.by)
                    .and_then(|by| by.knows.get(device));
                let must = known.is_some_and(|since| *since > 0 && *since < writing.begun);
                let begun = of.get(&writing.by).is_some_and(|(first, _)| first < number);
                writing.by != device && (must || begun) && !seen.contains(number)
            });
        verdict.lost = verdict.lost.saturating_add(missing.count());
    }
}

#[cfg(test)]
mod tests {
    use entente_sdk::refusal::{Refusal, RefusalCode};

    use super::*;

    /// Three devices; 0 and 1 are there from the beginning and write two messages each, 2 joins between the first and the second.
    fn good() -> State {
        let mut state = State {
            views: vec![
                View {
                    knows: vec![0; 3],
                    ..View::default()
                };
                3
            ],
            ..State::default()
        };
        let write = |state: &mut State, by: usize| {
            let begun = state.next();
            state.writings.push(Writing {
                by,
                begun,
                shown_first: None,
            });
        };
        for device in [0, 1] {
            let moment = state.next();
            state.views[device].added = Some((moment, 0));
        }
        for device in [0, 1] {
            let moment = state.next();
            state.joined(device, moment);
        }
        write(&mut state, 0);
        write(&mut state, 1);
        for (device, number) in [(0, 1), (1, 0)] {
            let moment = state.next();
            state.shown(device, number, moment);
        }
        let moment = state.next();
        state.views[2].added = Some((moment, 1));
        state.joined(2, moment + 1);
        state.moment += 2;
        for device in [0, 1] {
            let moment = state.next();
            state.knows(device, 2, moment);
        }
        write(&mut state, 0);
        write(&mut state, 1);
        for (device, number) in [(0, 3), (1, 2), (2, 2), (2, 3)] {
            let moment = state.next();
            state.shown(device, number, moment);
        }
        state
    }

    /// Goal: each kind of fault is noticed, and a good run has none. Method: spoil a good one in one place.
    #[test]
    fn faults_are_noticed() {
        let verdict = good().judge();
        assert!(verdict.holds() && good().is_drained(), "{verdict:?}");
        assert_eq!(
            (verdict.joined, verdict.joined_late, verdict.shown),
            (3, 1, 6)
        );

        let mut lost = good();
        lost.views[2].shown.pop();
        assert_eq!(lost.judge().lost, 1);
        assert!(!lost.is_drained());
        let mut gap = good();
        gap.views[0].shown.remove(0);
        assert_eq!(gap.judge().lost, 1, "his first one");
        let mut absent = good();
        absent.views[2].joined = false;
        assert_eq!(absent.judge().lost, 1);

        let mut twice = good();
        twice.views[1].shown.push(0);
        assert_eq!(twice.judge().duplicated, 1);
        let mut turned = good();
        turned.views[0].shown.swap(0, 1);
        assert_eq!(turned.judge().out_of_order, 1);
        let mut early = good();
        early.views[2].shown.insert(0, 0);
        assert_eq!(early.judge().from_before_joining, 1);
        for bad in [lost, gap, absent, twice, turned, early] {
            assert!(!bad.judge().holds());
        }
    }

    /// Goal: what a writer wrote before it knew of a newcomer the newcomer may be shown or not, but from the first on all. Method: a
    /// message whose writer did not know yet, shown and not.
    #[test]
    fn newcomers_see_all_or_what_follows() {
        let mut open = good();
        open.views[0].knows[2] = open.writings[2].begun + 1;
        open.views[2].shown.retain(|number| *number != 2);
        assert!(open.judge().holds());
        open.views[2].shown.insert(0, 0);
        open.writings[0].shown_first = None;
        assert_eq!(open.judge().lost, 1);
    }

    /// Goal: what devices tell is counted, with an example, and each kind of it fails the run. Method: one of each kind.
    #[test]
    fn what_is_told() {
        let room = entente_sdk::ids::RoomId::from_bytes([1; 16]);
        let message = entente_sdk::MessageId::from_bytes([2; 16]);
        let refusal = || Refusal::new(RefusalCode::Expired, "too late");
        type Count = fn(&Verdict) -> usize;
        let counts: [(Event, Count); 4] = [
            (Event::RoomForked { room, epoch: 3 }, |v| v.told_forked),
            (
                Event::RoomOutOfStep {
                    room,
                    reason: String::new(),
                    by: None,
                },
                |v| v.told_out_of_step,
            ),
            (
                Event::Unreadable {
                    room,
                    reason: String::new(),
                },
                |v| v.told_unreadable,
            ),
            (
                Event::Refused {
                    message,
                    refusal: refusal(),
                },
                |v| v.told_not_sent,
            ),
        ];
        for (event, count) in counts {
            let mut state = good();
            state.told(1, &event);
            state.told(1, &Event::RoomLeft { room });
            let verdict = state.judge();
            assert_eq!(count(&verdict), 1, "{event:?}");
            assert!(verdict.example.as_ref().unwrap().contains("device 1"));
            assert!(!verdict.holds(), "{event:?}");
        }
    }
}
