//! What the client API bears of one request; how large a body may be stands in the route table.

use std::time::Duration;

/// A JSON body arrives within this time, however little is known of who sends it: a connection that
/// trickles gives its place back.
pub(super) const BODY_TIME_MAX: Duration = Duration::from_secs(30);
/// An upload may take long, but never rests longer than this.
pub(super) const UPLOAD_PAUSE_TIME_MAX: Duration = Duration::from_secs(30);
/// Requests of one address that has not signed in: in a burst, and then per second.
pub(super) const REQUESTS_BURST: u64 = 200;
pub(super) const REQUESTS_PER_SECOND: u64 = 50;
