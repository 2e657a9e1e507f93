//! One statement: a device has come to an account, or has left it.

use bytes::Bytes;

use crate::codec::{DecodeError, EncodeError, Reader, Wire, Writer};
use crate::hash::Digest;
use crate::ids::{AccountId, DeviceId};
use crate::keys::{DEVICE_APPROVAL_LABEL, ENVELOPE_SIGNATURE_BYTES, verify_envelope_signature};
use crate::limits::{DEVICE_STATEMENT_BYTES_MAX, SIGNATURE_LABEL_BYTES_MAX};
use crate::merkle;

const FORMAT: u8 = 1;
const FIRST: u8 = 1;
const APPROVED: u8 = 2;
const RESET: u8 = 3;
const REMOVED: u8 = 4;

/// How a device came to its account, or that it left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The account's first device ever.
    First,
    /// A device of the account vouches for it.
    Approved {
        /// The device that does.
        by: DeviceId,
        /// Its Ed25519 signature over [`DeviceStatement::approval_bytes`].
        signature: [u8; ENVELOPE_SIGNATURE_BYTES],
    },
    /// Without another device: by the password alone, or with an administrator's leave.
    Reset,
    /// It is no device of the account any more.
    Removed,
}

/// What an organisation says of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceStatement {
    /// The account.
    pub account: AccountId,
    /// The device.
    pub device: DeviceId,
    /// Its Ed25519 public key, which is its MLS signature key.
    pub key: [u8; 32],
    /// The statement's number within the account, from 1.
    pub serial: u64,
    /// The hash of the account's statement before; zeros for the first one.
    pub previous: Digest,
    /// When, by the organisation's clock: milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What happened.
    pub how: How,
}

impl DeviceStatement {
    /// Its hash: the leaf in the log, and what the account's next statement names.
    ///
    /// # Errors
    /// Never: a statement has no part that could be over a limit.
    pub fn hash(&self) -> Result<Digest, EncodeError> {
        Ok(merkle::leaf(&self.to_bytes()?))
    }

    /// What the approving device signs: the statement, but for the signature.
    ///
    /// # Errors
    /// Never: a statement has no part that could be over a limit.
    pub fn approval_bytes(&self) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::with_capacity(DEVICE_STATEMENT_BYTES_MAX);
        writer.opaque8("label", SIGNATURE_LABEL_BYTES_MAX, DEVICE_APPROVAL_LABEL);
        self.write_unsigned(&mut writer);
        writer.finish()
    }

    /// Whether the approval is by the holder of this key.
    #[must_use]
    pub fn is_approved_by(&self, key: &[u8; 32]) -> bool {
        match (&self.how, self.approval_bytes()) {
            (How::Approved { signature, .. }, Ok(bytes)) => {
                verify_envelope_signature(key, &bytes, signature)
            }
            _ => false,
        }
    }

    fn write_unsigned(&self, writer: &mut Writer) {
        writer.u8(FORMAT);
        writer.fixed(self.account.as_bytes());
        writer.fixed(self.device.as_bytes());
        writer.fixed(&self.key);
        writer.u64(self.serial);
        writer.fixed(self.previous.as_bytes());
        writer.u64(self.at_ms);
        match &self.how {
            How::First => writer.u8(FIRST),
            How::Approved { by, .. } => {
                writer.u8(APPROVED);
                writer.fixed(by.as_bytes());
            }
            How::Reset => writer.u8(RESET),
            How::Removed => writer.u8(REMOVED),
        }
    }
}

impl Wire for DeviceStatement {
    const BYTES_MAX: usize = DEVICE_STATEMENT_BYTES_MAX;
    const NAME: &'static str = "device statement";

    fn write(&self, writer: &mut Writer) {
        self.write_unsigned(writer);
        if let How::Approved { signature, .. } = &self.how {
            writer.fixed(signature);
        }
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let format = reader.u8("format of a device statement")?;
        if format != FORMAT {
            return Err(DecodeError::UnknownFormat(format.into()));
        }
        Ok(Self {
            account: reader.fixed("account").map(AccountId::from_bytes)?,
            device: reader.fixed("device").map(DeviceId::from_bytes)?,
            key: reader.fixed("device key")?,
            serial: reader.u64("serial")?,
            previous: reader.fixed("previous statement").map(Digest::from_bytes)?,
            at_ms: reader.u64("time")?,
            how: match reader.u8("what a device statement says")? {
                FIRST => How::First,
                APPROVED => How::Approved {
                    by: reader.fixed("approving device").map(DeviceId::from_bytes)?,
                    signature: reader.fixed("approval")?,
                },
                RESET => How::Reset,
                REMOVED => How::Removed,
                value => {
                    return Err(DecodeError::UnknownValue {
                        what: "device statement",
                        value: value.into(),
                    });
                }
            },
        })
    }
}
