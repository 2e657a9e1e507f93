//! Changes to an agreement that stands: an amendment restates one side, and a consent takes it.
//!
//! Each side's statements count for themselves: an amendment has the next serial of its maker and the
//! hash of the maker's statement before it, so the two sides may amend at the same time. What only
//! tightens takes effect at once, alone. What widens, or changes the root, waits as a proposal until the
//! partner has signed a [`Consent`] to exactly that amendment; a later amendment replaces it.

use bytes::Bytes;
use ring::rand::SecureRandom;

use crate::agreement::ceremony::{AgreementError, Rejected};
use crate::agreement::documents::{
    Document, DocumentBody, DocumentError, FORMAT, Statement, attach_signature, check_length,
    sealed, signed_bytes,
};
use crate::agreement::states::{Side, Signed};
use crate::armor::{self, Kind};
use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::fingerprint::Fingerprint;
use crate::hash::Digest;
use crate::ids::ServerName;
use crate::keys::{AMENDMENT_LABEL, CONSENT_LABEL, IssuingKey};
use crate::limits::{
    CLOCK_SKEW_MS_MAX, ISSUING_SIGNATURE_BYTES_MAX, MANIFEST_BYTES_MAX, PEERING_DOCUMENT_BYTES_MAX,
    SERVER_NAME_WIRE_BYTES_MAX,
};
use crate::manifest::{self, Manifest};
use crate::version::negotiate;

/// What an amendment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmendmentBody {
    /// The maker's whole new statement.
    pub statement: Statement,
    /// SHA-256 of the agreement's countersignature: which agreement it amends.
    pub agreement_sha256: Digest,
}

/// An amendment whose signature holds.
pub type Amendment = Document<AmendmentBody>;

impl Wire for AmendmentBody {
    const BYTES_MAX: usize = PEERING_DOCUMENT_BYTES_MAX;
    const NAME: &'static str = "amendment";

    fn write(&self, writer: &mut Writer) {
        self.statement.write(writer);
        writer.fixed(self.agreement_sha256.as_bytes());
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            statement: Statement::read(reader)?,
            agreement_sha256: Digest::from_bytes(reader.fixed("hash of the agreement")?),
        })
    }
}

impl sealed::Sealed for AmendmentBody {}

impl DocumentBody for AmendmentBody {
    const KIND: Kind = Kind::Amendment;
    const LABEL: &'static [u8] = AMENDMENT_LABEL;

    fn statement(&self) -> &Statement {
        &self.statement
    }
}

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
            return Err(DecodeError::UnsupportedVersion(format));
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

/// A consent that nobody has checked against its amendment yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    body: ConsentBody,
    signed: Bytes,
    signature: Bytes,
    bytes: Bytes,
}

impl Consent {
    fn make(
        body: &ConsentBody,
        key: &IssuingKey,
        random: &dyn SecureRandom,
    ) -> Result<Self, DocumentError> {
        Self::decode(attach_signature(
            CONSENT_LABEL,
            &body.to_bytes()?,
            key,
            random,
        )?)
    }

    /// Reads a consent. Its signature is checked where it takes effect, by [`Signed::consented`].
    ///
    /// # Errors
    /// When the bytes are anything but one whole consent.
    pub fn decode(bytes: Bytes) -> Result<Self, DocumentError> {
        let mut reader = Reader::new(check_length(&bytes)?);
        let body = ConsentBody::read(&mut reader)?;
        let body_bytes = bytes.len() - reader.remaining();
        let signature = reader.opaque8("signature", ISSUING_SIGNATURE_BYTES_MAX)?;
        reader.finish()?;
        let body_slice = bytes.get(..body_bytes).unwrap_or_default();
        Ok(Self {
            signed: signed_bytes(CONSENT_LABEL, body_slice)?,
            body,
            signature,
            bytes,
        })
    }

    /// Reads an armored consent.
    ///
    /// # Errors
    /// When the text is not one.
    pub fn from_armor(text: &str) -> Result<Self, DocumentError> {
        Self::decode(armor::read(Kind::Consent, text)?)
    }

    /// What it says.
    #[must_use]
    pub const fn body(&self) -> &ConsentBody {
        &self.body
    }

    /// Its exact bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The consent as text.
    #[must_use]
    pub fn to_armor(&self) -> String {
        armor::write(Kind::Consent, &self.bytes)
    }

    /// Whether it is to exactly this amendment, by its recipient's name.
    pub(super) fn fits(&self, amendment: &Amendment) -> bool {
        self.body.from == amendment.statement().to
            && self.body.to == amendment.statement().from
            && self.body.amendment_sha256 == amendment.sha256()
    }

    /// Checks that the amendment's recipient, whose root is `root`, signed this for exactly it.
    fn check(&self, amendment: &Amendment, root: &Bytes) -> Result<(), DocumentError> {
        if !self.fits(amendment) {
            return Err(DocumentError::OtherDocuments);
        }
        let keys = manifest::decode(self.body.manifest.clone())?.verify(
            &self.body.from,
            root,
            None,
            self.body.made_ms,
        )?;
        if keys.identity().verifies(&self.signed, &self.signature) {
            Ok(())
        } else {
            Err(DocumentError::BadSignature)
        }
    }
}

/// One side's amendments: the one in force, and the one that waits for the other side's consent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Amendments {
    pub(super) in_force: Option<Amended>,
    pub(super) proposed: Option<Box<Amendment>>,
}

impl Amendments {
    /// The amendment in force; none: the first statement is.
    #[must_use]
    pub const fn in_force(&self) -> Option<&Amended> {
        self.in_force.as_ref()
    }

    /// The amendment that waits for the other side's consent.
    #[must_use]
    pub fn proposed(&self) -> Option<&Amendment> {
        self.proposed.as_deref()
    }
}

/// An amendment in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amended {
    pub(super) amendment: Box<Amendment>,
    pub(super) consent: Option<Consent>,
}

impl Amended {
    /// The amendment.
    #[must_use]
    pub const fn amendment(&self) -> &Amendment {
        &self.amendment
    }

    /// The other side's consent; none was needed for what only tightened.
    #[must_use]
    pub const fn consent(&self) -> Option<&Consent> {
        self.consent.as_ref()
    }
}

/// What an amendment did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It only tightens, and is in force.
    InForce,
    /// It widens, and waits for the other side's consent.
    Proposed,
    /// It was known already.
    Known,
}

impl Signed {
    /// Signs an amendment of our own: `statement` says what changes, its place in the order is filled in.
    ///
    /// # Errors
    /// When nobody could take it.
    pub fn amendment(
        &self,
        mut statement: Statement,
        key: &IssuingKey,
        random: &dyn SecureRandom,
    ) -> Result<Amendment, AgreementError> {
        let side = self.side();
        statement.from = self.ours().from.clone();
        statement.to = self.theirs().from.clone();
        statement.serial = self.statement_of(side).serial.saturating_add(1);
        statement.previous = self.document_sha256(side);
        let body = AmendmentBody {
            statement,
            agreement_sha256: self.sha256(),
        };
        let amendment = Document::make(&body, key, random)?;
        self.check_amendment(&amendment, side)?;
        Ok(amendment)
    }

    /// Takes an amendment of either side. What only tightens is in force from now on; anything else is
    /// a proposal.
    ///
    /// # Errors
    /// When it is not of this agreement, not the next one of its maker, or nothing can come of it.
    pub fn amend(
        mut self,
        amendment: Amendment,
        now_ms: u64,
    ) -> Result<(Self, Effect), Rejected<Self>> {
        let Some(side) = self.side_of(&amendment.statement().from) else {
            let error = AgreementError::OtherPartner {
                expected: self.theirs().from.clone(),
                found: amendment.statement().from.clone(),
            };
            return Err(self.rejected(error));
        };
        if self.document_sha256(side) == amendment.sha256()
            || self.amendments(side).proposed() == Some(&amendment)
        {
            return Ok((self, Effect::Known));
        }
        if let Err(error) = self.check_amendment(&amendment, side) {
            return Err(self.rejected(error));
        }
        let made_ms = amendment.statement().made_ms;
        let earlier = self.amendments(side).proposed();
        if earlier.is_some_and(|earlier| earlier.statement().made_ms > made_ms) {
            return Err(self.rejected(AgreementError::NotTheNext));
        }
        if amendment.statement().expires_ms <= now_ms {
            return Err(self.rejected(AgreementError::Expired));
        }
        let effect = if self
            .statement_of(side)
            .only_tightens_to(amendment.statement())
        {
            Effect::InForce
        } else {
            Effect::Proposed
        };
        let amendments = self.amendments_mut(side);
        match effect {
            Effect::InForce => {
                // What was proposed followed the statement that this one replaces.
                *amendments = Amendments {
                    in_force: Some(Amended {
                        amendment: Box::new(amendment),
                        consent: None,
                    }),
                    proposed: None,
                };
            }
            Effect::Proposed | Effect::Known => amendments.proposed = Some(Box::new(amendment)),
        }
        Ok((self, effect))
    }

    /// Consents to the partner's proposal: it is in force from now on. A new root needs its
    /// fingerprint, as the partner's administrator read it aloud.
    ///
    /// # Errors
    /// When nothing is proposed, or the new root is not the confirmed one.
    pub fn consent(
        self,
        confirmed: Option<&Fingerprint>,
        manifest: &Manifest,
        key: &IssuingKey,
        random: &dyn SecureRandom,
        now_ms: u64,
    ) -> Result<(Self, Consent), Rejected<Self>> {
        match self.make_consent(confirmed, manifest, key, random, now_ms) {
            Ok(consent) => match self.consented(consent.clone(), now_ms) {
                Ok(signed) => Ok((signed, consent)),
                Err(rejected) => Err(rejected),
            },
            Err(error) => Err(self.rejected(error)),
        }
    }

    fn make_consent(
        &self,
        confirmed: Option<&Fingerprint>,
        manifest: &Manifest,
        key: &IssuingKey,
        random: &dyn SecureRandom,
        now_ms: u64,
    ) -> Result<Consent, AgreementError> {
        let theirs = self.side().other();
        let amendment = self
            .amendments(theirs)
            .proposed()
            .ok_or(AgreementError::NothingProposed)?;
        let found = amendment.manifest().identity().fingerprint();
        let same_root = found == self.manifest_of(theirs).identity().fingerprint();
        if !same_root && confirmed != Some(&found) {
            return Err(AgreementError::WrongFingerprint { found });
        }
        let body = ConsentBody {
            from: self.ours().from.clone(),
            to: self.theirs().from.clone(),
            manifest: manifest.bytes().clone(),
            amendment_sha256: amendment.sha256(),
            made_ms: now_ms,
        };
        Ok(Consent::make(&body, key, random)?)
    }

    /// Takes a consent, ours or the partner's: the amendment that it names is in force from now on.
    ///
    /// # Errors
    /// When nothing is proposed, or the consent is not to exactly that.
    pub fn consented(mut self, consent: Consent, now_ms: u64) -> Result<Self, Rejected<Self>> {
        let side = match self.side_of(&consent.body.to) {
            Some(side) => side,
            None => return Err(self.rejected(DocumentError::OtherDocuments.into())),
        };
        let known = self.amendments(side).in_force();
        if known.is_some_and(|amended| amended.amendment.sha256() == consent.body.amendment_sha256)
        {
            return Ok(self);
        }
        match self.check_consent(&consent, side, now_ms) {
            Ok(()) => {
                let amendments = self.amendments_mut(side);
                amendments.in_force = amendments.proposed.take().map(|amendment| Amended {
                    amendment,
                    consent: Some(consent),
                });
                Ok(self)
            }
            Err(error) => Err(self.rejected(error)),
        }
    }

    fn check_consent(
        &self,
        consent: &Consent,
        side: Side,
        now_ms: u64,
    ) -> Result<(), AgreementError> {
        let proposed = self
            .amendments(side)
            .proposed()
            .ok_or(AgreementError::NothingProposed)?;
        if consent.body.made_ms > now_ms.saturating_add(CLOCK_SKEW_MS_MAX) {
            return Err(DocumentError::FromTheFuture.into());
        }
        consent.check(proposed, &self.statement_of(side.other()).root)?;
        if now_ms >= proposed.statement().expires_ms {
            return Err(AgreementError::Expired);
        }
        Ok(())
    }

    /// Drops what the partner proposed, or takes back what we proposed ourselves.
    #[must_use]
    pub fn without_proposal(mut self, side: Side) -> Self {
        self.amendments_mut(side).proposed = None;
        self
    }

    fn check_amendment(&self, amendment: &Amendment, side: Side) -> Result<(), AgreementError> {
        let (old, new) = (self.statement_of(side), amendment.statement());
        new.terms.check()?;
        if amendment.body().agreement_sha256 != self.sha256() {
            return Err(DocumentError::OtherDocuments.into());
        }
        if new.to != self.statement_of(side.other()).from {
            return Err(AgreementError::NotForUs {
                us: self.statement_of(side.other()).from.clone(),
                found: new.to.clone(),
            });
        }
        if Some(new.serial) != old.serial.checked_add(1)
            || new.previous != self.document_sha256(side)
        {
            return Err(AgreementError::NotTheNext);
        }
        let other = self.statement_of(side.other());
        if negotiate(&new.versions, &other.versions).is_none() {
            return Err(AgreementError::NoCommonVersion {
                offerer: new.from.clone(),
                offered: new.versions.clone(),
                accepter: other.from.clone(),
                accepted: other.versions.clone(),
            });
        }
        Ok(())
    }

    fn rejected(self, error: AgreementError) -> Rejected<Self> {
        Rejected {
            state: Box::new(self),
            error,
        }
    }
}

impl Statement {
    /// Whether `next` allows nothing that this statement does not, under the same root.
    #[must_use]
    pub fn only_tightens_to(&self, next: &Self) -> bool {
        next.terms.is_within(&self.terms)
            && next.expires_ms <= self.expires_ms
            && next.root == self.root
    }
}
