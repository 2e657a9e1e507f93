//! Positions whose envelopes will never come.

use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::limits::TOMBSTONE_COUNT_MAX;
use crate::refusal::RefusalCode;

/// Stands for `count` positions, from the envelope's own on, whose envelopes will never come: they
/// expired, or were given up, before they were received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tombstone {
    /// How many positions.
    pub count: u32,
    /// Why.
    pub code: RefusalCode,
}

impl Wire for Tombstone {
    const BYTES_MAX: usize = 4 + 2;
    const NAME: &'static str = "tombstone payload";

    fn write(&self, writer: &mut Writer) {
        if !(1..=TOMBSTONE_COUNT_MAX).contains(&self.count) {
            writer.fail(
                "count",
                usize::try_from(TOMBSTONE_COUNT_MAX).unwrap_or(usize::MAX),
            );
        }
        writer.u32(self.count);
        writer.refusal_code(self.code);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let count = reader.u32("count")?;
        if !(1..=TOMBSTONE_COUNT_MAX).contains(&count) {
            return Err(DecodeError::Invalid("count"));
        }
        Ok(Self {
            count,
            code: reader.refusal_code()?,
        })
    }
}
