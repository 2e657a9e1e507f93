//! Heads of a device log: how long it is and what its root is, signed by the organisation. Those of an audit log are the
//! same under another label ([`crate::audit_log`]).
//!
//! The issuing CA signs, not an envelope key: a head is evidence. It is judged by the organisation's root and the
//! certificate that it carries, alone and for ever, where a manifest forgets an envelope key after a month.

use bytes::Bytes;
use ring::rand::SecureRandom;

use crate::codec::{DecodeError, EncodeError, Reader, Wire, Writer};
use crate::hash::Digest;
use crate::ids::ServerName;
use crate::keys::{DEVICE_LOG_LABEL, IssuingKey, KeyError};
use crate::limits::{
    CERTIFICATE_BYTES_MAX, CLOCK_SKEW_MS_MAX, ISSUING_SIGNATURE_BYTES_MAX, LOG_PATH_MAX,
    SERVER_NAME_WIRE_BYTES_MAX, SIGNATURE_LABEL_BYTES_MAX,
};
use crate::manifest::FormerRoot;
use crate::merkle;
use crate::organisation::{CertificateError, OrganisationIdentity};

const FORMAT: u8 = 1;

/// The state of a log at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Whose log.
    pub server: ServerName,
    /// How many statements, or entries, it has.
    pub size: u64,
    /// The root of the tree over them; zeros for none.
    pub root: Digest,
    /// When the head was signed, milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// A head with the organisation's signature. [`SignedHead::verify`] judges it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    head: Head,
    issuing: Bytes,
    signature: Bytes,
}

/// Why a head could not be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// A part is over its limit.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The key failed.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Why a head is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Its certificates do not hold.
    #[error("the head of the log: {0}")]
    Certificate(#[from] CertificateError),
    /// It is another organisation's.
    #[error("the head of the log is of {found}, not of {expected}")]
    WrongServer {
        /// Whose it should be.
        expected: ServerName,
        /// Whose it is.
        found: ServerName,
    },
    /// The issuing CA did not sign it.
    #[error("the head of the log is not signed by the organisation's issuing CA")]
    BadSignature,
    /// Signed in the future.
    #[error("the head of the log was signed in the future: compare the clocks")]
    FromTheFuture,
    /// The log was longer before.
    #[error("the log of {server} has gone back: it had {known} entries, and now has {found}")]
    GoneBack {
        /// Whose log.
        server: ServerName,
        /// How many it had.
        known: u64,
        /// How many it has.
        found: u64,
    },
    /// The log is not the one that was known: others are shown another one.
    #[error(
        "the log of {server} has forked: what it shows now does not grow from its {known} entries that were known"
    )]
    Forked {
        /// Whose log.
        server: ServerName,
        /// How many statements were known.
        known: u64,
    },
}

/// What shows that a log has grown from an earlier head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// The earlier size.
    pub from: u64,
    /// The path (RFC 9162, section 2.1.4).
    pub path: Vec<Digest>,
}

impl Head {
    /// Signs the head with the issuing CA's key.
    ///
    /// # Errors
    /// When the key fails.
    pub fn sign(
        self,
        issuing: Bytes,
        key: &IssuingKey,
        random: &dyn SecureRandom,
    ) -> Result<SignedHead, HeadError> {
        self.sign_as(DEVICE_LOG_LABEL, issuing, key, random)
    }

    pub(crate) fn sign_as(
        self,
        label: &[u8],
        issuing: Bytes,
        key: &IssuingKey,
        random: &dyn SecureRandom,
    ) -> Result<SignedHead, HeadError> {
        let signed = self.signed_bytes(label, &issuing)?;
        let signature = key.sign(&signed, random)?.into();
        Ok(SignedHead {
            head: self,
            issuing,
            signature,
        })
    }

    fn signed_bytes(&self, label: &[u8], issuing: &Bytes) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::with_capacity(1024);
        writer.opaque8("label", SIGNATURE_LABEL_BYTES_MAX, label);
        self.write_body(&mut writer, issuing);
        writer.finish()
    }

    fn write_body(&self, writer: &mut Writer, issuing: &Bytes) {
        writer.u8(FORMAT);
        writer.server_name(&self.server);
        writer.u64(self.size);
        writer.fixed(self.root.as_bytes());
        writer.u64(self.at_ms);
        writer.opaque16("issuing certificate", CERTIFICATE_BYTES_MAX, issuing);
    }
}

impl SignedHead {
    /// What it says, whoever signed it.
    #[must_use]
    pub const fn claims(&self) -> &Head {
        &self.head
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
        self.verify_as(DEVICE_LOG_LABEL, server, (root, former), now_ms)
    }

    pub(crate) fn verify_as(
        &self,
        label: &[u8],
        server: &ServerName,
        (root, former): (&Bytes, &[FormerRoot]),
        now_ms: u64,
    ) -> Result<&Head, LogError> {
        if self.head.server != *server {
            return Err(LogError::WrongServer {
                expected: server.clone(),
                found: self.head.server.clone(),
            });
        }
        if self.head.at_ms > now_ms.saturating_add(CLOCK_SKEW_MS_MAX) {
            return Err(LogError::FromTheFuture);
        }
        let organisation = self.signer(root, former)?;
        let bytes = self
            .head
            .signed_bytes(label, &self.issuing)
            .map_err(|_| LogError::BadSignature)?;
        if !organisation.verifies(&bytes, &self.signature) {
            return Err(LogError::BadSignature);
        }
        Ok(&self.head)
    }

    /// The organisation, by the one of its roots to which the head's certificate leads.
    fn signer(
        &self,
        root: &Bytes,
        former: &[FormerRoot],
    ) -> Result<OrganisationIdentity, CertificateError> {
        let at_ms = self.head.at_ms;
        let parse =
            |root: &Bytes| OrganisationIdentity::parse(root.clone(), self.issuing.clone(), at_ms);
        let former = former.iter().filter(|former| at_ms <= former.until_ms);
        parse(root).or_else(|refused| {
            let mut before = former.map(|former| parse(&former.root));
            before.find_map(Result::ok).ok_or(refused)
        })
    }
}

impl Head {
    /// Holds this head against an earlier one of the same log: it must have grown from it, or be the same.
    ///
    /// # Errors
    /// When it is shorter, or another log.
    pub fn follows(&self, known: &Self, growth: Option<&Growth>) -> Result<(), LogError> {
        if self.size < known.size {
            return Err(LogError::GoneBack {
                server: self.server.clone(),
                known: known.size,
                found: self.size,
            });
        }
        let forked = || LogError::Forked {
            server: self.server.clone(),
            known: known.size,
        };
        if self.size == known.size {
            return if self.root == known.root {
                Ok(())
            } else {
                Err(forked())
            };
        }
        let path = match growth {
            Some(growth) if growth.from == known.size => &growth.path[..],
            // Everything grows from nothing.
            _ if known.size == 0 => &[],
            _ => return Err(forked()),
        };
        if merkle::has_grown((known.size, known.root), (self.size, self.root), path) {
            Ok(())
        } else {
            Err(forked())
        }
    }
}

impl Wire for SignedHead {
    const BYTES_MAX: usize = 1
        + SERVER_NAME_WIRE_BYTES_MAX
        + 8
        + 32
        + 8
        + 2
        + CERTIFICATE_BYTES_MAX
        + 1
        + ISSUING_SIGNATURE_BYTES_MAX;
    const NAME: &'static str = "head of a device log";

    fn write(&self, writer: &mut Writer) {
        self.head.write_body(writer, &self.issuing);
        writer.opaque8("signature", ISSUING_SIGNATURE_BYTES_MAX, &self.signature);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let format = reader.u8("format of a head")?;
        if format != FORMAT {
            return Err(DecodeError::UnknownFormat(format.into()));
        }
        let head = Head {
            server: reader.server_name("server")?,
            size: reader.u64("size")?,
            root: reader.fixed("root").map(Digest::from_bytes)?,
            at_ms: reader.u64("time")?,
        };
        Ok(Self {
            head,
            issuing: reader.opaque16("issuing certificate", CERTIFICATE_BYTES_MAX)?,
            signature: reader.opaque8("signature", ISSUING_SIGNATURE_BYTES_MAX)?,
        })
    }
}

impl Wire for Growth {
    const BYTES_MAX: usize = 8 + 4 + LOG_PATH_MAX * 32;
    const NAME: &'static str = "growth of a device log";

    fn write(&self, writer: &mut Writer) {
        writer.u64(self.from);
        write_path(writer, &self.path);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            from: reader.u64("earlier size")?,
            path: read_path(reader)?,
        })
    }
}

pub(super) fn write_path(writer: &mut Writer, path: &[Digest]) {
    writer.list("path", LOG_PATH_MAX, path, |writer, hash| {
        writer.fixed(hash.as_bytes());
    });
}

pub(super) fn read_path(reader: &mut Reader) -> Result<Vec<Digest>, DecodeError> {
    reader.list("path", LOG_PATH_MAX, |reader| {
        reader.fixed("path").map(Digest::from_bytes)
    })
}
