//! What the core keeps in the store. Every value is postcard behind the store's version byte.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use homeserver_api::Digest;
use homeserver_api::ids::{AccountId, Address, Member, RequestId, RoomId, ServerName};
use homeserver_api::policy::UserTypePolicy;
use homeserver_api::refusal::Refusal;
use homeserver_api::session::Submission;
use room_rules::consents::Bounds;
use room_rules::settings::Role;
use serde::{Deserialize, Serialize};

use super::successors::LineageRecord;
use crate::message::{Gap, MessageId, Progress, RoomMember};
use crate::mls::DeviceKey;

/// Who this device is; written at enrolment, renewed with the certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) endpoint: String,
    pub(crate) root_sha256: [u8; 32],
    pub(crate) address: Address,
    pub(crate) member: Member,
    pub(crate) device_name: String,
    pub(crate) token: String,
    pub(crate) key: DeviceKey,
    /// The device certificate and the issuing CA's.
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) not_after_ms: u64,
    /// When the certificate was had; it is renewed long before its end.
    pub(crate) certified_ms: u64,
}

/// Counters, and what the account may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Counter of the last submission made.
    pub(crate) last_counter: u64,
    /// Number of the last message of this device's history.
    pub(crate) last_number: u64,
    /// Number of the last operation.
    pub(crate) last_operation: u64,
    /// Number of the last room.
    pub(crate) last_room: u64,
    /// Number of the last delivery that was taken in.
    pub(crate) last_delivery: u64,
    /// Number of the last question about an account's devices.
    pub(crate) last_question: u64,
    /// Number of the last person whom this device met.
    pub(crate) last_person: u64,
    pub(crate) policy: Option<UserTypePolicy>,
    /// The own homeserver's room certificate and the issuing CA's: with it rooms are created.
    pub(crate) hub_chain: Vec<Vec<u8>>,
}

/// How a room stands for this device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Standing {
    /// Its first commit is on its way.
    Creating,
    /// This device is a member.
    Joined,
    /// This device was removed; the history stays.
    Left,
    /// A commit that its hub ordered could not be applied; nothing can be read or sent any more.
    Broken(String),
    /// This device has fallen out of step and is on its way back in.
    Resyncing(Resync),
}

/// The way back into a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resync {
    /// Why, in words.
    pub(crate) reason: String,
    /// When this device was last in step, milliseconds since the Unix epoch.
    pub(crate) since_ms: u64,
    /// The question for the group info that is not answered yet.
    pub(crate) request: Option<RequestId>,
    /// The commit from outside that is under way.
    pub(crate) commit: Option<ResyncCommit>,
    /// Attempts that came to nothing.
    pub(crate) failed: u32,
    /// Not asked again before this: the pause after a failure, or the end of waiting for an answer, milliseconds since the Unix epoch.
    pub(crate) not_before_ms: u64,
}

/// A commit from outside that the hub has not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResyncCommit {
    pub(crate) counter: u64,
    pub(crate) epoch: u64,
    /// Tells it from whatever else the hub orders for the epoch.
    pub(crate) sha256: [u8; 32],
}

/// A room, without MLS's state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RoomRecord {
    pub(crate) number: u64,
    pub(crate) room: RoomId,
    pub(crate) hub: ServerName,
    pub(crate) standing: Standing,
    /// Messages that this device has encrypted in the present epoch.
    pub(crate) sent_in_epoch: u32,
    /// What this device has sent there.
    pub(crate) sent: SentRecord,
    /// The number of the last message in this device's history from before it was added again after the room had ended for
    /// it: what was written until then is not sent there any more.
    pub(crate) written_before: u64,
    /// The last epoch that this device was in when the room ended for it.
    pub(crate) ended_epoch: Option<u64>,
    /// Who was in the room then, as far as this device knew; nobody while it is in it.
    pub(crate) ended_with: Vec<RoomMember>,
    /// When the present epoch began here, milliseconds since the Unix epoch.
    pub(crate) epoch_began_ms: u64,
    /// The first epoch that this device can read, since it last came into the room.
    pub(crate) readable_from: u64,
    /// When it was out of the room's step the last time.
    pub(crate) gap: Option<Gap>,
    /// When this device fell out of the room's step lately, milliseconds since the Unix epoch.
    pub(crate) resyncs: Vec<u64>,
    /// What its members call it.
    pub(crate) name: String,
    /// Removals that the hub has ordered in the present epoch, and that no commit has taken up.
    pub(crate) removals: Vec<PendingRemoval>,
    /// When it is this device's turn to do that, milliseconds since the Unix epoch.
    pub(crate) take_up_at_ms: Option<u64>,
    /// Devices that are in it though their accounts have removed them.
    pub(crate) gone: Vec<GoneDevice>,
    /// What the organisations in it let it do.
    pub(crate) policy: PolicyRecord,
}

/// What this device has sent to a room, for whoever reads it to see what is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SentRecord {
    /// The number of the last message that it has encrypted there.
    pub(crate) number: u64,
    /// By when the last ones have expired, in seconds since the Unix epoch, the newest first; 0 for one that came to nothing.
    pub(crate) recent: Vec<u32>,
    /// By when all before those have.
    pub(crate) older: u32,
}

/// How far the messages of a device in a room have come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SequenceRecord {
    pub(crate) device: Member,
    /// The room's `readable_from` at the time: with another one it says nothing.
    pub(crate) since_epoch: u64,
    /// The highest number that came.
    pub(crate) highest: u64,
}

/// Messages of a device in a room that are missing here, and of which nothing was told yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MissingRecord {
    pub(crate) room: RoomId,
    pub(crate) address: Address,
    pub(crate) device: Member,
    pub(crate) ranges: Vec<MissingRange>,
}

/// Messages in a row that are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MissingRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// By when all of them have expired, in seconds since the Unix epoch; 0: unknown.
    pub(crate) ends: u32,
    /// When one of the device's that comes after them came, milliseconds since the Unix epoch.
    pub(crate) noticed_ms: u64,
}

/// Which commit ended an epoch here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OrderedRecord {
    pub(crate) sha256: Digest,
    /// Whether another one for the same epoch came, and was told.
    pub(crate) forked: bool,
}

/// What follows from the consents in a room's group, so that nobody has to read them for each message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PolicyRecord {
    /// What messages may be, since which epoch; those that can still be read are held to the bounds of theirs.
    pub(crate) bounds: Vec<EpochBounds>,
    /// When the first consent ends, milliseconds since the Unix epoch, and whose it is.
    pub(crate) ends: Option<(u64, ServerName)>,
    /// When this device renews its organisation's, milliseconds since the Unix epoch.
    pub(crate) renew_at_ms: Option<u64>,
    /// The serials of the last consents of the organisations that are in the room, and of those that were: wherever this
    /// device comes into it again, none is older.
    pub(crate) serials: BTreeMap<ServerName, u64>,
    /// By what this device judges which room continues this one, and what this one says to continue.
    pub(crate) lineage: LineageRecord,
}

/// What messages may be from an epoch on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EpochBounds {
    pub(crate) epoch: u64,
    pub(crate) bounds: Bounds,
}

/// A removal that waits for a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PendingRemoval {
    pub(crate) leaf: u32,
    /// Whether the account goes with the device.
    pub(crate) account: bool,
    /// MLS's reference of the proposal.
    #[serde(with = "serde_bytes")]
    pub(crate) reference: Vec<u8>,
}

/// A device that is in a room though its account has removed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GoneDevice {
    pub(crate) device: Member,
    /// When that was first seen here, milliseconds since the Unix epoch.
    pub(crate) since_ms: u64,
    /// Whether it was told.
    pub(crate) told: bool,
}

/// A submission without an answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OutboxEntry {
    pub(crate) submission: Submission,
    pub(crate) purpose: Purpose,
}

/// Whom a submission's answer concerns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    Message { room: RoomId, number: u64 },
    Claim { operation: u64, request: RequestId },
    Commit { operation: u64 },
    LookUp { request: RequestId },
    Report,
    GroupInfo { room: RoomId, request: RequestId },
    Resync { room: RoomId },
    Devices { request: RequestId },
    History { room: RoomId },
    Leave { room: RoomId, operation: u64 },
    Consent { request: RequestId },
}

/// What is known of a message apart from its content, which lies in a record of its own that can
/// be made unreadable.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MessageMeta {
    pub(crate) id: MessageId,
    pub(crate) progress: ProgressRecord,
    pub(crate) ttl_seconds: u32,
    pub(crate) burn_seconds: u32,
    pub(crate) accepted_ms: Option<u64>,
    pub(crate) expires_ms: Option<u64>,
    /// When it burns; set when it was shown.
    pub(crate) burns_ms: Option<u64>,
    /// The submission that carries it now.
    pub(crate) counter: Option<u64>,
    /// Which of this device's messages in the room it is now.
    pub(crate) order: Option<u64>,
    /// How often it was encrypted.
    pub(crate) attempts: u32,
}

impl MessageMeta {
    /// When it is deleted, as far as that is known.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        match (self.expires_ms, self.burns_ms) {
            (Some(expires), Some(burns)) => Some(expires.min(burns)),
            (expires, burns) => expires.or(burns),
        }
    }
}

/// [`Progress`] as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ProgressRecord {
    Received,
    Waiting,
    Accepted,
    Refused(Refusal),
    Returned(ServerName, Refusal),
}

impl From<ProgressRecord> for Progress {
    fn from(record: ProgressRecord) -> Self {
        match record {
            ProgressRecord::Received => Self::Received,
            ProgressRecord::Waiting => Self::Waiting,
            ProgressRecord::Accepted => Self::Accepted,
            ProgressRecord::Refused(refusal) => Self::Refused { refusal },
            ProgressRecord::Returned(server, refusal) => Self::Returned { server, refusal },
        }
    }
}

/// A message's content and authenticated sender.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MessageContent {
    pub(crate) sender: Address,
    pub(crate) device: Member,
    /// [`crate::content::Content::encode`]'s bytes.
    #[serde(with = "serde_bytes")]
    pub(crate) content: Vec<u8>,
    /// Of the MLS PrivateMessage as it came, for a report; an own message has none.
    pub(crate) message_sha256: Option<Digest>,
}

/// Where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) room: RoomId,
    pub(crate) number: u64,
}

/// A change of a room's membership, from the question for key packages to the ordered commit. It
/// survives the process: what was claimed is used.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Operation {
    pub(crate) number: u64,
    pub(crate) room: RoomId,
    pub(crate) kind: OperationKind,
    pub(crate) claims: Vec<Claim>,
    /// Consents that were asked for.
    pub(crate) consents: Vec<ConsentAsk>,
    /// The commit that is under way.
    pub(crate) commit: Option<CommitInFlight>,
    /// Commits that lost against another one.
    pub(crate) lost: u32,
    /// Not before the room is in this epoch: the commit that won is still on its way here.
    pub(crate) not_before_epoch: u64,
    /// Not in this epoch before the hub's removals are here that its commit has left out.
    pub(crate) waits_in_epoch: Option<u64>,
    /// The room that a new one is to continue.
    pub(crate) succession: Option<Succession>,
}

/// What a new room takes over from the one that it continues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Succession {
    /// The former room.
    pub(crate) room: RoomId,
    /// What its members called it.
    pub(crate) name: String,
    /// Who had which role.
    pub(crate) roles: Vec<(ServerName, AccountId, Role)>,
}

impl Succession {
    /// The role that an account had.
    pub(crate) fn role(&self, server: &ServerName, account: AccountId) -> Role {
        let mut roles = self.roles.iter();
        let known = roles.find(|(of, id, _)| (of, *id) == (server, account));
        known.map_or(Role::Member, |(_, _, role)| *role)
    }
}

/// What an operation is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OperationKind {
    /// A new room.
    Create,
    /// More accounts.
    Add,
    /// All devices of these accounts go.
    Remove(BTreeSet<Address>),
    /// An account may do more, or less.
    SetRole(Address, Role),
    /// A new leaf: fresh keys, and the present certificate.
    Refresh,
    /// Nothing but the removals that wait.
    TakeUp,
    /// The room has another name.
    Rename(String),
    /// The own organisation's consent is renewed.
    Consent,
    /// Devices go that their accounts have removed.
    PutOut,
}

/// A question for an organisation's consent to a room.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ConsentAsk {
    pub(crate) request: RequestId,
    pub(crate) server: ServerName,
    /// With whom its people are to be in the room.
    pub(crate) domains: BTreeSet<ServerName>,
    /// The signed consent.
    pub(crate) answer: Option<Bytes>,
}

/// A question for key packages.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) request: RequestId,
    pub(crate) address: Address,
    pub(crate) answer: Option<Result<Vec<ClaimedKeys>, Refusal>>,
}

/// One device's answer to a claim.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ClaimedKeys {
    pub(crate) member: Member,
    pub(crate) key_package: Bytes,
}

/// A commit that the hub has not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommitInFlight {
    pub(crate) counter: u64,
    pub(crate) epoch: u64,
    /// How many of the hub's removals it takes up.
    pub(crate) removals: usize,
}

/// Reads bytes as each kind of record: what is one keeps its value when it is written and read again.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_any(bytes: &[u8]) {
    use crate::store::survives_writing;
    survives_writing::<Identity>(bytes);
    survives_writing::<State>(bytes);
    survives_writing::<RoomRecord>(bytes);
    survives_writing::<OutboxEntry>(bytes);
    survives_writing::<MessageMeta>(bytes);
    survives_writing::<MessageContent>(bytes);
    survives_writing::<Place>(bytes);
    survives_writing::<Operation>(bytes);
    survives_writing::<MessageId>(bytes);
    survives_writing::<crate::certificate::AnchorSet>(bytes);
    survives_writing::<SequenceRecord>(bytes);
    survives_writing::<MissingRecord>(bytes);
    survives_writing::<OrderedRecord>(bytes);
    super::devices::read_any(bytes);
    super::history::read_any(bytes);
    crate::mls::read_any(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// Goal: no bytes make a record's reader panic, and what it reads it also writes.
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(0_u8.., 0..400)) {
            read_any(&bytes);
            // Lengths that are small enough to be believed, and bytes that are text.
            let small: Vec<u8> = bytes.iter().map(|byte| byte % 4).collect();
            read_any(&small);
            let text: Vec<u8> = bytes.iter().map(|byte| b'a' + byte % 26).collect();
            read_any(&text);
        }

        /// Goal: a place, a message's meta data, a room and the counters come back as they were.
        #[test]
        fn round_trips(id in proptest::array::uniform16(0_u8..), number in 0_u64.., at in 0_u64..) {
            let room = RoomId::from_bytes(id);
            let place = Place { room, number };
            let bytes = postcard::to_stdvec(&place).unwrap();
            proptest::prop_assert_eq!(postcard::from_bytes::<Place>(&bytes).unwrap(), place);
            let state = State {
                last_counter: number,
                last_number: at,
                ..State::default()
            };
            let bytes = postcard::to_stdvec(&state).unwrap();
            proptest::prop_assert_eq!(postcard::from_bytes::<State>(&bytes).unwrap(), state);
            let id = MessageId::from_bytes(id);
            proptest::prop_assert_eq!(id.to_string().parse::<MessageId>().unwrap(), id);
            let bytes = postcard::to_stdvec(&id).unwrap();
            proptest::prop_assert_eq!(postcard::from_bytes::<MessageId>(&bytes).unwrap(), id);
        }

        /// Goal: no text makes the reader of a message's id panic.
        #[test]
        fn any_text(text in ".{0,64}") {
            let _ = text.parse::<MessageId>();
        }
    }
}
