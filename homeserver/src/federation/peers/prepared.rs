//! An amendment of ours before it is written: what it would change, and what becomes of the agreement.

use std::collections::BTreeSet;

use bytes::Bytes;
use federation_proto::agreement::{
    Agreement, Amendment, Change as Difference, Effect, Statement, Term,
};
use federation_proto::hash::Digest;
use federation_proto::ids::ServerName;
use homeserver_api::admin::{AmendRequest, Amended, AmendmentEffect};

use super::amendments::standing;
use super::change::Change;
use super::error::PeeringError;
use super::outgoing::push;
use super::standing::not_in_force;
use super::statement::restated;
use crate::node::Node;
use crate::store::peer::{OurHalf, OutgoingKind, PeerRecord};

/// An amendment of ours, and the agreement with it.
pub(super) struct Prepared {
    agreement: Agreement,
    pub(super) amendment: Amendment,
    pub(super) effect: AmendmentEffect,
    follows: String,
    changes: Vec<String>,
    /// The terms that are narrower than in the statement in force.
    pub(super) narrowed: BTreeSet<Term>,
    /// The proposal whose place it takes, when it says what that said of terms and end.
    repeats: Option<Digest>,
}

impl Prepared {
    pub(super) fn of(
        node: &Node,
        server: &ServerName,
        agreement: Option<Agreement>,
        request: &AmendRequest,
    ) -> Result<Self, PeeringError> {
        let now_ms = node.clock.now_ms();
        let agreement = standing(agreement, server, now_ms)?;
        let signed = agreement.signed().ok_or_else(|| not_in_force(server))?;
        let follows = signed.document_sha256(signed.side()).to_string();
        if request
            .follows
            .as_ref()
            .is_some_and(|shown| *shown != follows)
        {
            return Err(PeeringError::State(
                "this side's statement has changed since the changes were shown: look at them again"
                    .to_owned(),
            ));
        }
        let proposed = signed.amendments(signed.side()).proposed();
        let target = Bytes::from(node.keys.target_root().to_vec());
        let in_force = &signed.ours().root;
        let mut statement = match node.keys.manifest_under(in_force) {
            Some(_) => restated(node, in_force, signed.ours(), request)?,
            // A partner that was not waited for goes by a root that is forgotten.
            None => restated(node, &target, signed.ours(), request)?,
        };
        let announces = proposed.is_some_and(|proposed| proposed.statement().root == target);
        if announces && !signed.ours().only_tightens_to(&statement) {
            // It takes the place of that proposal, and has to say what that said.
            statement = restated(node, &target, signed.ours(), request)?;
        }
        if signed.ours().changes_to(&statement).is_empty() && proposed.is_none() {
            return Err(PeeringError::Statement(
                "this changes nothing of what is stated already".to_owned(),
            ));
        }
        Self::stating(node, agreement, statement, now_ms)
    }

    /// With this statement in the place of the one in force.
    pub(super) fn stating(
        node: &Node,
        agreement: Agreement,
        statement: Statement,
        now_ms: u64,
    ) -> Result<Self, PeeringError> {
        let server = agreement.partner().clone();
        let signed = agreement.signed().ok_or_else(|| not_in_force(&server))?;
        let follows = signed.document_sha256(signed.side()).to_string();
        let changes = signed.ours().changes_to(&statement);
        let narrowed = signed.ours().narrowed_in(&statement);
        let proposed = signed.amendments(signed.side()).proposed();
        let repeats = proposed.filter(|proposed| states_as_much(proposed.statement(), &statement));
        let repeats = repeats.map(Amendment::sha256);
        let amendment =
            signed.amendment(statement, &node.keys.issuing_key(), node.random.as_ref())?;
        let (agreement, effect) = agreement
            .change(|signed| signed.amend(amendment.clone(), now_ms))
            .map_err(|rejected| rejected.error)?;
        Ok(Self {
            agreement,
            amendment,
            effect: match effect {
                Effect::InForce => AmendmentEffect::InForce,
                Effect::Proposed | Effect::Known => AmendmentEffect::Proposed,
            },
            follows,
            changes: lines(&changes),
            narrowed,
            repeats,
        })
    }

    /// The peer's record with it; the partner is told in the background.
    pub(super) fn change<T>(
        &self,
        mut record: PeerRecord,
        action: &'static str,
        answer: T,
    ) -> Result<Change<T>, PeeringError> {
        push(
            &mut record.outgoing,
            OutgoingKind::Amendment,
            self.amendment.bytes(),
        )?;
        if let (Some(renewal), Some(repeats)) = (&mut record.renewal, self.repeats)
            && renewal.ours == OurHalf::Proposed(*repeats.as_bytes())
        {
            renewal.ours = OurHalf::Proposed(*self.amendment.sha256().as_bytes());
        }
        Ok(Change {
            record: PeerRecord {
                current: Some(self.agreement.record()),
                ..record
            },
            action,
            detail: detail(&self.amendment, &self.changes),
            answer,
        })
    }

    /// Whether it needs nobody's consent.
    pub(super) fn is_in_force(&self) -> bool {
        self.effect == AmendmentEffect::InForce
    }

    pub(super) fn answer(&self, document: Option<String>) -> Amended {
        Amended {
            effect: self.effect,
            serial: self.amendment.statement().serial,
            follows: self.follows.clone(),
            changes: self.changes.clone(),
            document,
            warnings: Vec::new(),
        }
    }
}

/// Whether a statement says of terms and end what another one says.
pub(super) fn states_as_much(one: &Statement, other: &Statement) -> bool {
    one.terms == other.terms && one.expires_ms == other.expires_ms
}

/// What an amendment changes of its maker's statement in force.
pub(super) fn differences(agreement: &Agreement, amendment: &Amendment) -> Vec<String> {
    let before = agreement.signed().and_then(|signed| {
        let side = signed.side_of(&amendment.statement().from)?;
        Some(signed.statement_of(side))
    });
    before.map_or_else(Vec::new, |before| {
        lines(&before.changes_to(amendment.statement()))
    })
}

pub(super) fn lines(changes: &[Difference]) -> Vec<String> {
    changes.iter().map(ToString::to_string).collect()
}

/// For the audit log.
pub(super) fn detail(amendment: &Amendment, changes: &[String]) -> String {
    format!(
        "statement {}, SHA-256 {}: {}",
        amendment.statement().serial,
        amendment.sha256(),
        changes.join("; ")
    )
}
