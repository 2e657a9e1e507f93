//! One direction of one connection: what goes in, what a fault makes of it, and when it comes out.

use std::collections::VecDeque;
use std::time::Duration;

use crate::fault::Fault;

/// What is held back for later at most; beyond it nothing more is read.
const HELD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a narrow line holds back at most: more would be a buffer that hides how narrow it is.
const NARROW_BYTES_MAX: usize = 64 * 1024;
const SECOND_NANOS: u64 = 1_000_000_000;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Write these bytes on.
    Write(Vec<u8>),
    /// Nothing to write before this moment, or before more comes in (`None`).
    Wait(Option<Duration>),
    /// Say that this direction has ended; whatever comes is thrown away.
    HalfClose,
    /// End the connection, both directions.
    Close,
}

/// The state of one direction. Moments are durations since any fixed moment.
#[derive(Debug, Default)]
pub struct Line {
    fault: Fault,
    /// Bytes taken in since the fault was set.
    taken: u64,
    held: VecDeque<(Duration, Vec<u8>)>,
    held_bytes: usize,
    /// When a narrow line has written all that was taken in.
    free_at: Duration,
    end: End,
}

/// How far the end has come.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    /// After what is held, this direction ends.
    Half,
    /// After what is held, everything ends.
    Whole,
    /// It has been said.
    Said,
}

impl Line {
    /// From now on this happens to what comes in. What is held already leaves as it would have.
    pub fn set(&mut self, fault: Fault) {
        if self.fault != fault {
            self.fault = fault;
            self.taken = 0;
            self.ends_now(0);
        }
    }

    /// Whether to read more.
    #[must_use]
    pub fn wants_more(&self) -> bool {
        let most = match self.fault {
            Fault::Stall => 0,
            Fault::Rate(_) => NARROW_BYTES_MAX,
            _ => HELD_BYTES_MAX,
        };
        self.held_bytes < most && self.end != End::Whole
    }

    /// Takes bytes in.
    pub fn take(&mut self, mut bytes: Vec<u8>, now: Duration) {
        if self.end != End::Open {
            return;
        }
        let before = self.taken;
        self.taken = before.saturating_add(length(&bytes));
        match self.fault {
            // What was read before the stall was set passes.
            Fault::Pass | Fault::Stall => self.hold(now, bytes),
            Fault::Delay(delay) => self.hold(now.saturating_add(delay), bytes),
            Fault::Rate(per_second) => {
                let nanos = length(&bytes).saturating_mul(SECOND_NANOS) / per_second.max(1);
                let begun = self.free_at.max(now);
                self.free_at = begun.saturating_add(Duration::from_nanos(nanos));
                self.hold(self.free_at, bytes);
            }
            Fault::Truncate(after) | Fault::HalfClose(after) => {
                let left = usize::try_from(after.saturating_sub(before)).unwrap_or(usize::MAX);
                bytes.truncate(left);
                self.hold(now, bytes);
                self.ends_now(self.taken);
            }
            Fault::Reorder => {
                let second = bytes.split_off(bytes.len() / 2);
                self.hold(now, second);
                self.hold(now, bytes);
            }
            Fault::Duplicate => {
                self.hold(now, bytes.clone());
                self.hold(now, bytes);
            }
            Fault::Garbage(after) => {
                let left = usize::try_from(after.saturating_sub(before)).unwrap_or(usize::MAX);
                for (place, byte) in bytes.iter_mut().enumerate().skip(left) {
                    *byte = noise(before.saturating_add(u64::try_from(place).unwrap_or(u64::MAX)));
                }
                self.hold(now, bytes);
            }
        }
    }

    /// The sender has ended this direction.
    pub fn ended(&mut self) {
        if self.end == End::Open {
            self.end = End::Half;
        }
    }

    /// What to do at this moment.
    pub fn next(&mut self, now: Duration) -> Next {
        match self.held.front() {
            Some((due, _)) if *due > now => Next::Wait(Some(*due)),
            Some(_) => {
                let (_, bytes) = self.held.pop_front().unwrap_or_default();
                self.held_bytes = self.held_bytes.saturating_sub(bytes.len());
                Next::Write(bytes)
            }
            None => match std::mem::replace(&mut self.end, End::Said) {
                End::Open => {
                    self.end = End::Open;
                    Next::Wait(None)
                }
                End::Half => Next::HalfClose,
                End::Whole => Next::Close,
                End::Said => Next::Wait(None),
            },
        }
    }

    fn hold(&mut self, due: Duration, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        // A delay that was shortened must not let what is later overtake.
        let due = self.held.back().map_or(due, |(before, _)| due.max(*before));
        self.held_bytes = self.held_bytes.saturating_add(bytes.len());
        self.held.push_back((due, bytes));
    }

    /// Ends what ends after this many bytes.
    fn ends_now(&mut self, taken: u64) {
        match self.fault {
            Fault::Truncate(after) if taken >= after && self.end != End::Said => {
                self.end = End::Whole;
            }
            Fault::HalfClose(after) if taken >= after && self.end == End::Open => {
                self.end = End::Half;
            }
            _ => {}
        }
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// A byte that has nothing to do with what was there (SplitMix64 of its place).
fn noise(place: u64) -> u8 {
    let mut z = place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let [byte, ..] = (z ^ (z >> 31)).to_be_bytes();
    byte
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T0: Duration = Duration::from_secs(100);

    fn at(ms: u64) -> Duration {
        T0 + Duration::from_millis(ms)
    }

    fn line(fault: Fault) -> Line {
        let mut line = Line::default();
        line.set(fault);
        line
    }

    /// All that leaves at `now`, and what is to be done then.
    fn drain(line: &mut Line, now: Duration) -> (Vec<u8>, Next) {
        let mut out = Vec::new();
        loop {
            match line.next(now) {
                Next::Write(bytes) => out.extend(bytes),
                other => return (out, other),
            }
        }
    }

    /// Goal: a delay moves everything by its length, in order, also when it is shortened meanwhile. Method: two
    /// pieces, the second under a shorter delay.
    #[test]
    fn delayed_bytes_keep_their_order() {
        let mut line = line(Fault::Delay(Duration::from_millis(200)));
        line.take(b"first".to_vec(), at(0));
        line.set(Fault::Delay(Duration::from_millis(10)));
        line.take(b"second".to_vec(), at(50));
        assert_eq!(
            drain(&mut line, at(199)),
            (vec![], Next::Wait(Some(at(200))))
        );
        assert_eq!(
            drain(&mut line, at(200)),
            (b"firstsecond".to_vec(), Next::Wait(None))
        );
    }

    /// Goal: a narrow line writes so many bytes a second and no more, in order, after a rest too, and reads no more than a
    /// little ahead. Method: pieces at once and later, and more than the bound.
    #[test]
    fn a_narrow_line_has_its_rate() {
        let mut line = line(Fault::Rate(1_000));
        line.take(vec![1; 100], at(0));
        line.take(vec![2; 200], at(0));
        assert_eq!(line.next(at(99)), Next::Wait(Some(at(100))));
        assert_eq!(line.next(at(100)), Next::Write(vec![1; 100]));
        assert_eq!(line.next(at(299)), Next::Wait(Some(at(300))));
        assert_eq!(line.next(at(300)), Next::Write(vec![2; 200]));
        line.take(vec![3; 50], at(1_000));
        assert_eq!(line.next(at(1_049)), Next::Wait(Some(at(1_050))));
        assert_eq!(line.next(at(1_050)), Next::Write(vec![3; 50]));
        let mut taken = 0;
        while line.wants_more() {
            line.take(vec![0; 16 * 1024], at(1_050));
            taken += 16 * 1024;
        }
        assert_eq!(taken, NARROW_BYTES_MAX);
    }

    /// Goal: a stalled line reads nothing and loses nothing, and goes on when it is released. Method: set and unset.
    #[test]
    fn a_stall_stops_reading() {
        let mut line = line(Fault::Stall);
        assert!(!line.wants_more());
        assert_eq!(line.next(at(0)), Next::Wait(None));
        line.set(Fault::Pass);
        assert!(line.wants_more());
    }

    /// Goal: exactly so many bytes pass before the end, counted from when the fault was set; then everything ends, or
    /// this direction alone. Method: pieces across the border, and a border at once.
    #[test]
    fn ends_come_after_so_many_bytes() {
        for (fault, end) in [
            (Fault::Truncate(5), Next::Close),
            (Fault::HalfClose(5), Next::HalfClose),
        ] {
            let mut line = line(Fault::Pass);
            line.take(b"before".to_vec(), at(0));
            line.set(fault);
            line.take(b"abc".to_vec(), at(1));
            assert_eq!(
                drain(&mut line, at(1)),
                (b"beforeabc".to_vec(), Next::Wait(None))
            );
            line.take(b"defgh".to_vec(), at(2));
            line.take(b"never".to_vec(), at(2));
            assert_eq!(drain(&mut line, at(2)), (b"de".to_vec(), end));
            assert_eq!(line.next(at(3)), Next::Wait(None));
        }
        assert_eq!(line(Fault::Truncate(0)).next(at(0)), Next::Close);
        assert_eq!(line(Fault::HalfClose(0)).next(at(0)), Next::HalfClose);
    }

    /// Goal: the end of a stream reaches the other side after what is held back. Method: a delay.
    #[test]
    fn the_end_comes_last() {
        let mut line = line(Fault::Delay(Duration::from_millis(10)));
        line.take(b"last words".to_vec(), at(0));
        line.ended();
        assert_eq!(line.next(at(5)), Next::Wait(Some(at(10))));
        assert_eq!(
            drain(&mut line, at(10)),
            (b"last words".to_vec(), Next::HalfClose)
        );
    }

    /// Goal: turned, doubled and spoilt bytes are so, and the same each time. Method: one piece each.
    #[test]
    fn pieces_are_spoilt() {
        let through = |fault: Fault, piece: &[u8]| {
            let mut line = line(fault);
            line.take(piece.to_vec(), at(0));
            drain(&mut line, at(0)).0
        };
        assert_eq!(through(Fault::Reorder, b"abcde"), b"cdeab");
        assert_eq!(through(Fault::Duplicate, b"ab"), b"abab");
        let spoilt = through(Fault::Garbage(2), &[0; 64]);
        assert_eq!((spoilt.len(), &spoilt[..2]), (64, &[0, 0][..]));
        assert!(spoilt[2..].iter().filter(|byte| **byte == 0).count() < 8);
        assert_eq!(spoilt, through(Fault::Garbage(2), &[0; 64]));
    }

    /// Goal: what is held for later is bounded. Method: a long delay and more than the bound.
    #[test]
    fn what_is_held_is_bounded() {
        let mut line = line(Fault::Delay(Duration::from_secs(60)));
        while line.wants_more() {
            line.take(vec![0; 64 * 1024], at(0));
        }
        assert!(line.held_bytes <= HELD_BYTES_MAX + 64 * 1024);
        drain(&mut line, at(60_000));
        assert!(line.wants_more() && line.held_bytes == 0);
    }

    proptest! {
        /// Goal: without a fault, or with only a delay, every byte passes once and in order, however the
        /// pieces fall and the delay changes. Method: random pieces and delays.
        #[test]
        fn nothing_is_lost_without_a_fault(
            pieces in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..50), 0_u64..300), 0..20)
        ) {
            let mut line = Line::default();
            let mut expected = Vec::new();
            for (step, (piece, delay)) in (0_u64..).zip(&pieces) {
                line.set(if *delay < 100 { Fault::Pass } else { Fault::Delay(Duration::from_millis(*delay)) });
                line.take(piece.clone(), at(step));
                expected.extend(piece);
            }
            line.ended();
            prop_assert_eq!(drain(&mut line, at(100_000)), (expected, Next::HalfClose));
        }
    }
}
