//! What is inside an application message, and how long it looks from outside.
//!
//! ```text
//! version (1) · length (u32, big-endian) · postcard(Content) · zeros
//! ```
//! padded to a Padmé length of at least 256 bytes. One encoding per value: the padding's length and
//! bytes are checked, nothing may follow.

use homeserver_api::attributes::MessageAttributes;
use homeserver_api::ids::{FileId, ServerName};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::message::MessageId;
use crate::padding;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 5;
/// Longest text of a message.
pub const TEXT_BYTES_MAX: usize = 48 * 1024;
/// Longest name of a file.
pub(crate) const FILE_NAME_BYTES_MAX: usize = 255;
/// Longest padded content: with MLS's framing it stays below the largest message.
const CONTENT_BYTES_MAX: usize = 60 * 1024;

const _: () = assert!(TEXT_BYTES_MAX + 1024 < CONTENT_BYTES_MAX);
const _: () = assert!(CONTENT_BYTES_MAX + 2048 <= 64 * 1024);

/// An application message's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    pub(crate) id: MessageId,
    /// The sender's clock, milliseconds since the Unix epoch.
    pub(crate) sent_ms: u64,
    pub(crate) ttl_seconds: u32,
    pub(crate) burn_seconds: u32,
    pub(crate) label: u8,
    pub(crate) part: Part,
}

/// What a content carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Part {
    Text(String),
    File(FileReference),
}

/// Where a file is and how it is opened and checked.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
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
        let body = postcard::to_stdvec(self).map_err(|e| Error::InvalidArgument(e.to_string()))?;
        let length = u32::try_from(body.len()).map_err(|_| too_long())?;
        let padded = padded_length(body.len()).ok_or_else(too_long)?;
        let mut bytes = Vec::with_capacity(padded);
        bytes.push(VERSION);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&body);
        bytes.resize(padded, 0);
        Ok(bytes)
    }

    /// Reads [`Self::encode`]'s bytes and nothing else.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let wrong = |what: &str| Error::Mls(format!("the message's content {what}"));
        let (length, rest) = match bytes {
            [VERSION, a, b, c, d, rest @ ..] => (u32::from_be_bytes([*a, *b, *c, *d]), rest),
            _ => return Err(wrong("is of another version")),
        };
        let length = usize::try_from(length).map_err(|_| wrong("is too long"))?;
        let (body, padding) = rest
            .split_at_checked(length)
            .ok_or_else(|| wrong("is cut short"))?;
        if padded_length(length) != Some(bytes.len()) || padding.iter().any(|byte| *byte != 0) {
            return Err(wrong("is not padded as it must be"));
        }
        let (content, []) =
            postcard::take_from_bytes::<Self>(body).map_err(|_| wrong("is malformed"))?
        else {
            return Err(wrong("has trailing bytes"));
        };
        match &content.part {
            Part::Text(text) if text.len() > TEXT_BYTES_MAX => Err(wrong("is too long")),
            Part::File(file) if !is_file_name(&file.name) => {
                Err(wrong("names a file as no file is named"))
            }
            _ => Ok(content),
        }
    }
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
    let bytes = u64::try_from(body.checked_add(HEADER_BYTES)?).ok()?;
    let padded = usize::try_from(padding::padded(bytes)).ok()?;
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
        assert_eq!(length(200), Ok(256));
        assert_eq!(length(300), Ok(336));
        assert_eq!(length(1024), Ok(1088));
        assert!(length(TEXT_BYTES_MAX).unwrap() <= CONTENT_BYTES_MAX);
        assert!(length(CONTENT_BYTES_MAX).is_err());
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
