//! What people rule for themselves, beyond their user type.

use std::sync::Arc;

use homeserver_api::policy::OwnRules;

use super::user_types::{ATTEMPTS_MAX, record};
use super::{IdentityError, accounts, user_types};
use crate::audit::Actor;
use crate::delivery::mailboxes::Ring;
use crate::node::{Node, to_its_end};
use crate::store::account;
use crate::store::device::{self, DeviceOf};
use crate::store::{Part, PartOutcome, Precondition, policy_serial};

/// Sets what the account's owner has chosen. What would loosen the user type is refused; what does so later, because the
/// user type became tighter, has no effect.
pub async fn set(node: &Arc<Node>, caller: DeviceOf, own: OwnRules) -> Result<(), IdentityError> {
    for _ in 0..ATTEMPTS_MAX {
        let mut part = Part::default();
        policy_serial::advance(&mut part, policy_serial::get(&node.store).await?)?;
        let (mut account, read) = account::get(&node.store, caller.account)
            .await?
            .ok_or(IdentityError::UnknownDevice)?;
        let policy = user_types::get(node, &account.user_type)
            .await?
            .ok_or_else(|| IdentityError::UnknownUserType(account.user_type.clone()))?;
        if let Some(field) = own.loosens(&policy) {
            return Err(IdentityError::Invalid(format!(
                "{field}: your user type does not leave that to you; choose something tighter than it"
            )));
        }
        part.require(Precondition::Equals(account::key(caller.account), read));
        account.own = own.clone();
        account::put(&mut part, caller.account, &account)?;
        let detail = serde_json::to_string(&own).unwrap_or_default();
        let subject = accounts::address(node, &account.handle);
        let actor = Actor::Device(caller.device);
        record(node, &mut part, &actor, "user.own-rules", subject, detail);
        let devices = device::of_account(&node.store, caller.account).await?;
        let devices: Vec<_> = devices.into_iter().map(|(device, _)| device).collect();
        let acting = Arc::clone(node);
        let act = async move {
            let outcome = acting.store.commit(part).await;
            if matches!(outcome, Ok(PartOutcome::Committed)) {
                acting.mailboxes.ring(devices, Ring::Rules);
            }
            outcome
        };
        if to_its_end(act).await? == PartOutcome::Committed {
            return Ok(());
        }
    }
    Err(IdentityError::Busy)
}
