//! Padding of what travels between servers: the length of a body on the wire is one of few.
//!
//! ```text
//! struct {
//!     uint32 length;
//!     opaque content[length];
//!     uint8 zeros[...];
//! } Padded;
//! ```
//!
//! The whole has the smallest power of two that holds it, and [`PADDED_BYTES_MIN`] at least. So whoever
//! watches the network learns which of a dozen sizes a body has, and not its length.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::codec::DecodeError;
use crate::limits::PADDED_BYTES_MIN;

const NAME: &str = "padded body";
const LENGTH_BYTES: usize = size_of::<u32>();

/// The length that content of this length has when it is padded.
#[must_use]
pub const fn padded_length(content: usize) -> usize {
    let whole = content.saturating_add(LENGTH_BYTES);
    if whole <= PADDED_BYTES_MIN {
        return PADDED_BYTES_MIN;
    }
    match whole.checked_next_power_of_two() {
        Some(padded) => padded,
        None => usize::MAX,
    }
}

/// `content` with its padding; content that no limit of this protocol allows, 4 GiB or more, comes out
/// as what no receiver takes.
#[must_use]
pub fn pad(content: &[u8]) -> Bytes {
    let Ok(length) = u32::try_from(content.len()) else {
        return Bytes::new();
    };
    let padded = padded_length(content.len());
    let mut whole = BytesMut::with_capacity(padded);
    whole.put_u32(length);
    whole.put_slice(content);
    whole.resize(padded, 0);
    whole.freeze()
}

/// The content of a padded body, of at most `bytes_max`.
///
/// # Errors
/// When the body is too short or too long for the length it names, when that is over `bytes_max`, or when
/// its padding is not zeros.
pub fn unpad(body: &Bytes, bytes_max: usize) -> Result<Bytes, DecodeError> {
    let (length, rest) = body
        .split_first_chunk::<LENGTH_BYTES>()
        .ok_or(DecodeError::Padding("the body is too short"))?;
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > bytes_max {
        return Err(DecodeError::TooLong {
            what: NAME,
            max: bytes_max,
        });
    }
    let (content, zeros) = rest.split_at_checked(length).ok_or(DecodeError::Padding(
        "the body is shorter than the length that it begins with",
    ))?;
    if body.len() != padded_length(length) {
        return Err(DecodeError::Padding(
            "the body has another length than its content asks for",
        ));
    }
    if zeros.iter().any(|byte| *byte != 0) {
        return Err(DecodeError::Padding("the body's padding is not all zeros"));
    }
    Ok(body.slice_ref(content))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Goal: lengths beside the steps; by their values.
    #[test]
    fn steps() {
        for (content, padded) in [
            (0, 2048),
            (1, 2048),
            (2044, 2048),
            (2045, 4096),
            (4092, 4096),
            (4093, 8192),
            (1 << 20, 1 << 21),
            (usize::MAX, usize::MAX),
        ] {
            assert_eq!(padded_length(content), padded, "{content}");
        }
    }

    /// Goal: a body that is not as it must be is refused; by spoiling a good one in each way.
    #[test]
    fn spoilt() {
        let good = pad(b"content");
        assert_eq!(unpad(&good, 7).unwrap(), "content");
        assert!(matches!(unpad(&good, 6), Err(DecodeError::TooLong { .. })));
        // Who forgot to pad is told that there is such a thing.
        let bare = unpad(&Bytes::from_static(b"\x00\x01\x01 a body"), 1 << 20);
        assert!(bare.unwrap_err().to_string().contains("NET-050"));
        for end in [0, 3, 4, 10, 2047] {
            assert!(unpad(&good.slice(..end), 7).is_err(), "cut at {end}");
        }
        let longer = [good.as_ref(), &[0; 2048]].concat().into();
        assert!(matches!(unpad(&longer, 7), Err(DecodeError::Padding(_))));
        for at in [11, 2047] {
            let mut dirty = good.to_vec();
            dirty[at] = 1;
            let refused = unpad(&dirty.into(), 7);
            assert!(matches!(refused, Err(DecodeError::Padding(_))));
        }
    }

    proptest! {
        /// Goal: content comes back, and lengths of one step look alike; for any content.
        #[test]
        fn comes_back(content in prop::collection::vec(any::<u8>(), 0..9000)) {
            let padded = pad(&content);
            prop_assert_eq!(padded.len(), padded_length(content.len()));
            prop_assert!(padded.len().is_power_of_two());
            prop_assert_eq!(unpad(&padded, content.len()).unwrap(), content);
        }

        /// Goal: what is taken has one encoding, and nothing panics; for any bytes, also nearly right ones.
        #[test]
        fn one_encoding(length in 0_u32..5000, size in 0_usize..5000, spoil in any::<prop::sample::Index>()) {
            let mut body = length.to_be_bytes().to_vec();
            body.resize(size.next_power_of_two().max(8), 0);
            let at = spoil.index(body.len());
            body[at] ^= 1;
            let body = Bytes::from(body);
            if let Ok(content) = unpad(&body, 5000) {
                prop_assert_eq!(pad(&content), body);
            }
        }
    }
}
