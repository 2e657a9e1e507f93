//! Agreements as policy sees them: where each stands and what both sides' statements together allow.

use homeserver_api::admin::{Grant, Operation};
pub use homeserver_api::policy::Direction;

/// Where an agreement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not both have signed yet.
    Incomplete,
    /// Both signed; traffic flows until the last day.
    Active,
    /// One side paused it.
    Suspended,
    /// Past its last day.
    Expired,
    /// Ended by one side.
    Revoked,
}

/// What both sides' statements together allow on one link, in terms of our own user types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    /// Where it stands.
    pub standing: Standing,
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
    /// Highest classification label of a message on this link.
    pub label_max: u8,
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
