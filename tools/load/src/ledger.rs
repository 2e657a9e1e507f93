//! What one pair has sent and received: who is missing, who came twice.
//!
//! Most messages are replays of a pool made beforehand, so a message is known by its place in the
//! pool; every so often a fresh one carries its own number, which the receiver reads after
//! decrypting it. Between them the ledger knows which sending each arrival belongs to: normally
//! the oldest one in flight, since a room's messages keep their order.
//!
//! A replay can be mistaken only for one sent a whole pool earlier or later. Even then the totals of
//! lost and duplicated messages stay right; only which message it was is unknown.

use std::collections::VecDeque;

/// What an arriving message turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    /// This place in the pool.
    Replayed(u64),
    /// A fresh message that carries this number.
    Fresh(u64),
}

/// One sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sent {
    /// From 0, over the pair's life.
    number: u64,
    identity: Identity,
    intended_us: u64,
}

/// What an arrival means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Expected; sent when the number says.
    First { intended_us: u64 },
    /// It had arrived before, or was refused before.
    Duplicate,
}

/// The books of one pair.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    next_number: u64,
    in_flight: VecDeque<Sent>,
    /// Overtaken by a later one: out of order if they still come, lost if not.
    overtaken: Vec<Sent>,
    out_of_order: u64,
    duplicated: u64,
}

/// What went wrong between two settlements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Sent, never refused, never arrived.
    pub(crate) lost: u64,
    /// Arrived once more than sent.
    pub(crate) duplicated: u64,
    /// Arrived after one that was sent later.
    pub(crate) out_of_order: u64,
}

impl Ledger {
    /// The number that the next sending will have.
    pub(crate) const fn next_number(&self) -> u64 {
        self.next_number
    }

    /// How many were sent and have neither arrived nor been refused.
    pub(crate) fn missing(&self) -> usize {
        self.in_flight.len() + self.overtaken.len()
    }

    /// Notes a sending.
    pub(crate) fn sent(&mut self, identity: Identity, intended_us: u64) {
        self.in_flight.push_back(Sent {
            number: self.next_number,
            identity,
            intended_us,
        });
        self.next_number += 1;
    }

    /// Notes that sending `number` will never arrive: a server refused or returned it.
    pub(crate) fn refused(&mut self, number: u64) {
        self.in_flight.retain(|sent| sent.number != number);
        self.overtaken.retain(|sent| sent.number != number);
    }

    /// Closes the books: what is missing now is lost, and the counts start again.
    pub(crate) fn settle(&mut self) -> Faults {
        let faults = Faults {
            lost: u64::try_from(self.missing()).unwrap_or(u64::MAX),
            duplicated: self.duplicated,
            out_of_order: self.out_of_order,
        };
        *self = Self {
            next_number: self.next_number,
            ..Self::default()
        };
        faults
    }

    /// Notes an arrival.
    pub(crate) fn arrived(&mut self, identity: Identity) -> Arrival {
        if let Some(first) = self
            .in_flight
            .pop_front_if(|sent| sent.identity == identity)
        {
            return Arrival::First {
                intended_us: first.intended_us,
            };
        }
        if let Some(at) = position(self.overtaken.iter(), identity) {
            self.out_of_order += 1;
            let late = self.overtaken.swap_remove(at);
            return Arrival::First {
                intended_us: late.intended_us,
            };
        }
        if let Some(at) = position(self.in_flight.iter(), identity) {
            self.overtaken.extend(self.in_flight.drain(..at));
            if let Some(found) = self.in_flight.pop_front() {
                return Arrival::First {
                    intended_us: found.intended_us,
                };
            }
        }
        self.duplicated += 1;
        Arrival::Duplicate
    }
}

fn position<'a>(mut sent: impl Iterator<Item = &'a Sent>, identity: Identity) -> Option<usize> {
    sent.position(|sent| sent.identity == identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: u64 = 4;

    fn identity(number: u64) -> Identity {
        if number % 10 == 9 {
            Identity::Fresh(number)
        } else {
            Identity::Replayed(number % POOL)
        }
    }

    fn sent(count: u64) -> Ledger {
        let mut ledger = Ledger::default();
        for number in 0..count {
            ledger.sent(identity(number), number * 100);
        }
        ledger
    }

    /// Goal: in order and complete, every arrival finds its own send time; by 25 messages through a
    /// pool of four.
    #[test]
    fn in_order() {
        let mut ledger = sent(25);
        for number in 0..25 {
            let expected = Arrival::First {
                intended_us: number * 100,
            };
            assert_eq!(ledger.arrived(identity(number)), expected);
        }
        assert_eq!(
            (ledger.missing(), ledger.duplicated, ledger.out_of_order),
            (0, 0, 0)
        );
    }

    /// Goal: one lost message is one lost message, and does not disturb the others; by leaving
    /// number 6 out.
    #[test]
    fn one_lost() {
        let mut ledger = sent(25);
        for number in (0..25).filter(|number| *number != 6) {
            assert_ne!(ledger.arrived(identity(number)), Arrival::Duplicate);
        }
        let faults = ledger.settle();
        assert_eq!(
            (faults.lost, faults.duplicated, faults.out_of_order),
            (1, 0, 0)
        );
        assert_eq!(ledger.missing(), 0);
    }

    /// Goal: one duplicate counts once, whether or not the pool has come round meanwhile; by
    /// delivering number 3 twice, at every later place.
    #[test]
    fn one_duplicate() {
        for again_after in 3..24 {
            let mut ledger = sent(25);
            for number in 0..25 {
                ledger.arrived(identity(number));
                if number == again_after {
                    ledger.arrived(identity(3));
                }
            }
            assert_eq!(
                (ledger.missing(), ledger.duplicated),
                (0, 1),
                "{again_after}"
            );
        }
    }

    /// Goal: an overtaken message is out of order, neither lost nor duplicated; by swapping two.
    #[test]
    fn overtaken() {
        let mut ledger = sent(3);
        ledger.arrived(identity(1));
        assert_eq!(
            ledger.arrived(identity(0)),
            Arrival::First { intended_us: 0 }
        );
        ledger.arrived(identity(2));
        assert_eq!(
            (ledger.missing(), ledger.duplicated, ledger.out_of_order),
            (0, 0, 1)
        );
    }

    /// Goal: a refused message isn't waited for; by refusing one in flight.
    #[test]
    fn refused() {
        let mut ledger = sent(3);
        ledger.refused(1);
        for number in [0, 2] {
            assert_ne!(ledger.arrived(identity(number)), Arrival::Duplicate);
        }
        assert_eq!((ledger.missing(), ledger.duplicated), (0, 0));
    }
}
