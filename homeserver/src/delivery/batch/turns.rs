//! Whose turn it is to change a room: what items of the batch take counts with what is durable, and for good with the part.

use super::Batch;
use crate::rooms::pace::Turn;

impl Batch<'_> {
    /// How long this turn has to wait.
    pub(crate) fn turn_waits_ms(&self, turn: &Turn) -> u64 {
        let before = self.turns.iter().filter(|taken| *taken == turn).count();
        self.node.paces.wait_ms(turn, before, self.now_ms)
    }

    /// Takes a turn. Ask [`Batch::turn_waits_ms`] before.
    pub(crate) fn take_turn(&mut self, turn: Turn) {
        self.turns.push(turn);
    }
}
