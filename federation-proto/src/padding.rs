//! Padding of what goes over a link: whoever watches the wire sees into which bucket a body's length falls, and no
//! more.
//!
//! The buckets are the powers of two from 1 KiB to 1 MiB, and above that the multiples of 1 MiB. A body has one padded
//! form.

use bytes::Bytes;

use crate::codec::{DecodeError, Reader};
use crate::limits::{PADDED_BYTES_MIN, PADDED_STEP_BYTES};

/// Bytes in front of the content: its length.
const LENGTH_BYTES: usize = 4;

/// The padded length of so many bytes of content.
#[must_use]
pub const fn padded_length(content: usize) -> usize {
    let least = content.saturating_add(LENGTH_BYTES);
    if least <= PADDED_BYTES_MIN {
        PADDED_BYTES_MIN
    } else if least <= PADDED_STEP_BYTES {
        least.next_power_of_two()
    } else {
        least
            .div_ceil(PADDED_STEP_BYTES)
            .saturating_mul(PADDED_STEP_BYTES)
    }
}

/// The content, with zeros up to its bucket.
#[must_use]
pub fn pad(content: &[u8]) -> Bytes {
    let mut padded = Vec::with_capacity(padded_length(content.len()));
    // Bodies are bounded far below what the length can say.
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    padded.extend_from_slice(&length.to_be_bytes());
    padded.extend_from_slice(content);
    padded.resize(padded_length(content.len()), 0);
    padded.into()
}

/// The content of a padded body, of at most `max` bytes.
///
/// # Errors
/// When the bytes are anything but the one padded form of some content.
pub fn unpad(padded: Bytes, max: usize) -> Result<Bytes, DecodeError> {
    let length = padded.len();
    let mut reader = Reader::new(padded);
    let content = reader.opaque32("padded body", max)?;
    if length != padded_length(content.len()) {
        return Err(DecodeError::Invalid("padded length"));
    }
    let zeros = reader.take("padding", length - LENGTH_BYTES - content.len())?;
    if zeros.iter().any(|byte| *byte != 0) {
        return Err(DecodeError::Invalid("padding"));
    }
    reader.finish()?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: lengths fall into few buckets, each at least what it holds. Method: both sides of the borders.
    #[test]
    fn buckets() {
        for (content, padded) in [
            (0, 1024),
            (1020, 1024),
            (1021, 2048),
            (2044, 2048),
            (2045, 4096),
            (500_000, 524_288),
            (1_048_572, 1_048_576),
            (1_048_573, 2_097_152),
            (8_388_608, 9_437_184),
        ] {
            assert_eq!(padded_length(content), padded, "{content}");
        }
    }

    /// Goal: padding comes off again, and nothing else passes for it: not another bucket, not another byte, not less,
    /// not more content than allowed. Method: spoil one in each way.
    #[test]
    fn one_padded_form() {
        let content = vec![7; 1500];
        let padded = pad(&content);
        assert_eq!(
            (padded.len(), unpad(padded.clone(), 1500).unwrap()),
            (2048, content.into())
        );
        assert!(unpad(padded.clone(), 1499).is_err());
        for spoilt in [
            padded.slice(..2047),
            [&padded[..], &[0]].concat().into(),
            [&padded[..], &[0; 2048]].concat().into(),
            padded.slice(..1504),
            [&padded[..2047], &[1]].concat().into(),
            Bytes::new(),
            Bytes::from_static(&[0, 0]),
        ] {
            assert!(unpad(spoilt, 1500).is_err());
        }
        let mut longer = padded.to_vec();
        longer[3] = longer[3].wrapping_add(200);
        // The zeros may be read as content: then they are signed as no one has signed them.
        assert_ne!(unpad(longer.into(), 4096), unpad(padded, 4096));
    }
}
