//! The origin's device log has grown: its newest head, so that a fork shows.

use super::SMALL_FIELDS_BYTES_MAX;
use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::device_log::{Growth, SignedHead};

/// The newest head of the origin's device log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogHead {
    /// The head.
    pub head: SignedHead,
    /// What shows that it has grown from the head that the destination was told last; none before it was
    /// told of any.
    pub growth: Option<Growth>,
}

impl Wire for LogHead {
    const BYTES_MAX: usize = SignedHead::BYTES_MAX + Growth::BYTES_MAX + SMALL_FIELDS_BYTES_MAX;
    const NAME: &'static str = "log head payload";

    fn write(&self, writer: &mut Writer) {
        self.head.write(writer);
        writer.optional(self.growth.as_ref(), |writer, growth| growth.write(writer));
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            head: SignedHead::read(reader)?,
            growth: reader.optional("growth", Growth::read)?,
        })
    }
}
