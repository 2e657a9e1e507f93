//! In which terms a statement allows less than another one, and what is left when it is not to allow more in some.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::agreement::documents::Statement;
use crate::agreement::terms::{Grants, Operation, TtlBounds};

/// One thing that a statement bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Term {
    /// What its maker's people may do.
    Outbound(Operation),
    /// What may be done to its maker's people.
    Inbound(Operation),
    /// The bounds of the time-to-live.
    Ttl,
    /// How much may wait.
    Waiting,
    /// The largest file.
    Files,
    /// The highest label.
    Label,
    /// When it ends.
    End,
}

impl Term {
    /// Every term.
    pub fn all() -> impl Iterator<Item = Self> {
        let granted = Operation::ALL
            .into_iter()
            .flat_map(|operation| [Self::Outbound(operation), Self::Inbound(operation)]);
        granted.chain([
            Self::Ttl,
            Self::Waiting,
            Self::Files,
            Self::Label,
            Self::End,
        ])
    }
}

impl Statement {
    /// The terms in which `next`, a later statement of the same maker, no longer allows all that this one does.
    #[must_use]
    pub fn narrowed_in(&self, next: &Self) -> BTreeSet<Term> {
        let (before, after) = (&self.terms, &next.terms);
        let lost = |operation, before: &Grants, after: &Grants| {
            let kept = after.get(&operation);
            before
                .get(&operation)
                .is_some_and(|types| kept.is_none_or(|kept| !types.is_within(kept)))
        };
        Term::all()
            .filter(|term| match *term {
                Term::Outbound(operation) => lost(operation, &before.outbound, &after.outbound),
                Term::Inbound(operation) => lost(operation, &before.inbound, &after.inbound),
                Term::Ttl => !before.ttl.is_within(after.ttl),
                Term::Waiting => after.waiting_bytes_max < before.waiting_bytes_max,
                Term::Files => after.file_bytes_max < before.file_bytes_max,
                Term::Label => after.label_max < before.label_max,
                Term::End => next.expires_ms < self.expires_ms,
            })
            .collect()
    }

    /// This statement, which in each of these terms allows no more than `bound` does; `None`: the two have no
    /// time-to-live in common.
    #[must_use]
    pub fn no_wider_in(mut self, terms: &BTreeSet<Term>, bound: &Self) -> Option<Self> {
        let (ours, theirs) = (&mut self.terms, &bound.terms);
        for term in terms {
            match *term {
                Term::Outbound(operation) => {
                    bound_grant(&mut ours.outbound, operation, &theirs.outbound);
                }
                Term::Inbound(operation) => {
                    bound_grant(&mut ours.inbound, operation, &theirs.inbound);
                }
                Term::Ttl => ours.ttl = common(ours.ttl, theirs.ttl)?,
                Term::Waiting => {
                    ours.waiting_bytes_max = ours.waiting_bytes_max.min(theirs.waiting_bytes_max);
                }
                Term::Files => ours.file_bytes_max = ours.file_bytes_max.min(theirs.file_bytes_max),
                Term::Label => ours.label_max = ours.label_max.min(theirs.label_max),
                Term::End => self.expires_ms = self.expires_ms.min(bound.expires_ms),
            }
        }
        Some(self)
    }
}

/// Leaves of a grant what the bound grants too.
fn bound_grant(grants: &mut Grants, operation: Operation, bound: &Grants) {
    let Some(granted) = grants.remove(&operation) else {
        return;
    };
    if let Some(common) = bound
        .get(&operation)
        .and_then(|bound| granted.in_both(bound))
    {
        grants.insert(operation, common);
    }
}

fn common(one: TtlBounds, other: TtlBounds) -> Option<TtlBounds> {
    let both = TtlBounds {
        min_seconds: one.min_seconds.max(other.min_seconds),
        max_seconds: one.max_seconds.min(other.max_seconds),
    };
    (both.min_seconds <= both.max_seconds).then_some(both)
}
