//! What the commit log takes, and when it gives on.

use std::time::Duration;

use super::record::{END_BYTES, HEAD_BYTES, RECORDS_AT};

/// Length of a segment. Its bytes are written before it is used, so that a sync in it writes no
/// metadata; one or two of them are what a small server pays in disk space.
const SEGMENT_BYTES: usize = 16 * 1024 * 1024;
/// A layer takes no further batch once it has this much.
const LAYER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Once this much is young the oldest goes to the index, whatever its age: so much memory is used.
const YOUNG_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Once this much is young the writer waits for the index. It is also what is replayed at opening, at
/// several hundred MB/s: with it a restart stays under a second.
const BACKLOG_BYTES_MAX: usize = 128 * 1024 * 1024;
/// What goes to the index at once. A sync of the index keeps the disk busy, and with it the log's next
/// one: for a millisecond or two, with so much.
const DRAIN_BYTES_MAX: usize = 1024 * 1024;
/// A layer takes no further batch once its first is this old.
const LAYER_TIME_MAX: Duration = Duration::from_secs(1);
/// How old a layer's last batch is when the layer goes to the index. Most messages are delivered and
/// acknowledged sooner, and never get there.
const YOUNG_TIME: Duration = Duration::from_secs(5);
/// How long a segment is written to, however little is in it. What was acknowledged is unreadable
/// within 15 minutes; see [`super::pool::Pool::overwrite_free`].
const SEGMENT_TIME_MAX: Duration = Duration::from_secs(4 * 60);
/// How often segments are looked after: ended when they are old, overwritten when they are free.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// Segments that are made ready once the one in use is half full: the writer waits for none.
const READY_SEGMENTS: usize = 2;

/// The bounds of one log; tests have smaller ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) segment_bytes: usize,
    pub(super) layer_bytes_max: usize,
    pub(super) young_bytes_max: usize,
    pub(super) backlog_bytes_max: usize,
    pub(super) drain_bytes_max: usize,
    pub(super) layer_time_max: Duration,
    pub(super) young_time: Duration,
    pub(super) segment_time_max: Duration,
    pub(super) tidy_every: Duration,
    pub(super) ready_segments: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES,
            layer_bytes_max: LAYER_BYTES_MAX,
            young_bytes_max: YOUNG_BYTES_MAX,
            backlog_bytes_max: BACKLOG_BYTES_MAX,
            drain_bytes_max: DRAIN_BYTES_MAX,
            layer_time_max: LAYER_TIME_MAX,
            young_time: YOUNG_TIME,
            segment_time_max: SEGMENT_TIME_MAX,
            tidy_every: TIDY_EVERY,
            ready_segments: READY_SEGMENTS,
        }
    }
}

const _: () = assert!(SEGMENT_BYTES > RECORDS_AT + HEAD_BYTES + END_BYTES);
const _: () = assert!(LAYER_BYTES_MAX <= YOUNG_BYTES_MAX && YOUNG_BYTES_MAX < BACKLOG_BYTES_MAX);
// Filled, looked at, ended, drained, looked at again and overwritten: before the 15 minutes are over.
const _: () =
    assert!(SEGMENT_TIME_MAX.as_secs() + 3 * TIDY_EVERY.as_secs() + YOUNG_TIME.as_secs() < 15 * 60);
