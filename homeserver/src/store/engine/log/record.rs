//! The bytes of the commit log: the header of a segment, and records. `docs/store.md` describes them.
//!
//! Invariants:
//! - One encoding for each batch: keys ascend and none comes twice, lengths are exact, nothing follows.
//! - A record's head is bound to the incarnation of its segment: what a recycled file still holds of its
//!   former life is never read as a record of its present one.
//! - Reading is total: any bytes are a record, or none. No length is believed before its checksum.

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};

use crate::store::{Key, StoreError, Value};

/// Where a segment's records begin: a page of its own for the header, which no record shares.
pub const RECORDS_AT: usize = 4096;
/// A record begins at a multiple of this.
pub const ALIGNMENT: usize = 8;
/// Bytes of a segment's header.
pub const HEADER_BYTES: usize = 56;
/// Bytes before a record's body.
pub const HEAD_BYTES: usize = 20;
/// Bytes of the record that ends a segment, with what aligns the next.
pub const END_BYTES: usize = 32;
/// Largest body. A batch is as large as one part at most, beyond what the writer gathers: far below.
pub const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What a segment's file begins with.
const MAGIC: [u8; 8] = *b"ent-log\n";
/// The format of header and records.
const VERSION: u32 = 1;
/// What a record's body begins with: a batch of changes, or the end of the segment.
const BATCH: u8 = 1;
const END: u8 = 2;
/// What a change begins with.
const DELETE: u8 = 0;
const PUT: u8 = 1;

const _: () = assert!(HEADER_BYTES <= RECORDS_AT && RECORDS_AT.is_multiple_of(ALIGNMENT));
const _: () = assert!(END_BYTES >= HEAD_BYTES + 9 && END_BYTES.is_multiple_of(ALIGNMENT));

/// Tells logs apart: a random number, made with the log.
pub type LogId = [u8; 16];

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The log that it belongs to.
    pub log: LogId,
    /// The segment's number: grows with every segment of the log, also when a file is used again.
    pub segment: u64,
    /// The length of the file.
    pub bytes: u64,
}

impl Header {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let fields: [&[u8]; 5] = [
            &MAGIC,
            &VERSION.to_be_bytes(),
            &self.log,
            &self.segment.to_be_bytes(),
            &self.bytes.to_be_bytes(),
        ];
        let fields = fields.concat();
        let sum = crc32c(&fields).to_be_bytes();
        // 48 bytes of fields and checksum; the rest stays zero, for later versions.
        for (place, byte) in bytes.iter_mut().zip(fields.iter().chain(&sum)) {
            *place = *byte;
        }
        bytes
    }

    /// Reads a header; `None` when there is none, and an error when a later version wrote it.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, StoreError> {
        let Some((fields, sum)) = bytes
            .get(..HEADER_BYTES)
            .and_then(|header| header.split_at_checked(44))
        else {
            return Ok(None);
        };
        if sum.get(..4) != Some(crc32c(fields).to_be_bytes().as_slice()) {
            return Ok(None);
        }
        let mut rest = fields;
        let magic = take_array(&mut rest);
        let version = take_array(&mut rest).map(u32::from_be_bytes);
        match (magic, version) {
            (Some(MAGIC), Some(VERSION)) => Ok(Self::fields(rest)),
            (Some(MAGIC), Some(version)) => Err(StoreError::Engine(format!(
                "the commit log's segment has format {version}, this homeserver knows format {VERSION}: run the \
                 version that wrote it, or a newer one"
            ))),
            _ => Ok(None),
        }
    }

    fn fields(mut rest: &[u8]) -> Option<Self> {
        Some(Self {
            log: take_array(&mut rest)?,
            segment: u64::from_be_bytes(take_array(&mut rest)?),
            bytes: u64::from_be_bytes(take_array(&mut rest)?),
        })
    }

    /// What the heads of this incarnation's records are bound to.
    pub fn seed(&self) -> u32 {
        crc32c_append(crc32c(&self.log), &self.segment.to_be_bytes())
    }
}

/// A change of one key: its new value, or `None` when it has none from now on.
pub type Change = (Key, Option<Value>);

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// What a batch changes.
    Batch(Vec<Change>),
    /// The log goes on in the segment of this number.
    End(u64),
}

impl Body {
    /// Reads a body; `None` when the bytes are not the one encoding of any.
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        let rest = &mut bytes;
        let body = match take_byte(rest)? {
            BATCH => Self::Batch(decode_changes(rest)?),
            END => Self::End(u64::from_be_bytes(take_number(rest)?)),
            _ => return None,
        };
        rest.is_empty().then_some(body)
    }

    /// The body's bytes; an error when it has more than a record can hold.
    pub fn encode(&self) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        match self {
            Self::Batch(changes) => encode_changes(&mut bytes, changes)?,
            Self::End(next) => {
                bytes.push(END);
                bytes.extend(next.to_be_bytes());
            }
        }
        Ok(bytes)
    }
}

/// The record of a batch, before [`seal`]. `changes` ascend by key, and none has another's key.
pub fn batch(sequence: u64, changes: &[Change]) -> Result<Vec<u8>, StoreError> {
    let size = |(key, value): &Change| 7 + key.len() + value.as_ref().map_or(0, Bytes::len);
    let mut record =
        Vec::with_capacity(HEAD_BYTES + 5 + ALIGNMENT + changes.iter().map(size).sum::<usize>());
    record.resize(HEAD_BYTES, 0);
    encode_changes(&mut record, changes)?;
    finish(record, sequence)
}

/// The record that ends a segment, before [`seal`]: `sequence` is the next batch's.
pub fn end(sequence: u64, next: u64) -> Result<Vec<u8>, StoreError> {
    let mut record = vec![0; HEAD_BYTES];
    record.push(END);
    record.extend(next.to_be_bytes());
    finish(record, sequence)
}

/// Fills in a record's head but for the last field, and aligns what follows.
fn finish(mut record: Vec<u8>, sequence: u64) -> Result<Vec<u8>, StoreError> {
    let body = record.get(HEAD_BYTES..).unwrap_or_default();
    if body.len() > BODY_BYTES_MAX {
        return Err(StoreError::Engine(format!(
            "a batch of {} bytes is more than the {BODY_BYTES_MAX} that the commit log takes at once",
            body.len()
        )));
    }
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    let sum = crc32c(body).to_be_bytes();
    let head = length.into_iter().chain(sequence.to_be_bytes()).chain(sum);
    for (place, byte) in record.iter_mut().zip(head) {
        *place = byte;
    }
    record.resize(record.len().next_multiple_of(ALIGNMENT), 0);
    Ok(record)
}

/// The body of a record that [`batch`] or [`end`] has made.
pub fn body(record: &Bytes) -> Option<Bytes> {
    let length = u32::from_be_bytes(*record.first_chunk()?);
    let end = HEAD_BYTES.checked_add(usize::try_from(length).ok()?)?;
    (end <= record.len()).then(|| record.slice(HEAD_BYTES..end))
}

/// Binds a record to the incarnation of the segment that it goes to.
pub fn seal(record: &mut [u8], seed: u32) {
    if let Some((head, _)) = record.split_at_mut_checked(HEAD_BYTES)
        && let Some((fields, sum)) = head.split_at_mut_checked(HEAD_BYTES - 4)
    {
        sum.copy_from_slice(&crc32c_append(seed, fields).to_be_bytes());
    }
}

/// The head of a record whose checksum holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The batch's number.
    pub sequence: u64,
    length: usize,
    sum: u32,
}

impl Head {
    /// The head at the beginning of `bytes`, if one of this incarnation is there.
    pub fn read(bytes: &[u8], seed: u32) -> Option<Self> {
        let (fields, sum) = bytes.get(..HEAD_BYTES)?.split_at_checked(HEAD_BYTES - 4)?;
        let mut rest = fields;
        let length = usize::try_from(u32::from_be_bytes(take_array(&mut rest)?)).ok()?;
        if length == 0 || length > BODY_BYTES_MAX {
            return None;
        }
        (sum == crc32c_append(seed, fields).to_be_bytes()).then_some(())?;
        Some(Self {
            length,
            sequence: u64::from_be_bytes(take_array(&mut rest)?),
            sum: u32::from_be_bytes(take_array(&mut rest)?),
        })
    }
}

/// A whole record, its body not yet decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The batch's number.
    pub sequence: u64,
    /// What [`Body::decode`] reads.
    pub body: Bytes,
    /// Where the next record begins.
    pub end: usize,
}

impl Frame {
    /// The record at `at`, if a whole one of this incarnation is there.
    pub fn read(bytes: &Bytes, at: usize, seed: u32) -> Option<Self> {
        let head = Head::read(bytes.get(at..)?, seed)?;
        let from = at.checked_add(HEAD_BYTES)?;
        let to = from.checked_add(head.length)?;
        if crc32c(bytes.get(from..to)?) != head.sum {
            return None;
        }
        Some(Self {
            sequence: head.sequence,
            body: bytes.slice(from..to),
            end: to.next_multiple_of(ALIGNMENT),
        })
    }
}

fn encode_changes(bytes: &mut Vec<u8>, changes: &[Change]) -> Result<(), StoreError> {
    let too_large =
        |what: &str| StoreError::Engine(format!("{what} is larger than the commit log takes"));
    bytes.push(BATCH);
    let count = u32::try_from(changes.len()).map_err(|_| too_large("a batch"))?;
    bytes.extend(count.to_be_bytes());
    for (key, value) in changes {
        let length = u16::try_from(key.len()).map_err(|_| too_large("a key"))?;
        bytes.push(if value.is_some() { PUT } else { DELETE });
        bytes.extend(length.to_be_bytes());
        bytes.extend_from_slice(key);
        if let Some(value) = value {
            let length = u32::try_from(value.len()).map_err(|_| too_large("a value"))?;
            bytes.extend(length.to_be_bytes());
            bytes.extend_from_slice(value);
        }
    }
    Ok(())
}

fn decode_changes(rest: &mut Bytes) -> Option<Vec<Change>> {
    let count = u32::from_be_bytes(take_number(rest)?);
    // The count is not believed: each change takes three bytes at least.
    let mut changes: Vec<Change> = Vec::with_capacity(
        usize::try_from(count)
            .unwrap_or(usize::MAX)
            .min(rest.len() / 3),
    );
    for _ in 0..count {
        let kind = take_byte(rest)?;
        let length = usize::from(u16::from_be_bytes(take_number(rest)?));
        let key = take(rest, length)?;
        if changes.last().is_some_and(|(last, _)| *last >= key) {
            return None;
        }
        let value = match kind {
            DELETE => None,
            PUT => {
                let length = u32::from_be_bytes(take_number(rest)?);
                Some(take(rest, usize::try_from(length).ok()?)?)
            }
            _ => return None,
        };
        changes.push((key, value));
    }
    Some(changes)
}

fn take(rest: &mut Bytes, length: usize) -> Option<Bytes> {
    (length <= rest.len()).then(|| rest.split_to(length))
}

fn take_byte(rest: &mut Bytes) -> Option<u8> {
    take(rest, 1)?.first().copied()
}

fn take_number<const N: usize>(rest: &mut Bytes) -> Option<[u8; N]> {
    take(rest, N)?.as_ref().try_into().ok()
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (array, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*array)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: Header = Header {
        log: *b"sixteen bytes id",
        segment: 7,
        bytes: 16 << 20,
    };

    fn any_changes() -> impl Strategy<Value = Vec<Change>> {
        let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
        let key = proptest::collection::vec(any::<u8>(), 0..12);
        proptest::collection::btree_map(key, value, 0..9).prop_map(|map| {
            let change =
                |(key, value): (Vec<u8>, Option<Vec<u8>>)| (Key::from(key), value.map(Value::from));
            map.into_iter().map(change).collect()
        })
    }

    fn sealed(sequence: u64, changes: &[Change], seed: u32) -> Bytes {
        let mut record = batch(sequence, changes).unwrap();
        seal(&mut record, seed);
        record.into()
    }

    proptest! {
        /// Goal: what is written is read again, and to no other incarnation. Method: round trips.
        #[test]
        fn records_come_back(sequence: u64, changes in any_changes(), other: u64) {
            let bytes = sealed(sequence, &changes, HEADER.seed());
            let frame = Frame::read(&bytes, 0, HEADER.seed()).unwrap();
            prop_assert_eq!((frame.sequence, frame.end), (sequence, bytes.len()));
            prop_assert_eq!(Body::decode(frame.body), Some(Body::Batch(changes)));
            let next = Header { segment: other, ..HEADER };
            let read = Frame::read(&bytes, 0, next.seed());
            prop_assert_eq!(read.is_some(), next.seed() == HEADER.seed());
        }

        /// Goal: any bytes are the one encoding of what they say, or nothing. Method: write it again.
        #[test]
        fn bodies_have_one_encoding(mut bytes in proptest::collection::vec(0_u8..4, 0..40), kind in 1_u8..3) {
            bytes.insert(0, kind);
            if let Some(body) = Body::decode(bytes.clone().into()) {
                prop_assert_eq!(body.encode().unwrap(), bytes);
            }
        }
    }

    /// Goal: the format stays as it is documented. Method: the bytes of a header, a batch and an end.
    #[test]
    fn the_bytes_are_these() {
        let header = HEADER.encode();
        assert_eq!(&header[..8], b"ent-log\n");
        assert_eq!(header[8..12], [0, 0, 0, 1]);
        assert_eq!(&header[12..28], b"sixteen bytes id");
        assert_eq!(header[28..36], 7_u64.to_be_bytes());
        assert_eq!(header[36..44], (16_u64 << 20).to_be_bytes());
        assert_eq!(header[44..48], crc32c(&header[..44]).to_be_bytes());
        assert_eq!(header[48..], [0; 8]);
        assert_eq!(Header::read(&header).unwrap(), Some(HEADER));

        let changes = [
            (Key::from_static(b"a"), None),
            (Key::from_static(b"bc"), Some(Value::from_static(b"xyz"))),
        ];
        let record = sealed(5, &changes, HEADER.seed());
        let body = b"\x01\0\0\0\x02\0\0\x01a\x01\0\x02bc\0\0\0\x03xyz";
        assert_eq!(record[..4], [0, 0, 0, 21]);
        assert_eq!(record[4..12], 5_u64.to_be_bytes());
        assert_eq!(record[12..16], crc32c(body).to_be_bytes());
        let sum = crc32c_append(HEADER.seed(), &record[..16]);
        assert_eq!(record[16..20], sum.to_be_bytes());
        assert_eq!(&record[20..41], body);
        assert_eq!(record[41..], [0; 7]);

        let end = end(6, 8).unwrap();
        assert_eq!(end.len(), END_BYTES);
        assert_eq!(end[20..], *b"\x02\0\0\0\0\0\0\0\x08\0\0\0");
    }

    /// Goal: no changed byte of a header or record goes unnoticed. Method: every bit turned, every cut.
    #[test]
    fn every_changed_bit_is_noticed() {
        let changes = [(Key::from_static(b"key"), Some(Value::from_static(b"value")))];
        let record = sealed(1, &changes, HEADER.seed());
        let header = HEADER.encode();
        let turned = |bytes: &[u8], bit: usize| {
            let mut bytes = bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            Bytes::from(bytes)
        };
        let padding = HEAD_BYTES + 1 + 4 + 1 + 2 + 3 + 4 + 5;
        for bit in 0..padding * 8 {
            assert_eq!(Frame::read(&turned(&record, bit), 0, HEADER.seed()), None);
        }
        for cut in 0..padding {
            assert_eq!(Frame::read(&record.slice(..cut), 0, HEADER.seed()), None);
        }
        for bit in 0..48 * 8 {
            assert_eq!(Header::read(&turned(&header, bit)).unwrap(), None);
        }
        for cut in 0..HEADER_BYTES {
            assert_eq!(Header::read(&header[..cut]).unwrap(), None);
        }
    }

    /// Goal: zeros, of which fresh segments consist, are never a record. Method: many seeds.
    #[test]
    fn zeros_are_no_record() {
        let zeros = Bytes::from(vec![0; 64]);
        for segment in 0..1000 {
            let header = Header { segment, ..HEADER };
            assert_eq!(Frame::read(&zeros, 0, header.seed()), None);
        }
        assert_eq!(Header::read(&zeros).unwrap(), None);
    }

    /// Goal: a later format is refused, not taken for a free file. Method: a header of version 2.
    #[test]
    fn a_later_format_is_refused() {
        let mut header = HEADER.encode();
        header[11] = 2;
        let sum = crc32c(&header[..44]).to_be_bytes();
        header[44..48].copy_from_slice(&sum);
        assert!(matches!(Header::read(&header), Err(StoreError::Engine(_))));
    }
}
