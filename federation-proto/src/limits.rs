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
