//! Documents whose signature is checked where they take effect: they carry no statement that would say
//! by themselves who signed them.

use bytes::Bytes;
use ring::rand::SecureRandom;

use crate::agreement::documents::{
    Acceptance, DocumentError, FORMAT, Offer, attach_signature, check_length, sealed, signed_bytes,
    without_signature,
};
use crate::armor::{self, Kind};
use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::hash::Digest;
use crate::ids::ServerName;
use crate::keys::{COUNTERSIGNATURE_LABEL, IssuingKey};
use crate::limits::{ISSUING_SIGNATURE_BYTES_MAX, SERVER_NAME_WIRE_BYTES_MAX};
use crate::manifest::{self, Manifest};

/// The body of a document that needs another one, or a known partner, to be checked.
pub trait DetachedBody: Wire + sealed::Sealed {
    /// Which document.
    const KIND: Kind;
    /// What its signature starts with.
    const LABEL: &'static [u8];
}

/// A document that nobody has checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detached<B> {
    body: B,
    signed: Bytes,
    signature: Bytes,
    bytes: Bytes,
}

impl<B: DetachedBody> Detached<B> {
    /// Signs a document.
    pub(super) fn make(
        body: &B,
        key: &IssuingKey,
        random: &dyn SecureRandom,
    ) -> Result<Self, DocumentError> {
        Self::decode(attach_signature(B::LABEL, &body.to_bytes()?, key, random)?)
    }

    /// Reads a document. Its signature is checked where it takes effect.
    ///
    /// # Errors
    /// When the bytes are anything but one whole document of this kind.
    pub fn decode(bytes: Bytes) -> Result<Self, DocumentError> {
        let mut reader = Reader::new(check_length(&bytes)?);
        let body = B::read(&mut reader)?;
        let body_bytes = bytes.len() - reader.remaining();
        let signature = reader.opaque8("signature", ISSUING_SIGNATURE_BYTES_MAX)?;
        reader.finish()?;
        let body_slice = bytes.get(..body_bytes).unwrap_or_default();
        Ok(Self {
            signed: signed_bytes(B::LABEL, body_slice)?,
            body,
            signature,
            bytes,
        })
    }

    /// Reads an armored document.
    ///
    /// # Errors
    /// When the text is not one of this kind.
    pub fn from_armor(text: &str) -> Result<Self, DocumentError> {
        Self::decode(armor::read(B::KIND, text)?)
    }

    /// What it says.
    #[must_use]
    pub const fn body(&self) -> &B {
        &self.body
    }

    /// Its exact bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// SHA-256 of its bytes.
    #[must_use]
    pub fn sha256(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// The document as text.
    #[must_use]
    pub fn to_armor(&self) -> String {
        armor::write(B::KIND, &self.bytes)
    }

    /// Checks that the issuing CA of `manifest` signed this.
    pub(super) fn check_signature(&self, manifest: &Manifest) -> Result<(), DocumentError> {
        if manifest.identity().verifies(&self.signed, &self.signature) {
            Ok(())
        } else {
            Err(DocumentError::BadSignature)
        }
    }
}

/// Reads the manifest that a document carries: it must be of `from` and hold under `root` at `at_ms`.
pub(super) fn manifest_under(
    root: &Bytes,
    from: &ServerName,
    bytes: &Bytes,
    at_ms: u64,
) -> Result<Manifest, DocumentError> {
    Ok(manifest::decode(bytes.clone())?.verify(from, root, None, at_ms)?)
}

/// Whether a check holds under one of these roots, the one in force first: its answer, or the first refusal.
pub(super) fn held_under<'r>(
    roots: impl Iterator<Item = &'r Bytes>,
    check: impl Fn(&Bytes) -> Result<(), DocumentError>,
) -> Result<(), DocumentError> {
    let mut verdict = Ok(());
    for root in roots {
        match check(root) {
            Ok(()) => return Ok(()),
            Err(error) => verdict = verdict.and(Err(error)),
        }
    }
    verdict
}

/// What a countersignature says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountersignatureBody {
    /// The offerer.
    pub from: ServerName,
    /// The accepter.
    pub to: ServerName,
    /// SHA-256 of the offer, signature included.
    pub offer_sha256: Digest,
    /// SHA-256 of the acceptance, signature included.
    pub acceptance_sha256: Digest,
    /// When it was made, milliseconds since the Unix epoch.
    pub made_ms: u64,
}

/// A countersignature that nobody has checked against its offer yet:
/// [`crate::agreement::Accepted::activate`] does.
pub type Countersignature = Detached<CountersignatureBody>;

impl Wire for CountersignatureBody {
    const BYTES_MAX: usize = 2 + 2 * SERVER_NAME_WIRE_BYTES_MAX + 2 * 32 + 8;
    const NAME: &'static str = "countersignature";

    fn write(&self, writer: &mut Writer) {
        writer.u16(FORMAT);
        writer.server_name(&self.from);
        writer.server_name(&self.to);
        writer.fixed(self.offer_sha256.as_bytes());
        writer.fixed(self.acceptance_sha256.as_bytes());
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
            offer_sha256: Digest::from_bytes(reader.fixed("hash of the offer")?),
            acceptance_sha256: Digest::from_bytes(reader.fixed("hash of the acceptance")?),
            made_ms: reader.u64("time")?,
        })
    }
}

impl sealed::Sealed for CountersignatureBody {}

impl DetachedBody for CountersignatureBody {
    const KIND: Kind = Kind::Countersignature;
    const LABEL: &'static [u8] = COUNTERSIGNATURE_LABEL;
}

impl Countersignature {
    /// A countersignature that follows from a charter: it verifies under no key.
    pub(super) fn derived(body: &CountersignatureBody) -> Result<Self, DocumentError> {
        Self::decode(without_signature(&body.to_bytes()?)?)
    }

    /// Checks that the maker of `offer` signed this for exactly these two documents.
    ///
    /// # Errors
    /// When it did not.
    pub fn check(&self, offer: &Offer, acceptance: &Acceptance) -> Result<(), DocumentError> {
        let fits = self.body.from == offer.statement().from
            && self.body.to == offer.statement().to
            && self.body.offer_sha256 == offer.sha256()
            && self.body.acceptance_sha256 == acceptance.sha256();
        if !fits {
            return Err(DocumentError::OtherDocuments);
        }
        self.check_signature(offer.manifest())
    }
}
