//! The strict binary codec: TLS presentation language (RFC 8446, section 3), one encoding per value.
//!
//! Invariants:
//! - Integers are big-endian; vectors carry their length in bytes; an optional value is preceded by
//!   one byte that is 0 or 1; sets are strictly ascending. So equal values have equal bytes.
//! - A decoder never allocates more than its input holds, never panics, and takes nothing but one
//!   whole value: bytes that follow are an error.
//! - An encoder refuses what the decoder of the other side would refuse.
//!
//! Deliberately absent: serde, self-description, ignored fields. A change of format is a new version.

use bytes::{Buf, Bytes};

use crate::envelope::Lane;
use crate::ids::ServerName;
use crate::limits::{PADDED_BYTES_MIN, REASON_BYTES_MAX, SERVER_NAME_BYTES_MAX};
use crate::refusal::RefusalCode;
use crate::text::is_unseen;

/// Why bytes are not a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ends inside a value.
    #[error("the bytes end inside {0}")]
    Truncated(&'static str),
    /// Something follows the value.
    #[error("{0} bytes follow the value's end")]
    Trailing(usize),
    /// Longer, or more of them, than the limit.
    #[error("{what} is over its limit of {max}")]
    TooLong {
        /// The field.
        what: &'static str,
        /// Its limit.
        max: usize,
    },
    /// Shorter, or fewer of them, than there must be.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// A version of the format that this build does not speak.
    #[error("version {0} is not spoken here")]
    UnsupportedVersion(u16),
    /// A format of the document that this build does not know.
    #[error(
        "it has the format {0}, which is not known here: is it damaged, or something else altogether?"
    )]
    UnknownFormat(u16),
    /// A number that stands for nothing.
    #[error("{value} is not a known {what}")]
    UnknownValue {
        /// The field.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// The elements of a set are not strictly ascending.
    #[error("{0} is not strictly ascending")]
    NotAscending(&'static str),
    /// The positions of a lane are not ascending in a transaction.
    #[error("the positions of lane {0} do not ascend within the transaction (ENV-015)")]
    LaneOrder(Lane),
    /// The padding of a body is not what it must be.
    #[error(
        "{0}: every body is padded, a length of 4 bytes before the content and zeros up to a power of \
         two, {PADDED_BYTES_MIN} bytes at least (NET-050, NET-051)"
    )]
    Padding(&'static str),
    /// The field's own rule is broken, or fields contradict each other.
    #[error("{0} is not valid")]
    Invalid(&'static str),
}

/// Why a value can't be encoded: the other side would refuse it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is over its limit of {max}, or empty where it must not be")]
pub struct EncodeError {
    /// The field.
    pub what: &'static str,
    /// Its limit.
    pub max: usize,
}

/// A value with exactly one encoding.
pub trait Wire: Sized {
    /// Most bytes of a whole encoded value.
    const BYTES_MAX: usize;
    /// What it is called in errors.
    const NAME: &'static str;

    /// Appends the encoding.
    fn write(&self, writer: &mut Writer);

    /// Reads one value from the front.
    ///
    /// # Errors
    /// When the bytes do not start with a value.
    fn read(reader: &mut Reader) -> Result<Self, DecodeError>;

    /// The encoding.
    ///
    /// # Errors
    /// When a part is over its limit.
    fn to_bytes(&self) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::new();
        self.write(&mut writer);
        let bytes = writer.finish()?;
        if bytes.len() > Self::BYTES_MAX {
            return Err(EncodeError {
                what: Self::NAME,
                max: Self::BYTES_MAX,
            });
        }
        Ok(bytes)
    }

    /// The value that these bytes are, all of them.
    ///
    /// # Errors
    /// When the bytes are anything but one whole value.
    fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self, DecodeError> {
        let bytes = bytes.into();
        if bytes.len() > Self::BYTES_MAX {
            return Err(DecodeError::TooLong {
                what: Self::NAME,
                max: Self::BYTES_MAX,
            });
        }
        let mut reader = Reader::new(bytes);
        let value = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }
}

/// Appends values; the first one over its limit makes [`Writer::finish`] fail.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    error: Option<EncodeError>,
}

impl Writer {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty writer with room for `bytes`.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            error: None,
        }
    }

    /// How much is written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What was written since `start`, which must be an earlier [`Writer::len`].
    #[must_use]
    pub fn written_since(&self, start: usize) -> &[u8] {
        self.bytes.get(start..).unwrap_or_default()
    }

    /// `uint8`.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// `uint16`.
    pub fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// `uint32`.
    pub fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// `uint64`.
    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// `opaque[N]`.
    pub fn fixed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// `opaque<0..max>` with a length of one byte.
    pub fn opaque8(&mut self, what: &'static str, max: usize, bytes: &[u8]) {
        self.vector(Width::One, what, max, |writer| writer.fixed(bytes));
    }

    /// `opaque<0..max>` with a length of two bytes.
    pub fn opaque16(&mut self, what: &'static str, max: usize, bytes: &[u8]) {
        self.vector(Width::Two, what, max, |writer| writer.fixed(bytes));
    }

    /// `opaque<0..max>` with a length of four bytes.
    pub fn opaque32(&mut self, what: &'static str, max: usize, bytes: &[u8]) {
        self.vector(Width::Four, what, max, |writer| writer.fixed(bytes));
    }

    /// `T<..>` with a length of four bytes and at most `count_max` elements.
    pub fn list<T>(
        &mut self,
        what: &'static str,
        count_max: usize,
        items: &[T],
        mut write: impl FnMut(&mut Self, &T),
    ) {
        if items.len() > count_max {
            self.fail(what, count_max);
            return;
        }
        self.vector(Width::Four, what, usize::MAX, |writer| {
            for item in items {
                write(writer, item);
            }
        });
    }

    /// `optional<T>`.
    pub fn optional<T>(&mut self, value: Option<&T>, write: impl FnOnce(&mut Self, &T)) {
        match value {
            None => self.u8(0),
            Some(value) => {
                self.u8(1);
                write(self, value);
            }
        }
    }

    /// A server name: `opaque<1..253>`.
    pub fn server_name(&mut self, name: &ServerName) {
        self.opaque8(
            "server name",
            SERVER_NAME_BYTES_MAX,
            name.as_str().as_bytes(),
        );
    }

    /// A sentence for people, shortened to its limit and without unseen characters, so that a
    /// reason of any length is never what keeps an answer from being sent.
    pub fn reason(&mut self, reason: &str) {
        let clean = clean_reason(reason);
        self.opaque16("reason", REASON_BYTES_MAX, clean.as_bytes());
    }

    /// A refusal code: `uint16`.
    pub fn refusal_code(&mut self, code: RefusalCode) {
        self.u16(code.number());
    }

    /// Notes that a value breaks the limit `max`.
    pub fn fail(&mut self, what: &'static str, max: usize) {
        self.error.get_or_insert(EncodeError { what, max });
    }

    /// What was written.
    ///
    /// # Errors
    /// When a value was over its limit.
    pub fn finish(self) -> Result<Bytes, EncodeError> {
        match self.error {
            None => Ok(Bytes::from(self.bytes)),
            Some(error) => Err(error),
        }
    }

    fn vector(
        &mut self,
        width: Width,
        what: &'static str,
        max: usize,
        write: impl FnOnce(&mut Self),
    ) {
        let at = self.bytes.len();
        let width_bytes = width.bytes();
        self.bytes.resize(at + width_bytes, 0);
        write(self);
        let length = self.bytes.len() - at - width_bytes;
        let length_max = max.min(width.max());
        let (Ok(length32), true) = (u32::try_from(length), length <= length_max) else {
            self.fail(what, length_max);
            return;
        };
        let encoded = length32.to_be_bytes();
        if let (Some(target), Some(source)) = (
            self.bytes.get_mut(at..at + width_bytes),
            encoded.get(4 - width_bytes..),
        ) {
            target.copy_from_slice(source);
        }
    }
}

/// Takes values off the front; byte strings are slices of the input, not copies.
#[derive(Debug, Clone)]
pub struct Reader {
    bytes: Bytes,
}

impl Reader {
    /// Reads these bytes.
    #[must_use]
    pub const fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    /// Bytes not yet read.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// `uint8`.
    ///
    /// # Errors
    /// At the end of the input.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        self.need(1, what)?;
        Ok(self.bytes.get_u8())
    }

    /// `uint16`.
    ///
    /// # Errors
    /// At the end of the input.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        self.need(2, what)?;
        Ok(self.bytes.get_u16())
    }

    /// `uint32`.
    ///
    /// # Errors
    /// At the end of the input.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        self.need(4, what)?;
        Ok(self.bytes.get_u32())
    }

    /// `uint64`.
    ///
    /// # Errors
    /// At the end of the input.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.need(8, what)?;
        Ok(self.bytes.get_u64())
    }

    /// `opaque[N]`.
    ///
    /// # Errors
    /// At the end of the input.
    pub fn fixed<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        self.need(N, what)?;
        let mut bytes = [0; N];
        self.bytes.copy_to_slice(&mut bytes);
        Ok(bytes)
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// At the end of the input.
    pub fn take(&mut self, what: &'static str, length: usize) -> Result<Bytes, DecodeError> {
        self.need(length, what)?;
        Ok(self.bytes.split_to(length))
    }

    /// `opaque<0..max>` with a length of one byte.
    ///
    /// # Errors
    /// When it is over the limit or cut off.
    pub fn opaque8(&mut self, what: &'static str, max: usize) -> Result<Bytes, DecodeError> {
        self.vector(Width::One, what, max)
    }

    /// `opaque<0..max>` with a length of two bytes.
    ///
    /// # Errors
    /// When it is over the limit or cut off.
    pub fn opaque16(&mut self, what: &'static str, max: usize) -> Result<Bytes, DecodeError> {
        self.vector(Width::Two, what, max)
    }

    /// `opaque<0..max>` with a length of four bytes.
    ///
    /// # Errors
    /// When it is over the limit or cut off.
    pub fn opaque32(&mut self, what: &'static str, max: usize) -> Result<Bytes, DecodeError> {
        self.vector(Width::Four, what, max)
    }

    /// `T<..>` with a length of four bytes and at most `count_max` elements.
    ///
    /// # Errors
    /// When there are too many, or one of them does not decode.
    pub fn list<T>(
        &mut self,
        what: &'static str,
        count_max: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let mut inner = Self::new(self.vector(Width::Four, what, usize::MAX)?);
        let mut items = Vec::new();
        while inner.remaining() > 0 {
            if items.len() == count_max {
                return Err(DecodeError::TooLong {
                    what,
                    max: count_max,
                });
            }
            items.push(read(&mut inner)?);
        }
        Ok(items)
    }

    /// A [`Reader::list`] whose elements must be strictly ascending.
    ///
    /// # Errors
    /// As [`Reader::list`], or when the elements are not ascending.
    pub fn ascending_list<T: Ord>(
        &mut self,
        what: &'static str,
        count_max: usize,
        read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let items = self.list(what, count_max, read)?;
        if items.is_sorted_by(|left, right| left < right) {
            Ok(items)
        } else {
            Err(DecodeError::NotAscending(what))
        }
    }

    /// `optional<T>`.
    ///
    /// # Errors
    /// When the presence byte is neither 0 nor 1, or the value does not decode.
    pub fn optional<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        match self.u8(what)? {
            0 => Ok(None),
            1 => read(self).map(Some),
            value => Err(DecodeError::UnknownValue {
                what,
                value: value.into(),
            }),
        }
    }

    /// UTF-8 text without unseen characters (controls, formats, separators of lines), with a length of one byte.
    ///
    /// # Errors
    /// When it is over the limit, cut off, not UTF-8, or holds an unseen character.
    pub fn text8(&mut self, what: &'static str, max: usize) -> Result<String, DecodeError> {
        text(what, &self.opaque8(what, max)?)
    }

    /// UTF-8 text without unseen characters (controls, formats, separators of lines), with a length of two bytes.
    ///
    /// # Errors
    /// When it is over the limit, cut off, not UTF-8, or holds an unseen character.
    pub fn text16(&mut self, what: &'static str, max: usize) -> Result<String, DecodeError> {
        text(what, &self.opaque16(what, max)?)
    }

    /// A server name.
    ///
    /// # Errors
    /// When the bytes are not a server name.
    pub fn server_name(&mut self, what: &'static str) -> Result<ServerName, DecodeError> {
        let bytes = self.opaque8(what, SERVER_NAME_BYTES_MAX)?;
        std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or(DecodeError::Invalid(what))
    }

    /// A sentence for people.
    ///
    /// # Errors
    /// As [`Reader::text16`].
    pub fn reason(&mut self) -> Result<String, DecodeError> {
        self.text16("reason", REASON_BYTES_MAX)
    }

    /// A refusal code.
    ///
    /// # Errors
    /// When the number stands for none.
    pub fn refusal_code(&mut self) -> Result<RefusalCode, DecodeError> {
        let number = self.u16("refusal code")?;
        RefusalCode::from_number(number).ok_or(DecodeError::UnknownValue {
            what: "refusal code",
            value: number.into(),
        })
    }

    /// Checks that everything was read.
    ///
    /// # Errors
    /// When bytes are left.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.bytes.len() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing(left)),
        }
    }

    fn vector(
        &mut self,
        width: Width,
        what: &'static str,
        max: usize,
    ) -> Result<Bytes, DecodeError> {
        let length = match width {
            Width::One => u32::from(self.u8(what)?),
            Width::Two => u32::from(self.u16(what)?),
            Width::Four => self.u32(what)?,
        };
        let length = usize::try_from(length).map_err(|_| DecodeError::TooLong { what, max })?;
        if length > max {
            return Err(DecodeError::TooLong { what, max });
        }
        self.take(what, length)
    }

    const fn need(&self, length: usize, what: &'static str) -> Result<(), DecodeError> {
        if self.bytes.len() < length {
            Err(DecodeError::Truncated(what))
        } else {
            Ok(())
        }
    }
}

fn text(what: &'static str, bytes: &[u8]) -> Result<String, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::Invalid(what))?;
    if text.chars().any(is_unseen) {
        return Err(DecodeError::Invalid(what));
    }
    Ok(text.to_owned())
}

#[derive(Clone, Copy)]
enum Width {
    One,
    Two,
    Four,
}

impl Width {
    const fn bytes(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    const fn max(self) -> usize {
        match self {
            Self::One => 0xff,
            Self::Two => 0xffff,
            Self::Four => 0xffff_ffff,
        }
    }
}

/// The reason as it travels: at most [`REASON_BYTES_MAX`] bytes, unseen characters as spaces.
fn clean_reason(reason: &str) -> String {
    let mut clean = String::with_capacity(reason.len().min(REASON_BYTES_MAX));
    for character in reason.chars() {
        let character = if is_unseen(character) { ' ' } else { character };
        if clean.len() + character.len_utf8() > REASON_BYTES_MAX {
            break;
        }
        clean.push(character);
    }
    clean
}
