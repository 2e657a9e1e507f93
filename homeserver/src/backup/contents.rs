//! The inner layer of a backup: pieces, one after the other. The opening, the files of the keys, the key that keys of contents
//! are wrapped under, every entry of the store in the order of their keys, and what they come to.
//!
//! A piece is a tag, the length of its body, and the body; there is one encoding for each.

use std::collections::BTreeSet;
use std::fmt;

use bytes::{Buf as _, Bytes, BytesMut};
use federation_proto::ids::ServerName;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::store::everything::{Sum, Summing};
use crate::store::{Key, Value};

const OPENING: u8 = 1;
const KEY_FILE: u8 = 2;
const ENTRY: u8 = 3;
const END: u8 = 4;
const STORE_KEY: u8 = 5;
const HEAD_BYTES: usize = 5;
/// Longest body: far more than any record has.
pub const PIECE_BYTES_MAX: usize = 64 * 1024 * 1024;
const OPENING_VERSION: u8 = 1;
const OPENING_BYTES_MAX: usize = 4096;
const FILE_NAME_BYTES_MAX: usize = 64;
/// Longest file of a key.
const FILE_BYTES_MAX: usize = 64 * 1024;
const KEY_FILES_MAX: usize = 64;
/// Bytes of the key that keys of contents are wrapped under.
const STORE_KEY_BYTES: usize = 32;
/// Entries begin with none of these: engines keep marks of their own below, and above nothing lies.
const NO_ENTRY: [u8; 2] = [0, u8::MAX];

/// What a backup is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The organisation's server name.
    pub server: ServerName,
    /// When it was made, milliseconds since the Unix epoch.
    pub made_ms: u64,
    /// The version of the program that made it.
    pub program: String,
}

/// A part of a backup.
#[derive(Clone, PartialEq, Eq)]
pub enum Piece {
    /// What it is of: the first one.
    Opening(Opening),
    /// A file of the keys folder.
    KeyFile {
        /// Its name.
        name: String,
        /// Its text.
        text: Zeroizing<String>,
    },
    /// What the keys of contents are wrapped under in this backup, and nowhere else.
    StoreKey(Zeroizing<[u8; STORE_KEY_BYTES]>),
    /// An entry of the store.
    Entry(Key, Value),
    /// All entries together: the last one.
    End(Sum),
}

/// Why pieces are not those of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContentsError {
    /// A piece does not decode.
    #[error("a part of it can't be read: it was made by another program, or a newer version")]
    Malformed,
    /// A piece is too long, here or there.
    #[error("a part of it has more than {PIECE_BYTES_MAX} bytes")]
    TooLong,
    /// Something comes out of turn.
    #[error("its parts are not in their order")]
    OutOfOrder,
    /// The end does not say what there was.
    #[error("what it holds is not what its end says")]
    OtherSum,
    /// It stops before its end.
    #[error("it ends too early")]
    CutOff,
}

/// Without what it holds: keys are among it.
impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opening(opening) => f.debug_tuple("Opening").field(opening).finish(),
            Self::KeyFile { name, .. } => f.debug_tuple("KeyFile").field(name).finish(),
            Self::StoreKey(_) => f.write_str("StoreKey"),
            Self::Entry(key, _) => f.debug_tuple("Entry").field(key).finish(),
            Self::End(sum) => f.debug_tuple("End").field(sum).finish(),
        }
    }
}

impl Piece {
    /// Adds the piece to `into`.
    pub fn encode(&self, into: &mut Vec<u8>) -> Result<(), ContentsError> {
        match self {
            Self::Opening(opening) => {
                let body = postcard::to_extend(opening, vec![OPENING_VERSION])
                    .map_err(|_| ContentsError::Malformed)?;
                put(into, OPENING, &[&body])
            }
            Self::KeyFile { name, text } => {
                let length = u8::try_from(name.len()).map_err(|_| ContentsError::TooLong)?;
                put(
                    into,
                    KEY_FILE,
                    &[&[length], name.as_bytes(), text.as_bytes()],
                )
            }
            Self::StoreKey(key) => put(into, STORE_KEY, &[key.as_slice()]),
            Self::Entry(key, value) => put_entry(into, key, value),
            Self::End(sum) => put(
                into,
                END,
                &[
                    &sum.entries.to_be_bytes(),
                    &sum.bytes.to_be_bytes(),
                    &sum.sha256,
                ],
            ),
        }
    }

    fn decode(tag: u8, mut body: Bytes) -> Option<Self> {
        match tag {
            OPENING => decode_opening(&body).map(Self::Opening),
            KEY_FILE => {
                let length = usize::from(*body.first()?);
                body.advance(1);
                let name = body.get(..length)?.to_vec();
                let text = body.get(length..)?;
                let text = Zeroizing::new(std::str::from_utf8(text).ok()?.to_owned());
                let name = String::from_utf8(name).ok()?;
                let fits = is_file_name(&name) && text.len() <= FILE_BYTES_MAX;
                fits.then_some(Self::KeyFile { name, text })
            }
            STORE_KEY => {
                let key: [u8; STORE_KEY_BYTES] = body.as_ref().try_into().ok()?;
                Some(Self::StoreKey(Zeroizing::new(key)))
            }
            ENTRY => {
                let (length, _) = body.split_first_chunk::<2>()?;
                let length = usize::from(u16::from_be_bytes(*length));
                body.advance(2);
                if length == 0 || length > body.len() {
                    return None;
                }
                let key = body.split_to(length);
                let is_entry = !NO_ENTRY.contains(key.first()?);
                is_entry.then_some(Self::Entry(key, body))
            }
            END => {
                let (entries, rest) = body.split_first_chunk::<8>()?;
                let (bytes, sha256) = rest.split_first_chunk::<8>()?;
                Some(Self::End(Sum {
                    entries: u64::from_be_bytes(*entries),
                    bytes: u64::from_be_bytes(*bytes),
                    sha256: sha256.try_into().ok()?,
                }))
            }
            _ => None,
        }
    }
}

fn decode_opening(body: &[u8]) -> Option<Opening> {
    let (version, rest) = body.split_first()?;
    if *version != OPENING_VERSION || body.len() > OPENING_BYTES_MAX {
        return None;
    }
    let (opening, left) = postcard::take_from_bytes::<Opening>(rest).ok()?;
    // Numbers have one encoding only when they are written.
    let written = postcard::to_extend(&opening, vec![OPENING_VERSION]).ok()?;
    (left.is_empty() && written == body).then_some(opening)
}

/// Adds an entry to `into`.
pub fn put_entry(into: &mut Vec<u8>, key: &[u8], value: &[u8]) -> Result<(), ContentsError> {
    let length = u16::try_from(key.len()).map_err(|_| ContentsError::TooLong)?;
    put(into, ENTRY, &[&length.to_be_bytes(), key, value])
}

fn put(into: &mut Vec<u8>, tag: u8, body: &[&[u8]]) -> Result<(), ContentsError> {
    let length: usize = body.iter().map(|part| part.len()).sum();
    let number = u32::try_from(length)
        .ok()
        .filter(|_| length <= PIECE_BYTES_MAX)
        .ok_or(ContentsError::TooLong)?;
    into.push(tag);
    into.extend_from_slice(&number.to_be_bytes());
    for part in body {
        into.extend_from_slice(part);
    }
    Ok(())
}

/// Nothing that could lead out of the keys folder.
fn is_file_name(name: &str) -> bool {
    let stem = name.strip_suffix(".pem").unwrap_or_default();
    !stem.is_empty()
        && name.len() <= FILE_NAME_BYTES_MAX
        && stem
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Puts pieces together from the plaintext of chunks.
#[derive(Default)]
pub struct Pieces(BytesMut);

impl Pieces {
    /// What comes next.
    pub fn feed(&mut self, plain: &[u8]) {
        self.0.extend_from_slice(plain);
    }

    /// The next piece, as soon as all of it is there.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, ContentsError> {
        let Some((head, _)) = self.0.split_first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let [tag, length @ ..] = *head;
        let length = u32::from_be_bytes(length);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > PIECE_BYTES_MAX {
            return Err(ContentsError::TooLong);
        }
        if self.0.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        self.0.advance(HEAD_BYTES);
        let body = self.0.split_to(length).freeze();
        let piece = Piece::decode(tag, body).ok_or(ContentsError::Malformed)?;
        Ok(Some(piece))
    }

    /// Whether everything that came was whole pieces.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Holds pieces to their order, and to what the last one says of them.
#[derive(Default)]
pub struct Order {
    opening: Option<Opening>,
    files: BTreeSet<String>,
    has_store_key: bool,
    last: Option<Key>,
    summing: Summing,
    sum: Option<Sum>,
}

impl Order {
    /// The next piece.
    pub fn take(&mut self, piece: &Piece) -> Result<(), ContentsError> {
        let begun = self.opening.is_some();
        let may = match piece {
            Piece::Opening(opening) => {
                self.opening.get_or_insert_with(|| opening.clone());
                !begun
            }
            Piece::KeyFile { name, .. } => {
                let room = self.files.len() < KEY_FILES_MAX;
                begun && self.last.is_none() && room && self.files.insert(name.clone())
            }
            Piece::StoreKey(_) => {
                let is_first = !std::mem::replace(&mut self.has_store_key, true);
                begun && is_first && self.last.is_none()
            }
            Piece::Entry(key, value) => {
                let rises = self.last.as_ref().is_none_or(|last| last < key);
                self.summing.add(key, value);
                // Copied: a slice would keep the whole piece in memory.
                self.last = Some(Key::copy_from_slice(key));
                begun && self.has_store_key && rises
            }
            Piece::End(sum) => {
                if *sum != self.summing.sum() {
                    return Err(ContentsError::OtherSum);
                }
                begun
            }
        };
        if !may || self.sum.is_some() {
            return Err(ContentsError::OutOfOrder);
        }
        if let Piece::End(sum) = piece {
            self.sum = Some(*sum);
        }
        Ok(())
    }

    /// What was read, when all of it was.
    pub fn end(&self) -> Result<(Opening, Sum), ContentsError> {
        let opening = self.opening.clone().ok_or(ContentsError::CutOff)?;
        Ok((opening, self.sum.ok_or(ContentsError::CutOff)?))
    }

    /// Entries read so far.
    pub fn entries(&self) -> u64 {
        self.summing.entries()
    }
}
