//! A consent: the partner's signature under exactly one amendment.

use bytes::Bytes;

use crate::agreement::amendment::Amendment;
use crate::agreement::detached::{Detached, DetachedBody, manifest_under};
use crate::agreement::documents::{DocumentError, FORMAT, sealed};
use crate::armor::Kind;
use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::hash::Digest;
use crate::ids::ServerName;
use crate::keys::CONSENT_LABEL;
use crate::limits::{MANIFEST_BYTES_MAX, SERVER_NAME_WIRE_BYTES_MAX};

/// What a consent says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentBody {
    /// Who consents.
    pub from: ServerName,
    /// Who made the amendment.
    pub to: ServerName,
    /// The consenting side's key manifest, with the issuing certificate that signs this.
    pub manifest: Bytes,
    /// SHA-256 of the amendment, signature included.
    pub amendment_sha256: Digest,
    /// When it was made, milliseconds since the Unix epoch.
    pub made_ms: u64,
}

/// A consent that nobody has checked against its amendment yet: [`crate::agreement::Signed::consented`]
/// does.
pub type Consent = Detached<ConsentBody>;

impl Wire for ConsentBody {
    const BYTES_MAX: usize = 2 + 2 * SERVER_NAME_WIRE_BYTES_MAX + 2 + MANIFEST_BYTES_MAX + 32 + 8;
    const NAME: &'static str = "consent";

    fn write(&self, writer: &mut Writer) {
        writer.u16(FORMAT);
        writer.server_name(&self.from);
        writer.server_name(&self.to);
        writer.opaque16("manifest", MANIFEST_BYTES_MAX, &self.manifest);
        writer.fixed(self.amendment_sha256.as_bytes());
        writer.u64(self.made_ms);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let format = reader.u16("format")?;
        if format != FORMAT {
            return Err(DecodeError::UnknownFormat(format));
        }
        Ok(Self {
            from: reader.server_name("maker")?,
            to: reader.server_name("partner")?,
            manifest: reader.opaque16("manifest", MANIFEST_BYTES_MAX)?,
            amendment_sha256: Digest::from_bytes(reader.fixed("hash of the amendment")?),
            made_ms: reader.u64("time")?,
        })
    }
}

impl sealed::Sealed for ConsentBody {}

impl DetachedBody for ConsentBody {
    const KIND: Kind = Kind::Consent;
    const LABEL: &'static [u8] = CONSENT_LABEL;
}

impl Consent {
    /// Whether it is to exactly this amendment, by its recipient's name.
    pub(super) fn fits(&self, amendment: &Amendment) -> bool {
        let body = self.body();
        body.from == amendment.statement().to
            && body.to == amendment.statement().from
            && body.amendment_sha256 == amendment.sha256()
    }

    /// Checks that the amendment's recipient, whose root is `root`, signed this for exactly it.
    pub(super) fn check(&self, amendment: &Amendment, root: &Bytes) -> Result<(), DocumentError> {
        if !self.fits(amendment) {
            return Err(DocumentError::OtherDocuments);
        }
        let body = self.body();
        let keys = manifest_under(root, &body.from, &body.manifest, body.made_ms)?;
        self.check_signature(&keys)
    }
}
