//! How much of the DNS's answers is believed worth looking at, and for how long.

use std::time::Duration;

/// Most SRV records in an answer; an answer with more is refused, for no organisation has so many.
pub(super) const SERVICE_RECORDS_MAX: usize = 32;
/// Most targets of SRV records whose addresses are looked up, after the choice by priority and weight.
pub(super) const TARGETS_MAX: usize = 8;
/// Most address records of one family in an answer; an answer with more is refused.
pub(super) const ADDRESS_RECORDS_MAX: usize = 64;
/// Most addresses tried of one target, both families together.
pub(super) const ADDRESSES_PER_TARGET_MAX: usize = 4;
/// Most addresses tried of one peer.
pub(super) const ADDRESSES_MAX: usize = 16;
/// Most aliases (CNAME) in a row.
pub(super) const ALIAS_CHAIN_MAX: usize = 8;
/// Longest name that is looked up.
pub(super) const NAME_BYTES_MAX: usize = 253;
/// Most peers whose answer is kept.
pub(super) const CACHED_PEERS_MAX: usize = 1024;

/// An answer is kept for its records' time to live, but at least this long
pub(super) const POSITIVE_TTL_MIN_MS: u64 = 5_000;
/// and at most this long.
pub(super) const POSITIVE_TTL_MAX_MS: u64 = 3_600_000;
/// What `localhost` means stays so.
pub(super) const LOOPBACK_TTL_SECONDS: u32 = 3_600;
/// A failure is kept this long: a waiting link probes every 2 s, and the DNS need not hear of each.
pub(super) const NEGATIVE_TTL_MS: u64 = 5_000;

/// Longest wait for one server's answer to one question,
pub(super) const QUESTION_TIME_MAX: Duration = Duration::from_secs(2);
/// how often a question is asked again,
pub(super) const QUESTION_REPEATS_MAX: usize = 1;
/// how often an answer is asked for again that could not be validated because another one did not come,
pub(super) const VALIDATION_REPEATS_MAX: usize = 1;
/// and longest time for everything that finding one peer takes.
pub(super) const DISCOVERY_TIME_MAX: Duration = Duration::from_secs(10);

/// The next address is tried this long after the last one (RFC 8305, section 5).
pub(super) const ATTEMPT_STAGGER: Duration = Duration::from_millis(250);

const _: () = assert!(TARGETS_MAX <= SERVICE_RECORDS_MAX);
const _: () = assert!(ADDRESSES_PER_TARGET_MAX <= ADDRESSES_MAX);
const _: () = assert!(ADDRESSES_PER_TARGET_MAX <= ADDRESS_RECORDS_MAX);
const _: () = assert!(POSITIVE_TTL_MIN_MS <= POSITIVE_TTL_MAX_MS);
const _: () = assert!(QUESTION_TIME_MAX.as_millis() < DISCOVERY_TIME_MAX.as_millis());
