//! What delivery bears.

use std::time::Duration;

use federation_proto::limits::{LINK_LANES_MAX, PAYLOAD_BYTES_MAX};

/// Beside the messages that may wait for a device (`[limits]`) so many times as much of handshakes and answers: without them it
/// loses its rooms.
pub const INBOX_HANDSHAKE_FACTOR: u64 = 4;
/// One peer may fill no more of an inbox with messages than one part of so many,
pub const INBOX_SHARE: u64 = 4;
/// and with handshakes and answers: they come from the hubs of a device's rooms alone, of which there are few.
pub const INBOX_HANDSHAKE_SHARE: u64 = 2;
/// Before anything is refused because an inbox is full its items are counted again, but not sooner than this after the
/// last time: a count reads the whole inbox, as its sweeps do, which come no more often either.
pub const INBOX_RECOUNT_MS: u64 = 10 * 60 * 1000;
/// With several nodes, of which each sees only what it puts in and takes out itself, that is done so often,
pub const INBOX_RECOUNT_SHARED_MS: u64 = 10 * 1000;
/// and a count serves no longer than this.
pub const INBOX_COUNT_TRUSTED_MS: u64 = 60 * 1000;
/// How long handshakes, answers and returned messages wait for a device: beyond it its certificate
/// has long run out and it must enrol anew.
pub const INBOX_CONTROL_TTL_MS: u64 = 90 * 24 * 60 * 60 * 1000;
/// How long a request for keys waits for a peer.
pub const KEY_REQUEST_TTL_MS: u64 = 24 * 60 * 60 * 1000;
/// Single-use key packages of one device that one peer, or one own account, is given within
/// [`KEY_PACKAGES_SHARE_MS`]; what it asks for beyond them is answered with the last-resort one.
pub const KEY_PACKAGES_SHARE_MAX: u32 = 25;
/// How long they are counted.
pub const KEY_PACKAGES_SHARE_MS: u64 = 24 * 60 * 60 * 1000;
/// How long a look-up waits for a peer, and its answer on the way back: whoever asked has long looked away.
pub const LOOK_UP_TTL_MS: u64 = 60 * 60 * 1000;
/// What one account may use up of the directory within [`LOOK_UPS_MS`]: a unit for each question, and one for
/// each address that it is told at home.
pub const ACCOUNT_LOOK_UP_UNITS_MAX: u32 = 500;
/// The same for all people of one peer together: so that nobody copies an organisation's directory.
pub const PEER_LOOK_UP_UNITS_MAX: u32 = 5_000;
/// How long they are counted.
pub const LOOK_UPS_MS: u64 = 24 * 60 * 60 * 1000;
/// Handles that one look-up by a beginning goes through, hidden ones among them.
pub const LOOK_UP_HANDLES_MAX: usize = 1_000;
/// How long an account's downloads are counted.
pub const DOWNLOADS_MS: u64 = 24 * 60 * 60 * 1000;
/// Reports of abuse that one account makes within [`REPORTS_MS`].
pub const ACCOUNT_REPORTS_MAX: u32 = 20;
/// Reports that all people of one peer together make here in that time.
pub const PEER_REPORTS_MAX: u32 = 100;
/// How long they are counted.
pub const REPORTS_MS: u64 = 24 * 60 * 60 * 1000;
/// How long a report waits for a peer.
pub const REPORT_TTL_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// How long a request for a group info waits for the room's hub, and its answer for the way back.
pub const GROUP_INFO_REQUEST_TTL_MS: u64 = 24 * 60 * 60 * 1000;
/// Group infos that one device is given within [`GROUP_INFO_REQUESTS_MS`]: one for each of many rooms, and
/// some more where it loses a race.
pub const GROUP_INFO_DEVICE_REQUESTS_MAX: u32 = 64;
/// Group infos that the devices of one peer are given together within the same time.
pub const GROUP_INFO_PEER_REQUESTS_MAX: u32 = 1024;
/// How long they are counted.
pub const GROUP_INFO_REQUESTS_MS: u64 = 10 * 60 * 1000;
/// Most devices and peers whose requests are counted at once; beyond it all are counted afresh.
pub const GROUP_INFO_COUNTED_MAX: usize = 16_384;
/// Consents to rooms that one device is given in that time: two for each room that it begins with a partner,
pub const CONSENT_DEVICE_REQUESTS_MAX: u32 = 512;
/// and those that the devices of one peer are given together.
pub const CONSENT_PEER_REQUESTS_MAX: u32 = 4096;
/// Asks for consent that one account may send within [`CONTACT_ASKS_MS`],
pub const ACCOUNT_CONTACT_ASKS_MAX: u32 = 50;
/// that one peer may bring,
pub const PEER_CONTACT_ASKS_MAX: u32 = 1000;
/// and how long they are counted.
pub const CONTACT_ASKS_MS: u64 = 24 * 60 * 60 * 1000;
/// Most rooms kept here that one other homeserver orders: as many as its link has lanes, for each has one of its own. A
/// partner of ten thousand people has perhaps a tenth of that.
pub const ROOMS_OF_PEER_MAX: u64 = LINK_LANES_MAX;
/// Most bytes of their records when a further one comes in: a hundred thousand rooms of two hundred devices each, or
/// ten thousand of as many as one may have.
pub const ROOM_BYTES_OF_PEER_MAX: u64 = 1024 * 1024 * 1024;
/// How often a part that met a conflict is tried anew before its sender is asked to wait.
pub const CONFLICT_ATTEMPTS_MAX: usize = 16;
/// How long a sender waits after that.
pub const CONFLICT_RETRY_MS: u64 = 500;
/// How long a peer keeps back a lane whose next envelope meets a damaged record here.
pub const DAMAGED_RETRY_MS: u32 = 60_000;
/// How long a peer keeps back a message that waits for the newer manifest of whoever wrote it.
pub const UNKNOWN_KEY_RETRY_MS: u32 = 2_000;
/// What rooms need may wait for a peer up to this many times what we bear of its mail, whatever was agreed; and
/// here, having come from it, with all answers, up to this many times the agreed bytes: without it rooms break.
pub const WAITING_HANDSHAKE_FACTOR: u64 = 4;
/// Answers may wait for a peer up to this many times the agreed bytes: they never take up what rooms need.
pub const WAITING_ANSWERS_FACTOR: u64 = 2;
/// So many bytes may wait of what is not mail however little was agreed: the largest payload can pass in any case.
pub const WAITING_HANDSHAKE_BYTES_MIN: u64 = 8 * 1024 * 1024;
/// What one transaction of a peer may make this homeserver write at once beyond its own envelopes: answers,
/// copies for others, entries of inboxes. So what a few bytes ask for does not fill the memory.
pub const PART_GROWTH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a peer keeps back what came after that.
pub const PART_FULL_RETRY_MS: u32 = 10;
/// How long a peer keeps back a lane when as much waits here from it as was agreed.
pub const WAITING_FULL_RETRY_MS: u32 = 10_000;
/// How often it is looked how much of the disk is free: less is written in between than is kept back.
pub const SPACE_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long whoever brings something new keeps it back while the disk is nearly full.
pub const SPACE_RETRY_MS: u32 = 5_000;
/// Most inbox entries read at once while counting or sweeping.
pub const INBOX_PAGE_ITEMS: usize = 1024;
/// Bytes of a file in one record.
pub const FILE_CHUNK_BYTES: usize = 64 * 1024;
/// Longest that the sweeper sleeps.
pub const SWEEP_INTERVAL_MAX_MS: u64 = 60_000;
/// Most places swept before others get a turn.
pub const SWEEP_PLACES_MAX: usize = 256;
/// When a place is swept again in which a record does not decode: it stays damaged, and each time is told in the log.
pub const SWEEP_DAMAGED_RETRY_MS: u64 = 60 * 60 * 1000;
/// Pages of [`INBOX_PAGE_ITEMS`] rows of one peer's lanes that are looked through in one turn of the sweeper. How many
/// there are is up to the peer, and nobody else's expiry waits for them.
pub const LANE_PAGES_AT_ONCE_MAX: usize = 16;
/// When the sweeper goes on with what it left of a peer's lanes.
pub const LANES_AGAIN_MS: u64 = 1_000;

const _: () = assert!(CONSENT_DEVICE_REQUESTS_MAX < CONSENT_PEER_REQUESTS_MAX);
const _: () = assert!(GROUP_INFO_DEVICE_REQUESTS_MAX < GROUP_INFO_PEER_REQUESTS_MAX);
const _: () = assert!(WAITING_ANSWERS_FACTOR < WAITING_HANDSHAKE_FACTOR);
const _: () = assert!(2 * PAYLOAD_BYTES_MAX < PART_GROWTH_BYTES_MAX);

/// A peer is told of our device log's growth no more often than this,
pub const LOG_HEADS_PAUSE_MS: u64 = 60 * 1000;
/// and what it was told waits for it this long.
pub const LOG_HEAD_TTL_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// How often it is noted that a peer's device log is not what it was.
pub const LOG_FAULT_NOTED_MS: u64 = 60 * 60 * 1000;

/// A peer is told of our audit log's growth no more often than this: heads tell how much happens here.
pub const AUDIT_HEADS_PAUSE_MS: u64 = 60 * 60 * 1000;
/// What it was told, and what we have seen of its log, waits this long.
pub const AUDIT_HEAD_TTL_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// A peer's heads are answered no more often than this,
pub const AUDIT_SIGHTINGS_PAUSE_MS: u64 = 60 * 1000;
/// and it is noted no more often than this that its log, or ours, is not what it was.
pub const AUDIT_FAULT_NOTED_MS: u64 = 24 * 60 * 60 * 1000;

/// How often rooms are left again that could not be left before.
pub const DEPARTURES_AGAIN_MS: u64 = 60 * 1000;
/// How long an act that cuts devices off waits for their sessions to end.
pub const SESSIONS_CUT_MS_MAX: u64 = 1000;
/// and with several nodes, until each has said that it knows.
pub const SESSIONS_CUT_SHARED_MS_MAX: u64 = 3000;
/// So long after the cut a node other than the one that made it does not yet say that all sessions have ended.
pub const SESSIONS_ENDED_SHARED_MS: u64 = 60 * 1000;
/// Evidence read at once.
pub const EVIDENCE_PAGE: usize = 64;
/// Words of a hub that evidence keeps with their signatures, for each room: its devices mostly go together.
pub const EVIDENCE_ROOM_PROOFS_MAX: usize = 8;
/// How large a page of evidence grows before the next one begins: one room more fits in any case.
pub const EVIDENCE_PAGE_BYTES: usize = 768 * 1024;
/// Records of old evidence that one part deletes.
pub const EVIDENCE_DELETED_AT_ONCE: usize = 256;
/// Most of those who are to leave that are read at once,
pub const DEPARTURES_PAGE: usize = 256;
/// and most rooms.
pub const DEPARTURE_ROOMS_PAGE: usize = 256;

/// How long after its certificate has ended a device leaves every room. A certificate lasts 30 days: who comes back within
/// six weeks finds his rooms.
pub const LAPSED_MS: u64 = 14 * 24 * 60 * 60 * 1000;
/// How long it rests between two walks through the rooms that look for such devices,
pub const LAPSED_WALK_MS: u64 = 6 * 60 * 60 * 1000;
/// how many rooms are looked at together,
pub const LAPSED_ROOMS_PAGE: usize = 64;
/// and how long others have their turn in between.
pub const LAPSED_PAUSE_MS: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::INBOX_BYTES_LEAST;

    /// Goal: the largest payload can wait for a peer and for a device, whatever was agreed. Method: compare the bounds.
    #[test]
    fn the_largest_payload_passes() {
        let payload = u64::try_from(PAYLOAD_BYTES_MAX).unwrap();
        assert!(payload < WAITING_HANDSHAKE_BYTES_MIN);
        let of_one_peer = INBOX_BYTES_LEAST * INBOX_HANDSHAKE_FACTOR / INBOX_HANDSHAKE_SHARE;
        assert!(16 * payload < of_one_peer);
    }
}
