//! Changes to an agreement that stands: an amendment restates one side, and a consent takes it.
//!
//! Each side's statements count for themselves: an amendment has the next serial of its maker and the
//! hash of the maker's statement before it, so the two sides may amend at the same time. What only
//! tightens takes effect at once, alone. What widens, or changes the root or the endpoints, waits as a proposal until the
//! partner has signed a [`Consent`] to exactly that amendment; a later amendment replaces it.
//!
//! A maker may change its mind while a consent is on its way to it: both documents then have the same
//! serial. The later amendment counts, at both ends: the maker no longer takes the consent, and the partner
//! undoes what it consented to, for which it keeps what was in force before until the consent has arrived.

use bytes::Bytes;
use ring::rand::SecureRandom;

use crate::agreement::ceremony::{AgreementError, Rejected};
use crate::agreement::consent::{Consent, ConsentBody};
use crate::agreement::detached::held_under;
use crate::agreement::documents::{Document, DocumentBody, DocumentError, Statement, sealed};
use crate::agreement::states::{Side, Signed};
use crate::armor::Kind;
use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::fingerprint::Fingerprint;
use crate::hash::Digest;
use crate::keys::{AMENDMENT_LABEL, IssuingKey};
use crate::limits::{CLOCK_SKEW_MS_MAX, PEERING_DOCUMENT_BYTES_MAX};
use crate::manifest::Manifest;
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

/// One side's amendments: the one in force, and the one that waits for the other side's consent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Amendments {
    pub(super) in_force: Option<Amended>,
    pub(super) proposed: Option<Box<Amendment>>,
    /// What was in force before the one in force, while our consent to that one may be too late.
    pub(super) undo: Option<Undo>,
    /// The last amendment known, whatever became of it: its hash and its time.
    pub(super) last: Option<(Digest, u64)>,
}

/// What was in force before; `None`: the first statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Undo(pub(super) Option<Amended>);

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
        if let Some((_, last_ms)) = self.amendments(side).last {
            statement.made_ms = statement.made_ms.max(last_ms.saturating_add(1));
        }
        let body = AmendmentBody {
            statement,
            agreement_sha256: self.sha256(),
        };
        let amendment = Document::make(&body, key, random)?;
        self.check_amendment(&amendment, side)?;
        Ok(amendment)
    }

    /// Takes an amendment of either side. What only tightens is in force from now on; anything else is
    /// a proposal. One of the partner's that names a new root is held against the manifest of its statement in
    /// force; [`Signed::amend_known`] knows newer ones.
    ///
    /// # Errors
    /// When it is not of this agreement, not the next one of its maker, or nothing can come of it.
    pub fn amend(
        self,
        amendment: Amendment,
        now_ms: u64,
    ) -> Result<(Self, Effect), Rejected<Self>> {
        let theirs = self.partner_manifest().clone();
        self.amend_known(amendment, &[&theirs], now_ms)
    }

    /// As [`Signed::amend`], where `newest` are the newest known manifests of the partner, one under each root
    /// that it may sign under.
    ///
    /// # Errors
    /// As [`Signed::amend`].
    pub fn amend_known(
        mut self,
        amendment: Amendment,
        newest: &[&Manifest],
        now_ms: u64,
    ) -> Result<(Self, Effect), Rejected<Self>> {
        let Some(side) = self.side_of(&amendment.statement().from) else {
            let error = AgreementError::OtherPartner {
                expected: self.theirs().from.clone(),
                found: amendment.statement().from.clone(),
            };
            return Err(self.rejected(error));
        };
        let (hash, made_ms) = (amendment.sha256(), amendment.statement().made_ms);
        let last = self.amendments(side).last;
        if self.document_sha256(side) == hash || last.is_some_and(|(known, _)| known == hash) {
            return Ok((self, Effect::Known));
        }
        // Before anything is made of it: what a stranger signs must not even take the place of a proposal.
        if side != self.side() && !self.is_vouched_for(&amendment, newest) {
            return Err(self.rejected(AgreementError::UnknownIssuer));
        }
        if last.is_some_and(|(_, last_ms)| made_ms <= last_ms) {
            return Err(self.rejected(AgreementError::NotTheNext));
        }
        let undone = self.overtaken_by(&amendment, side);
        let before = undone.as_ref().unwrap_or(&self);
        if let Err(error) = before.check_amendment(&amendment, side) {
            return Err(self.rejected(error));
        }
        if amendment.statement().expires_ms <= now_ms {
            return Err(self.rejected(AgreementError::Expired));
        }
        if let Some(undone) = undone {
            self = undone;
        }
        let tightens = self
            .statement_of(side)
            .only_tightens_to(amendment.statement());
        let amendments = self.amendments_mut(side);
        amendments.last = Some((hash, made_ms));
        amendments.undo = None;
        if tightens {
            // What was proposed followed the statement that this one replaces.
            amendments.proposed = None;
            amendments.in_force = Some(Amended {
                amendment: Box::new(amendment),
                consent: None,
            });
            Ok((self, Effect::InForce))
        } else {
            amendments.proposed = Some(Box::new(amendment));
            Ok((self, Effect::Proposed))
        }
    }

    /// Whether the partner has made it. Its signature holds under the root that it names itself, which anybody can
    /// make; so that must be a root that counts, or the same issuing key must be certified by one.
    fn is_vouched_for(&self, amendment: &Amendment, newest: &[&Manifest]) -> bool {
        let theirs = self.side().other();
        let counts = |root: &Bytes| self.roots_of(theirs).any(|known| known == root);
        let signer = amendment.manifest();
        counts(signer.identity().root())
            || newest.iter().any(|known| {
                known.server() == signer.server()
                    && counts(known.identity().root())
                    && known.identity().has_issuing_key_of(signer.identity())
            })
    }

    /// The agreement before our consent to the amendment in force, when `amendment` was made instead of that
    /// one: the consent comes too late for its maker.
    fn overtaken_by(&self, amendment: &Amendment, side: Side) -> Option<Self> {
        let amendments = self.amendments(side);
        let Undo(before) = amendments.undo.as_ref()?;
        let (in_force, new) = (self.statement_of(side), amendment.statement());
        if new.serial != in_force.serial || new.previous != in_force.previous {
            return None;
        }
        let mut undone = self.clone();
        *undone.amendments_mut(side) = Amendments {
            in_force: before.clone(),
            proposed: None,
            undo: None,
            last: amendments.last,
        };
        Some(undone)
    }

    /// What the partner stated before we consented to its amendment in force, while that consent is not
    /// known to have arrived: the partner may still go by it.
    #[must_use]
    pub fn before_our_consent(&self) -> Option<(&Statement, &Manifest)> {
        let theirs = self.side().other();
        let Undo(before) = self.amendments(theirs).undo.as_ref()?;
        Some(match (before, theirs) {
            (Some(amended), _) => {
                let amendment = amended.amendment();
                (amendment.statement(), amendment.manifest())
            }
            (None, Side::Offerer) => (self.offer().statement(), self.offer().manifest()),
            (None, Side::Accepter) => (self.acceptance().statement(), self.acceptance().manifest()),
        })
    }

    /// The roots under which a side signs: that of its statement in force, and of the partner also the one
    /// before it, while it may not know of our consent.
    pub(super) fn roots_of(&self, side: Side) -> impl Iterator<Item = &Bytes> {
        let before = self.before_our_consent().filter(|_| side != self.side());
        let in_force = &self.statement_of(side).root;
        std::iter::once(in_force).chain(before.map(|(statement, _)| &statement.root))
    }

    /// Our consent has reached the maker of the amendment: nothing can overtake it any more.
    #[must_use]
    pub fn consent_arrived(mut self, consent: &Consent) -> Self {
        let theirs = self.side().other();
        let amendments = self.amendments_mut(theirs);
        let of_it = |amended: &Amended| amended.consent.as_ref() == Some(consent);
        if amendments.in_force.as_ref().is_some_and(of_it) {
            amendments.undo = None;
        }
        self
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
        let side = match self.side_of(&consent.body().to) {
            Some(side) => side,
            None => return Err(self.rejected(DocumentError::OtherDocuments.into())),
        };
        let known = self.amendments(side).in_force();
        let hash = consent.body().amendment_sha256;
        if known.is_some_and(|amended| amended.amendment.sha256() == hash) {
            return Ok(self);
        }
        match self.check_consent(&consent, side, now_ms) {
            Ok(()) => {
                let is_ours = side != self.side;
                let amendments = self.amendments_mut(side);
                let before = amendments.in_force.take();
                amendments.undo = is_ours.then_some(Undo(before));
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
        if consent.body().made_ms > now_ms.saturating_add(CLOCK_SKEW_MS_MAX) {
            return Err(DocumentError::FromTheFuture.into());
        }
        held_under(self.roots_of(side.other()), |root| {
            consent.check(proposed, root)
        })?;
        if now_ms >= proposed.statement().expires_ms {
            return Err(AgreementError::Expired);
        }
        Ok(())
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

    pub(super) fn rejected(self, error: AgreementError) -> Rejected<Self> {
        Rejected {
            state: Box::new(self),
            error,
        }
    }
}

impl Statement {
    /// Whether `next` allows nothing that this statement does not, under the same root, at the same endpoints: where
    /// the partner connects to is for its administrator to take.
    #[must_use]
    pub fn only_tightens_to(&self, next: &Self) -> bool {
        next.terms.is_within(&self.terms)
            && next.expires_ms <= self.expires_ms
            && next.root == self.root
            && next.endpoints == self.endpoints
    }
}
