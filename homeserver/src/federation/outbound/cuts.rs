//! When what is under way with a peer is cut: once for each time that its agreement ceases to be in force.
//!
//! Two see that: the task that watches all agreements, which no peer can hold up, and the peer's own, which
//! may be waiting for an answer. Whoever comes first cuts. What the peer's own task sends afterwards tells
//! the peer why, and must not be cut by whoever comes second.

use std::sync::{Mutex, PoisonError};

use homeserver_api::admin::PeerState;

/// As what a peer was cut last.
#[derive(Default)]
pub(super) struct Cuts(Mutex<Option<Option<PeerState>>>);

impl Cuts {
    /// Calls `cut` when the agreement, as `look` finds it, is not in force, and that is news.
    pub(super) fn look(&self, look: impl FnOnce() -> Option<PeerState>, cut: impl FnOnce()) {
        // Held meanwhile: nobody may take the peer for cut before it is, nor bring an older state.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let agreed = look();
        if agreed == Some(PeerState::Active) {
            *last = None;
        } else if last.replace(agreed) != Some(agreed) {
            cut();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each end of an agreement cuts once, whoever sees it how often, and a later one again; by a
    /// walk through states.
    #[test]
    fn each_end_cuts_once() {
        let cuts = Cuts::default();
        let is_cut = |agreed| {
            let mut is_cut = false;
            cuts.look(|| agreed, || is_cut = true);
            is_cut
        };
        let (active, paused) = (Some(PeerState::Active), Some(PeerState::Suspended));
        let revoked = Some(PeerState::Revoked);
        let walk = [
            (active, false),
            (paused, true),
            (paused, false),
            (revoked, true),
            (revoked, false),
            (active, false),
            (revoked, true),
        ];
        for (agreed, expected) in walk {
            assert_eq!(is_cut(agreed), expected, "{agreed:?}");
        }
    }
}
