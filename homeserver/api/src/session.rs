//! Binary frames of a device's session: one WebSocket per device, at `GET /v1/session`.
//!
//! A frame is one binary WebSocket message: the postcard encoding of [`ClientFrame`] or
//! [`ServerFrame`], nothing after it. The subprotocol [`SUBPROTOCOL`] names the version.
//!
//! - A **submission** has a per-device counter that starts at 1 and grows by one. A repeated
//!   counter gets the stored result again, so a client that lost the answer submits again.
//! - `Accepted` means durable on the device's own homeserver. What fails later on comes back as a
//!   delivery ([`DeliveryBody::Returned`] or [`DeliveryBody::CommitRefused`]): nothing is dropped
//!   silently, and no call waits for a peer.
//! - **Deliveries** are numbered per device, without holes in the order sent; the client stores
//!   them, then acknowledges cumulatively. Acknowledged means deleted on the server.

use bytes::Bytes;
use federation_proto::ids::{AccountId, Address, Member, RequestId, RoomId, ServerName};
use federation_proto::limits::{GROUP_INFO_BYTES_MAX, HANDSHAKE_BYTES_MAX, WELCOME_BYTES_MAX};
pub use federation_proto::payload::{AbuseReason, ReportedMessage, Sought, is_reportable};
use federation_proto::refusal::Refusal;
use serde::{Deserialize, Serialize};

use crate::contacts::ContactChange;

/// WebSocket subprotocol of this version of the session.
pub const SUBPROTOCOL: &str = "entente.v1";
/// Largest frame either side sends: the largest commit with its welcome and its group info fits into one.
pub const FRAME_BYTES_MAX: usize = 6 * 1024 * 1024;
/// Most submissions in a frame.
pub const FRAME_SUBMISSIONS_MAX: usize = 1024;
/// Most deliveries sent and not yet acknowledged.
pub const UNACKNOWLEDGED_DELIVERIES_MAX: usize = 1024;
/// How many of the last results a homeserver keeps for each device.
pub const RESULTS_KEPT_MAX: usize = 1024;

// Half a mebibyte is left for the lists of devices, and for the group info of epoch 0 that a room's first commit brings.
const _: () = assert!(
    HANDSHAKE_BYTES_MAX + WELCOME_BYTES_MAX + GROUP_INFO_BYTES_MAX + 512 * 1024 <= FRAME_BYTES_MAX
);

/// Close code: another session of the same device took this one's place.
pub const CLOSE_REPLACED: u16 = 4409;
/// Close code: the device was removed from its account, or the account is gone.
pub const CLOSE_DEVICE_REMOVED: u16 = 4401;
/// Close code: the account is suspended.
pub const CLOSE_SUSPENDED: u16 = 4403;
/// Close code: the device took too long to read, or to answer a ping.
pub const CLOSE_TOO_SLOW: u16 = 4408;
/// Close code: the user type asks for something first: the password again, consent to a notice, or a newer client.
pub const CLOSE_BARRED: u16 = 4428;
/// Close code: the homeserver could not use its store; try again later.
pub const CLOSE_UNAVAILABLE: u16 = 4503;

/// What a device sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientFrame {
    /// Submissions in the order of their counters.
    Submit(Vec<Submission>),
    /// Everything up to and including this delivery number is stored on the device.
    Acknowledge(u64),
}

/// What a homeserver sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerFrame {
    /// The first frame of a session.
    Hello(Hello),
    /// One result per submission, in their order.
    Results(Vec<SubmissionResult>),
    /// The next deliveries.
    Deliver(Vec<Delivery>),
    /// The device's policy or its organisation's peers changed: read `GET /v1/account` again.
    AccountChanged,
    /// Once in a session: all that waited when it began has been sent.
    CaughtUp,
}

/// State of the device at the start of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The homeserver's clock, milliseconds since the Unix epoch.
    pub server_time_ms: u64,
    /// Highest counter accepted or refused so far; the next submission has this plus one.
    pub last_counter: u64,
}

/// One numbered request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// This device's counter: 1 for the first submission ever, then one more each time.
    pub counter: u64,
    /// What is asked.
    pub body: SubmissionBody,
}

/// What a device asks of its homeserver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SubmissionBody {
    /// Ask for a key package of each device of an account; answered by
    /// [`DeliveryBody::KeyMaterial`].
    ClaimKeys {
        /// Chosen by the device, to match the answer.
        request: RequestId,
        /// Whose keys.
        address: Address,
        /// Sizes of the organisation's device log that the device knows, ascending; at most
        /// [`federation_proto::limits::LOG_SIZES_KNOWN_MAX`].
        known: Vec<u64>,
    },
    /// Ask for the history of an account's devices, of the own organisation or a partner's; answered by
    /// [`DeliveryBody::KeyMaterial`] without key packages.
    AskDevices {
        /// Chosen by the device, to match the answer.
        request: RequestId,
        /// Whose account.
        server: ServerName,
        /// The account.
        account: AccountId,
        /// As in [`SubmissionBody::ClaimKeys`].
        known: Vec<u64>,
    },
    /// A commit to a room, or the first commit of a new one (epoch 0 with this device as the only
    /// member). Ordered by the room's hub; every device of the new epoch that was a member
    /// before, the sender's too, gets it as [`DeliveryBody::Commit`].
    Commit(Commit),
    /// An application message: an MLS PrivateMessage whose authenticated data is a
    /// [`crate::attributes::MessageAttributes`].
    Message {
        /// The room.
        room: RoomId,
        /// The encrypted message, with MLS framing.
        message: Bytes,
    },
    /// Look people up, at home or at a partner; answered by [`DeliveryBody::Directory`].
    LookUp {
        /// Chosen by the device, to match the answer.
        request: RequestId,
        /// Whose people.
        server: ServerName,
        /// Whom.
        sought: Sought,
    },
    /// Report somebody to the administrators. Accepted: they have it.
    Report(Report),
    /// Ask the room's hub for its newest group info, to come back into step by an external commit;
    /// answered by [`DeliveryBody::GroupInfo`].
    RequestGroupInfo {
        /// Chosen by the device, to match the answer.
        request: RequestId,
        /// The room, in which this device is.
        room: RoomId,
    },
    /// Ask an organisation, the own one or a partner, for its consent to a room; answered by
    /// [`DeliveryBody::RoomConsent`].
    AskConsent {
        /// Chosen by the device, to match the answer.
        request: RequestId,
        /// Whose consent.
        server: ServerName,
        /// The room, which need not stand yet.
        room: RoomId,
        /// The organisations that are to be in it, the own one among them.
        domains: Vec<ServerName>,
    },
    /// The account leaves a room, with all of its devices. Accepted: the room's hub is asked, as often as it
    /// takes.
    Leave {
        /// The room, in which this device is.
        room: RoomId,
    },
}

/// What a user reports, and discloses by that to administrators. No server can check it against the messages,
/// which none could read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Who is reported.
    pub account: AccountId,
    /// The address that the account's organisation certified.
    pub address: Address,
    /// The room in which it happened.
    pub room: RoomId,
    /// Why.
    pub reason: AbuseReason,
    /// In the reporter's words.
    pub note: String,
    /// What is disclosed, within [`is_reportable`].
    pub messages: Vec<ReportedMessage>,
    /// Who is told.
    pub tell: Telling,
}

/// Who is told of a report, beside the reporter's own administrators, who see his name in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Telling {
    /// Nobody.
    OwnOnly,
    /// The reported person's organisation, without the reporter's name.
    Partner,
    /// The reported person's organisation, with the reporter's name.
    PartnerWithName,
}

/// A commit and what the servers must know about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The room: its id is the MLS group id.
    pub room: RoomId,
    /// The room's hub: the homeserver of its creator.
    pub hub: ServerName,
    /// The epoch that the commit ends.
    pub epoch: u64,
    /// The commit: an MLS PublicMessage of a member, or one from outside by which a member that has
    /// fallen out of step replaces its own leaf.
    pub commit: Bytes,
    /// Devices that the commit adds.
    pub adds: Vec<Member>,
    /// Devices that the commit removes.
    pub removes: Vec<Member>,
    /// The welcome for the added devices, with the ratchet tree; present exactly when there are any.
    pub welcome: Option<Bytes>,
    /// The MLS GroupInfo of the epoch that the commit begins, with the ratchet tree and the external
    /// public key: for a member that falls out of step.
    pub group_info: Bytes,
    /// The same of epoch 0, with a room's first commit: what the hub begins to judge by.
    pub founding: Option<Bytes>,
}

/// The answer to one submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmissionResult {
    /// The submission's counter.
    pub counter: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Durable on this homeserver.
    Accepted {
        /// When, milliseconds since the Unix epoch; a message's TTL runs from here.
        accepted_ms: u64,
    },
    /// Refused for good; the counter is used up.
    Refused(Refusal),
    /// Not taken now (a quota or a rate): submit this counter again after the delay.
    Deferred {
        /// Milliseconds to wait.
        retry_after_ms: u64,
        /// Why.
        refusal: Refusal,
    },
}

/// One numbered item of a device's inbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Number in this device's inbox; grows, holes where items expired.
    pub number: u64,
    /// The item.
    pub body: DeliveryBody,
}

/// What a device receives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliveryBody {
    /// An application message of another device.
    Message {
        /// The room.
        room: RoomId,
        /// The encrypted message.
        message: Bytes,
        /// The origin server's durable acceptance, milliseconds since the Unix epoch.
        accepted_ms: u64,
        /// When every server and device deletes it, milliseconds since the Unix epoch.
        expires_ms: u64,
    },
    /// A commit that the hub has ordered, this device's own too.
    Commit {
        /// The room.
        room: RoomId,
        /// The epoch that the commit ends.
        epoch: u64,
        /// The commit.
        commit: Bytes,
        /// The hub's stamp, milliseconds since the Unix epoch.
        accepted_ms: u64,
    },
    /// This device was added to a room.
    Welcome {
        /// The room.
        room: RoomId,
        /// The room's hub.
        hub: ServerName,
        /// The welcome.
        welcome: Bytes,
        /// The hub's stamp, milliseconds since the Unix epoch.
        accepted_ms: u64,
    },
    /// The answer to [`SubmissionBody::ClaimKeys`] and to [`SubmissionBody::AskDevices`].
    KeyMaterial {
        /// The request's id.
        request: RequestId,
        /// What was asked for, or why not.
        result: Result<KeyMaterial, Refusal>,
    },
    /// The hub did not take this device's commit: rebase and submit again, or give up.
    CommitRefused {
        /// The room.
        room: RoomId,
        /// The submission's counter.
        counter: u64,
        /// Why; with [`federation_proto::refusal::RefusalCode::WrongEpoch`] another commit was first, with
        /// [`federation_proto::refusal::RefusalCode::RateLimited`] the room changes too fast: commit again after a pause.
        refusal: Refusal,
    },
    /// A message of this device was accepted and later could not be delivered.
    Returned {
        /// The room.
        room: RoomId,
        /// The submission's counter.
        counter: u64,
        /// The homeserver at which it could not be delivered.
        server: ServerName,
        /// Why.
        refusal: Refusal,
    },
    /// The answer to [`SubmissionBody::LookUp`].
    Directory {
        /// The request's id.
        request: RequestId,
        /// Who was found, or why nobody was looked for.
        result: Result<Listing, Refusal>,
    },
    /// A report that was to be passed on could not be; the own administrators have it.
    ReportReturned {
        /// The room.
        room: RoomId,
        /// The homeserver that did not take it.
        server: ServerName,
        /// Why.
        refusal: Refusal,
    },
    /// The answer to [`SubmissionBody::RequestGroupInfo`].
    GroupInfo {
        /// The request's id.
        request: RequestId,
        /// The room.
        room: RoomId,
        /// The group info, or why not.
        result: Result<GroupInfo, Refusal>,
    },
    /// The answer to [`SubmissionBody::AskConsent`].
    RoomConsent {
        /// The request's id.
        request: RequestId,
        /// The room.
        room: RoomId,
        /// The consent with its organisation's signature
        /// ([`federation_proto::room_consent::SignedRoomConsent`]), or why there is none.
        result: Result<Bytes, Refusal>,
    },
    /// A room is over for everybody of this homeserver: the agreement with the organisation that orders it has ended, or
    /// this side has ended the one with another organisation in it.
    RoomClosed {
        /// The room.
        room: RoomId,
        /// With whom the agreement has ended.
        server: ServerName,
    },
    /// Something was asked or decided between the account and somebody of another organisation.
    Contact {
        /// Who.
        address: Address,
        /// What has changed.
        change: ContactChange,
        /// What he wrote with his ask; or why something could not be delivered.
        text: String,
    },
    /// Removals that the hub has ordered; every later commit of this epoch takes them up, or comes from
    /// outside.
    Removals {
        /// The room.
        room: RoomId,
        /// The epoch that they are for.
        epoch: u64,
        /// The MLS proposals, one for each device that goes.
        proposals: Vec<Bytes>,
        /// The hub's stamp, milliseconds since the Unix epoch.
        accepted_ms: u64,
    },
    /// A commit or removals of this room did not come, for want of room: ask for the group info
    /// ([`SubmissionBody::RequestGroupInfo`]), unless this device is in a later epoch.
    OutOfStep {
        /// The room.
        room: RoomId,
        /// The epoch that the commit led to, or that the removals are for.
        epoch: u64,
    },
}

/// Who was found. Nobody who is not there, who is hidden, and whom the asker may not find are the same.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Listing {
    /// At most [`federation_proto::limits::DIRECTORY_HANDLES_MAX`], by handle.
    pub addresses: Vec<Address>,
    /// Whether there are more: look for a longer beginning.
    pub more: bool,
}

/// A room's newest group info.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupInfo {
    /// The epoch that it describes.
    pub epoch: u64,
    /// The MLS GroupInfo message.
    pub group_info: Bytes,
}

/// An account's devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyMaterial {
    /// A key package of each device that can be added now; none when they were not asked for.
    pub devices: Vec<ClaimedDevice>,
    /// What proves the devices: a [`federation_proto::device_log::DeviceHistory`], as it travels between
    /// homeservers.
    pub history: Bytes,
}

/// One device and a key package to add it with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedDevice {
    /// The device.
    pub member: Member,
    /// Its MLS key package message.
    pub key_package: Bytes,
}

/// The bytes are not a frame of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`FRAME_BYTES_MAX`].
    #[error("a frame has at most 6 MiB: send fewer items in one frame")]
    TooLong,
    /// Not a frame.
    #[error("the bytes are not a frame of the subprotocol entente.v1")]
    Malformed,
    /// Bytes after the frame's end.
    #[error("{0} bytes follow the frame's end")]
    TrailingBytes(usize),
}

macro_rules! frame {
    ($name:ident) => {
        impl $name {
            /// The frame's bytes.
            ///
            /// # Errors
            /// When the frame would be longer than [`FRAME_BYTES_MAX`].
            pub fn encode(&self) -> Result<Vec<u8>, FrameError> {
                let bytes = postcard::to_stdvec(self).map_err(|_| FrameError::Malformed)?;
                if bytes.len() > FRAME_BYTES_MAX {
                    return Err(FrameError::TooLong);
                }
                Ok(bytes)
            }

            /// Reads exactly one frame.
            ///
            /// # Errors
            /// When the bytes are anything but one whole frame.
            pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
                if bytes.len() > FRAME_BYTES_MAX {
                    return Err(FrameError::TooLong);
                }
                let (frame, rest) =
                    postcard::take_from_bytes(bytes).map_err(|_| FrameError::Malformed)?;
                if rest.is_empty() {
                    Ok(frame)
                } else {
                    Err(FrameError::TrailingBytes(rest.len()))
                }
            }
        }
    };
}

frame!(ClientFrame);
frame!(ServerFrame);
