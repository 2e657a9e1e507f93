//! Rooms: the order that a hub gives, and what a follower keeps of it.
//!
//! A room is ordered by its creator's homeserver, the hub. It takes the first valid commit of each
//! epoch, puts messages in their order, and hands both to the inboxes at home and, once for each
//! other homeserver, to the outboxes. A follower does as the hub has ordered.
//!
//! Every function judges first and writes afterwards, into a [`crate::delivery::Batch`]: a refused
//! item leaves nothing behind.
//!
//! The hub judges each commit by the public half of the room's group, with the rules that clients have too
//! (`room-rules`); followers read the framing alone, and believe the hub.
//!
//! Deliberately absent: HTTP, and anything that could hold a plaintext or a group's secret.

mod external;
pub mod follower;
pub mod hub;
pub mod leaving;
mod membership;
pub mod mls_framing;
mod observed;
pub mod pace;
pub mod step;
#[cfg(test)]
pub(crate) mod testing;

use bytes::Bytes;
use federation_proto::ids::{AccountId, DeviceId, Member, RoomId, ServerName};
use federation_proto::refusal::{Refusal, RefusalCode};
use homeserver_api::attributes::MessageAttributes;

use crate::ciphertext::Ciphertext;
use crate::delivery::NotTaken;
use crate::delivery::outbox::{OriginRef, SenderRef};
use crate::store::StoreError;
use crate::store::room::RoomRecord;

pub use observed::ObservedRooms;

/// Most devices in a room that this homeserver takes part in (ROOM-029): each of its commits writes the whole list.
pub const MEMBERS_MAX: usize = 2_000;

/// How long after its end messages from an epoch are taken (ROOM-019): a day less than devices keep what they read them
/// with, so that whoever gets one can still read it.
pub const ENDED_EPOCH_MS_MAX: u64 = 6 * 24 * 60 * 60 * 1000;

/// A message whose outside has been read.
#[derive(Debug, Clone)]
pub struct RoomMessage {
    /// The room.
    pub room: RoomId,
    /// The device that sent it.
    pub sender: Member,
    /// The message.
    pub message: Ciphertext,
    /// The origin's durable acceptance, milliseconds since the Unix epoch.
    pub accepted_ms: u64,
    /// When it is deleted everywhere, milliseconds since the Unix epoch.
    pub expires_ms: u64,
}

/// A commit as a device made it and its server passed it on.
#[derive(Debug, Clone)]
pub struct RoomCommit {
    /// The room.
    pub room: RoomId,
    /// The hub that it is meant for.
    pub hub: ServerName,
    /// The epoch that it ends.
    pub epoch: u64,
    /// The device that made it.
    pub sender: Member,
    /// The commit.
    pub commit: Ciphertext,
    /// Devices that it adds.
    pub adds: Vec<Member>,
    /// Devices that it removes.
    pub removes: Vec<Member>,
    /// The welcome for the added devices.
    pub welcome: Option<Ciphertext>,
    /// The group info of the epoch that it begins, while it is proposed.
    pub group_info: Option<Bytes>,
    /// The group info of epoch 0, with a room's first commit.
    pub founding: Option<Bytes>,
    /// The counter of the device's submission, as its own server knows it.
    pub counter: u64,
}

impl RoomCommit {
    /// Whom to tell when a server can't be reached with it: the sender, when it is of the homeserver
    /// `own`, or else through its server.
    fn to_tell(&self, own: &ServerName) -> (Option<SenderRef>, Option<OriginRef>) {
        if self.sender.server == *own {
            return (
                Some(sender_ref(&self.sender, self.room, self.counter)),
                None,
            );
        }
        let origin = OriginRef {
            server: self.sender.server.clone(),
            device: self.sender.device,
            room: self.room,
            reference: self.counter,
        };
        (None, Some(origin))
    }
}

/// Those that an accepted message can't reach, each with the reason: the sender is told.
pub type Unreached = Vec<(ServerName, Refusal)>;

fn sender_ref(sender: &Member, room: RoomId, counter: u64) -> SenderRef {
    let (account, device): (AccountId, DeviceId) = (sender.account, sender.device);
    SenderRef {
        account,
        device,
        room,
        counter,
    }
}

/// One answer for a room that does not exist and for one that the sender is not in.
pub(crate) fn unknown_room() -> NotTaken {
    NotTaken::refused(
        RefusalCode::UnknownRoom,
        "there is no such room with this device in it: ask a member to add it",
    )
}

fn pending_removes() -> NotTaken {
    NotTaken::refused(
        RefusalCode::PendingRemoves,
        "the room's hub has ordered removals: take up those that arrive, then commit again",
    )
}

fn malformed(problem: impl std::fmt::Display) -> NotTaken {
    NotTaken::refused(
        RefusalCode::Malformed,
        format!("{problem}: update the client and send again"),
    )
}

fn wrong_epoch(room: &RoomRecord) -> NotTaken {
    NotTaken::refused(
        RefusalCode::WrongEpoch,
        format!(
            "the room is in epoch {}: apply the commits that arrive, then commit again",
            room.epoch
        ),
    )
}

/// Reads a message's outside and holds it against what surrounds it.
pub fn read_message(
    message: &RoomMessage,
    room: &RoomRecord,
    now_ms: u64,
) -> Result<MessageAttributes, NotTaken> {
    let frame = mls_framing::application(message.message.bytes()).map_err(malformed)?;
    if frame.room != message.room {
        return Err(malformed("the message is of another room"));
    }
    if frame.epoch > room.epoch {
        return Err(malformed("the message is from an epoch that has not begun"));
    }
    let kept = u64::from(room.retained_epochs);
    if room.epoch - frame.epoch > kept {
        return Err(NotTaken::refused(
            RefusalCode::EpochTooOld,
            format!(
                "the message is from epoch {}, the room is in epoch {} and keeps {kept}: encrypt it again and send",
                frame.epoch, room.epoch
            ),
        ));
    }
    // By the clock here: no device behind this homeserver has heard of the epoch's end any earlier.
    let ended_ms = room.epoch_ended_ms(frame.epoch);
    if ended_ms.is_some_and(|ended_ms| now_ms > ended_ms.saturating_add(ENDED_EPOCH_MS_MAX)) {
        return Err(NotTaken::refused(
            RefusalCode::EpochTooOld,
            format!(
                "the message is from epoch {}, which ended too long ago: encrypt it again and send",
                frame.epoch
            ),
        ));
    }
    Ok(frame.attributes)
}

/// A corrupt room: found, although it was just read.
const fn vanished() -> StoreError {
    StoreError::Corrupt { family: "room" }
}
