//! Segments and the rules between them: shown, compared and changed as one document.

use std::collections::BTreeSet;
use std::sync::Arc;

use federation_proto::ids::Handle;
use homeserver_api::admin::{BarrierChange, BarriersChanged, BarriersRequest, BarriersState};
use homeserver_api::policy::Barriers;

use super::user_types::{ATTEMPTS_MAX, commit_rules, record};
use super::{IdentityError, user_types};
use crate::audit::Actor;
use crate::node::Node;
use crate::policy::barriers::{difference, problems};
use crate::store::account;
use crate::store::barriers::{self, BarriersRecord};
use crate::store::{Part, PartOutcome, StoreError, policy_serial};

const PAGE_HANDLES: usize = 500;

/// What holds.
pub async fn state(node: &Node) -> Result<BarriersState, StoreError> {
    let stored = barriers::get(&node.store).await?;
    let record = stored.map(|(record, _)| record).unwrap_or_default();
    Ok(BarriersState {
        serial: record.serial,
        barriers: record.barriers,
    })
}

/// Puts other segments and rules in the place of those that there are, or only says what that would do. From then on nothing
/// is decided by the former ones, and every session hears of it.
pub async fn change(
    node: &Arc<Node>,
    actor: &Actor,
    request: BarriersRequest,
) -> Result<BarriersChanged, IdentityError> {
    check(node, &request.barriers).await?;
    for _ in 0..ATTEMPTS_MAX {
        let mut part = Part::default();
        policy_serial::advance(&mut part, policy_serial::get(&node.store).await?)?;
        let (former, read) = barriers::get(&node.store).await?.unzip();
        let former = former.unwrap_or_default();
        if request
            .follows
            .is_some_and(|serial| serial != former.serial)
        {
            return Err(IdentityError::SegmentsChanged);
        }
        let people = people(node).await?;
        let (gained, lost) = difference(&former.barriers, &request.barriers, &people);
        let mut changed = BarriersChanged {
            serial: former.serial,
            applied: false,
            gained,
            lost,
        };
        if request.dry_run {
            return Ok(changed);
        }
        changed.serial = former.serial.saturating_add(1);
        changed.applied = true;
        let after = BarriersRecord {
            serial: changed.serial,
            barriers: request.barriers.clone(),
        };
        barriers::put(&mut part, &after, read)?;
        let detail = format!(
            "serial {}: {} segments, {} rules; pairs of people gained: {}, lost: {}",
            after.serial,
            after.barriers.segments.len(),
            after.barriers.rules.len(),
            pairs(&changed.gained),
            pairs(&changed.lost)
        );
        record(
            node,
            &mut part,
            actor,
            "segments.changed",
            &node.server,
            detail,
        );
        if commit_rules(node, part).await? == PartOutcome::Committed {
            return Ok(changed);
        }
    }
    Err(IdentityError::Busy)
}

fn pairs(changes: &[BarrierChange]) -> u64 {
    changes
        .iter()
        .fold(0, |sum, change| sum.saturating_add(change.pairs))
}

/// Everybody who has an account, with the user type.
async fn people(node: &Node) -> Result<Vec<(Handle, String)>, StoreError> {
    let mut people = Vec::new();
    let mut after = None;
    loop {
        let page = account::handles(&node.store, after.as_ref(), PAGE_HANDLES).await?;
        let Some((last, _)) = page.last() else {
            return Ok(people);
        };
        after = Some(last.clone());
        for (_, id) in page {
            // Handles outlive their accounts.
            if let Some((account, _)) = account::get(&node.store, id).await? {
                people.push((account.handle, account.user_type));
            }
        }
    }
}

/// Every mistake at once.
async fn check(node: &Node, barriers: &Barriers) -> Result<(), IdentityError> {
    let mut found = problems(barriers);
    let known = user_types::list(node).await?.into_iter();
    let known: BTreeSet<String> = known.map(|user_type| user_type.name).collect();
    for segment in &barriers.segments {
        let name = &segment.name;
        for user_type in &segment.user_types {
            if !known.contains(user_type) {
                found.push(format!(
                    "segment `{name}`: there is no user type `{user_type}`"
                ));
            }
        }
        for handle in &segment.users {
            if account::by_handle(&node.store, handle).await?.is_none() {
                found.push(format!("segment `{name}`: there is no user `{handle}`"));
            }
        }
    }
    match found.is_empty() {
        true => Ok(()),
        false => Err(IdentityError::Invalid(found.join("; "))),
    }
}
