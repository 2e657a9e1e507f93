//! `[limits]`: what one homeserver bears.

use std::time::Duration;

use super::settings::{Section, number};

/// Bounds of connections and their first steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Most open connections on the client listener.
    pub client_connections_max: usize,
    /// Most open connections on the federation listener.
    pub federation_connections_max: usize,
    /// Most envelopes that one peer may send in a second, on average.
    pub peer_envelopes_per_second_max: u64,
    /// Most refused envelopes that one peer may send in a second, on average, before it has to wait.
    pub peer_refusals_per_second_max: u64,
    /// Most bytes that may wait here for one peer, however much it lets wait.
    pub peer_outbox_bytes_max: u64,
    /// Bytes of the store's disk that are kept back for reading, acknowledging and deleting.
    pub disk_free_bytes_min: u64,
    /// How long a TLS handshake may take.
    pub handshake_time_max: Duration,
    /// How long a request's head may take to arrive.
    pub head_time_max: Duration,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            client_connections_max: 20_000,
            federation_connections_max: 1_024,
            // As much as a pair of servers was measured to exchange when they do nothing else.
            peer_envelopes_per_second_max: 20_000,
            peer_refusals_per_second_max: 100,
            peer_outbox_bytes_max: 4 * 1024 * 1024 * 1024,
            // The commit log and the index take some 400 MB between them while they are tidied up.
            disk_free_bytes_min: 512 * 1024 * 1024,
            handshake_time_max: Duration::from_secs(10),
            head_time_max: Duration::from_secs(10),
        }
    }
}

impl LimitsConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        let count = |section: &mut Section<'_>, key, default| {
            let number = section.optional(key, number(1, 1_000_000));
            number.map_or(default, |n| usize::try_from(n).unwrap_or(default))
        };
        let seconds = |section: &mut Section<'_>, key, default| {
            let number = section.optional(key, number(1, 600));
            number.map_or(default, Duration::from_secs)
        };
        Self {
            client_connections_max: count(
                section,
                "client_connections_max",
                default.client_connections_max,
            ),
            federation_connections_max: count(
                section,
                "federation_connections_max",
                default.federation_connections_max,
            ),
            peer_envelopes_per_second_max: section
                .optional("peer_envelopes_per_second_max", number(1, 1_000_000_000))
                .unwrap_or(default.peer_envelopes_per_second_max),
            peer_refusals_per_second_max: section
                .optional("peer_refusals_per_second_max", number(1, 1_000_000))
                .unwrap_or(default.peer_refusals_per_second_max),
            peer_outbox_bytes_max: section
                .optional("peer_outbox_bytes_max", number(1, i64::MAX.unsigned_abs()))
                .unwrap_or(default.peer_outbox_bytes_max),
            disk_free_bytes_min: section
                .optional("disk_free_bytes_min", number(0, i64::MAX.unsigned_abs()))
                .unwrap_or(default.disk_free_bytes_min),
            handshake_time_max: seconds(
                section,
                "handshake_seconds_max",
                default.handshake_time_max,
            ),
            head_time_max: seconds(section, "head_seconds_max", default.head_time_max),
        }
    }
}
