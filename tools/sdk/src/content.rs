//! What is inside an application message, and how long it looks from outside.
//!
//! ```text
//! version (1) · id (16) · sent ms (u64) · TTL (u32) · burn (u32) · label (u8) ·
//! number (u64) · in epoch (u32) · recent<u8> of (u32) · older (u32) · kind (u8) ·
//!   text (1): opaque<u16>
//!   file (2): server<u8> · id (16) · name<u8> · bytes (u64) · key (32) · SHA-256 (32)
//!   history (3): opaque<u16>, see [`crate::history`]
//! zeros up to a Padmé length of at least 256 bytes
//! ```
//! Integers are big-endian, `<u8>` and `<u16>` a length before the bytes. One encoding per value:
//! the padding's length and bytes are checked, nothing may follow. Written by hand, because clients
//! of other organisations read it too.

use homeserver_api::attributes::MessageAttributes;
use homeserver_api::ids::{FileId, ServerName};

use crate::error::Error;
use crate::history::HISTORY_PART_BYTES_MAX;
use crate::message::MessageId;
use crate::padding;

const VERSION: u8 = 1;
const TEXT: u8 = 1;
const FILE: u8 = 2;
const HISTORY: u8 = 3;
/// Messages of which each one tells when they expire.
pub(crate) const RECENT_MAX: usize = 16;
/// Longest text of a message.
pub const TEXT_BYTES_MAX: usize = 48 * 1024;
/// Longest name of a file.
pub(crate) const FILE_NAME_BYTES_MAX: usize = 255;
/// Longest padded content: with MLS's framing it stays below the largest message.
const CONTENT_BYTES_MAX: usize = 60 * 1024;

const _: () = assert!(TEXT_BYTES_MAX + 1024 < CONTENT_BYTES_MAX);
// With what stands before it and Padmé's share, at most a sixteenth of such a length.
const _: () = assert!((HISTORY_PART_BYTES_MAX + 128) / 16 * 17 <= CONTENT_BYTES_MAX);
const _: () = assert!(CONTENT_BYTES_MAX + 2048 <= 64 * 1024);

/// An application message's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) id: MessageId,
    /// The sender's clock, milliseconds since the Unix epoch.
    pub(crate) sent_ms: u64,
    pub(crate) ttl_seconds: u32,
    pub(crate) burn_seconds: u32,
    pub(crate) label: u8,
    pub(crate) order: Order,
    pub(crate) part: Part,
}

/// Where a message stands among those that its device has sent to the room: what is missing shows by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Order {
    /// Which of the device's messages in the room it is, from 1; 0 before it is encrypted.
    pub(crate) number: u64,
    /// How many of those before it were encrypted in the same epoch.
    pub(crate) in_epoch: u32,
    /// Of those before it, the newest first: the second since the Unix epoch by which each has expired, 0 when it came
    /// to nothing.
    pub(crate) recent: Vec<u32>,
    /// By when everything before these has expired; 0 when there is nothing.
    pub(crate) older: u32,
}

impl Order {
    /// Whether it can be any message's at all.
    pub(crate) fn is_possible(&self) -> bool {
        let before = self.number.saturating_sub(1);
        let recent = u64::try_from(self.recent.len()).unwrap_or(u64::MAX);
        self.number > 0 && u64::from(self.in_epoch) <= before && recent <= before
    }
}

/// What a content carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Text(String),
    File(FileReference),
    /// A part of what an own device knows, for another own one.
    History(Vec<u8>),
}

/// Where a file is and how it is opened and checked.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct FileReference {
    pub(crate) server: ServerName,
    pub(crate) file: FileId,
    pub(crate) name: String,
    /// Its length, before encryption and padding.
    pub(crate) bytes: u64,
    pub(crate) key: [u8; 32],
    /// SHA-256 of the encrypted file.
    pub(crate) sha256: [u8; 32],
}

impl std::fmt::Debug for FileReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileReference({} at {})", self.file, self.server)
    }
}

impl Content {
    /// What the servers may know of it.
    pub(crate) const fn attributes(&self) -> MessageAttributes {
        MessageAttributes {
            ttl_seconds: self.ttl_seconds,
            burn_seconds: self.burn_seconds,
            label: self.label,
            file: matches!(self.part, Part::File(_)),
        }
    }

    /// The padded bytes to encrypt.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = self.encode_bare()?;
        let padded = padded_length(bytes.len()).ok_or_else(too_long)?;
        bytes.resize(padded, 0);
        Ok(bytes)
    }

    /// The bytes without padding, for where something else hides their length.
    pub(crate) fn encode_bare(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(self.id.as_bytes());
        bytes.extend_from_slice(&self.sent_ms.to_be_bytes());
        bytes.extend_from_slice(&self.ttl_seconds.to_be_bytes());
        bytes.extend_from_slice(&self.burn_seconds.to_be_bytes());
        bytes.push(self.label);
        let order = &self.order;
        bytes.extend_from_slice(&order.number.to_be_bytes());
        bytes.extend_from_slice(&order.in_epoch.to_be_bytes());
        let recent = order.recent.get(..RECENT_MAX).unwrap_or(&order.recent);
        bytes.push(u8::try_from(recent.len()).map_err(|_| too_long())?);
        for ends in recent {
            bytes.extend_from_slice(&ends.to_be_bytes());
        }
        bytes.extend_from_slice(&order.older.to_be_bytes());
        match &self.part {
            Part::Text(text) => {
                let length = u16::try_from(text.len()).map_err(|_| too_long())?;
                bytes.push(TEXT);
                bytes.extend_from_slice(&length.to_be_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
            Part::File(file) => {
                bytes.push(FILE);
                put_short(&mut bytes, file.server.as_str())?;
                bytes.extend_from_slice(file.file.as_bytes());
                put_short(&mut bytes, &file.name)?;
                bytes.extend_from_slice(&file.bytes.to_be_bytes());
                bytes.extend_from_slice(&file.key);
                bytes.extend_from_slice(&file.sha256);
            }
            Part::History(part) => {
                let length = u16::try_from(part.len()).map_err(|_| too_long())?;
                bytes.push(HISTORY);
                bytes.extend_from_slice(&length.to_be_bytes());
                bytes.extend_from_slice(part);
            }
        }
        Ok(bytes)
    }

    /// Reads [`Self::encode`]'s bytes and nothing else.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let content = Self::read(&mut reader)?;
        let body = bytes.len() - reader.rest.len();
        let as_padded =
            padded_length(body) == Some(bytes.len()) && reader.rest.iter().all(|byte| *byte == 0);
        if as_padded {
            Ok(content)
        } else {
            Err(wrong("is not padded as it must be"))
        }
    }

    /// Reads [`Self::encode_bare`]'s bytes and nothing else.
    pub(crate) fn decode_bare(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let content = Self::read(&mut reader)?;
        if reader.is_empty() {
            Ok(content)
        } else {
            Err(wrong("goes on where it should end"))
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let [version] = reader.array()?;
        if version != VERSION {
            return Err(wrong("is of another version"));
        }
        Ok(Self {
            id: MessageId::from_bytes(reader.array()?),
            sent_ms: u64::from_be_bytes(reader.array()?),
            ttl_seconds: u32::from_be_bytes(reader.array()?),
            burn_seconds: u32::from_be_bytes(reader.array()?),
            label: u8::from_be_bytes(reader.array()?),
            order: reader.order()?,
            part: reader.part()?,
        })
    }
}

/// What is left of bytes that are being read.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What has not been read yet.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(cut_short)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(cut_short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn text(&mut self, length: usize) -> Result<&'a str, Error> {
        let taken = self.bytes(length)?;
        std::str::from_utf8(taken).map_err(|_| wrong("holds text that is not UTF-8"))
    }

    pub(crate) fn short(&mut self) -> Result<&'a str, Error> {
        let [length] = self.array()?;
        self.text(usize::from(length))
    }

    fn order(&mut self) -> Result<Order, Error> {
        let number = u64::from_be_bytes(self.array()?);
        let in_epoch = u32::from_be_bytes(self.array()?);
        let [count] = self.array()?;
        if usize::from(count) > RECENT_MAX {
            return Err(wrong("tells of too many messages before it"));
        }
        let recent = (0..count)
            .map(|_| self.array().map(u32::from_be_bytes))
            .collect::<Result<_, _>>()?;
        let older = u32::from_be_bytes(self.array()?);
        Ok(Order {
            number,
            in_epoch,
            recent,
            older,
        })
    }

    fn part(&mut self) -> Result<Part, Error> {
        match self.array()? {
            [TEXT] => {
                let length = usize::from(u16::from_be_bytes(self.array()?));
                if length > TEXT_BYTES_MAX {
                    return Err(wrong("is too long"));
                }
                Ok(Part::Text(self.text(length)?.to_owned()))
            }
            [HISTORY] => {
                let length = usize::from(u16::from_be_bytes(self.array()?));
                if length > HISTORY_PART_BYTES_MAX {
                    return Err(wrong("is too long"));
                }
                Ok(Part::History(self.bytes(length)?.to_vec()))
            }
            [FILE] => {
                let server = self.short()?.parse();
                let file = FileReference {
                    server: server.map_err(|_| wrong("names no server that holds the file"))?,
                    file: FileId::from_bytes(self.array()?),
                    name: self.short()?.to_owned(),
                    bytes: u64::from_be_bytes(self.array()?),
                    key: self.array()?,
                    sha256: self.array()?,
                };
                if is_file_name(&file.name) {
                    Ok(Part::File(file))
                } else {
                    Err(wrong("names a file as no file is named"))
                }
            }
            _ => Err(wrong("is of a kind that this version does not know")),
        }
    }
}

pub(crate) fn put_short(bytes: &mut Vec<u8>, text: &str) -> Result<(), Error> {
    let length = u8::try_from(text.len())
        .map_err(|_| Error::InvalidArgument("a name is too long".to_owned()))?;
    bytes.push(length);
    bytes.extend_from_slice(text.as_bytes());
    Ok(())
}

fn wrong(what: &str) -> Error {
    Error::Mls(format!("the message's content {what}"))
}

fn cut_short() -> Error {
    wrong("is cut short")
}

/// Whether a name is safe to show and to save under: no folders, nothing hidden, no control
/// characters.
pub(crate) fn is_file_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= FILE_NAME_BYTES_MAX
        && !name.starts_with('.')
        && !name
            .chars()
            .any(|c| c == '/' || c == '\\' || c.is_control())
}

fn padded_length(body: usize) -> Option<usize> {
    let padded = usize::try_from(padding::padded(u64::try_from(body).ok()?)).ok()?;
    (padded <= CONTENT_BYTES_MAX).then_some(padded)
}

fn too_long() -> Error {
    Error::InvalidArgument(format!(
        "a message has at most {TEXT_BYTES_MAX} bytes of text"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(part: Part) -> Content {
        Content {
            id: MessageId::from_bytes([1; 16]),
            sent_ms: 1_790_000_000_000,
            ttl_seconds: 3600,
            burn_seconds: 0,
            label: 0,
            order: Order {
                number: 3,
                in_epoch: 1,
                recent: vec![1_790_003_600, 0],
                older: 0,
            },
            part,
        }
    }

    /// Goal: short texts look alike, long ones have Padmé lengths, the longest still fits.
    #[test]
    fn lengths() {
        let length = |text: usize| {
            content(Part::Text("x".repeat(text)))
                .encode()
                .map(|bytes| bytes.len())
        };
        assert_eq!(length(0), Ok(256));
        assert_eq!(length(1), Ok(256));
        assert_eq!(length(190), Ok(256));
        assert_eq!(length(300), Ok(368));
        assert_eq!(length(1024), Ok(1088));
        assert!(length(TEXT_BYTES_MAX).unwrap() <= CONTENT_BYTES_MAX);
        let history = content(Part::History(vec![1; HISTORY_PART_BYTES_MAX]));
        assert!(history.encode().is_ok());
        assert!(length(CONTENT_BYTES_MAX).is_err());
    }

    /// Goal: the encoding is what the protocol's text says; by bytes written out by hand.
    #[test]
    fn known_bytes() {
        let mut text = content(Part::Text("hi".to_owned()));
        text.label = 3;
        let expected = [
            "01",
            "01010101010101010101010101010101",
            "000001a0c4506c00",
            "00000e10",
            "00000000",
            "03",
            "0000000000000003",
            "00000001",
            "026ab1499000000000",
            "00000000",
            "01",
            "0002",
            "6869",
        ]
        .concat();
        let bytes = text.encode().unwrap();
        assert_eq!(hex::encode(&bytes[..64]), expected);
        assert_eq!(bytes.len(), 256);
        let file = content(Part::File(FileReference {
            server: "a.example".parse().unwrap(),
            file: FileId::from_bytes([2; 16]),
            name: "x.txt".to_owned(),
            bytes: 258,
            key: [3; 32],
            sha256: [4; 32],
        }));
        let expected = [
            "02",
            "09612e6578616d706c65",
            "02020202020202020202020202020202",
            "05782e747874",
            "0000000000000102",
            &"03".repeat(32),
            &"04".repeat(32),
        ]
        .concat();
        let bytes = file.encode().unwrap();
        assert_eq!(hex::encode(&bytes[59..59 + expected.len() / 2]), expected);
        assert_eq!(Content::decode(&bytes).unwrap(), file);
        let history = content(Part::History(vec![5, 6]));
        let bytes = history.encode().unwrap();
        assert_eq!(hex::encode(&bytes[59..65]), "0300020506".to_owned() + "00");
        assert_eq!(Content::decode(&bytes).unwrap(), history);
    }

    /// Goal: a file's name can't leave its folder or hide.
    #[test]
    fn file_names() {
        for good in ["report.pdf", "a b", "übersicht.txt"] {
            assert!(is_file_name(good), "{good}");
        }
        for bad in ["", ".", "..", ".bashrc", "a/b", "a\\b", "a\nb", "a\0b"] {
            assert!(!is_file_name(bad), "{bad}");
        }
    }

    proptest::proptest! {
        /// Goal: contents come back as they were, and no other bytes decode to them: every change of
        /// length and every flipped bit is refused or gives another content.
        #[test]
        fn round_trip(text in ".{0,600}", ttl in 1_u32.., label in 0_u8.., flip in 0_usize..5000) {
            let mut content = content(Part::Text(text));
            content.ttl_seconds = ttl;
            content.label = label;
            let bytes = content.encode().unwrap();
            proptest::prop_assert_eq!(&Content::decode(&bytes).unwrap(), &content);
            let mut longer = bytes.clone();
            longer.push(0);
            proptest::prop_assert!(Content::decode(&longer).is_err());
            proptest::prop_assert!(Content::decode(&bytes[..bytes.len() - 1]).is_err());
            let bare = content.encode_bare().unwrap();
            proptest::prop_assert_eq!(&Content::decode_bare(&bare).unwrap(), &content);
            proptest::prop_assert!(Content::decode_bare(&[&bare[..], &[0]].concat()).is_err());
            let mut flipped = bytes;
            let at = flip % flipped.len();
            flipped[at] ^= 1;
            proptest::prop_assert_ne!(Content::decode(&flipped).ok(), Some(content));
        }

        /// Goal: no bytes make the decoder panic.
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(0_u8.., 0..600)) {
            let _ = Content::decode(&bytes);
            let mut headed = vec![VERSION];
            headed.extend(bytes);
            headed.resize(512, 0);
            let _ = Content::decode(&headed);
        }
    }
}
