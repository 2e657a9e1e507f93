//! The origin's audit log has grown: its newest head, so that others hold it to that.

use super::SMALL_FIELDS_BYTES_MAX;
use crate::audit_log::SignedAuditHead;
use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::device_log::Growth;

/// The newest head of the origin's audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditHead {
    /// The head.
    pub head: SignedAuditHead,
    /// What shows that it has grown from the head that the destination has seen last; none before it has seen any.
    pub growth: Option<Growth>,
}

impl Wire for AuditHead {
    const BYTES_MAX: usize =
        SignedAuditHead::BYTES_MAX + Growth::BYTES_MAX + SMALL_FIELDS_BYTES_MAX;
    const NAME: &'static str = "audit head payload";

    fn write(&self, writer: &mut Writer) {
        self.head.write(writer);
        writer.optional(self.growth.as_ref(), |writer, growth| growth.write(writer));
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            head: SignedAuditHead::read(reader)?,
            growth: reader.optional("growth", Growth::read)?,
        })
    }
}
