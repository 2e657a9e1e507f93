//! Agreements that stand, when the next charter of their consortium has been signed: each side states it in an
//! amendment, and consents to the other's in its administrator's place, who has signed the same.
//!
//! Each step is a change of its own, and is found again by looking: what was interrupted goes on in the next round.

use std::sync::Arc;

use bytes::Bytes;
use federation_proto::agreement::{Agreement, ConsortiumError, Statement};
use federation_proto::hash::Digest;
use federation_proto::ids::ServerName;

use super::super::amendments::{consenting, standing};
use super::super::ceremony::is_in_force;
use super::super::change::{Change, Found, change};
use super::super::error::PeeringError;
use super::super::prepared::{Prepared, detail, differences, states_as_much};
use super::super::standing::not_in_force;
use super::super::statement::under;
use super::super::view::has_renewed;
use super::{Known, known, named};
use crate::audit::Actor;
use crate::node::Node;
use crate::store::StoreError;
use crate::store::peer::{OurHalf, PeerRecord, Renewal};

/// Our half and our consent to the other one, and one look more than that.
const STEPS_MAX: usize = 4;

/// How far an agreement is with the charter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is not one that a former charter has made.
    OfItsOwn,
    /// Both halves are in force.
    Renewed,
    /// What has yet to come.
    Waits(String),
    /// It is left as it is: why.
    Kept(String),
}

/// Whether a step was made, or there is nothing to do.
enum Step {
    Made,
    Nothing(Progress),
}

/// Does for the agreement with `server` what its renewal by the charter needs of this side.
pub(super) async fn renew(
    node: &Arc<Node>,
    actor: &Actor,
    server: &ServerName,
    known: &Known,
) -> Result<Progress, PeeringError> {
    for _ in 0..STEPS_MAX {
        let step = change(node, actor, server, |found| {
            step(node, server, known, found)
        });
        if let Step::Nothing(progress) = step.await? {
            return Ok(progress);
        }
    }
    Err(PeeringError::Busy)
}

/// As `renew`, where nobody has asked: a partner's half has come, or ours was overtaken.
pub async fn catch_up(node: &Arc<Node>, server: &ServerName) -> Result<(), StoreError> {
    let view = node.peers.get(server);
    let chartered = view.filter(|view| view.is_signed());
    let chartered = chartered.and_then(|view| view.chartered.clone());
    let Some(chartered) = chartered.filter(|chartered| chartered.due) else {
        return Ok(());
    };
    let Some(known) = known(node, chartered.consortium).await? else {
        return Ok(());
    };
    if !known.charter.is_signed_by(server) {
        return Ok(());
    }
    match renew(node, &Actor::System, server, &known).await {
        Err(PeeringError::Store(error)) => Err(error),
        Err(error) => {
            tracing::warn!(%server, %error, "an agreement is not renewed yet");
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

/// Notes what has become of our half; returns which charter it is of.
pub(in super::super) fn settle(
    record: &mut PeerRecord,
    amendment: Digest,
    to: OurHalf,
) -> Option<u64> {
    let renewal = record.renewal.as_mut()?;
    (renewal.ours == OurHalf::Proposed(*amendment.as_bytes())).then(|| {
        renewal.ours = to;
        renewal.serial
    })
}

fn step(
    node: &Node,
    server: &ServerName,
    known: &Known,
    found: Found,
) -> Result<Result<Change<Step>, Step>, PeeringError> {
    let nothing = |progress| Ok(Err(Step::Nothing(progress)));
    let now_ms = node.clock.now_ms();
    if !is_in_force(&found.record) {
        return nothing(Progress::OfItsOwn);
    }
    let agreement = found.restored.and_then(|restored| restored.current);
    let agreement = standing(agreement, server, now_ms)?;
    let signed = agreement.signed().ok_or_else(|| not_in_force(server))?;
    match known.charter.renews(signed, now_ms) {
        Ok(()) => {}
        Err(ConsortiumError::OfItsOwn | ConsortiumError::NotTheNext) => {
            return nothing(Progress::OfItsOwn);
        }
        Err(error) => return nothing(Progress::Kept(error.to_string())),
    }
    let mut record = found.record;
    let renewal = renewal(&record, known);
    let theirs = signed.amendments(signed.side().other()).proposed();
    let covered = theirs.filter(|theirs| known.charter.covers(signed, theirs.statement()));
    // Once their statement ends with the charter, they have had what it says: the rest is between the two.
    let had = renewal.theirs && signed.theirs().expires_ms == renewal.expires_ms;
    if let Some(theirs) = covered.filter(|_| !had) {
        let read = detail(theirs, &differences(&agreement, theirs));
        record.renewal = Some(Renewal {
            theirs: true,
            ..renewal
        });
        let (record, _) = consenting(node, record, agreement, None, now_ms)?;
        return Ok(Ok(Change {
            record,
            action: "peer.consented-by-charter",
            detail: format!("{}; {read}", named(&known.charter)),
            answer: Step::Made,
        }));
    }
    let open = signed.amendments(signed.side()).proposed();
    let open_sha256 = open.map(|open| *open.sha256().as_bytes());
    match renewal.ours {
        OurHalf::InForce if has_renewed(signed.theirs(), &renewal) => {
            return nothing(Progress::Renewed);
        }
        OurHalf::InForce => {
            return nothing(Progress::Waits(format!(
                "our half is in force; that of {server} comes when it has joined with our signature"
            )));
        }
        OurHalf::Refused => {
            return nothing(Progress::Kept(format!(
                "{server} did not consent to what the charter states: ask why, and amend the agreement by itself"
            )));
        }
        OurHalf::Proposed(made) if open_sha256 == Some(made) => {
            return nothing(Progress::Waits(format!(
                "our half is on its way: {server} takes it when it is reached and has joined with our signature"
            )));
        }
        OurHalf::Proposed(_) | OurHalf::Due => {}
    }
    // A proposal that only announces a new root goes on with ours, and our half by a former charter is overtaken; any other
    // is for the partner to answer first.
    let former = record.renewal.as_ref().map(|former| former.ours);
    let is_former = open_sha256.is_some_and(|open| former == Some(OurHalf::Proposed(open)));
    if !is_former && open.is_some_and(|open| !states_as_much(open.statement(), signed.ours())) {
        return nothing(Progress::Waits(format!(
            "another amendment of ours waits for the consent of {server}: renewed when it has answered, or when you \
             take that back"
        )));
    }
    let base = open.map_or_else(|| signed.ours(), |open| open.statement());
    let Some(statement) = our_statement(&record, base, known)? else {
        return nothing(Progress::Kept(
            "what was narrowed here after the charter was signed has no time-to-live in common with it: amend the \
             agreement by itself"
                .to_owned(),
        ));
    };
    propose(node, record, agreement.clone(), known, renewal, &statement)
}

/// Puts our half in force, or proposes it.
fn propose(
    node: &Node,
    record: PeerRecord,
    agreement: Agreement,
    known: &Known,
    renewal: Renewal,
    statement: &Statement,
) -> Result<Result<Change<Step>, Step>, PeeringError> {
    let server = agreement.partner().clone();
    let signed = agreement.signed().ok_or_else(|| not_in_force(&server))?;
    let by_charter = named(&known.charter);
    let with = |ours| PeerRecord {
        renewal: Some(Renewal {
            ours,
            ..renewal.clone()
        }),
        ..record.clone()
    };
    let ours = signed.ours();
    if states_as_much(ours, statement) && ours.endpoints == statement.endpoints {
        return Ok(Ok(Change {
            record: with(OurHalf::InForce),
            action: "peer.renewed",
            detail: format!("{by_charter}; this side states it already"),
            answer: Step::Made,
        }));
    }
    // A partner that an earlier change did not wait for goes by a root that is forgotten.
    let root = match node.keys.manifest_under(&statement.root) {
        Some(_) => statement.root.clone(),
        None => Bytes::from(node.keys.target_root().to_vec()),
    };
    let statement = under(node, &root, statement)?;
    let prepared = Prepared::stating(node, agreement, statement, node.clock.now_ms())?;
    let (half, action) = if prepared.is_in_force() {
        (OurHalf::InForce, "peer.renewed")
    } else {
        let amendment = prepared.amendment.sha256();
        (
            OurHalf::Proposed(*amendment.as_bytes()),
            "peer.renewal-proposed",
        )
    };
    let mut change = prepared.change(with(half), action, Step::Made)?;
    change.detail = format!("{by_charter}; {}", change.detail);
    Ok(Ok(change))
}

/// Where the renewal by this charter stands, which may not have begun.
pub(super) fn renewal(record: &PeerRecord, known: &Known) -> Renewal {
    let charter = known.charter.body();
    if let Some(same) = record.renewal.as_ref()
        && same.serial == charter.serial
    {
        return same.clone();
    }
    Renewal {
        serial: charter.serial,
        expires_ms: charter.expires_ms,
        ours: OurHalf::Due,
        theirs: false,
    }
}

/// What this side states by the charter. By signing it has said that what it narrowed before is as the charter has
/// it; what it narrowed afterwards stays. `None`: the two have nothing in common.
pub(super) fn our_statement(
    record: &PeerRecord,
    before: &Statement,
    known: &Known,
) -> Result<Option<Statement>, ConsortiumError> {
    let statement = known.charter.renewed(before)?;
    let signed_ms = known.record.signed_ms;
    let narrowed = record.narrowed.iter();
    let since = narrowed.filter(|(_, at_ms)| **at_ms >= signed_ms);
    let since = since.map(|(term, _)| *term).collect();
    Ok(statement.no_wider_in(&since, before))
}
