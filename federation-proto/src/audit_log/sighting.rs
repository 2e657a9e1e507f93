//! What a partner says of another organisation's audit log: which head it has seen, and when. It holds a head to the one
//! that it saw before, so its word stands for all that it saw until then.

use bytes::Bytes;
use ring::rand::SecureRandom;

use crate::codec::{DecodeError, EncodeError, Reader, Wire, Writer};
use crate::device_log::HeadError;
use crate::hash::Digest;
use crate::ids::ServerName;
use crate::keys::{AUDIT_SIGHTING_LABEL, IssuingKey};
use crate::limits::{
    CERTIFICATE_BYTES_MAX, CLOCK_SKEW_MS_MAX, ISSUING_SIGNATURE_BYTES_MAX,
    SERVER_NAME_WIRE_BYTES_MAX, SIGNATURE_LABEL_BYTES_MAX,
};
use crate::manifest::FormerRoot;
use crate::organisation::{CertificateError, OrganisationIdentity};

const FORMAT: u8 = 1;

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Who has seen it.
    pub witness: ServerName,
    /// Whose log.
    pub server: ServerName,
    /// How many entries it had.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Digest,
    /// When the witness saw it, milliseconds since the Unix epoch.
    pub seen_ms: u64,
}

/// A sighting with the witness's signature. [`SignedSighting::verify`] judges it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedSighting {
    sighting: Sighting,
    issuing: Bytes,
    signature: Bytes,
}

/// Why a sighting is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SightingError {
    /// Its certificates do not hold.
    #[error("the sighting: {0}")]
    Certificate(#[from] CertificateError),
    /// It is another one's.
    #[error("the sighting is of {found}, not of {expected}")]
    WrongWitness {
        /// Whose it should be.
        expected: ServerName,
        /// Whose it is.
        found: ServerName,
    },
    /// The witness did not sign it.
    #[error("the sighting is not signed by the witness's issuing CA")]
    BadSignature,
    /// Signed in the future.
    #[error("the sighting was signed in the future: compare the clocks")]
    FromTheFuture,
}

impl Sighting {
    /// Signs it with the witness's issuing CA's key.
    ///
    /// # Errors
    /// When the key fails.
    pub fn sign(
        self,
        issuing: Bytes,
        key: &IssuingKey,
        random: &dyn SecureRandom,
    ) -> Result<SignedSighting, HeadError> {
        let signature = key.sign(&self.signed_bytes(&issuing)?, random)?.into();
        Ok(SignedSighting {
            sighting: self,
            issuing,
            signature,
        })
    }

    fn signed_bytes(&self, issuing: &Bytes) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::with_capacity(1024);
        writer.opaque8("label", SIGNATURE_LABEL_BYTES_MAX, AUDIT_SIGHTING_LABEL);
        self.write_body(&mut writer, issuing);
        writer.finish()
    }

    fn write_body(&self, writer: &mut Writer, issuing: &Bytes) {
        writer.u8(FORMAT);
        writer.server_name(&self.witness);
        writer.server_name(&self.server);
        writer.u64(self.size);
        writer.fixed(self.root.as_bytes());
        writer.u64(self.seen_ms);
        writer.opaque16("issuing certificate", CERTIFICATE_BYTES_MAX, issuing);
    }
}

impl SignedSighting {
    /// What it says, whoever signed it.
    #[must_use]
    pub const fn claims(&self) -> &Sighting {
        &self.sighting
    }

    /// What it says, when this witness has signed it. A root that the witness had before vouches for what was signed until
    /// its end.
    ///
    /// # Errors
    /// When it is another one's, or does not hold.
    pub fn verify(
        &self,
        witness: &ServerName,
        root: &Bytes,
        former: &[FormerRoot],
        now_ms: u64,
    ) -> Result<&Sighting, SightingError> {
        let sighting = &self.sighting;
        if sighting.witness != *witness {
            return Err(SightingError::WrongWitness {
                expected: witness.clone(),
                found: sighting.witness.clone(),
            });
        }
        if sighting.seen_ms > now_ms.saturating_add(CLOCK_SKEW_MS_MAX) {
            return Err(SightingError::FromTheFuture);
        }
        let at_ms = sighting.seen_ms;
        let parse =
            |root: &Bytes| OrganisationIdentity::parse(root.clone(), self.issuing.clone(), at_ms);
        let former = former.iter().filter(|former| at_ms <= former.until_ms);
        let signer = parse(root).or_else(|refused| {
            let mut before = former.map(|former| parse(&former.root));
            before.find_map(Result::ok).ok_or(refused)
        })?;
        let bytes = sighting
            .signed_bytes(&self.issuing)
            .map_err(|_| SightingError::BadSignature)?;
        if !signer.verifies(&bytes, &self.signature) {
            return Err(SightingError::BadSignature);
        }
        Ok(sighting)
    }
}

impl Wire for SignedSighting {
    const BYTES_MAX: usize = 1
        + 2 * SERVER_NAME_WIRE_BYTES_MAX
        + 8
        + 32
        + 8
        + 2
        + CERTIFICATE_BYTES_MAX
        + 1
        + ISSUING_SIGNATURE_BYTES_MAX;
    const NAME: &'static str = "sighting of an audit log";

    fn write(&self, writer: &mut Writer) {
        self.sighting.write_body(writer, &self.issuing);
        writer.opaque8("signature", ISSUING_SIGNATURE_BYTES_MAX, &self.signature);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let format = reader.u8("format of a sighting")?;
        if format != FORMAT {
            return Err(DecodeError::UnknownFormat(format.into()));
        }
        let sighting = Sighting {
            witness: reader.server_name("witness")?,
            server: reader.server_name("server")?,
            size: reader.u64("size")?,
            root: reader.fixed("root").map(Digest::from_bytes)?,
            seen_ms: reader.u64("time")?,
        };
        Ok(Self {
            sighting,
            issuing: reader.opaque16("issuing certificate", CERTIFICATE_BYTES_MAX)?,
            signature: reader.opaque8("signature", ISSUING_SIGNATURE_BYTES_MAX)?,
        })
    }
}
