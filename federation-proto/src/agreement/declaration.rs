//! Declarations: what one side has decided about an agreement, alone, told to the other with its signature.
//!
//! A side that pauses, takes up again or ends an agreement, or that refuses a proposal, says so once it has
//! done it. The declaration gives nobody leave for anything; it spares the other side guessing from refused
//! connections. Declarations of one side about one agreement are ordered by their times, so that an old
//! one that comes again changes nothing.

use bytes::Bytes;
use ring::rand::SecureRandom;

use crate::agreement::ceremony::{AgreementError, Rejected};
use crate::agreement::detached::{Detached, DetachedBody, held_under, manifest_under};
use crate::agreement::documents::{DocumentError, FORMAT, sealed};
use crate::agreement::states::Signed;
use crate::armor::Kind;
use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::hash::Digest;
use crate::ids::ServerName;
use crate::keys::{DECLARATION_LABEL, IssuingKey};
use crate::limits::{
    CLOCK_SKEW_MS_MAX, MANIFEST_BYTES_MAX, REASON_BYTES_MAX, SERVER_NAME_WIRE_BYTES_MAX,
};
use crate::manifest::Manifest;

/// What a side has decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// It has paused the agreement.
    Suspended,
    /// It has taken the agreement up again.
    Resumed,
    /// It has ended the agreement.
    Revoked,
    /// It does not consent to the amendment of this SHA-256.
    Refused(Digest),
}

/// What a declaration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclarationBody {
    /// Who declares it.
    pub from: ServerName,
    /// To whom.
    pub to: ServerName,
    /// The declaring side's key manifest, with the issuing certificate that signs this.
    pub manifest: Bytes,
    /// SHA-256 of the agreement's countersignature: which agreement it is about.
    pub agreement_sha256: Digest,
    /// What was decided.
    pub decided: Decided,
    /// Why, for people.
    pub reason: String,
    /// When it was made, milliseconds since the Unix epoch: later than every one before.
    pub made_ms: u64,
}

/// A declaration that nobody has checked yet: [`Signed::hear`] does.
pub type Declaration = Detached<DeclarationBody>;

const SUSPENDED: u8 = 1;
const RESUMED: u8 = 2;
const REVOKED: u8 = 3;
const REFUSED: u8 = 4;

impl Wire for DeclarationBody {
    const BYTES_MAX: usize = 2
        + 2 * SERVER_NAME_WIRE_BYTES_MAX
        + 2
        + MANIFEST_BYTES_MAX
        + 32
        + 1
        + 32
        + 2
        + REASON_BYTES_MAX
        + 8;
    const NAME: &'static str = "declaration";

    fn write(&self, writer: &mut Writer) {
        writer.u16(FORMAT);
        writer.server_name(&self.from);
        writer.server_name(&self.to);
        writer.opaque16("manifest", MANIFEST_BYTES_MAX, &self.manifest);
        writer.fixed(self.agreement_sha256.as_bytes());
        match self.decided {
            Decided::Suspended => writer.u8(SUSPENDED),
            Decided::Resumed => writer.u8(RESUMED),
            Decided::Revoked => writer.u8(REVOKED),
            Decided::Refused(amendment) => {
                writer.u8(REFUSED);
                writer.fixed(amendment.as_bytes());
            }
        }
        writer.reason(&self.reason);
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
            agreement_sha256: Digest::from_bytes(reader.fixed("hash of the agreement")?),
            decided: match reader.u8("decision")? {
                SUSPENDED => Decided::Suspended,
                RESUMED => Decided::Resumed,
                REVOKED => Decided::Revoked,
                REFUSED => {
                    Decided::Refused(Digest::from_bytes(reader.fixed("hash of the amendment")?))
                }
                value => {
                    return Err(DecodeError::UnknownValue {
                        what: "decision",
                        value: value.into(),
                    });
                }
            },
            reason: reader.reason()?,
            made_ms: reader.u64("time")?,
        })
    }
}

impl sealed::Sealed for DeclarationBody {}

impl DetachedBody for DeclarationBody {
    const KIND: Kind = Kind::Declaration;
    const LABEL: &'static [u8] = DECLARATION_LABEL;
}

/// What the partner has declared so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heard {
    /// The time of the last declaration.
    pub(super) last_ms: u64,
    /// The last one that paused, took up again or ended the agreement.
    pub(super) standing: Option<Declaration>,
    /// The last one that refused a proposal of ours.
    pub(super) refusal: Option<Declaration>,
}

impl Heard {
    /// The declaration by which the partner has paused the agreement, while it is paused.
    #[must_use]
    pub fn pause(&self) -> Option<&DeclarationBody> {
        self.standing_of(Decided::Suspended)
    }

    /// The declaration by which the partner has ended the agreement.
    #[must_use]
    pub fn end(&self) -> Option<&DeclarationBody> {
        self.standing_of(Decided::Revoked)
    }

    /// The last refusal of a proposal of ours.
    #[must_use]
    pub fn refusal(&self) -> Option<&DeclarationBody> {
        self.refusal.as_ref().map(Detached::body)
    }

    fn standing_of(&self, decided: Decided) -> Option<&DeclarationBody> {
        let body = self.standing.as_ref()?.body();
        (body.decided == decided).then_some(body)
    }
}

impl Signed {
    /// What the partner has declared so far.
    #[must_use]
    pub const fn heard(&self) -> &Heard {
        &self.heard
    }

    /// Signs a declaration of our own; it is later than every one before it. A refusal drops the
    /// proposal that it refuses.
    ///
    /// # Errors
    /// When the key fails, or what is refused is not what the partner proposes.
    pub fn declare(
        mut self,
        decided: Decided,
        reason: &str,
        manifest: &Manifest,
        key: &IssuingKey,
        random: &dyn SecureRandom,
        now_ms: u64,
    ) -> Result<(Self, Declaration), Rejected<Self>> {
        let theirs = self.side().other();
        let proposed = self.amendments(theirs).proposed();
        if let Decided::Refused(amendment) = decided
            && proposed.is_none_or(|proposed| proposed.sha256() != amendment)
        {
            return Err(self.rejected(AgreementError::NothingProposed));
        }
        let body = DeclarationBody {
            from: self.ours().from.clone(),
            to: self.theirs().from.clone(),
            manifest: manifest.bytes().clone(),
            agreement_sha256: self.sha256(),
            decided,
            reason: reason.to_owned(),
            made_ms: now_ms.max(self.declared_ms.saturating_add(1)),
        };
        let declaration = match Declaration::make(&body, key, random) {
            Ok(declaration) => declaration,
            Err(error) => return Err(self.rejected(error.into())),
        };
        self.declared_ms = body.made_ms;
        if matches!(decided, Decided::Refused(_)) {
            self.amendments_mut(theirs).proposed = None;
        }
        Ok((self, declaration))
    }

    /// Takes a declaration of the partner; `false`: it was known already. What it means for the
    /// agreement's state is the caller's to do, but for a refused proposal of ours, which is dropped.
    ///
    /// # Errors
    /// When the partner did not sign it for this agreement, or a later one has come.
    pub fn hear(
        mut self,
        declaration: Declaration,
        now_ms: u64,
    ) -> Result<(Self, bool), Rejected<Self>> {
        let known = Some(&declaration);
        if self.heard.standing.as_ref() == known || self.heard.refusal.as_ref() == known {
            return Ok((self, false));
        }
        if let Err(error) = self.check_declaration(&declaration, now_ms) {
            return Err(self.rejected(error));
        }
        let body = declaration.body();
        self.heard.last_ms = body.made_ms;
        if let Decided::Refused(amendment) = body.decided {
            let ours = self.side();
            let proposed = &mut self.amendments_mut(ours).proposed;
            if proposed
                .as_ref()
                .is_some_and(|made| made.sha256() == amendment)
            {
                *proposed = None;
            }
            self.heard.refusal = Some(declaration);
        } else {
            self.heard.standing = Some(declaration);
        }
        Ok((self, true))
    }

    fn check_declaration(
        &self,
        declaration: &Declaration,
        now_ms: u64,
    ) -> Result<(), AgreementError> {
        if !declaration.is_between(self) {
            return Err(DocumentError::OtherDocuments.into());
        }
        let body = declaration.body();
        if body.made_ms > now_ms.saturating_add(CLOCK_SKEW_MS_MAX) {
            return Err(DocumentError::FromTheFuture.into());
        }
        held_under(self.roots_of(self.side().other()), |root| {
            let keys = manifest_under(root, &body.from, &body.manifest, now_ms)?;
            declaration.check_signature(&keys)
        })?;
        if body.made_ms <= self.heard.last_ms {
            return Err(AgreementError::Overtaken);
        }
        Ok(())
    }
}

impl Declaration {
    /// Whether it is the partner's, to us, about this agreement, by what it says.
    pub(super) fn is_between(&self, signed: &Signed) -> bool {
        let body = self.body();
        body.from == signed.theirs().from
            && body.to == signed.ours().from
            && body.agreement_sha256 == signed.sha256()
    }
}
