//! What happens to a client, told after it is durable.

use std::time::Duration;

use homeserver_api::contacts::ContactChange;
use homeserver_api::ids::{Address, DeviceId, Member, RoomId, ServerName};
use homeserver_api::refusal::Refusal;
use tokio::sync::mpsc;

use crate::message::{Continues, Message, MessageId, RoomMember};

/// Most events that wait for one reader; a reader that falls further behind is cut off.
pub const EVENTS_WAITING_MAX: usize = 65_536;

/// Something happened. State is durable before its event is told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The session stands; what waited is being sent.
    Connected,
    /// The session ended or could not be opened; the client tries again.
    Disconnected {
        /// Why.
        reason: String,
        /// When it tries again.
        retry_in: Duration,
    },
    /// A message arrived.
    Message(Message),
    /// An own message is durable on the own homeserver.
    Accepted {
        /// The message.
        message: MessageId,
        /// When, milliseconds since the Unix epoch.
        accepted_ms: u64,
    },
    /// The own homeserver refused an own message.
    Refused {
        /// The message.
        message: MessageId,
        /// Why.
        refusal: Refusal,
    },
    /// An own message was accepted and later could not be delivered to a homeserver.
    Returned {
        /// The message.
        message: MessageId,
        /// The homeserver that did not get it.
        server: ServerName,
        /// Why.
        refusal: Refusal,
    },
    /// A report that was to be passed on was not taken there; the own administrators have it.
    ReportReturned {
        /// The room.
        room: RoomId,
        /// The homeserver that did not take it.
        server: ServerName,
        /// Why.
        refusal: Refusal,
    },
    /// This device was added to a room, or a room that it created stands.
    RoomJoined {
        /// The room.
        room: RoomId,
    },
    /// A room that this device has come into says that it continues another one.
    RoomContinues {
        /// The room.
        room: RoomId,
        /// Which one, and whether that is to be believed.
        continues: Continues,
    },
    /// Somebody could not be brought over into a room that continues another one; he can be added later.
    NotInvited {
        /// The new room.
        room: RoomId,
        /// Who.
        address: Address,
        /// Why, in words.
        reason: String,
    },
    /// Devices came or went.
    MembersChanged {
        /// The room.
        room: RoomId,
        /// Who came.
        added: Vec<RoomMember>,
        /// Who went.
        removed: Vec<RoomMember>,
        /// Of those who went the accounts that have left by themselves, or are gone from their organisation.
        left: Vec<Address>,
    },
    /// A room has another name.
    RoomRenamed {
        /// The room.
        room: RoomId,
        /// Its name; empty: none.
        name: String,
    },
    /// This device was removed from a room; its history stays until it expires.
    RoomLeft {
        /// The room.
        room: RoomId,
    },
    /// A room is over for this device; its history stays until it expires.
    RoomOver {
        /// The room.
        room: RoomId,
        /// Why, in words.
        reason: String,
    },
    /// This device has fallen out of a room's step: it can't read or send there until it has come back, which
    /// it does by itself.
    RoomOutOfStep {
        /// The room.
        room: RoomId,
        /// Why, in words.
        reason: String,
        /// Who made the commit that can't be applied; unknown when one is missing.
        by: Option<Address>,
    },
    /// This device has come back into a room; what was sent there meanwhile it can't read. With both times the
    /// same it has missed nothing.
    RoomResynced {
        /// The room.
        room: RoomId,
        /// When it was last in step, milliseconds since the Unix epoch.
        from_ms: u64,
        /// When it came back, milliseconds since the Unix epoch.
        until_ms: u64,
    },
    /// A message expired or burnt, and is gone from this device.
    Deleted {
        /// The room.
        room: RoomId,
        /// The message.
        message: MessageId,
    },
    /// Messages of a device are missing here, which has sent later ones: they were kept back or lost on their way, or could not be
    /// read.
    MessagesMissing {
        /// The room.
        room: RoomId,
        /// Whose they are.
        sender: Address,
        /// The device that sent them.
        device: Member,
        /// How many.
        count: u64,
        /// Whether they have expired before they came: as after a long time without a connection.
        expired: bool,
    },
    /// A message came after later ones of the same device.
    OutOfOrder {
        /// The room.
        room: RoomId,
        /// The message.
        message: MessageId,
        /// Whose it is.
        sender: Address,
    },
    /// The room's hub has ordered two commits for one epoch: there are two rooms of this name, and this device is in one.
    RoomForked {
        /// The room.
        room: RoomId,
        /// The epoch that both commits end.
        epoch: u64,
    },
    /// A delivery could not be read; it is put aside, and nothing else waits for it.
    Unreadable {
        /// The room.
        room: RoomId,
        /// Why, in words.
        reason: String,
    },
    /// Devices have come to an account that this device has met, the own one too, or have left it.
    DevicesChanged {
        /// The account's address.
        address: Address,
        /// Devices that came.
        added: Vec<DeviceId>,
        /// Devices that left.
        removed: Vec<DeviceId>,
        /// Devices that came by a reset which nobody has confirmed here.
        unconfirmed: Vec<DeviceId>,
    },
    /// The homeserver of somebody whom this device has met certifies him for another address. He is shown under the one that he is
    /// known by, and nothing is sent to him, until a person confirms the other one.
    AddressChanged {
        /// The address that the account is known by.
        address: Address,
        /// The address that it is certified for.
        certified: Address,
        /// Whether another account is known by that one: then nobody can confirm it.
        taken: bool,
    },
    /// What a homeserver says of devices is not believed; nothing of it is used.
    DevicesRefused {
        /// Whose device log it is.
        server: ServerName,
        /// Whose devices, when it is about somebody's.
        address: Option<Address>,
        /// Why, in words.
        reason: String,
    },
    /// This device does not send to a room, for somebody's device in it.
    Held {
        /// The room.
        room: RoomId,
        /// Whose device.
        address: Address,
        /// Why, in words, and what to do.
        reason: String,
    },
    /// What this device knows has gone to another device of the account.
    HistorySent {
        /// The device.
        device: DeviceId,
        /// How many messages.
        messages: u64,
        /// Older messages that were too many.
        left_out: u64,
    },
    /// The own homeserver did not take what this device knows for another device of the account.
    HistoryRefused {
        /// The device.
        device: DeviceId,
        /// Why.
        refusal: Refusal,
    },
    /// Another device of the account has sent what it knows.
    HistoryReceived {
        /// The device.
        device: DeviceId,
        /// How many messages are here that were not before.
        messages: u64,
        /// Whether all of it came.
        complete: bool,
    },
    /// Something was asked or decided between the account and somebody of another organisation.
    Contact {
        /// Who.
        address: Address,
        /// What has changed.
        change: ContactChange,
        /// What he wrote with his ask, or why something could not be delivered; as the other side sent it.
        text: String,
    },
}

/// The events of one client from the moment of [`crate::Client::events`] on.
#[derive(Debug)]
pub struct Events {
    pub(crate) receiver: mpsc::Receiver<Event>,
}

impl Events {
    /// The next event; `None` when the client is closed or this reader fell more than
    /// [`EVENTS_WAITING_MAX`] behind (then read the history and ask for events again).
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }

    /// The next event, when one waits.
    pub fn try_next(&mut self) -> Option<Event> {
        self.receiver.try_recv().ok()
    }
}
