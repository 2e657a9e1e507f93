//! What one own device knows for another one: conversations, messages, and whom a person has confirmed.
//!
//! It travels in parts from device to device, each the content of one message in a room of the two devices
//! ([`crate::content`]), and it is what a backup file holds ([`crate::backup`]).
//!
//! ```text
//! part: version (1) · transfer (16) · number (u32) · of (u32) · entries to the end
//! entry: kind (1) ·
//!   conversation (1): room (16) · hub<u8> · count (u16) · (server<u8> · handle<u8>) each
//!   message (2): room (16) · server<u8> · account (16) · device (16) · handle<u8> · accepted ms (u64) ·
//!     expires ms (u64) · order ms (u64) · has digest (0 or 1) · [SHA-256 (32)] · content<u16>
//!   person (3): server<u8> · account (16) · handle<u8> · confirmed (u64) · count (u16) · statement<u16> each
//! ```
//! Integers are big-endian. A content is one of [`crate::content`] without its padding, and never a part of a history.
//! One encoding per value. Never in it: ratchets, counters, keys and tokens of a device.

use homeserver_api::Digest;
use homeserver_api::ids::{AccountId, Address, DeviceId, Handle, Member, RoomId, ServerName};

use crate::content::{Content, Part, Reader, put_short};
use crate::error::Error;

const VERSION: u8 = 1;
const CONVERSATION: u8 = 1;
const MESSAGE: u8 = 2;
const PERSON: u8 = 3;

/// Longest part of a history.
pub(crate) const HISTORY_PART_BYTES_MAX: usize = 56 * 1024;
/// What stands before a part's entries.
const PART_HEAD_BYTES: usize = 1 + 16 + 4 + 4;
/// Longest entry: a part holds at least one.
pub(crate) const ENTRY_BYTES_MAX: usize = HISTORY_PART_BYTES_MAX - PART_HEAD_BYTES;
/// Most addresses that a conversation is named by.
pub(crate) const CONVERSATION_ADDRESSES_MAX: usize = 64;
/// Most parts of one transfer.
pub(crate) const PARTS_MAX: u32 = 800;

const _: () = assert!(crate::content::TEXT_BYTES_MAX + 2048 < ENTRY_BYTES_MAX);

/// One thing that a device knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    Conversation(Conversation),
    Message(Box<PastMessage>),
    Person(PastPerson),
}

/// A conversation that messages are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conversation {
    pub(crate) room: RoomId,
    pub(crate) hub: ServerName,
    /// Who was in it.
    pub(crate) addresses: Vec<Address>,
}

/// A message as the device had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PastMessage {
    pub(crate) room: RoomId,
    pub(crate) device: Member,
    pub(crate) handle: Handle,
    pub(crate) accepted_ms: u64,
    pub(crate) expires_ms: u64,
    /// Grows along the conversation as the device had it.
    pub(crate) order_ms: u64,
    /// Of the MLS PrivateMessage, for a report; an own message has none.
    pub(crate) message_sha256: Option<Digest>,
    pub(crate) content: Content,
}

/// What is known of somebody's devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PastPerson {
    pub(crate) server: ServerName,
    pub(crate) account: AccountId,
    pub(crate) handle: Handle,
    /// The newest statement up to which a person has confirmed them.
    pub(crate) confirmed: u64,
    pub(crate) statements: Vec<Vec<u8>>,
}

/// One part of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HistoryPart {
    /// Tells one transfer from another.
    pub(crate) transfer: [u8; 16],
    /// From 0.
    pub(crate) number: u32,
    /// How many there are.
    pub(crate) of: u32,
    pub(crate) entries: Vec<Entry>,
}

impl Entry {
    /// The entry's bytes; those of one that is too long are refused.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        match self {
            Self::Conversation(conversation) => conversation.encode(&mut bytes)?,
            Self::Message(message) => message.encode(&mut bytes)?,
            Self::Person(person) => person.encode(&mut bytes)?,
        }
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(too_long());
        }
        Ok(bytes)
    }

    /// Reads one entry.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let before = reader.rest().len();
        let entry = match reader.array()? {
            [CONVERSATION] => Self::Conversation(Conversation::read(reader)?),
            [MESSAGE] => Self::Message(Box::new(PastMessage::read(reader)?)),
            [PERSON] => Self::Person(PastPerson::read(reader)?),
            _ => return Err(wrong("has an entry that this version does not know")),
        };
        if before - reader.rest().len() > ENTRY_BYTES_MAX {
            return Err(too_long());
        }
        Ok(entry)
    }
}

impl Conversation {
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), Error> {
        if self.addresses.len() > CONVERSATION_ADDRESSES_MAX {
            return Err(too_long());
        }
        bytes.push(CONVERSATION);
        bytes.extend_from_slice(self.room.as_bytes());
        put_short(bytes, self.hub.as_str())?;
        put_count(bytes, self.addresses.len())?;
        for address in &self.addresses {
            put_short(bytes, address.server.as_str())?;
            put_short(bytes, address.handle.as_str())?;
        }
        Ok(())
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let room = RoomId::from_bytes(reader.array()?);
        let hub = server(reader)?;
        let count = usize::from(u16::from_be_bytes(reader.array()?));
        if count > CONVERSATION_ADDRESSES_MAX {
            return Err(too_long());
        }
        let address = |_| -> Result<Address, Error> {
            let server = server(reader)?;
            let handle = handle(reader)?;
            Ok(Address { handle, server })
        };
        let addresses = (0..count).map(address).collect::<Result<_, _>>()?;
        Ok(Self {
            room,
            hub,
            addresses,
        })
    }
}

impl PastMessage {
    /// Its author's address.
    pub(crate) fn sender(&self) -> Address {
        Address {
            handle: self.handle.clone(),
            server: self.device.server.clone(),
        }
    }

    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), Error> {
        if matches!(self.content.part, Part::History(_)) {
            return Err(wrong("holds a history"));
        }
        bytes.push(MESSAGE);
        bytes.extend_from_slice(self.room.as_bytes());
        put_short(bytes, self.device.server.as_str())?;
        bytes.extend_from_slice(self.device.account.as_bytes());
        bytes.extend_from_slice(self.device.device.as_bytes());
        put_short(bytes, self.handle.as_str())?;
        for at_ms in [self.accepted_ms, self.expires_ms, self.order_ms] {
            bytes.extend_from_slice(&at_ms.to_be_bytes());
        }
        match &self.message_sha256 {
            None => bytes.push(0),
            Some(sha256) => {
                bytes.push(1);
                bytes.extend_from_slice(sha256.as_bytes());
            }
        }
        put_long(bytes, &self.content.encode_bare()?)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let room = RoomId::from_bytes(reader.array()?);
        let device = Member {
            server: server(reader)?,
            account: AccountId::from_bytes(reader.array()?),
            device: DeviceId::from_bytes(reader.array()?),
        };
        let handle = handle(reader)?;
        let accepted_ms = u64::from_be_bytes(reader.array()?);
        let expires_ms = u64::from_be_bytes(reader.array()?);
        let order_ms = u64::from_be_bytes(reader.array()?);
        let message_sha256 = match reader.array()? {
            [0] => None,
            [1] => Some(Digest::from_bytes(reader.array()?)),
            _ => return Err(wrong("has a flag that is neither 0 nor 1")),
        };
        let content = Content::decode_bare(long(reader)?)?;
        if matches!(content.part, Part::History(_)) {
            return Err(wrong("holds a history"));
        }
        Ok(Self {
            room,
            device,
            handle,
            accepted_ms,
            expires_ms,
            order_ms,
            message_sha256,
            content,
        })
    }
}

impl PastPerson {
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), Error> {
        bytes.push(PERSON);
        put_short(bytes, self.server.as_str())?;
        bytes.extend_from_slice(self.account.as_bytes());
        put_short(bytes, self.handle.as_str())?;
        bytes.extend_from_slice(&self.confirmed.to_be_bytes());
        put_count(bytes, self.statements.len())?;
        self.statements
            .iter()
            .try_for_each(|statement| put_long(bytes, statement))
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let server = server(reader)?;
        let account = AccountId::from_bytes(reader.array()?);
        let handle = handle(reader)?;
        let confirmed = u64::from_be_bytes(reader.array()?);
        let count = u16::from_be_bytes(reader.array()?);
        // Each takes at least its length's two bytes, so a lie about the count ends with the bytes.
        let statements = (0..count)
            .map(|_| long(reader).map(<[u8]>::to_vec))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            server,
            account,
            handle,
            confirmed,
            statements,
        })
    }
}

impl HistoryPart {
    /// Reads [`encode_part`]'s bytes and nothing else.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > HISTORY_PART_BYTES_MAX {
            return Err(too_long());
        }
        let mut reader = Reader::new(bytes);
        let [version] = reader.array()?;
        if version != VERSION {
            return Err(wrong("is of another version"));
        }
        let transfer = reader.array()?;
        let number = u32::from_be_bytes(reader.array()?);
        let of = u32::from_be_bytes(reader.array()?);
        if of == 0 || of > PARTS_MAX || number >= of {
            return Err(wrong("has a part that is none of those it has"));
        }
        let mut entries = Vec::new();
        while !reader.is_empty() {
            entries.push(Entry::read(&mut reader)?);
        }
        Ok(Self {
            transfer,
            number,
            of,
            entries,
        })
    }
}

/// Puts entries' bytes into parts, in their order; the label of a part is the highest of its entries.
pub(crate) fn cut(entries: Vec<(u8, Vec<u8>)>) -> Vec<(u8, Vec<u8>)> {
    let mut parts: Vec<(u8, Vec<u8>)> = Vec::new();
    for (label, entry) in entries {
        match parts.last_mut() {
            Some((highest, part)) if part.len() + entry.len() <= ENTRY_BYTES_MAX => {
                *highest = label.max(*highest);
                part.extend_from_slice(&entry);
            }
            _ => parts.push((label, entry)),
        }
    }
    if parts.is_empty() {
        parts.push((0, Vec::new()));
    }
    parts
}

/// One part's bytes.
pub(crate) fn encode_part(transfer: [u8; 16], number: u32, of: u32, entries: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PART_HEAD_BYTES + entries.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&transfer);
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&of.to_be_bytes());
    bytes.extend_from_slice(entries);
    bytes
}

/// A server's name, as it stands.
pub(crate) fn server(reader: &mut Reader<'_>) -> Result<ServerName, Error> {
    let text = reader.short()?;
    text.parse()
        .ok()
        .filter(|server: &ServerName| server.as_str() == text)
        .ok_or_else(|| wrong("names no server"))
}

/// A person's handle, as it stands.
pub(crate) fn handle(reader: &mut Reader<'_>) -> Result<Handle, Error> {
    let text = reader.short()?;
    text.parse()
        .ok()
        .filter(|handle: &Handle| handle.as_str() == text)
        .ok_or_else(|| wrong("names nobody"))
}

fn put_count(bytes: &mut Vec<u8>, count: usize) -> Result<(), Error> {
    let count = u16::try_from(count).map_err(|_| too_long())?;
    bytes.extend_from_slice(&count.to_be_bytes());
    Ok(())
}

fn put_long(bytes: &mut Vec<u8>, long: &[u8]) -> Result<(), Error> {
    put_count(bytes, long.len())?;
    bytes.extend_from_slice(long);
    Ok(())
}

fn long<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Error> {
    let length = u16::from_be_bytes(reader.array()?);
    reader.bytes(usize::from(length))
}

fn wrong(what: &str) -> Error {
    Error::Mls(format!("the history {what}"))
}

fn too_long() -> Error {
    wrong("has an entry that is too long")
}

/// Reads bytes as a part of a history: what is one has one encoding.
#[cfg(any(test, feature = "fuzzing"))]
#[expect(
    clippy::expect_used,
    reason = "tests and fuzzing stop at the first surprise"
)]
pub(crate) fn read_any_part(bytes: &[u8]) {
    if let Ok(part) = HistoryPart::decode(bytes) {
        let encode = |entry: &Entry| entry.encode().expect("it can be written");
        let entries: Vec<u8> = part.entries.iter().flat_map(encode).collect();
        let written = encode_part(part.transfer, part.number, part.of, &entries);
        assert_eq!(written, bytes);
    }
}

#[cfg(test)]
pub(crate) mod tests;
