//! Peers that the handshake refused: in the log each time, in the audit log within bounds.
//!
//! A stranger can knock as often as it likes; it must not fill the store by that.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use federation_proto::ids::ServerName;

use crate::audit::{self, Actor, Event};
use crate::node::Node;
use crate::store::Part;
use crate::tls::PeerRefusal;

/// One audit entry for each claimed name in this time; the next one tells how many were left out.
const QUIET_MS: u64 = 60 * 1000;
/// Names that are told apart; all further ones share one entry.
const NAMES_MAX: usize = 256;

/// When each claimed name was last audited, and how often it was refused since.
#[derive(Default)]
pub(super) struct Refusals {
    noted: Mutex<HashMap<Option<ServerName>, Noted>>,
}

#[derive(Clone, Copy, Default)]
struct Noted {
    at_ms: u64,
    left_out: u64,
}

impl Refusals {
    /// Takes note of a refused handshake.
    pub(super) async fn note(&self, node: &Node, refusal: &PeerRefusal, remote: SocketAddr) {
        tracing::warn!(%remote, reason = %refusal, "peer refused");
        let now_ms = node.clock.now_ms();
        let Some(left_out) = self.due(refusal.claimed(), now_ms) else {
            return;
        };
        let more = match left_out {
            0 => String::new(),
            count => format!(" ({count} more since the last entry)"),
        };
        let event = Event {
            at_ms: now_ms,
            actor: Actor::System,
            action: "peer.refused",
            subject: refusal
                .claimed()
                .map_or_else(|| "unnamed".to_owned(), ToString::to_string),
            detail: format!("from {remote}: {refusal}{more}"),
        };
        let mut part = Part::default();
        audit::record(&mut part, &event);
        if let Err(error) = node.store.commit(part).await {
            tracing::error!(%error, "a refusal could not be audited");
        }
    }

    /// How many refusals were left out since the last entry, when one is due now.
    fn due(&self, claimed: Option<&ServerName>, now_ms: u64) -> Option<u64> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted
            .retain(|_, noted| noted.left_out > 0 || now_ms < noted.at_ms.saturating_add(QUIET_MS));
        let mut key = claimed.cloned();
        if noted.len() >= NAMES_MAX && !noted.contains_key(&key) {
            key = None;
        }
        match noted.get_mut(&key) {
            Some(known) if now_ms < known.at_ms.saturating_add(QUIET_MS) => {
                known.left_out += 1;
                None
            }
            Some(known) => {
                let left_out = known.left_out;
                *known = Noted {
                    at_ms: now_ms,
                    left_out: 0,
                };
                Some(left_out)
            }
            None => {
                let first = Noted {
                    at_ms: now_ms,
                    left_out: 0,
                };
                noted.insert(key, first);
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a stranger that knocks without end gets one entry a minute, and the count is not lost;
    /// strangers under ever new names share one; by knocking.
    #[test]
    fn knocking_does_not_fill_the_audit_log() {
        let refusals = Refusals::default();
        let name: ServerName = "c.example".parse().unwrap();
        assert_eq!(refusals.due(Some(&name), 0), Some(0));
        for at_ms in 1..100 {
            assert_eq!(refusals.due(Some(&name), at_ms), None);
        }
        assert_eq!(refusals.due(None, 100), Some(0), "another claim");
        assert_eq!(refusals.due(Some(&name), QUIET_MS), Some(99));

        let entries = (0..10_000).filter(|number| {
            let name = format!("s{number}.example").parse().unwrap();
            refusals.due(Some(&name), QUIET_MS + 1).is_some()
        });
        assert!(entries.count() <= NAMES_MAX);
    }
}
