//! Padmé: how long a content becomes, so that its length tells little.
//!
//! Padmé (Nikitin et al., PETS 2019, algorithm 1) leaks O(log log n) bits and adds at most 12 %.
//! Below the floor everything looks the same.

/// Least padded length.
pub(crate) const FLOOR_BYTES: u64 = 256;

/// The padded length of `bytes` bytes.
pub(crate) const fn padded(bytes: u64) -> u64 {
    if bytes <= FLOOR_BYTES {
        return FLOOR_BYTES;
    }
    let exponent = bytes.ilog2();
    let low_bits = exponent - (exponent.ilog2() + 1);
    let mask = (1_u64 << low_bits) - 1;
    // At the very top of the range there is nothing left to round up to.
    bytes.saturating_add(mask) & !mask
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the lengths that the paper's algorithm gives, above a floor of 256; by a table.
    #[test]
    fn known_lengths() {
        for (bytes, expected) in [
            (0, 256),
            (1, 256),
            (256, 256),
            (257, 272),
            (272, 272),
            (273, 288),
            (1000, 1024),
            (1024, 1024),
            (1025, 1088),
            (60 * 1024, 61_440),
            (100_000, 100_352),
        ] {
            assert_eq!(padded(bytes), expected, "{bytes}");
        }
    }

    proptest::proptest! {
        /// Goal: padding never shortens, adds at most 12 %, and is done once.
        #[test]
        fn properties(bytes in 0_u64..1 << 40) {
            let length = padded(bytes);
            proptest::prop_assert!(length >= bytes);
            proptest::prop_assert!(length <= FLOOR_BYTES || (length - bytes) * 100 <= bytes * 12);
            proptest::prop_assert_eq!(padded(length), length);
        }
    }
}
