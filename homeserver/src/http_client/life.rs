//! Whether anybody is there at the other end of a connection, by what arrives from it.
//!
//! HTTP/2 pings see to it that something does, but a ping waits behind what was sent before it: on a slow link behind
//! a whole body. So silence has its time, and as much more as what is under way may take.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use federation_proto::limits::BODY_BYTES_PER_SECOND_MIN;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// A connection from which nothing arrives for so long counts as dead: a ping is sent when it has been idle, and has
/// the rest for its answer. One with bodies under way has as much more as they have.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(25);

/// The signs of life of one connection.
pub(super) struct Life {
    begun: Instant,
    /// When something arrived last, in milliseconds since then.
    heard_ms: AtomicU64,
    /// Bytes of requests that are not answered yet.
    under_way: AtomicU64,
    /// Rings when they have become fewer: the end may be nearer.
    fewer: Notify,
}

impl Life {
    /// It lives now.
    pub(super) fn begin() -> Self {
        Self {
            begun: Instant::now(),
            heard_ms: AtomicU64::new(0),
            under_way: AtomicU64::new(0),
            fewer: Notify::new(),
        }
    }

    /// Something has arrived.
    pub(super) fn heard(&self) {
        let now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard_ms.store(now_ms, Ordering::Release);
    }

    /// So many bytes are under way until what is returned is dropped.
    pub(super) fn send(&self, bytes: usize) -> Sending<'_> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.under_way.fetch_add(bytes, Ordering::AcqRel);
        Sending { life: self, bytes }
    }

    /// Resolves when nobody is there any more.
    pub(super) async fn ends(&self) {
        loop {
            let end = self.end();
            if end <= Instant::now() {
                return;
            }
            tokio::select! {
                () = sleep_until(end) => {}
                () = self.fewer.notified() => {}
            }
        }
    }

    /// When it ends, should nothing more arrive.
    fn end(&self) -> Instant {
        let heard = Duration::from_millis(self.heard_ms.load(Ordering::Acquire));
        let under_way = self.under_way.load(Ordering::Acquire);
        let more = Duration::from_secs(under_way / BODY_BYTES_PER_SECOND_MIN);
        self.begun + heard + SILENCE_MAX + more
    }
}

/// A request under way.
pub(super) struct Sending<'a> {
    life: &'a Life,
    bytes: u64,
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.life.under_way.fetch_sub(self.bytes, Ordering::AcqRel);
        self.life.fewer.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Ends by itself so long from now.
    async fn ends_in(life: &Life, expected: Duration) {
        let now = Instant::now();
        life.ends().await;
        // Timers go by whole milliseconds.
        let off = now.elapsed().abs_diff(expected);
        assert!(off <= Duration::from_millis(2), "{off:?}");
    }

    /// Goal: silence ends a connection, and each sign of life puts that off; by the time until the end, with one.
    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_connection() {
        ends_in(&Life::begin(), SILENCE_MAX).await;
        let life = Life::begin();
        advance(20 * SECOND).await;
        life.heard();
        ends_in(&life, SILENCE_MAX).await;
    }

    /// Goal: bodies under way put the end off by what they may take, together, and no longer than they are under way.
    /// Method: two at once, of which one is answered; and one that is answered while the end is waited for.
    #[tokio::test(start_paused = true)]
    async fn bodies_take_their_time() {
        let life = Life::begin();
        let large = life.send(8 * 1024 * 1024);
        let small = life.send(1024 * 1024);
        let longest = SILENCE_MAX + (128 + 16) * SECOND;
        assert!(timeout(longest - SECOND, life.ends()).await.is_err());
        life.heard();
        drop(small);
        ends_in(&life, SILENCE_MAX + 128 * SECOND).await;

        life.heard();
        let ends = life.ends();
        tokio::pin!(ends);
        assert!(timeout(SECOND, ends.as_mut()).await.is_err());
        drop(large);
        // It is not slept through until the body's time would be over.
        assert!(timeout(SILENCE_MAX, ends).await.is_ok());
    }
}
