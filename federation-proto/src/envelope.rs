//! Envelopes: the unit that one server hands to another.
//!
//! A fixed binary header followed by an opaque payload. The header names no user; it says which
//! server speaks to which, on which lane, at which position, until when, and what the payload
//! hashes to. Signatures cover the header's exact bytes (see [`crate::transaction`]).

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::hash::{Digest, POSITION};
use crate::ids::{RoomId, ServerName};
use crate::keys::KeyId;
use crate::limits::{PAYLOAD_BYTES_MAX, SERVER_NAME_BYTES_MAX};
use crate::version::Version;

/// What an envelope's payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// An application message.
    Message,
    /// A commit, proposed to the hub or ordered by it.
    Handshake,
    /// A welcome for devices that a commit adds.
    Welcome,
    /// Another server's envelope, passed on by the hub.
    Relay,
    /// A request for key packages.
    KeyRequest,
    /// The answer to one.
    KeyResponse,
    /// What became of an envelope after it was accepted.
    Notice,
    /// Stands for positions whose envelopes will never come.
    Tombstone,
    /// A question about the destination's people.
    DirectoryQuery,
    /// The answer to one.
    DirectoryAnswer,
    /// What somebody reports about one of the destination's people.
    AbuseReport,
    /// A request for a room's newest group info.
    GroupInfoRequest,
    /// The answer to one.
    GroupInfo,
    /// A person asks for consent to be contacted, gives it or takes it back.
    Contact,
    /// The origin's device log has grown.
    LogHead,
    /// A follower asks its room's hub to remove an account, or a device, of its own.
    RemovalRequest,
    /// Removals that a room's hub has ordered.
    Removals,
    /// A request for the destination's consent to a room.
    RoomConsentRequest,
    /// The answer to one.
    RoomConsent,
    /// The origin's audit log has grown.
    AuditHead,
    /// What the origin has seen of the destination's audit log.
    AuditSighting,
}

impl Kind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 21] = [
        Self::Message,
        Self::Handshake,
        Self::Welcome,
        Self::Relay,
        Self::KeyRequest,
        Self::KeyResponse,
        Self::Notice,
        Self::Tombstone,
        Self::DirectoryQuery,
        Self::DirectoryAnswer,
        Self::AbuseReport,
        Self::GroupInfoRequest,
        Self::GroupInfo,
        Self::Contact,
        Self::LogHead,
        Self::RemovalRequest,
        Self::Removals,
        Self::RoomConsentRequest,
        Self::RoomConsent,
        Self::AuditHead,
        Self::AuditSighting,
    ];

    /// The number that stands for it.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Message => 1,
            Self::Handshake => 2,
            Self::Welcome => 3,
            Self::Relay => 4,
            Self::KeyRequest => 5,
            Self::KeyResponse => 6,
            Self::Notice => 7,
            Self::Tombstone => 8,
            Self::DirectoryQuery => 9,
            Self::DirectoryAnswer => 10,
            Self::AbuseReport => 11,
            Self::GroupInfoRequest => 13,
            Self::GroupInfo => 14,
            Self::Contact => 12,
            Self::LogHead => 15,
            Self::RemovalRequest => 16,
            Self::Removals => 17,
            Self::RoomConsentRequest => 18,
            Self::RoomConsent => 19,
            Self::AuditHead => 20,
            Self::AuditSighting => 21,
        }
    }

    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// The cryptographic suite of envelopes: Ed25519 and SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Suite {
    /// Ed25519 signatures, SHA-256 digests.
    Ed25519Sha256,
}

impl Suite {
    pub(crate) fn write(self, writer: &mut Writer) {
        match self {
            Self::Ed25519Sha256 => writer.u8(1),
        }
    }

    pub(crate) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        match reader.u8("suite")? {
            1 => Ok(Self::Ed25519Sha256),
            value => Err(DecodeError::UnknownValue {
                what: "suite",
                value: value.into(),
            }),
        }
    }
}

/// An order within a link: a room's, or the control lane's. Lanes never wait for each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lane([u8; 16]);

impl Lane {
    /// What belongs to no room: requests for key packages, look-ups, their answers, reports, consent to contacts,
    /// heads of device logs.
    pub const CONTROL: Self = Self([0; 16]);

    /// The lane with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The room whose lane it is; `None` for the control lane.
    #[must_use]
    pub fn room(&self) -> Option<RoomId> {
        (*self != Self::CONTROL).then(|| RoomId::from_bytes(self.0))
    }
}

impl From<RoomId> for Lane {
    fn from(room: RoomId) -> Self {
        Self(*room.as_bytes())
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lane({self})")
    }
}

/// An envelope's header.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Header {
    /// The protocol version.
    pub version: Version,
    /// The cryptographic suite.
    pub suite: Suite,
    /// What the payload is.
    pub kind: Kind,
    /// Who speaks.
    pub origin: ServerName,
    /// To whom.
    pub destination: ServerName,
    /// The origin's envelope key that signed.
    pub key_id: KeyId,
    /// The link's epoch; grows when the origin starts its numbering anew.
    pub link_epoch: u64,
    /// The lane.
    pub lane: Lane,
    /// The position in the lane; the first is 1.
    pub sequence: u64,
    /// The origin's durable acceptance, milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When it must be deleted, milliseconds since the Unix epoch; 0: never, and for a tombstone always.
    pub expires_ms: u64,
    /// The payload's length.
    pub payload_length: u32,
    /// The payload's SHA-256.
    pub payload_sha256: Digest,
}

impl Wire for Header {
    const BYTES_MAX: usize =
        2 + 1 + 1 + 2 * (1 + SERVER_NAME_BYTES_MAX) + 8 + 8 + 16 + 3 * 8 + 4 + 32;
    const NAME: &'static str = "header";

    fn write(&self, writer: &mut Writer) {
        self.version.write(writer);
        self.suite.write(writer);
        writer.u8(self.kind.number());
        writer.server_name(&self.origin);
        writer.server_name(&self.destination);
        writer.fixed(&self.key_id.0);
        writer.u64(self.link_epoch);
        writer.fixed(self.lane.as_bytes());
        writer.u64(self.sequence);
        writer.u64(self.created_ms);
        writer.u64(self.expires_ms);
        writer.u32(self.payload_length);
        writer.fixed(self.payload_sha256.as_bytes());
        let too_long = usize::try_from(self.payload_length).is_ok_and(|n| n > PAYLOAD_BYTES_MAX);
        if too_long {
            writer.fail("payload", PAYLOAD_BYTES_MAX);
        }
        if self.sequence == 0 {
            writer.fail("sequence", 0);
        }
        if self.is_mortal_tombstone() {
            writer.fail("a tombstone's expires", 0);
        }
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let header = Self {
            version: Version::read(reader)?,
            suite: Suite::read(reader)?,
            kind: read_kind(reader)?,
            origin: reader.server_name("origin")?,
            destination: reader.server_name("destination")?,
            key_id: KeyId(reader.fixed("key id")?),
            link_epoch: reader.u64("link epoch")?,
            lane: Lane(reader.fixed("lane")?),
            sequence: reader.u64("sequence")?,
            created_ms: reader.u64("created")?,
            expires_ms: reader.u64("expires")?,
            payload_length: reader.u32("payload length")?,
            payload_sha256: Digest::from_bytes(reader.fixed("payload hash")?),
        };
        if usize::try_from(header.payload_length).map_or(true, |n| n > PAYLOAD_BYTES_MAX) {
            return Err(DecodeError::TooLong {
                what: "payload",
                max: PAYLOAD_BYTES_MAX,
            });
        }
        if header.sequence == 0 {
            return Err(DecodeError::Invalid("sequence"));
        }
        if header.is_mortal_tombstone() {
            return Err(DecodeError::Invalid("a tombstone's expires"));
        }
        Ok(header)
    }
}

fn read_kind(reader: &mut Reader) -> Result<Kind, DecodeError> {
    let number = reader.u8("kind")?;
    Kind::from_number(number).ok_or(DecodeError::UnknownValue {
        what: "kind",
        value: number.into(),
    })
}

impl Header {
    /// What identifies the envelope at its position: a hash of the header without the version and
    /// the key id, so that what is sent again after an update or a change of keys is the same.
    #[must_use]
    pub fn position_hash(&self) -> Digest {
        let mut writer = Writer::with_capacity(Self::BYTES_MAX);
        self.write(&mut writer);
        position_hash(writer.written_since(0), self.key_id_range())
    }

    /// A tombstone that expired would be refused at its first position, and the rest of its range stay
    /// a gap for ever.
    fn is_mortal_tombstone(&self) -> bool {
        self.kind == Kind::Tombstone && self.expires_ms != 0
    }

    pub(crate) fn key_id_range(&self) -> Range<usize> {
        let names = self.origin.as_str().len() + self.destination.as_str().len();
        let start = 2 + 1 + 1 + 2 + names;
        start..start + 8
    }
}

/// A version on the wire: what a header starts with.
const VERSION_BYTES: usize = 2;

pub(crate) fn position_hash(header: &[u8], key_id: Range<usize>) -> Digest {
    let before = header.get(VERSION_BYTES..key_id.start).unwrap_or_default();
    let after = header.get(key_id.end..).unwrap_or_default();
    Digest::of_parts(&[&[POSITION], before, after])
}

/// A payload and its SHA-256, computed once and then carried along.
#[derive(Clone, PartialEq, Eq)]
pub struct HashedPayload {
    bytes: Bytes,
    sha256: Digest,
}

impl HashedPayload {
    /// Hashes the payload.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        let sha256 = Digest::of(&bytes);
        Self { bytes, sha256 }
    }

    /// The payload.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its SHA-256.
    #[must_use]
    pub const fn sha256(&self) -> Digest {
        self.sha256
    }
}

impl fmt::Debug for HashedPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "HashedPayload({} bytes, {})",
            self.bytes.len(),
            self.sha256
        )
    }
}

/// An envelope that waits for its transaction: all of it but what the transaction decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// What the payload is.
    pub kind: Kind,
    /// The lane.
    pub lane: Lane,
    /// The position in the lane.
    pub sequence: u64,
    /// The durable acceptance, milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When it must be deleted; 0: never.
    pub expires_ms: u64,
    /// The payload.
    pub payload: HashedPayload,
}
