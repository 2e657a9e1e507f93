//! Every limit of the protocol, in one place, units last.

/// Longest server name.
pub const SERVER_NAME_BYTES_MAX: usize = 253;
/// Longest label of a server name.
pub const LABEL_BYTES_MAX: usize = 63;
/// Longest handle.
pub const HANDLE_BYTES_MAX: usize = 64;
/// Largest application message (an MLS PrivateMessage).
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Largest commit or welcome.
pub const HANDSHAKE_BYTES_MAX: usize = 1024 * 1024;
/// Largest payload of an envelope: a handshake with its welcome and lists of members.
pub const PAYLOAD_BYTES_MAX: usize = 3 * HANDSHAKE_BYTES_MAX;
/// Most envelopes in a transaction.
pub const TRANSACTION_ENVELOPES_MAX: usize = 1024;
/// Largest transaction.
pub const TRANSACTION_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest reason text in a refusal.
pub const REASON_BYTES_MAX: usize = 512;
/// Most devices in one answer to a key request.
pub const CLAIMED_DEVICES_MAX: usize = 32;
/// Largest key package.
pub const KEY_PACKAGE_BYTES_MAX: usize = 8 * 1024;

const _: () = assert!(MESSAGE_BYTES_MAX < HANDSHAKE_BYTES_MAX);
const _: () = assert!(PAYLOAD_BYTES_MAX < TRANSACTION_BYTES_MAX);

/// Most protocol versions that a side names.
pub const VERSIONS_MAX: usize = 8;
/// Levels of a transaction's Merkle tree above its leaves.
pub const PROOF_PATH_MAX: usize = 10;
/// Largest relayed envelope: an application message with its header.
pub const RELAYED_ENVELOPE_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 2048;
/// Largest answer to a transaction.
pub const RECEIPT_BYTES_MAX: usize = 1024 * 1024;
/// Most devices in a room.
pub const ROOM_DEVICES_MAX: usize = 10_000;
/// How many positions of a lane a receiver remembers, to tell a duplicate from a conflict; and so
/// the most that a sender may have sent and not seen answered.
pub const LANE_RECENT_MAX: u64 = 1024;
/// Most positions that one tombstone covers.
pub const TOMBSTONE_COUNT_MAX: u32 = 1_000_000;
/// Longest wait that a receiver may ask for, in milliseconds.
pub const RETRY_AFTER_MS_MAX: u32 = 300_000;
/// Largest certificate.
pub const CERTIFICATE_BYTES_MAX: usize = 4096;
/// Most envelope keys in a manifest.
pub const ENVELOPE_KEYS_MAX: usize = 8;
/// Most TLS pins in a manifest.
pub const TLS_PINS_MAX: usize = 8;
/// Largest key manifest.
pub const MANIFEST_BYTES_MAX: usize = 8 * 1024;
/// Most endpoints in a peering document.
pub const ENDPOINTS_MAX: usize = 8;
/// Longest endpoint, `host:port`.
pub const ENDPOINT_BYTES_MAX: usize = 260;
/// Longest contact in a peering document.
pub const CONTACT_BYTES_MAX: usize = 256;
/// Most user types that one grant names.
pub const GRANT_USER_TYPES_MAX: usize = 64;
/// Longest name of a user type.
pub const USER_TYPE_BYTES_MAX: usize = 64;
/// Largest peering document.
pub const PEERING_DOCUMENT_BYTES_MAX: usize = 64 * 1024;
/// Largest peering document as armored text, with what mail programs put around it.
pub const ARMORED_BYTES_MAX: usize = 256 * 1024;

const _: () = assert!(TRANSACTION_ENVELOPES_MAX == 1 << PROOF_PATH_MAX);
const _: () = assert!(RELAYED_ENVELOPE_BYTES_MAX < PAYLOAD_BYTES_MAX);
const _: () = assert!(CERTIFICATE_BYTES_MAX < MANIFEST_BYTES_MAX);
const _: () = assert!(CERTIFICATE_BYTES_MAX + MANIFEST_BYTES_MAX < PEERING_DOCUMENT_BYTES_MAX);
/// How far the clocks of two servers may differ, in milliseconds.
pub const CLOCK_SKEW_MS_MAX: u64 = 5 * 60 * 1000;
