//! The documents that say by themselves who made them: each carries its maker's statement, with the keys
//! that prove its signature.

use bytes::Bytes;
use ring::rand::SecureRandom;

use crate::agreement::endpoint::Endpoint;
use crate::agreement::terms::Terms;
use crate::armor::{self, ArmorError, Kind};
use crate::codec::{DecodeError, EncodeError, Reader, Wire, Writer};
use crate::hash::Digest;
use crate::ids::ServerName;
use crate::keys::{ACCEPTANCE_LABEL, IssuingKey, KeyError, OFFER_LABEL};
use crate::limits::{
    CERTIFICATE_BYTES_MAX, CLOCK_SKEW_MS_MAX, CONTACT_BYTES_MAX, ENDPOINT_BYTES_MAX, ENDPOINTS_MAX,
    ISSUING_SIGNATURE_BYTES_MAX, MANIFEST_BYTES_MAX, PEERING_DOCUMENT_BYTES_MAX,
    SIGNATURE_LABEL_BYTES_MAX,
};
use crate::manifest::{self, Manifest, ManifestError};
use crate::text::is_unseen;
use crate::version::VersionSet;

/// The format of peering documents.
pub(super) const FORMAT: u16 = 1;

/// What one side states in an offer or an acceptance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Who states it.
    pub from: ServerName,
    /// To whom.
    pub to: ServerName,
    /// Counts the statements between the two; the first has 1.
    pub serial: u64,
    /// SHA-256 of the document before this one; zeros for the first.
    pub previous: Digest,
    /// The protocol versions that the maker speaks.
    pub versions: VersionSet,
    /// The maker's root certificate, DER: what the partner pins.
    pub root: Bytes,
    /// The maker's key manifest, with its issuing certificate and TLS pins.
    pub manifest: Bytes,
    /// Where the maker is reached; none: where DNS says.
    pub endpoints: Vec<Endpoint>,
    /// What the maker allows and claims.
    pub terms: Terms,
    /// Whom the partner's administrator turns to.
    pub contact: String,
    /// Random, so that no two documents are the same.
    pub nonce: [u8; 16],
    /// When it was made, milliseconds since the Unix epoch.
    pub made_ms: u64,
    /// When the agreement ends as far as the maker is concerned, milliseconds since the Unix epoch.
    pub expires_ms: u64,
}

impl Statement {
    pub(super) fn write(&self, writer: &mut Writer) {
        writer.u16(FORMAT);
        writer.server_name(&self.from);
        writer.server_name(&self.to);
        writer.u64(self.serial);
        writer.fixed(self.previous.as_bytes());
        self.versions.write(writer);
        writer.opaque16("root certificate", CERTIFICATE_BYTES_MAX, &self.root);
        writer.opaque16("manifest", MANIFEST_BYTES_MAX, &self.manifest);
        writer.list(
            "endpoints",
            ENDPOINTS_MAX,
            &self.endpoints,
            |writer, endpoint| {
                writer.opaque16("endpoint", ENDPOINT_BYTES_MAX, endpoint.as_str().as_bytes());
            },
        );
        self.terms.write(writer);
        if self.contact.chars().any(is_unseen) {
            writer.fail("contact", CONTACT_BYTES_MAX);
        }
        writer.opaque16("contact", CONTACT_BYTES_MAX, self.contact.as_bytes());
        writer.fixed(&self.nonce);
        writer.u64(self.made_ms);
        writer.u64(self.expires_ms);
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let format = reader.u16("format")?;
        if format != FORMAT {
            return Err(DecodeError::UnknownFormat(format));
        }
        Ok(Self {
            from: reader.server_name("maker")?,
            to: reader.server_name("partner")?,
            serial: reader.u64("serial")?,
            previous: Digest::from_bytes(reader.fixed("previous document")?),
            versions: VersionSet::read(reader)?,
            root: reader.opaque16("root certificate", CERTIFICATE_BYTES_MAX)?,
            manifest: reader.opaque16("manifest", MANIFEST_BYTES_MAX)?,
            endpoints: reader.list("endpoints", ENDPOINTS_MAX, |reader| {
                reader
                    .text16("endpoint", ENDPOINT_BYTES_MAX)?
                    .parse()
                    .map_err(|_| DecodeError::Invalid("endpoint"))
            })?,
            terms: Terms::read(reader)?,
            contact: reader.text16("contact", CONTACT_BYTES_MAX)?,
            nonce: reader.fixed("nonce")?,
            made_ms: reader.u64("time")?,
            expires_ms: reader.u64("expiry")?,
        })
    }
}

/// What an offer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferBody {
    /// The offerer's statement.
    pub statement: Statement,
    /// Until when it may be accepted, milliseconds since the Unix epoch.
    pub answer_by_ms: u64,
}

/// What an acceptance says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptanceBody {
    /// The accepter's own statement.
    pub statement: Statement,
    /// SHA-256 of the offer that is accepted, signature included.
    pub offer_sha256: Digest,
}

impl Wire for OfferBody {
    const BYTES_MAX: usize = PEERING_DOCUMENT_BYTES_MAX;
    const NAME: &'static str = "offer";

    fn write(&self, writer: &mut Writer) {
        self.statement.write(writer);
        writer.u64(self.answer_by_ms);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            statement: Statement::read(reader)?,
            answer_by_ms: reader.u64("last day of the offer")?,
        })
    }
}

impl Wire for AcceptanceBody {
    const BYTES_MAX: usize = PEERING_DOCUMENT_BYTES_MAX;
    const NAME: &'static str = "acceptance";

    fn write(&self, writer: &mut Writer) {
        self.statement.write(writer);
        writer.fixed(self.offer_sha256.as_bytes());
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            statement: Statement::read(reader)?,
            offer_sha256: Digest::from_bytes(reader.fixed("hash of the offer")?),
        })
    }
}

/// Why a document is not taken, or could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The text is not the document.
    #[error(transparent)]
    Armor(#[from] ArmorError),
    /// The bytes are not the document.
    #[error("the document does not decode: {0}")]
    Decode(#[from] DecodeError),
    /// A part is over its limit.
    #[error("the document can't be written: {0}")]
    Encode(#[from] EncodeError),
    /// The key failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The maker's certificates or manifest do not hold.
    #[error("the maker's keys do not hold: {0}")]
    Manifest(#[from] ManifestError),
    /// Somebody else signed it, or it was changed.
    #[error("the document's signature does not verify: it was changed, or somebody else made it")]
    BadSignature,
    /// Made in the future, by this server's clock.
    #[error("the document was made in the future: compare the two servers' clocks")]
    FromTheFuture,
    /// A countersignature or an acceptance of other documents.
    #[error("the documents are not of one agreement: each must be of exactly the ones before it")]
    OtherDocuments,
}

/// The body of a document that its maker proves by itself.
pub trait DocumentBody: Wire + sealed::Sealed {
    /// Which document.
    const KIND: Kind;
    /// What its signature starts with.
    const LABEL: &'static [u8];

    /// What its maker states.
    fn statement(&self) -> &Statement;
}

pub(super) mod sealed {
    pub trait Sealed {}
    impl Sealed for super::OfferBody {}
    impl Sealed for super::AcceptanceBody {}
}

impl DocumentBody for OfferBody {
    const KIND: Kind = Kind::Offer;
    const LABEL: &'static [u8] = OFFER_LABEL;

    fn statement(&self) -> &Statement {
        &self.statement
    }
}

impl DocumentBody for AcceptanceBody {
    const KIND: Kind = Kind::Acceptance;
    const LABEL: &'static [u8] = ACCEPTANCE_LABEL;

    fn statement(&self) -> &Statement {
        &self.statement
    }
}

/// An offer whose signature holds. That its maker is who it says, only the fingerprint shows.
pub type Offer = Document<OfferBody>;
/// An acceptance whose signature holds. That its maker is who it says, only the fingerprint shows.
pub type Acceptance = Document<AcceptanceBody>;

/// A document, signed by the issuing CA that its own manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document<B> {
    body: B,
    manifest: Manifest,
    bytes: Bytes,
}

impl<B: DocumentBody> Document<B> {
    /// Signs a document.
    ///
    /// # Errors
    /// When a part is over its limit, or the statement's keys do not hold at its own time, or are
    /// not those of `key`.
    pub fn make(
        body: &B,
        key: &IssuingKey,
        random: &dyn SecureRandom,
    ) -> Result<Self, DocumentError> {
        let encoded = body.to_bytes()?;
        let bytes = attach_signature(B::LABEL, &encoded, key, random)?;
        Self::open(bytes, body.statement().made_ms)
    }

    /// Reads a document and checks its signature, and its maker's certificates and manifest at the
    /// time `at_ms`.
    ///
    /// # Errors
    /// When the bytes are not such a document, or a check fails.
    pub fn open(bytes: Bytes, at_ms: u64) -> Result<Self, DocumentError> {
        let (body, signed, signature) = split::<B>(&bytes)?;
        Self::check(bytes, body, &signed, &signature, at_ms)
    }

    /// Reads a document that was opened before and then stored: its maker's certificates are
    /// judged at the time when it was made, for they may have been renewed since.
    ///
    /// # Errors
    /// When the bytes are not such a document, or a check fails.
    pub fn restore(bytes: Bytes) -> Result<Self, DocumentError> {
        let (body, signed, signature) = split::<B>(&bytes)?;
        let made_ms = body.statement().made_ms;
        Self::check(bytes, body, &signed, &signature, made_ms)
    }

    /// Reads an armored document: [`Document::open`] of the bytes in the text.
    ///
    /// # Errors
    /// When the text is not such a document, or a check fails.
    pub fn from_armor(text: &str, at_ms: u64) -> Result<Self, DocumentError> {
        Self::open(armor::read(B::KIND, text)?, at_ms)
    }

    fn check(
        bytes: Bytes,
        body: B,
        signed: &[u8],
        signature: &[u8],
        at_ms: u64,
    ) -> Result<Self, DocumentError> {
        let statement = body.statement();
        if statement.made_ms > at_ms.saturating_add(CLOCK_SKEW_MS_MAX) {
            return Err(DocumentError::FromTheFuture);
        }
        let manifest = manifest::decode(statement.manifest.clone())?.verify(
            &statement.from,
            &statement.root,
            None,
            at_ms,
        )?;
        if !manifest.identity().verifies(signed, signature) {
            return Err(DocumentError::BadSignature);
        }
        Ok(Self {
            body,
            manifest,
            bytes,
        })
    }

    /// A document that follows from a charter, which `manifest`'s organisation has signed. It has no
    /// signature of its own, so nothing that reads documents takes it.
    pub(super) fn derived(body: B, manifest: Manifest) -> Result<Self, DocumentError> {
        let bytes = check_length(&without_signature(&body.to_bytes()?)?)?;
        Ok(Self {
            body,
            manifest,
            bytes,
        })
    }

    /// What it says.
    #[must_use]
    pub const fn body(&self) -> &B {
        &self.body
    }

    /// What its maker states.
    #[must_use]
    pub fn statement(&self) -> &Statement {
        self.body.statement()
    }

    /// Its maker's keys at the time.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its exact bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// SHA-256 of its bytes: what the next document signs.
    #[must_use]
    pub fn sha256(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// The document as text.
    #[must_use]
    pub fn to_armor(&self) -> String {
        armor::write(B::KIND, &self.bytes)
    }
}

pub(super) fn attach_signature(
    label: &[u8],
    body: &[u8],
    key: &IssuingKey,
    random: &dyn SecureRandom,
) -> Result<Bytes, DocumentError> {
    let signature = key.sign(&signed_bytes(label, body)?, random)?;
    let mut writer = Writer::with_capacity(body.len() + 80);
    writer.fixed(body);
    writer.opaque8("signature", ISSUING_SIGNATURE_BYTES_MAX, &signature);
    Ok(writer.finish()?)
}

pub(super) fn without_signature(body: &[u8]) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::with_capacity(body.len() + 1);
    writer.fixed(body);
    writer.opaque8("signature", ISSUING_SIGNATURE_BYTES_MAX, &[]);
    writer.finish()
}

pub(super) fn signed_bytes(label: &[u8], body: &[u8]) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::with_capacity(body.len() + 32);
    writer.opaque8("label", SIGNATURE_LABEL_BYTES_MAX, label);
    writer.fixed(body);
    writer.finish()
}

/// The body, what its signature is over, and the signature.
fn split<B: DocumentBody>(bytes: &Bytes) -> Result<(B, Bytes, Bytes), DocumentError> {
    let mut reader = Reader::new(check_length(bytes)?);
    let body = B::read(&mut reader)?;
    let body_bytes = bytes.len() - reader.remaining();
    let signature = reader.opaque8("signature", ISSUING_SIGNATURE_BYTES_MAX)?;
    reader.finish()?;
    let signed = signed_bytes(B::LABEL, bytes.get(..body_bytes).unwrap_or_default())?;
    Ok((body, signed, signature))
}

pub(super) fn check_length(bytes: &Bytes) -> Result<Bytes, DecodeError> {
    if bytes.len() > PEERING_DOCUMENT_BYTES_MAX {
        return Err(DecodeError::TooLong {
            what: "peering document",
            max: PEERING_DOCUMENT_BYTES_MAX,
        });
    }
    Ok(bytes.clone())
}
