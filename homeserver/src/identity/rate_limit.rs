//! How often somebody who has not signed in may ask: a bucket of tokens for each address.
//!
//! Each API has its own buckets: what one is asked is not missing for the other.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

/// Most addresses remembered; full buckets are forgotten first.
const ADDRESSES_MAX: usize = 10_000;
/// Tokens are counted in thousandths.
const TOKEN: u64 = 1_000;

/// Where a request came from; an extension of every request that came over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote(pub SocketAddr);

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: u64,
    at_ms: u64,
}

/// The buckets.
#[derive(Debug)]
pub struct RateLimit {
    burst: u64,
    per_second: u64,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

impl RateLimit {
    /// Lets each address ask `burst` times, and then so many times per second.
    pub fn new(burst: u64, per_second: u64) -> Self {
        Self {
            burst,
            per_second,
            buckets: Mutex::default(),
        }
    }

    /// Takes a token of this address; `false`: it has none left for now. No address: a local caller.
    pub fn take(&self, remote: Option<Remote>, now_ms: u64) -> bool {
        let Some(Remote(address)) = remote else {
            return true;
        };
        let full = self.burst.saturating_mul(TOKEN);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= ADDRESSES_MAX {
            buckets.retain(|_, bucket| {
                self.refill(bucket, now_ms);
                bucket.tokens < full
            });
        }
        if buckets.len() >= ADDRESSES_MAX {
            buckets.clear();
        }
        let bucket = buckets.entry(network(address.ip())).or_insert(Bucket {
            tokens: full,
            at_ms: now_ms,
        });
        self.refill(bucket, now_ms);
        match bucket.tokens.checked_sub(TOKEN) {
            Some(left) => {
                bucket.tokens = left;
                true
            }
            None => false,
        }
    }

    fn refill(&self, bucket: &mut Bucket, now_ms: u64) {
        let elapsed_ms = now_ms.saturating_sub(bucket.at_ms);
        let gained = elapsed_ms.saturating_mul(self.per_second);
        let full = self.burst.saturating_mul(TOKEN);
        bucket.tokens = bucket.tokens.saturating_add(gained).min(full);
        bucket.at_ms = now_ms.max(bucket.at_ms);
    }
}

/// Whose address it is: whoever has one IPv6 address has its whole /64.
pub fn network(address: IpAddr) -> IpAddr {
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
        let limit = RateLimit::new(200, 50);
        let remote = |text: &str| Some(Remote(text.parse().unwrap()));
        let one = remote("[2001:db8::1]:1");
        let neighbour = remote("[2001:db8::2]:2");
        let other = remote("[2001:db8:0:1::1]:1");
        for _ in 0..200 {
            assert!(limit.take(one, 0));
        }
        assert!(!limit.take(one, 0));
        assert!(!limit.take(neighbour, 0));
        assert!(limit.take(other, 0));
        assert!(limit.take(one, 1000 / 50));
        assert!(!limit.take(one, 1000 / 50));
        assert!(limit.take(None, 0), "a local caller");
    }
}
