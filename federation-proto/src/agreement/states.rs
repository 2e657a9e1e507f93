//! An agreement's states once both have signed, what ends it, and all states together.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::agreement::amendment::Amendments;
use crate::agreement::ceremony::{Accepted, AgreementError, Offered, Rejected};
use crate::agreement::consortium::{CharterBody, body_of};
use crate::agreement::declaration::Heard;
use crate::agreement::detached::Countersignature;
use crate::agreement::documents::{Acceptance, Offer, Statement};
use crate::agreement::terms::EffectiveTerms;
use crate::hash::Digest;
use crate::ids::ServerName;
use crate::manifest::Manifest;

/// Which side this server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Side {
    /// We made the offer.
    Offerer,
    /// We accepted it.
    Accepter,
}

impl Side {
    /// The partner's.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Offerer => Self::Accepter,
            Self::Accepter => Self::Offerer,
        }
    }
}

/// An agreement that both sides signed, whatever became of it since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    pub(super) side: Side,
    pub(super) offer: Offer,
    pub(super) acceptance: Acceptance,
    pub(super) countersignature: Countersignature,
    /// What the documents follow from when they carry no signatures of their own: a charter with both.
    pub(super) charter: Option<Bytes>,
    pub(super) since_ms: u64,
    pub(super) by_offerer: Amendments,
    pub(super) by_accepter: Amendments,
    /// The time of our last declaration.
    pub(super) declared_ms: u64,
    pub(super) heard: Heard,
}

impl Signed {
    /// Which side this server is.
    #[must_use]
    pub const fn side(&self) -> Side {
        self.side
    }

    /// The offer.
    #[must_use]
    pub const fn offer(&self) -> &Offer {
        &self.offer
    }

    /// The acceptance.
    #[must_use]
    pub const fn acceptance(&self) -> &Acceptance {
        &self.acceptance
    }

    /// The countersignature.
    #[must_use]
    pub const fn countersignature(&self) -> &Countersignature {
        &self.countersignature
    }

    /// The charter that the documents follow from, with both sides' introductions and signatures; none:
    /// each document is signed itself.
    #[must_use]
    pub const fn charter(&self) -> Option<&Bytes> {
        self.charter.as_ref()
    }

    /// What the charter says that the documents follow from; none: they follow from none.
    #[must_use]
    pub fn chartered(&self) -> Option<CharterBody> {
        body_of(self.charter.clone()?)
    }

    /// Since when it has been signed by both, as far as this server knows.
    #[must_use]
    pub const fn since_ms(&self) -> u64 {
        self.since_ms
    }

    /// SHA-256 of the countersignature: names the agreement.
    #[must_use]
    pub fn sha256(&self) -> Digest {
        Digest::of(self.countersignature.bytes())
    }

    /// What we state, as amended.
    #[must_use]
    pub fn ours(&self) -> &Statement {
        self.statement_of(self.side)
    }

    /// What the partner states, as amended.
    #[must_use]
    pub fn theirs(&self) -> &Statement {
        self.statement_of(self.side.other())
    }

    /// What a side states, as amended.
    #[must_use]
    pub fn statement_of(&self, side: Side) -> &Statement {
        match (self.amendments(side).in_force(), side) {
            (Some(amended), _) => amended.amendment().statement(),
            (None, Side::Offerer) => self.offer.statement(),
            (None, Side::Accepter) => self.acceptance.statement(),
        }
    }

    /// A side's amendments.
    #[must_use]
    pub const fn amendments(&self, side: Side) -> &Amendments {
        match side {
            Side::Offerer => &self.by_offerer,
            Side::Accepter => &self.by_accepter,
        }
    }

    pub(super) const fn amendments_mut(&mut self, side: Side) -> &mut Amendments {
        match side {
            Side::Offerer => &mut self.by_offerer,
            Side::Accepter => &mut self.by_accepter,
        }
    }

    /// SHA-256 of the document that a side's statement stands in: what its next amendment follows.
    #[must_use]
    pub fn document_sha256(&self, side: Side) -> Digest {
        match (self.amendments(side).in_force(), side) {
            (Some(amended), _) => amended.amendment().sha256(),
            (None, Side::Offerer) => self.offer.sha256(),
            (None, Side::Accepter) => self.acceptance.sha256(),
        }
    }

    /// Which side a server is.
    #[must_use]
    pub fn side_of(&self, server: &ServerName) -> Option<Side> {
        [Side::Offerer, Side::Accepter]
            .into_iter()
            .find(|side| self.statement_of(*side).from == *server)
    }

    /// A side's keys as its statement in force names them: the first known manifest, never the last.
    #[must_use]
    pub fn manifest_of(&self, side: Side) -> &Manifest {
        match (self.amendments(side).in_force(), side) {
            (Some(amended), _) => amended.amendment().manifest(),
            (None, Side::Offerer) => self.offer.manifest(),
            (None, Side::Accepter) => self.acceptance.manifest(),
        }
    }

    /// Whether a side has named this root in the agreement: first, now, or in what it proposes.
    #[must_use]
    pub fn names_root(&self, side: Side, root: &Bytes) -> bool {
        let first = match side {
            Side::Offerer => self.offer.statement(),
            Side::Accepter => self.acceptance.statement(),
        };
        let proposed = self.amendments(side).proposed();
        let proposed = proposed.map(|amendment| &amendment.statement().root);
        first.root == *root || self.statement_of(side).root == *root || proposed == Some(root)
    }

    /// The partner's keys: [`Signed::manifest_of`] its side.
    #[must_use]
    pub fn partner_manifest(&self) -> &Manifest {
        self.manifest_of(self.side.other())
    }

    /// What both statements together allow.
    #[must_use]
    pub fn effective(&self) -> EffectiveTerms {
        let (ours, theirs) = (self.ours(), self.theirs());
        EffectiveTerms::intersection(
            &ours.terms,
            ours.expires_ms,
            &theirs.terms,
            theirs.expires_ms,
        )
    }

    fn expires_ms(&self) -> u64 {
        self.ours().expires_ms.min(self.theirs().expires_ms)
    }
}

/// Both signed; traffic flows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Active {
    pub(super) signed: Signed,
}

impl Active {
    /// What was signed.
    #[must_use]
    pub const fn signed(&self) -> &Signed {
        &self.signed
    }

    /// Pauses it; either side may, alone, always.
    #[must_use]
    pub fn suspend(self, reason: String, now_ms: u64) -> Suspended {
        Suspended {
            signed: self.signed,
            reason,
            at_ms: now_ms,
        }
    }

    /// Ends it when its last day is past; otherwise it stays as it is.
    ///
    /// # Errors
    /// The agreement, when it has not expired.
    pub fn expire(self, now_ms: u64) -> Result<Expired, Box<Self>> {
        if now_ms < self.signed.expires_ms() {
            return Err(Box::new(self));
        }
        Ok(Expired {
            papers: Papers::Signed(Box::new(self.signed)),
            at_ms: now_ms,
        })
    }

    /// Ends it.
    #[must_use]
    pub fn revoke(self, reason: String, now_ms: u64) -> Revoked {
        Revoked {
            papers: Papers::Signed(Box::new(self.signed)),
            reason,
            at_ms: now_ms,
        }
    }
}

/// This side paused it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspended {
    pub(super) signed: Signed,
    pub(super) reason: String,
    pub(super) at_ms: u64,
}

impl Suspended {
    /// What was signed.
    #[must_use]
    pub const fn signed(&self) -> &Signed {
        &self.signed
    }

    /// Why it was paused.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// When it was paused, milliseconds since the Unix epoch.
    #[must_use]
    pub const fn at_ms(&self) -> u64 {
        self.at_ms
    }

    /// Takes it up again.
    #[must_use]
    pub fn resume(self) -> Active {
        Active {
            signed: self.signed,
        }
    }

    /// Ends it when its last day is past; otherwise it stays as it is.
    ///
    /// # Errors
    /// The agreement, when it has not expired.
    pub fn expire(self, now_ms: u64) -> Result<Expired, Box<Self>> {
        if now_ms < self.signed.expires_ms() {
            return Err(Box::new(self));
        }
        Ok(Expired {
            papers: Papers::Signed(Box::new(self.signed)),
            at_ms: now_ms,
        })
    }

    /// Ends it.
    #[must_use]
    pub fn revoke(self, reason: String, now_ms: u64) -> Revoked {
        Revoked {
            papers: Papers::Signed(Box::new(self.signed)),
            reason,
            at_ms: now_ms,
        }
    }
}

/// Past its last day: the agreement's, or that of an offer which was not signed by both in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    pub(super) papers: Papers,
    pub(super) at_ms: u64,
}

impl Expired {
    /// What had been signed.
    #[must_use]
    pub const fn papers(&self) -> &Papers {
        &self.papers
    }

    /// When its end was noticed, milliseconds since the Unix epoch.
    #[must_use]
    pub const fn at_ms(&self) -> u64 {
        self.at_ms
    }

    /// Ends it for good.
    #[must_use]
    pub fn revoke(self, reason: String, now_ms: u64) -> Revoked {
        Revoked {
            papers: self.papers,
            reason,
            at_ms: now_ms,
        }
    }
}

/// Ended by this side, or by the partner: [`Signed::heard`] says which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    pub(super) papers: Papers,
    pub(super) reason: String,
    pub(super) at_ms: u64,
}

impl Revoked {
    /// What had been signed.
    #[must_use]
    pub const fn papers(&self) -> &Papers {
        &self.papers
    }

    /// Why it was ended.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// When it was ended, milliseconds since the Unix epoch.
    #[must_use]
    pub const fn at_ms(&self) -> u64 {
        self.at_ms
    }
}

/// What had been signed when an agreement ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Papers {
    /// Our offer.
    Offer(Box<Offer>),
    /// Their offer and our acceptance.
    Acceptance(Box<Accepted>),
    /// All of it.
    Signed(Box<Signed>),
}

impl Papers {
    fn partner(&self) -> &ServerName {
        match self {
            Self::Offer(offer) => &offer.statement().to,
            Self::Acceptance(accepted) => &accepted.offer.statement().from,
            Self::Signed(signed) => &signed.theirs().from,
        }
    }
}

/// An agreement in any state that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agreement {
    /// We made an offer.
    Offered(Offered),
    /// We accepted an offer.
    Accepted(Accepted),
    /// Both signed.
    Active(Active),
    /// This side paused it.
    Suspended(Suspended),
    /// Past its last day.
    Expired(Expired),
    /// Ended by either side.
    Revoked(Revoked),
}

/// The name of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// We made an offer.
    Offered,
    /// We accepted an offer.
    Accepted,
    /// Both signed.
    Active,
    /// This side paused it.
    Suspended,
    /// Past its last day.
    Expired,
    /// Ended by either side.
    Revoked,
}

impl Agreement {
    /// Its state's name.
    #[must_use]
    pub const fn state(&self) -> State {
        match self {
            Self::Offered(_) => State::Offered,
            Self::Accepted(_) => State::Accepted,
            Self::Active(_) => State::Active,
            Self::Suspended(_) => State::Suspended,
            Self::Expired(_) => State::Expired,
            Self::Revoked(_) => State::Revoked,
        }
    }

    /// With whom.
    #[must_use]
    pub fn partner(&self) -> &ServerName {
        match self {
            Self::Offered(state) => &state.offer.statement().to,
            Self::Accepted(state) => &state.offer.statement().from,
            Self::Revoked(state) => state.papers.partner(),
            Self::Expired(state) => state.papers.partner(),
            Self::Active(Active { signed }) | Self::Suspended(Suspended { signed, .. }) => {
                &signed.theirs().from
            }
        }
    }

    /// Changes the papers of an agreement that stands, active or suspended.
    ///
    /// # Errors
    /// When the change is refused, or both have not signed: the agreement is as it was.
    pub fn change<T>(
        self,
        change: impl FnOnce(Signed) -> Result<(Signed, T), Rejected<Signed>>,
    ) -> Result<(Self, T), Rejected<Self>> {
        let refused = |state: Self, error| Rejected {
            state: Box::new(state),
            error,
        };
        match self {
            Self::Active(Active { signed }) => match change(signed) {
                Ok((signed, made)) => Ok((Self::Active(Active { signed }), made)),
                Err(Rejected { state, error }) => {
                    Err(refused(Self::Active(Active { signed: *state }), error))
                }
            },
            Self::Suspended(Suspended {
                signed,
                reason,
                at_ms,
            }) => {
                let suspended = |signed, reason| {
                    Self::Suspended(Suspended {
                        signed,
                        reason,
                        at_ms,
                    })
                };
                match change(signed) {
                    Ok((signed, made)) => Ok((suspended(signed, reason), made)),
                    Err(Rejected { state, error }) => {
                        Err(refused(suspended(*state, reason), error))
                    }
                }
            }
            other => Err(refused(other, AgreementError::NotSigned)),
        }
    }

    /// What both signed, while it counts: active, suspended or expired after that.
    #[must_use]
    pub const fn signed(&self) -> Option<&Signed> {
        match self {
            Self::Active(Active { signed }) | Self::Suspended(Suspended { signed, .. }) => {
                Some(signed)
            }
            Self::Expired(Expired {
                papers: Papers::Signed(signed),
                ..
            }) => Some(signed),
            Self::Offered(_) | Self::Accepted(_) | Self::Expired(_) | Self::Revoked(_) => None,
        }
    }
}

pub(super) fn expiry(offer: &Offer, acceptance: &Acceptance) -> u64 {
    offer
        .statement()
        .expires_ms
        .min(acceptance.statement().expires_ms)
}
