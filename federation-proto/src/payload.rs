//! What each kind of envelope carries.
//!
//! Payloads name rooms, accounts and devices, so they stay out of the header; what users wrote is
//! inside MLS ciphertext, and no type here could hold it in clear, but for what somebody discloses who
//! reports it.

mod abuse;
mod audit_head;
mod contact;
mod directory;
mod group_info;
mod keys;
mod log_head;
mod removals;
mod room_consent;
mod tombstone;

use bytes::Bytes;

use crate::audit_log::SignedSighting;
use crate::codec::{DecodeError, EncodeError, Reader, Wire, Writer};
use crate::envelope::Kind;
use crate::ids::{AccountId, DeviceId, Handle, Member, RoomId, ServerName};
use crate::limits::{
    GROUP_INFO_BYTES_MAX, HANDLE_BYTES_MAX, HANDSHAKE_BYTES_MAX, MESSAGE_BYTES_MAX,
    PAYLOAD_BYTES_MAX, REFUSAL_WIRE_BYTES_MAX, RELAYED_ENVELOPE_BYTES_MAX, ROOM_DEVICES_MAX,
    SERVER_NAME_WIRE_BYTES_MAX, SMALL_FIELDS_BYTES_MAX, WELCOME_BYTES_MAX,
};
use crate::refusal::Refusal;
use crate::transaction::EnvelopeProof;

pub use abuse::{AbuseReason, AbuseReport, ReportedMessage, is_reportable};
pub use audit_head::AuditHead;
pub use contact::{Contact, ContactAct};
pub use directory::{DirectoryAnswer, DirectoryQuery, Found, Sought};
pub use group_info::{GroupInfo, GroupInfoRequest, GroupInfoResponse};
pub use keys::{ClaimedKey, KeyMaterial, KeyRequest, KeyResponse, KeysOf};
pub use log_head::LogHead;
pub use removals::{Removal, RemovalRequest, Removals};
pub use room_consent::{RoomConsentRequest, RoomConsentResponse};
pub use tombstone::Tombstone;

/// A payload of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Of [`Kind::Message`].
    Message(Message),
    /// Of [`Kind::Handshake`].
    Handshake(Handshake),
    /// Of [`Kind::Welcome`].
    Welcome(Welcome),
    /// Of [`Kind::Relay`].
    Relay(Relay),
    /// Of [`Kind::KeyRequest`].
    KeyRequest(KeyRequest),
    /// Of [`Kind::KeyResponse`].
    KeyResponse(KeyResponse),
    /// Of [`Kind::Notice`].
    Notice(Notice),
    /// Of [`Kind::Tombstone`].
    Tombstone(Tombstone),
    /// Of [`Kind::DirectoryQuery`].
    DirectoryQuery(DirectoryQuery),
    /// Of [`Kind::DirectoryAnswer`].
    DirectoryAnswer(DirectoryAnswer),
    /// Of [`Kind::AbuseReport`].
    AbuseReport(AbuseReport),
    /// Of [`Kind::GroupInfoRequest`].
    GroupInfoRequest(GroupInfoRequest),
    /// Of [`Kind::GroupInfo`].
    GroupInfo(GroupInfoResponse),
    /// Of [`Kind::Contact`].
    Contact(Contact),
    /// Of [`Kind::LogHead`].
    LogHead(LogHead),
    /// Of [`Kind::RemovalRequest`].
    RemovalRequest(RemovalRequest),
    /// Of [`Kind::Removals`].
    Removals(Removals),
    /// Of [`Kind::RoomConsentRequest`].
    RoomConsentRequest(RoomConsentRequest),
    /// Of [`Kind::RoomConsent`].
    RoomConsent(RoomConsentResponse),
    /// Of [`Kind::AuditHead`].
    AuditHead(AuditHead),
    /// Of [`Kind::AuditSighting`].
    AuditSighting(SignedSighting),
}

impl Payload {
    /// Reads the payload of an envelope of this kind.
    ///
    /// # Errors
    /// When the bytes are anything but one whole payload.
    pub fn decode(kind: Kind, bytes: Bytes) -> Result<Self, DecodeError> {
        match kind {
            Kind::Message => Message::from_bytes(bytes).map(Self::Message),
            Kind::Handshake => Handshake::from_bytes(bytes).map(Self::Handshake),
            Kind::Welcome => Welcome::from_bytes(bytes).map(Self::Welcome),
            Kind::Relay => Relay::from_bytes(bytes).map(Self::Relay),
            Kind::KeyRequest => KeyRequest::from_bytes(bytes).map(Self::KeyRequest),
            Kind::KeyResponse => KeyResponse::from_bytes(bytes).map(Self::KeyResponse),
            Kind::Notice => Notice::from_bytes(bytes).map(Self::Notice),
            Kind::Tombstone => Tombstone::from_bytes(bytes).map(Self::Tombstone),
            Kind::DirectoryQuery => DirectoryQuery::from_bytes(bytes).map(Self::DirectoryQuery),
            Kind::DirectoryAnswer => DirectoryAnswer::from_bytes(bytes).map(Self::DirectoryAnswer),
            Kind::AbuseReport => AbuseReport::from_bytes(bytes).map(Self::AbuseReport),
            Kind::GroupInfoRequest => {
                GroupInfoRequest::from_bytes(bytes).map(Self::GroupInfoRequest)
            }
            Kind::GroupInfo => GroupInfoResponse::from_bytes(bytes).map(Self::GroupInfo),
            Kind::Contact => Contact::from_bytes(bytes).map(Self::Contact),
            Kind::LogHead => LogHead::from_bytes(bytes).map(Self::LogHead),
            Kind::RemovalRequest => RemovalRequest::from_bytes(bytes).map(Self::RemovalRequest),
            Kind::Removals => Removals::from_bytes(bytes).map(Self::Removals),
            Kind::RoomConsentRequest => {
                RoomConsentRequest::from_bytes(bytes).map(Self::RoomConsentRequest)
            }
            Kind::RoomConsent => RoomConsentResponse::from_bytes(bytes).map(Self::RoomConsent),
            Kind::AuditHead => AuditHead::from_bytes(bytes).map(Self::AuditHead),
            Kind::AuditSighting => SignedSighting::from_bytes(bytes).map(Self::AuditSighting),
        }
    }

    /// The payload's bytes.
    ///
    /// # Errors
    /// When a part is over its limit.
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        match self {
            Self::Message(payload) => payload.to_bytes(),
            Self::Handshake(payload) => payload.to_bytes(),
            Self::Welcome(payload) => payload.to_bytes(),
            Self::Relay(payload) => payload.to_bytes(),
            Self::KeyRequest(payload) => payload.to_bytes(),
            Self::KeyResponse(payload) => payload.to_bytes(),
            Self::Notice(payload) => payload.to_bytes(),
            Self::Tombstone(payload) => payload.to_bytes(),
            Self::DirectoryQuery(payload) => payload.to_bytes(),
            Self::DirectoryAnswer(payload) => payload.to_bytes(),
            Self::AbuseReport(payload) => payload.to_bytes(),
            Self::GroupInfoRequest(payload) => payload.to_bytes(),
            Self::GroupInfo(payload) => payload.to_bytes(),
            Self::Contact(payload) => payload.to_bytes(),
            Self::LogHead(payload) => payload.to_bytes(),
            Self::RemovalRequest(payload) => payload.to_bytes(),
            Self::Removals(payload) => payload.to_bytes(),
            Self::RoomConsentRequest(payload) => payload.to_bytes(),
            Self::RoomConsent(payload) => payload.to_bytes(),
            Self::AuditHead(payload) => payload.to_bytes(),
            Self::AuditSighting(payload) => payload.to_bytes(),
        }
    }

    /// The kind of envelope that carries it.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Message(_) => Kind::Message,
            Self::Handshake(_) => Kind::Handshake,
            Self::Welcome(_) => Kind::Welcome,
            Self::Relay(_) => Kind::Relay,
            Self::KeyRequest(_) => Kind::KeyRequest,
            Self::KeyResponse(_) => Kind::KeyResponse,
            Self::Notice(_) => Kind::Notice,
            Self::Tombstone(_) => Kind::Tombstone,
            Self::DirectoryQuery(_) => Kind::DirectoryQuery,
            Self::DirectoryAnswer(_) => Kind::DirectoryAnswer,
            Self::AbuseReport(_) => Kind::AbuseReport,
            Self::GroupInfoRequest(_) => Kind::GroupInfoRequest,
            Self::GroupInfo(_) => Kind::GroupInfo,
            Self::Contact(_) => Kind::Contact,
            Self::LogHead(_) => Kind::LogHead,
            Self::RemovalRequest(_) => Kind::RemovalRequest,
            Self::Removals(_) => Kind::Removals,
            Self::RoomConsentRequest(_) => Kind::RoomConsentRequest,
            Self::RoomConsent(_) => Kind::RoomConsent,
            Self::AuditHead(_) => Kind::AuditHead,
            Self::AuditSighting(_) => Kind::AuditSighting,
        }
    }
}

/// A device of the origin's, where the server is known from the envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sender {
    /// Its account.
    pub account: AccountId,
    /// The device.
    pub device: DeviceId,
}

/// An application message, follower → hub, or hub → follower when a member of the hub's own wrote
/// it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The room.
    pub room: RoomId,
    /// The device of the origin's that wrote it.
    pub sender: Sender,
    /// Chosen by the origin; comes back in a [`Notice`] about this message.
    pub reference: u64,
    /// The MLS PrivateMessage.
    pub message: Bytes,
}

/// A commit: follower → hub proposed, hub → follower ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// The room.
    pub room: RoomId,
    /// The room's hub.
    pub hub: ServerName,
    /// The epoch that the commit ends.
    pub epoch: u64,
    /// The device that made the commit.
    pub sender: Member,
    /// Chosen by the proposing server; comes back in a [`Notice`], and in the ordered handshake.
    pub reference: u64,
    /// The MLS PublicMessage.
    pub commit: Bytes,
    /// Devices that the commit adds.
    pub adds: Vec<Member>,
    /// Devices that the commit removes.
    pub removes: Vec<Member>,
    /// The welcome for the added devices; absent in an ordered handshake, where each added
    /// device's server gets a [`Welcome`].
    pub welcome: Option<Bytes>,
    /// The MLS GroupInfo of the epoch that the commit begins; absent in an ordered handshake: the hub
    /// keeps it and hands it out when it is asked for.
    pub group_info: Option<Bytes>,
    /// The hub's stamp, milliseconds since the Unix epoch; 0 while proposed.
    pub stamp_ms: u64,
}

/// A welcome for devices of the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The room.
    pub room: RoomId,
    /// The room's hub.
    pub hub: ServerName,
    /// The epoch that the added devices start in.
    pub epoch: u64,
    /// The device that made the commit.
    pub sender: Member,
    /// Every device in the room after the commit.
    pub members: Vec<Member>,
    /// The destination's devices that the commit added.
    pub recipients: Vec<DeviceId>,
    /// The MLS Welcome.
    pub welcome: Bytes,
    /// The hub's stamp, milliseconds since the Unix epoch.
    pub stamp_ms: u64,
}

/// Another server's envelope, passed on by the hub untouched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// When the hub received it, milliseconds since the Unix epoch: the origin's key is judged at
    /// this time.
    pub stamp_ms: u64,
    /// What proves the envelope.
    pub proof: EnvelopeProof,
    /// The envelope's header and payload.
    pub envelope: Bytes,
}

/// What a [`Notice`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum About {
    /// A [`Message`].
    Message,
    /// A proposed [`Handshake`].
    Handshake,
}

/// Tells the origin what became of an envelope that had been accepted: it was refused further on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The room.
    pub room: RoomId,
    /// What was refused.
    pub about: About,
    /// The device that had sent it.
    pub device: DeviceId,
    /// The reference that the refused payload carried.
    pub reference: u64,
    /// The server at which it was refused.
    pub server: ServerName,
    /// Why.
    pub refusal: Refusal,
}

impl Wire for Message {
    const BYTES_MAX: usize = MESSAGE_BYTES_MAX + SMALL_FIELDS_BYTES_MAX;
    const NAME: &'static str = "message payload";

    fn write(&self, writer: &mut Writer) {
        writer.fixed(self.room.as_bytes());
        write_sender(writer, &self.sender);
        writer.u64(self.reference);
        writer.opaque32("message", MESSAGE_BYTES_MAX, &self.message);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            room: read_room(reader)?,
            sender: read_sender(reader)?,
            reference: reader.u64("reference")?,
            message: reader.opaque32("message", MESSAGE_BYTES_MAX)?,
        })
    }
}

impl Wire for Handshake {
    const BYTES_MAX: usize = PAYLOAD_BYTES_MAX;
    const NAME: &'static str = "handshake payload";

    fn write(&self, writer: &mut Writer) {
        writer.fixed(self.room.as_bytes());
        writer.server_name(&self.hub);
        writer.u64(self.epoch);
        write_member(writer, &self.sender);
        writer.u64(self.reference);
        writer.opaque32("commit", HANDSHAKE_BYTES_MAX, &self.commit);
        writer.list("adds", ROOM_DEVICES_MAX, &self.adds, write_member);
        writer.list("removes", ROOM_DEVICES_MAX, &self.removes, write_member);
        writer.optional(self.welcome.as_ref(), |writer, welcome| {
            writer.opaque32("welcome", WELCOME_BYTES_MAX, welcome);
        });
        writer.optional(self.group_info.as_ref(), |writer, group_info| {
            writer.opaque32("group info", GROUP_INFO_BYTES_MAX, group_info);
        });
        writer.u64(self.stamp_ms);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            room: read_room(reader)?,
            hub: reader.server_name("hub")?,
            epoch: reader.u64("epoch")?,
            sender: read_member(reader)?,
            reference: reader.u64("reference")?,
            commit: reader.opaque32("commit", HANDSHAKE_BYTES_MAX)?,
            adds: reader.list("adds", ROOM_DEVICES_MAX, read_member)?,
            removes: reader.list("removes", ROOM_DEVICES_MAX, read_member)?,
            welcome: reader.optional("welcome", |reader| {
                reader.opaque32("welcome", WELCOME_BYTES_MAX)
            })?,
            group_info: reader.optional("group info", |reader| {
                reader.opaque32("group info", GROUP_INFO_BYTES_MAX)
            })?,
            stamp_ms: reader.u64("stamp")?,
        })
    }
}

impl Wire for Welcome {
    const BYTES_MAX: usize = PAYLOAD_BYTES_MAX;
    const NAME: &'static str = "welcome payload";

    fn write(&self, writer: &mut Writer) {
        writer.fixed(self.room.as_bytes());
        writer.server_name(&self.hub);
        writer.u64(self.epoch);
        write_member(writer, &self.sender);
        writer.list("members", ROOM_DEVICES_MAX, &self.members, write_member);
        writer.list(
            "recipients",
            ROOM_DEVICES_MAX,
            &self.recipients,
            |writer, device| writer.fixed(device.as_bytes()),
        );
        writer.opaque32("welcome", WELCOME_BYTES_MAX, &self.welcome);
        writer.u64(self.stamp_ms);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            room: read_room(reader)?,
            hub: reader.server_name("hub")?,
            epoch: reader.u64("epoch")?,
            sender: read_member(reader)?,
            members: reader.list("members", ROOM_DEVICES_MAX, read_member)?,
            recipients: reader.list("recipients", ROOM_DEVICES_MAX, |reader| {
                reader.fixed("recipients").map(DeviceId::from_bytes)
            })?,
            welcome: reader.opaque32("welcome", WELCOME_BYTES_MAX)?,
            stamp_ms: reader.u64("stamp")?,
        })
    }
}

impl Wire for Relay {
    const BYTES_MAX: usize =
        RELAYED_ENVELOPE_BYTES_MAX + EnvelopeProof::BYTES_MAX + SMALL_FIELDS_BYTES_MAX;
    const NAME: &'static str = "relay payload";

    fn write(&self, writer: &mut Writer) {
        writer.u64(self.stamp_ms);
        self.proof.write(writer);
        writer.opaque32("envelope", RELAYED_ENVELOPE_BYTES_MAX, &self.envelope);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            stamp_ms: reader.u64("stamp")?,
            proof: EnvelopeProof::read(reader)?,
            envelope: reader.opaque32("envelope", RELAYED_ENVELOPE_BYTES_MAX)?,
        })
    }
}

impl Wire for Notice {
    const BYTES_MAX: usize =
        SERVER_NAME_WIRE_BYTES_MAX + REFUSAL_WIRE_BYTES_MAX + SMALL_FIELDS_BYTES_MAX;
    const NAME: &'static str = "notice payload";

    fn write(&self, writer: &mut Writer) {
        writer.fixed(self.room.as_bytes());
        writer.u8(match self.about {
            About::Message => 1,
            About::Handshake => 2,
        });
        writer.fixed(self.device.as_bytes());
        writer.u64(self.reference);
        writer.server_name(&self.server);
        write_refusal(writer, &self.refusal);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            room: read_room(reader)?,
            about: match reader.u8("subject of a notice")? {
                1 => About::Message,
                2 => About::Handshake,
                value => {
                    return Err(DecodeError::UnknownValue {
                        what: "subject of a notice",
                        value: value.into(),
                    });
                }
            },
            device: reader.fixed("device").map(DeviceId::from_bytes)?,
            reference: reader.u64("reference")?,
            server: reader.server_name("server")?,
            refusal: read_refusal(reader)?,
        })
    }
}

fn read_room(reader: &mut Reader) -> Result<RoomId, DecodeError> {
    reader.fixed("room").map(RoomId::from_bytes)
}

fn write_sender(writer: &mut Writer, sender: &Sender) {
    writer.fixed(sender.account.as_bytes());
    writer.fixed(sender.device.as_bytes());
}

fn read_sender(reader: &mut Reader) -> Result<Sender, DecodeError> {
    Ok(Sender {
        account: reader.fixed("account").map(AccountId::from_bytes)?,
        device: reader.fixed("device").map(DeviceId::from_bytes)?,
    })
}

fn write_member(writer: &mut Writer, member: &Member) {
    writer.server_name(&member.server);
    writer.fixed(member.account.as_bytes());
    writer.fixed(member.device.as_bytes());
}

fn read_member(reader: &mut Reader) -> Result<Member, DecodeError> {
    Ok(Member {
        server: reader.server_name("member's server")?,
        account: reader
            .fixed("member's account")
            .map(AccountId::from_bytes)?,
        device: reader.fixed("member's device").map(DeviceId::from_bytes)?,
    })
}

fn write_handle(writer: &mut Writer, handle: &Handle) {
    writer.opaque8("handle", HANDLE_BYTES_MAX, handle.as_str().as_bytes());
}

fn read_handle(reader: &mut Reader) -> Result<Handle, DecodeError> {
    let bytes = reader.opaque8("handle", HANDLE_BYTES_MAX)?;
    std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(DecodeError::Invalid("handle"))
}

pub(crate) fn write_refusal(writer: &mut Writer, refusal: &Refusal) {
    writer.refusal_code(refusal.code);
    writer.reason(&refusal.reason);
}

pub(crate) fn read_refusal(reader: &mut Reader) -> Result<Refusal, DecodeError> {
    Ok(Refusal {
        code: reader.refusal_code()?,
        reason: reader.reason()?,
    })
}

/// What was asked for, or why not.
pub(crate) fn write_result<T>(
    writer: &mut Writer,
    result: &Result<T, Refusal>,
    write: impl FnOnce(&mut Writer, &T),
) {
    match result {
        Ok(found) => {
            writer.u8(1);
            write(writer, found);
        }
        Err(refusal) => {
            writer.u8(2);
            write_refusal(writer, refusal);
        }
    }
}

pub(crate) fn read_result<T>(
    reader: &mut Reader,
    read: impl FnOnce(&mut Reader) -> Result<T, DecodeError>,
) -> Result<Result<T, Refusal>, DecodeError> {
    match reader.u8("result")? {
        1 => Ok(Ok(read(reader)?)),
        2 => Ok(Err(read_refusal(reader)?)),
        value => Err(DecodeError::UnknownValue {
            what: "result",
            value: value.into(),
        }),
    }
}

impl Tombstone {
    /// How many positions a tombstone with this payload covers; 1 when it does not decode.
    pub(crate) fn count_in(payload: Bytes) -> u32 {
        Self::from_bytes(payload).map_or(1, |tombstone| tombstone.count)
    }
}
