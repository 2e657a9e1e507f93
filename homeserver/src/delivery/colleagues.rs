//! What people of this organisation may do towards each other: the barriers between segments, as of the batch's moment.

use std::collections::BTreeSet;

use federation_proto::ids::{AccountId, Member};
use federation_proto::refusal::Refusal;
use homeserver_api::policy::Contact;

use super::batch::Batch;
use crate::policy::barriers;
use crate::store::StoreError;
use crate::store::room::RoomRecord;

/// Whether `from` may do this towards `to`, both of this organisation. Of somebody who is gone others say so.
pub async fn may(
    batch: &Batch<'_>,
    (from, to): (AccountId, AccountId),
    contact: Contact,
) -> Result<Result<(), Refusal>, StoreError> {
    let record = batch.barriers().await?;
    if from == to || record.barriers.is_open() {
        return Ok(Ok(()));
    }
    let (Some(from), Some(to)) = (batch.account(from).await?, batch.account(to).await?) else {
        return Ok(Ok(()));
    };
    let (decision, _) = barriers::evaluate(&record.barriers, &from.segments, &to.segments, contact);
    Ok(decision.into_result())
}

/// Whether `by` may bring `added`, of this organisation, into a room that is `room` with it: nobody gets into a room with a
/// colleague to whom he may not write, or who may not write to him.
pub async fn may_be_added(
    batch: &Batch<'_>,
    added: &Member,
    by: &Member,
    room: &RoomRecord,
) -> Result<Result<(), Refusal>, StoreError> {
    if batch.barriers().await?.barriers.is_open() {
        return Ok(Ok(()));
    }
    let own = &batch.node.server;
    if by.server == *own {
        let invited = may(batch, (by.account, added.account), Contact::Invite).await?;
        if invited.is_err() {
            return Ok(invited);
        }
    }
    let others: BTreeSet<AccountId> = room.members_of(own).map(|member| member.account).collect();
    for other in others {
        for pair in [(added.account, other), (other, added.account)] {
            let writes = may(batch, pair, Contact::Message).await?;
            if writes.is_err() {
                return Ok(writes);
            }
        }
    }
    Ok(Ok(()))
}
