//! A later charter, and an agreement that follows from a former one and stands.
//!
//! Nothing is derived here: each side amends its own statement to what the charter says, as it amends anything
//! ([`Charter::renewed`]), and the other side's server may consent for its administrator, who has signed the
//! same words ([`Charter::covers`]). So whatever crosses is resolved as between any two amendments, and both
//! ends hold the bytes that the maker signed.

use crate::agreement::consortium::charter::{Charter, ConsortiumError};
use crate::agreement::documents::Statement;
use crate::agreement::states::{Side, Signed};

impl Charter {
    /// Whether it renews this agreement once both have signed: one that follows from an earlier charter of the same
    /// consortium, between members whom it introduces under roots that the agreement names.
    ///
    /// # Errors
    /// When it does not, with what keeps it from that.
    pub fn would_renew(&self, signed: &Signed) -> Result<(), ConsortiumError> {
        let former = signed
            .chartered()
            .filter(|former| former.consortium == self.body.consortium)
            .ok_or(ConsortiumError::OfItsOwn)?;
        if former.serial >= self.body.serial {
            return Err(ConsortiumError::NotTheNext);
        }
        for side in [Side::Offerer, Side::Accepter] {
            let server = &signed.statement_of(side).from;
            let introduced = &self.member(server)?.introduction.root;
            // Whoever has signed the charter must be who stands in the agreement.
            if !signed.names_root(side, introduced) {
                return Err(ConsortiumError::OtherRoot(server.clone()));
            }
        }
        Ok(())
    }

    /// Whether it renews this agreement: [`Charter::would_renew`], and both have signed.
    ///
    /// # Errors
    /// When it does not, or has expired.
    pub fn renews(&self, signed: &Signed, now_ms: u64) -> Result<(), ConsortiumError> {
        self.would_renew(signed)?;
        for side in [Side::Offerer, Side::Accepter] {
            let server = &signed.statement_of(side).from;
            if !self.is_signed_by(server) {
                return Err(ConsortiumError::NotSigned(server.clone()));
            }
        }
        if now_ms >= self.body.expires_ms {
            return Err(ConsortiumError::Expired);
        }
        Ok(())
    }

    /// `before`, a member's statement in an agreement that the charter renews, as the charter has it: terms and end
    /// are the charter's, and so is where the member is reached, unless it has stated that later. Root and keys stay.
    ///
    /// # Errors
    /// When its maker is no member.
    pub fn renewed(&self, before: &Statement) -> Result<Statement, ConsortiumError> {
        let introduction = &self.member(&before.from)?.introduction;
        let mut statement = Statement {
            terms: self.body.terms.clone(),
            expires_ms: self.body.expires_ms,
            ..before.clone()
        };
        if before.made_ms <= self.body.made_ms {
            statement.endpoints.clone_from(&introduction.endpoints);
            statement.contact.clone_from(&introduction.contact);
        }
        Ok(statement)
    }

    /// Whether what the partner proposes is no more than what the charter states of it: whoever has signed the charter
    /// has consented to it. A new root is never covered.
    #[must_use]
    pub fn covers(&self, signed: &Signed, proposed: &Statement) -> bool {
        let before = signed.theirs();
        let Ok(introduced) = self.member(&before.from) else {
            return false;
        };
        let endpoints = &proposed.endpoints;
        proposed.from == before.from
            && proposed.terms.is_within(&self.body.terms)
            && proposed.expires_ms <= self.body.expires_ms
            && proposed.root == before.root
            && (*endpoints == before.endpoints || *endpoints == introduced.introduction.endpoints)
    }
}
