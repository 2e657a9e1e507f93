//! Devices whose certificates ended too long ago leave every room: a device that is lost would stay there for ever, and
//! be sent every epoch that begins.
//!
//! Each homeserver has its own people's devices leave, wherever they are; those of its partners a hub removes from the
//! rooms that it orders, by the certificates in their trees. The rooms are walked through, some at a time. Nothing is
//! noted in between: what a walk has missed the next one finds.

use std::sync::Arc;
use std::time::Duration;

use federation_proto::ids::{Member, RoomId};

use super::batch::{Batch, settle};
use super::limits::{
    CONFLICT_ATTEMPTS_MAX, LAPSED_MS, LAPSED_PAUSE_MS, LAPSED_ROOMS_PAGE, LAPSED_WALK_MS,
};
use crate::node::{Hint, Node};
use crate::rooms::leaving;
use crate::store::departure::{self, Departure};
use crate::store::device::{self, DeviceOf};
use crate::store::lease::Duty;
use crate::store::room::RoomRecord;
use crate::store::{Part, PartOutcome, Precondition, StoreError, group_info, room};

/// Walks until the store stops. Spawn it once for each node.
pub async fn run(node: Arc<Node>) {
    let mut after = None;
    loop {
        node.cluster.until_held(&Duty::Tasks).await;
        let pause_ms = match page(&node, after).await {
            Ok(next @ Some(_)) => {
                after = next;
                LAPSED_PAUSE_MS
            }
            Ok(None) => {
                after = None;
                LAPSED_WALK_MS
            }
            Err(StoreError::Stopped) => return,
            Err(error) => {
                tracing::error!(%error, "devices that have lapsed can't be looked for; trying again");
                LAPSED_WALK_MS
            }
        };
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
}

/// Looks at the rooms behind `after`; the last one of them, when there is any.
pub(crate) async fn page(node: &Node, after: Option<RoomId>) -> Result<Option<RoomId>, StoreError> {
    let rooms = room::page(&node.store, after, LAPSED_ROOMS_PAGE).await?;
    let last = rooms.last().map(|(id, _)| *id);
    for (id, record) in rooms {
        let own = record.members_of(&node.server);
        for member in own.filter(|member| !record.is_going(member)) {
            depart(node, member).await?;
        }
        if record.hub == node.server {
            remove_partners(node, id, &record).await?;
        }
    }
    Ok(last)
}

fn has_lapsed(node: &Node, not_after_ms: u64) -> bool {
    not_after_ms.saturating_add(LAPSED_MS) <= node.clock.now_ms()
}

/// Has an own device leave every room when it has lapsed.
async fn depart(node: &Node, member: &Member) -> Result<(), StoreError> {
    let (account, device) = (member.account, member.device);
    let of = DeviceOf { account, device };
    // One that is gone leaves by what was written then.
    let found = device::get(&node.store, of).await?;
    let Some((_, read)) = found.filter(|(record, _)| has_lapsed(node, record.not_after_ms)) else {
        return Ok(());
    };
    let mut part = Part::default();
    // A conflict means that it has just got another certificate.
    part.require(Precondition::Equals(device::key(of), read));
    let device = Some(device);
    departure::put(&mut part, Departure { account, device });
    let hint = node.hinting(Hint::Departed);
    node.store.commit_then(part, hint).await?;
    Ok(())
}

/// Removes partners' devices that have lapsed from a room that is ordered here.
async fn remove_partners(node: &Node, id: RoomId, record: &RoomRecord) -> Result<(), StoreError> {
    let is_partners = |member: &Member| member.server != node.server && record.may_act(member);
    if !record.members.iter().any(is_partners) {
        return Ok(());
    }
    let kept = group_info::get(&node.store, id).await?;
    let Some(kept) = kept.filter(|kept| kept.epoch == record.epoch) else {
        return Ok(());
    };
    let leaves = match room_rules::leaves_in(&kept.group_info) {
        Ok(leaves) => leaves,
        Err(error) => {
            tracing::error!(room = %id, %error, "the group info that is kept can't be read");
            return Ok(());
        }
    };
    let lapsed: Vec<Member> = leaves
        .into_iter()
        .filter(|leaf| has_lapsed(node, leaf.not_after.saturating_mul(1000)))
        .map(|leaf| leaf.member)
        .filter(is_partners)
        .collect();
    if lapsed.is_empty() {
        return Ok(());
    }
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let mut batch = Batch::open(node).await?;
        let ordered = leaving::order_lapsed(&mut batch, id, record.epoch, &lapsed).await;
        if let Err(refusal) = settle(ordered)? {
            tracing::warn!(room = %id, %refusal, "devices that have lapsed can't be removed yet");
            return Ok(());
        }
        if batch.commit().await? == PartOutcome::Committed {
            return Ok(());
        }
        node.peers.refresh(node).await?;
    }
    Ok(())
}
