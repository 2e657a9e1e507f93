//! Agreements as policy sees them: where each stands and what both sides' statements together allow.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use federation_proto::ids::ServerName;
use homeserver_api::admin::{Grant, Operation};

/// Where an agreement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Both signed; traffic flows until the last day.
    Active,
    /// One side paused it.
    Suspended,
    /// Past its last day.
    Expired,
    /// Ended by one side.
    Revoked,
}

/// Which way an operation goes, seen from this homeserver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Our people towards theirs.
    Outbound,
    /// Their people towards ours.
    Inbound,
}

/// What both sides' statements together allow on one link, in terms of our own user types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    /// Where it stands.
    pub standing: Standing,
    /// Grows with every change of the agreement; see [`crate::store::agreement_serial`].
    pub serial: u64,
    /// Its last moment, milliseconds since the Unix epoch.
    pub expires_ms: u64,
    /// What our people may do towards theirs: operations that the partner lets in too.
    pub outbound: Vec<Grant>,
    /// What their people may do towards ours: operations that the partner lets out too.
    pub inbound: Vec<Grant>,
    /// Least time-to-live on this link.
    pub ttl_min_seconds: u32,
    /// Greatest time-to-live on this link.
    pub ttl_max_seconds: u32,
    /// Largest file on this link.
    pub file_bytes_max: u64,
}

impl Agreement {
    /// Whether `operation` is granted in `direction` for our user type (`None`: for any at all).
    pub fn grants(
        &self,
        direction: Direction,
        operation: Operation,
        user_type: Option<&str>,
    ) -> bool {
        let grants = match direction {
            Direction::Outbound => &self.outbound,
            Direction::Inbound => &self.inbound,
        };
        grants.iter().any(|grant| {
            let names = &grant.user_types;
            grant.operation == operation
                && (names.is_empty()
                    || user_type.is_none_or(|name| names.iter().any(|granted| granted == name)))
        })
    }
}

/// All agreements now: a snapshot that policy reads and `federation::peers` replaces after each
/// change. Every acceptance is bound to the serials it was judged by, so a snapshot that is behind
/// costs a retry and never a wrong decision.
#[derive(Default)]
pub struct Agreements {
    current: ArcSwap<HashMap<ServerName, Arc<Agreement>>>,
}

impl Agreements {
    /// Replaces all agreements.
    pub fn replace(&self, agreements: HashMap<ServerName, Arc<Agreement>>) {
        self.current.store(agreements.into());
    }

    /// The agreement with `server`, signed by both and perhaps suspended, expired or revoked since.
    pub fn get(&self, server: &ServerName) -> Option<Arc<Agreement>> {
        self.current.load().get(server).cloned()
    }

    /// Everyone with whom there is an agreement.
    pub fn servers(&self) -> Vec<ServerName> {
        self.current.load().keys().cloned().collect()
    }
}
