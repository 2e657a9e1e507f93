//! How often somebody who has not signed in may ask: a bucket of tokens for each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use homeserver_api::problem::Problem;

use super::error::ApiError;

/// Requests in a burst, and then per second.
const BURST: u64 = 200;
const PER_SECOND: u64 = 50;
/// Most addresses remembered; full buckets are forgotten first.
const ADDRESSES_MAX: usize = 10_000;
/// Tokens are counted in thousandths.
const TOKEN: u64 = 1_000;

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: u64,
    at_ms: u64,
}

impl Bucket {
    fn refill(&mut self, now_ms: u64) {
        let gained = now_ms.saturating_sub(self.at_ms).saturating_mul(PER_SECOND);
        self.tokens = self.tokens.saturating_add(gained).min(BURST * TOKEN);
        self.at_ms = now_ms.max(self.at_ms);
    }
}

/// The buckets.
#[derive(Debug, Default)]
pub(super) struct RateLimit {
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

impl RateLimit {
    /// Takes a token of this address, or refuses. No address: a local caller.
    pub(super) fn take(&self, address: Option<IpAddr>, now_ms: u64) -> Result<(), ApiError> {
        let Some(address) = address else {
            return Ok(());
        };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= ADDRESSES_MAX {
            buckets.retain(|_, bucket| {
                bucket.refill(now_ms);
                bucket.tokens < BURST * TOKEN
            });
        }
        if buckets.len() >= ADDRESSES_MAX {
            buckets.clear();
        }
        let bucket = buckets.entry(network(address)).or_insert(Bucket {
            tokens: BURST * TOKEN,
            at_ms: now_ms,
        });
        bucket.refill(now_ms);
        match bucket.tokens.checked_sub(TOKEN) {
            Some(left) => {
                bucket.tokens = left;
                Ok(())
            }
            None => Err(ApiError::retry(
                Problem::new(
                    429,
                    "rate-limited",
                    "too many requests",
                    "wait a second between requests from this address",
                ),
                1,
            )),
        }
    }
}

/// Whoever has one IPv6 address has its whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a burst passes, the next request is refused, and time lets it pass; others are not
    /// touched, but a neighbour in the same /64 is.
    #[test]
    fn buckets() {
        let limit = RateLimit::default();
        let one: Option<IpAddr> = Some("2001:db8::1".parse().unwrap());
        let neighbour = Some("2001:db8::2".parse().unwrap());
        let other = Some("2001:db8:0:1::1".parse().unwrap());
        for _ in 0..BURST {
            limit.take(one, 0).unwrap();
        }
        assert!(limit.take(one, 0).is_err());
        assert!(limit.take(neighbour, 0).is_err());
        limit.take(other, 0).unwrap();
        limit.take(one, 1000 / PER_SECOND).unwrap();
        assert!(limit.take(one, 1000 / PER_SECOND).is_err());
    }
}
