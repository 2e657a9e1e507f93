//! `[limits]`: what one homeserver bears.

use std::time::Duration;

use super::settings::{Section, number};

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;
/// Less than this for the messages that wait for one device would not let the largest commits and welcomes pass beside
/// them.
pub const INBOX_BYTES_LEAST: u64 = 64 * MIB;
/// No bound of bytes may be larger.
const BYTES_LIMIT: u64 = i64::MAX.unsigned_abs();

/// Bounds of connections and their first steps, and of what waits and lies here.
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
    /// Most messages that wait for one device.
    pub inbox_messages_max: u64,
    /// Most bytes of messages that wait for one device.
    pub inbox_bytes_max: u64,
    /// Most messages and requests of one account that wait for other organisations.
    pub account_outbox_messages_max: u64,
    /// Most bytes of them.
    pub account_outbox_bytes_max: u64,
    /// Most bytes of files that one account has here.
    pub account_file_bytes_max: u64,
    /// Most bytes of copies of one peer's files.
    pub peer_file_bytes_max: u64,
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
            peer_outbox_bytes_max: 4 * GIB,
            inbox_messages_max: 50_000,
            inbox_bytes_max: 128 * MIB,
            // A quarter of what may wait for one peer: others find room beside any account.
            account_outbox_messages_max: 100_000,
            account_outbox_bytes_max: GIB,
            account_file_bytes_max: 10 * GIB,
            peer_file_bytes_max: 10 * GIB,
            // The commit log and the index take some 400 MB between them while they are tidied up.
            disk_free_bytes_min: 512 * MIB,
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
        let amount = |section: &mut Section<'_>, key, least, default| {
            let amount = section.optional(key, number(least, BYTES_LIMIT));
            amount.unwrap_or(default)
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
            peer_outbox_bytes_max: amount(
                section,
                "peer_outbox_bytes_max",
                1,
                default.peer_outbox_bytes_max,
            ),
            inbox_messages_max: amount(
                section,
                "inbox_messages_max",
                1000,
                default.inbox_messages_max,
            ),
            inbox_bytes_max: amount(
                section,
                "inbox_bytes_max",
                INBOX_BYTES_LEAST,
                default.inbox_bytes_max,
            ),
            account_outbox_messages_max: amount(
                section,
                "account_outbox_messages_max",
                1,
                default.account_outbox_messages_max,
            ),
            account_outbox_bytes_max: amount(
                section,
                "account_outbox_bytes_max",
                1,
                default.account_outbox_bytes_max,
            ),
            account_file_bytes_max: amount(
                section,
                "account_file_bytes_max",
                0,
                default.account_file_bytes_max,
            ),
            peer_file_bytes_max: amount(
                section,
                "peer_file_bytes_max",
                0,
                default.peer_file_bytes_max,
            ),
            disk_free_bytes_min: amount(
                section,
                "disk_free_bytes_min",
                0,
                default.disk_free_bytes_min,
            ),
            handshake_time_max: seconds(
                section,
                "handshake_seconds_max",
                default.handshake_time_max,
            ),
            head_time_max: seconds(section, "head_seconds_max", default.head_time_max),
        }
    }
}
