//! Every limit of the protocol, in one place, units last.

/// Longest server name.
pub const SERVER_NAME_BYTES_MAX: usize = 253;
/// Longest label of a server name or of an endpoint's host.
pub const LABEL_BYTES_MAX: usize = 63;
/// Longest handle.
pub const HANDLE_BYTES_MAX: usize = 64;
/// Largest application message (an MLS PrivateMessage).
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Largest commit.
pub const HANDSHAKE_BYTES_MAX: usize = 1024 * 1024;
/// Largest welcome: it holds the ratchet tree, which in a room of a thousand devices of organisations with long names
/// has about 1.5 MiB, and with everybody's consents, when there are as many as can be, 1.8.
pub const WELCOME_BYTES_MAX: usize = 2 * HANDSHAKE_BYTES_MAX;
/// Largest group info. It has room for what the tree of a room still grows by when nobody can be added any more, because
/// a welcome would be too large: as its members renew their leaves each fills the nodes above its own.
pub const GROUP_INFO_BYTES_MAX: usize = WELCOME_BYTES_MAX / 4 * 5;
/// Largest payload of an envelope: a commit with its welcome, its group info and lists of members.
pub const PAYLOAD_BYTES_MAX: usize = 6 * HANDSHAKE_BYTES_MAX;
/// Most envelopes in a transaction.
pub const TRANSACTION_ENVELOPES_MAX: usize = 1024;
/// Largest transaction: with its length it fills the largest padded body.
pub const TRANSACTION_BYTES_MAX: usize = 8 * 1024 * 1024 - 4;
/// Most transactions of one link that are under way at the same time,
pub const TRANSACTIONS_UNDER_WAY_MAX: usize = 4;
/// and most bytes of them, as padded, unless it is one alone.
pub const TRANSACTIONS_UNDER_WAY_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// A body has so long on its way, in milliseconds,
pub const BODY_TIME_MS_MIN: u64 = 30 * 1000;
/// and a second longer for each so many bytes of it.
pub const BODY_BYTES_PER_SECOND_MIN: u64 = 64 * 1024;
/// Largest head of a request that every server takes, as HTTP/1.1 would write it,
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// and most headers in it.
pub const HEADERS_MAX: usize = 100;
/// Shortest padded body; longer ones are powers of two.
pub const PADDED_BYTES_MIN: usize = 2048;
/// Longest reason text in a refusal.
pub const REASON_BYTES_MAX: usize = 512;
/// Most devices in one answer to a key request.
pub const CLAIMED_DEVICES_MAX: usize = 32;
/// Largest key package.
pub const KEY_PACKAGE_BYTES_MAX: usize = 8 * 1024;
/// Largest statement about a device: its fields and an approval.
pub const DEVICE_STATEMENT_BYTES_MAX: usize = 1 + 2 * 16 + 32 + 8 + 32 + 8 + 1 + 16 + 64;
/// Most statements about one account's devices, over all its life: two for each device that came and went.
pub const ACCOUNT_STATEMENTS_MAX: usize = 1024;
/// Levels of a device log's Merkle tree above its leaves, with what a proof of growth needs besides.
pub const LOG_PATH_MAX: usize = 64;
/// Most sizes of a device log that a question names, for the answer to show that the log has grown from each.
pub const LOG_SIZES_KNOWN_MAX: usize = 4;
/// Longest text in an entry of an audit log.
pub const AUDIT_TEXT_BYTES_MAX: usize = 16 * 1024;
/// Largest device history: an account's statements, their place in the log, its head, its growth.
pub const DEVICE_HISTORY_BYTES_MAX: usize = ACCOUNT_STATEMENTS_MAX * DEVICE_STATEMENT_BYTES_MAX
    + (1 + LOG_SIZES_KNOWN_MAX) * (8 + 4 + LOG_PATH_MAX * 32)
    + SERVER_NAME_WIRE_BYTES_MAX
    + CERTIFICATE_BYTES_MAX
    + ISSUING_SIGNATURE_BYTES_MAX
    + SMALL_FIELDS_BYTES_MAX;
/// Least that must be known of the handles that a look-up lists.
pub const DIRECTORY_PREFIX_BYTES_MIN: usize = 3;
/// Most handles in one answer to a look-up.
pub const DIRECTORY_HANDLES_MAX: usize = 20;
/// Most messages that one report of abuse discloses,
pub const REPORTED_MESSAGES_MAX: usize = 20;
/// most bytes of their texts together,
pub const REPORT_TEXT_BYTES_MAX: usize = 64 * 1024;
/// and of the reporter's own words.
pub const REPORT_NOTE_BYTES_MAX: usize = 2 * 1024;

const _: () = assert!(MESSAGE_BYTES_MAX < HANDSHAKE_BYTES_MAX);
const _: () = assert!(PAYLOAD_BYTES_MAX < TRANSACTION_BYTES_MAX);
// All three at their largest, with lists of more than a thousand devices with long names.
const _: () = assert!(
    HANDSHAKE_BYTES_MAX
        + WELCOME_BYTES_MAX
        + GROUP_INFO_BYTES_MAX
        + 1_024 * MEMBER_WIRE_BYTES_MAX
        + SMALL_FIELDS_BYTES_MAX
        < PAYLOAD_BYTES_MAX
);

/// Most protocol versions that a side names.
pub const VERSIONS_MAX: usize = 8;
/// Levels of a transaction's Merkle tree above its leaves.
pub const PROOF_PATH_MAX: usize = 10;
/// Largest relayed envelope: an application message with its header and the fields around it.
pub const RELAYED_ENVELOPE_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 2 * 1024;
/// Largest answer to a transaction.
pub const RECEIPT_BYTES_MAX: usize = 1024 * 1024;
/// Largest MLS proposal by which a room's hub removes a device.
pub const REMOVAL_BYTES_MAX: usize = 512;
/// Most devices in a room.
pub const ROOM_DEVICES_MAX: usize = 10_000;
/// Most organisations in a room: each names all others in its room consent.
pub const ROOM_DOMAINS_MAX: usize = 64;
/// Most epochs that a room keeps for late messages.
pub const ROOM_EPOCHS_MAX: u16 = 32;
/// Longest life of a room consent, in milliseconds.
pub const ROOM_CONSENT_MS_MAX: u64 = 60 * 24 * 60 * 60 * 1000;
/// How long after a former root's end a room consent may end that it vouches for, in milliseconds: the root vouches
/// for device certificates of 30 days to its end, and a consent lives twice as long.
pub const ROOM_CONSENT_PAST_ROOT_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1000;
/// How many positions of a lane a receiver remembers at most, to tell a duplicate from a conflict; and so
/// the most that a sender may have sent and not seen answered.
pub const LANE_RECENT_MAX: u64 = 1024;
/// Most positions that a receiver remembers of all lanes of a link together: where there are many lanes, fewer of each.
pub const LINK_RECENT_MAX: u64 = 1 << 25;
/// Most lanes of one link epoch that a receiver keeps positions of: a lane for each room that two
/// organisations share. Those of former link epochs are deleted.
pub const LINK_LANES_MAX: u64 = 1 << 20;
/// Most lanes with nothing queued whose last receipt a sender keeps in memory.
pub const IDLE_LANES_MAX: usize = 4096;
/// Most positions that one tombstone covers.
pub const TOMBSTONE_COUNT_MAX: u32 = 1_000_000;
/// Longest wait that a receiver may ask for, in milliseconds.
pub const RETRY_AFTER_MS_MAX: u32 = 300_000;
/// Least wait of a lane of whose envelopes none was taken, in milliseconds; it doubles with each such
/// answer, up to [`RETRY_AFTER_MS_MAX`].
pub const NO_PROGRESS_WAIT_MS: u64 = 1000;
/// Largest certificate.
pub const CERTIFICATE_BYTES_MAX: usize = 4096;
/// Most envelope keys in a manifest: the current one, the next, and former ones whose mail is still on its
/// way, however often they were changed.
pub const ENVELOPE_KEYS_MAX: usize = 48;
/// Most TLS pins in a manifest.
pub const TLS_PINS_MAX: usize = 8;
/// Most former roots in a manifest.
pub const FORMER_ROOTS_MAX: usize = 2;
/// Largest certificate of a former root.
pub const FORMER_ROOT_BYTES_MAX: usize = 1024;
/// How long after a manifest was signed a former root in it may vouch for device certificates at most: as long as a
/// manifest is in use, and a device certificate after it.
pub const FORMER_ROOT_MS_MAX: u64 = 150 * 24 * 60 * 60 * 1000;
/// Largest key manifest.
pub const MANIFEST_BYTES_MAX: usize = 10 * 1024;
/// Longest text with which a person asks for another's consent.
pub const CONTACT_TEXT_BYTES_MAX: usize = 280;
/// How long an ask waits for its answer, in milliseconds.
pub const CONTACT_ASK_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1000;
/// Most bytes of an ASN.1 ECDSA P-256 signature.
pub const ISSUING_SIGNATURE_BYTES_MAX: usize = 72;
/// Longest label in front of what is signed.
pub const SIGNATURE_LABEL_BYTES_MAX: usize = 255;
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
/// Most members of a consortium.
pub const CONSORTIUM_MEMBERS_MAX: usize = 64;
/// Longest name of a consortium.
pub const CONSORTIUM_NAME_BYTES_MAX: usize = 64;
/// Largest introduction: a member's certificates, manifest and addresses.
pub const INTRODUCTION_BYTES_MAX: usize = 18 * 1024;
/// Largest charter with its members' introductions and signatures.
pub const CHARTER_FILE_BYTES_MAX: usize = 1280 * 1024;
/// Most rooms in one page of evidence of deprovisioning.
pub const EVIDENCE_ROOMS_MAX: usize = 64;
/// Most steps of one room in evidence: a device is asked for, accepted, ordered and removed once.
pub const EVIDENCE_STEPS_MAX: usize = 4 * ACCOUNT_STATEMENTS_MAX;
/// Most manifests in one page of evidence,
pub const EVIDENCE_HUBS_MAX: usize = 64;
/// and the largest envelope of a hub that is kept there: a commit of a large room is larger, and stands there unproved.
pub const EVIDENCE_PROOF_BYTES_MAX: usize = 32 * 1024;
/// Largest page of evidence.
pub const EVIDENCE_BYTES_MAX: usize = 1408 * 1024;
/// Largest document as armored text, with what mail programs put around it.
pub const ARMORED_BYTES_MAX: usize = 2 * 1024 * 1024;
/// How long after an offer's last day its countersignature may still reach the accepter, in
/// milliseconds: the offerer delivers it again and again.
pub const COUNTERSIGNATURE_DELIVERY_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;
/// Characters of hostile input that an error message repeats.
pub const QUOTED_CHARACTERS_MAX: usize = 80;
/// How far the clocks of two servers may differ, in milliseconds.
pub const CLOCK_SKEW_MS_MAX: u64 = 5 * 60 * 1000;

/// A server name on the wire.
pub(crate) const SERVER_NAME_WIRE_BYTES_MAX: usize = 1 + SERVER_NAME_BYTES_MAX;
/// A member on the wire: server name, account, device.
pub(crate) const MEMBER_WIRE_BYTES_MAX: usize = SERVER_NAME_WIRE_BYTES_MAX + 2 * 16;
/// A refusal on the wire: code, length, reason.
pub(crate) const REFUSAL_WIRE_BYTES_MAX: usize = 2 + 2 + REASON_BYTES_MAX;
/// What a payload holds beside its large fields: ids, numbers, lengths, a handle.
pub(crate) const SMALL_FIELDS_BYTES_MAX: usize = 256;
/// A receipt on the wire, but for its results and lanes.
const RECEIPT_FIELDS_BYTES_MAX: usize = 2 * SERVER_NAME_WIRE_BYTES_MAX + SMALL_FIELDS_BYTES_MAX;
/// The average length of server names up to which a welcome to the largest room fits, whatever the
/// size of its MLS Welcome. Beyond it an encoder refuses the payload as too large.
const LARGEST_ROOM_NAME_BYTES: usize = 150;

const _: () = assert!(TRANSACTION_ENVELOPES_MAX == 1 << PROOF_PATH_MAX);
const _: () = assert!(RELAYED_ENVELOPE_BYTES_MAX < PAYLOAD_BYTES_MAX);
// The largest manifest, with every key revoked and every former root.
const _: () = assert!(
    SERVER_NAME_WIRE_BYTES_MAX
        + CERTIFICATE_BYTES_MAX
        + ENVELOPE_KEYS_MAX * (32 + 2 * 8 + 8 + 8)
        + TLS_PINS_MAX * 32
        + FORMER_ROOTS_MAX * (2 + FORMER_ROOT_BYTES_MAX + 8)
        + ISSUING_SIGNATURE_BYTES_MAX
        + SMALL_FIELDS_BYTES_MAX
        <= MANIFEST_BYTES_MAX
);
const _: () = assert!(CERTIFICATE_BYTES_MAX + MANIFEST_BYTES_MAX < PEERING_DOCUMENT_BYTES_MAX);
const _: () = assert!(
    CERTIFICATE_BYTES_MAX
        + MANIFEST_BYTES_MAX
        + ENDPOINTS_MAX * (2 + ENDPOINT_BYTES_MAX)
        + CONTACT_BYTES_MAX
        + SERVER_NAME_WIRE_BYTES_MAX
        + SMALL_FIELDS_BYTES_MAX
        < INTRODUCTION_BYTES_MAX
);
// A charter fits into a peering document whatever its terms: eight grants of many user types.
const _: () = assert!(
    CONSORTIUM_MEMBERS_MAX * (SERVER_NAME_WIRE_BYTES_MAX + 32)
        + 8 * (1 + 4 + GRANT_USER_TYPES_MAX * (1 + USER_TYPE_BYTES_MAX))
        + CONSORTIUM_NAME_BYTES_MAX
        + SMALL_FIELDS_BYTES_MAX
        < PEERING_DOCUMENT_BYTES_MAX
);
const _: () = assert!(
    PEERING_DOCUMENT_BYTES_MAX
        + CONSORTIUM_MEMBERS_MAX
            * (INTRODUCTION_BYTES_MAX
                + SERVER_NAME_WIRE_BYTES_MAX
                + ISSUING_SIGNATURE_BYTES_MAX
                + SMALL_FIELDS_BYTES_MAX)
        < CHARTER_FILE_BYTES_MAX
);
const _: () = assert!(CHARTER_FILE_BYTES_MAX / 3 * 4 < ARMORED_BYTES_MAX);
const _: () = assert!(EVIDENCE_BYTES_MAX / 3 * 4 / 64 * 65 < ARMORED_BYTES_MAX);
const _: () = assert!(2 * (1 + HANDLE_BYTES_MAX) + 3 * 16 < SMALL_FIELDS_BYTES_MAX);
const _: () = assert!(REFUSAL_WIRE_BYTES_MAX < KEY_PACKAGE_BYTES_MAX);
const _: () = assert!(
    CLAIMED_DEVICES_MAX * (MEMBER_WIRE_BYTES_MAX + KEY_PACKAGE_BYTES_MAX)
        + DEVICE_HISTORY_BYTES_MAX
        + SMALL_FIELDS_BYTES_MAX
        < PAYLOAD_BYTES_MAX
);
// A welcome to the largest room, with its members, its recipients and an MLS Welcome of any size.
const _: () = assert!(
    ROOM_DEVICES_MAX * (1 + LARGEST_ROOM_NAME_BYTES + 2 * 16 + 16)
        + WELCOME_BYTES_MAX
        + SMALL_FIELDS_BYTES_MAX
        + SERVER_NAME_WIRE_BYTES_MAX
        + MEMBER_WIRE_BYTES_MAX
        < PAYLOAD_BYTES_MAX
);
// The largest answer to the largest transaction: each envelope refused at length, each on its own
// lane (16 bytes, position, chain hash).
const _: () = assert!(
    TRANSACTION_ENVELOPES_MAX * (1 + REFUSAL_WIRE_BYTES_MAX + 16 + 8 + 32)
        + RECEIPT_FIELDS_BYTES_MAX
        < RECEIPT_BYTES_MAX
);
