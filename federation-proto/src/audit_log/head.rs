//! Heads of an audit log: the form of a device log's, under a label of their own, so that neither stands for the other.

use bytes::Bytes;
use ring::rand::SecureRandom;

use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::device_log::{Head, HeadError, LogError, SignedHead};
use crate::ids::ServerName;
use crate::keys::{AUDIT_LOG_LABEL, IssuingKey};
use crate::manifest::FormerRoot;

/// A head of an audit log with the organisation's signature. [`SignedAuditHead::verify`] judges it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedAuditHead(SignedHead);

impl SignedAuditHead {
    /// Signs the head with the issuing CA's key.
    ///
    /// # Errors
    /// When the key fails.
    pub fn sign(
        head: Head,
        issuing: Bytes,
        key: &IssuingKey,
        random: &dyn SecureRandom,
    ) -> Result<Self, HeadError> {
        head.sign_as(AUDIT_LOG_LABEL, issuing, key, random)
            .map(Self)
    }

    /// What it says, whoever signed it.
    #[must_use]
    pub const fn claims(&self) -> &Head {
        self.0.claims()
    }

    /// What it says, when it is the head of this organisation's log and its issuing CA has signed it. A root that the
    /// organisation had before vouches for what was signed until its end.
    ///
    /// # Errors
    /// When it is another one's, or does not hold.
    pub fn verify(
        &self,
        server: &ServerName,
        root: &Bytes,
        former: &[FormerRoot],
        now_ms: u64,
    ) -> Result<&Head, LogError> {
        self.0
            .verify_as(AUDIT_LOG_LABEL, server, (root, former), now_ms)
    }
}

impl Wire for SignedAuditHead {
    const BYTES_MAX: usize = SignedHead::BYTES_MAX;
    const NAME: &'static str = "head of an audit log";

    fn write(&self, writer: &mut Writer) {
        self.0.write(writer);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        SignedHead::read(reader).map(Self)
    }
}
