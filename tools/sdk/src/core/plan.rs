//! What an operation has to change in a room: which devices come and go, and who takes part afterwards.

use std::collections::BTreeSet;

use homeserver_api::ids::{Address, Member};
use homeserver_api::refusal::{Refusal, RefusalCode};
use mls_rs::MlsMessage;
use room_rules::settings::{Context, Role, RoomSettings, account, successor};

use super::Core;
use super::consents::put_in;
use super::records::{ClaimedKeys, Operation, OperationKind};
use super::rooms::Leaf;
use crate::certificate::Validity;
use crate::error::Error;
use crate::mls;

/// What a commit will do.
pub(super) struct Plan {
    pub(super) adds: Vec<(Member, MlsMessage)>,
    pub(super) removes: Vec<(u32, Member)>,
    /// Who takes part afterwards, when that changes.
    pub(super) settings: Option<RoomSettings>,
}

impl Plan {
    pub(super) const fn is_empty(&self) -> bool {
        self.adds.is_empty() && self.removes.is_empty() && self.settings.is_none()
    }
}

impl Core {
    /// What a room has in its group's context that this device creates, with nobody invited yet.
    pub(super) fn new_context(&self) -> Result<Context, Error> {
        if self.state.hub_chain.is_empty() {
            return Err(Error::InvalidArgument(
                "this device has not fetched its homeserver's room certificate yet: connect, and try again"
                    .to_owned(),
            ));
        }
        let member = &self.identity.member;
        Ok(Context {
            settings: RoomSettings::new(member.server.clone(), member),
            hub: room_rules::hub_identity(&self.state.hub_chain)?,
        })
    }

    /// What the operation still has to change in a group with these leaves.
    pub(super) fn plan(
        &self,
        operation: &Operation,
        leaves: &[Leaf],
        settings: &RoomSettings,
    ) -> Result<Plan, Error> {
        let mut plan = Plan {
            adds: Vec::new(),
            removes: Vec::new(),
            settings: None,
        };
        let mut next = settings.clone();
        let named = |addresses: &BTreeSet<Address>| -> Vec<&Leaf> {
            let is_named = |leaf: &&Leaf| addresses.contains(self.address_of(&leaf.device));
            leaves.iter().filter(is_named).collect()
        };
        match &operation.kind {
            OperationKind::Remove(addresses) => {
                for leaf in named(addresses) {
                    let member = leaf.device.member.clone();
                    next.participants
                        .remove(&(member.server.clone(), member.account));
                    plan.removes.push((leaf.index, member));
                }
                self.succeed(leaves, settings, &mut next);
                put_in(operation, &mut next);
                plan.settings = (next != *settings).then_some(next);
                return Ok(plan);
            }
            OperationKind::SetRole(address, role) => {
                for leaf in named(&BTreeSet::from([address.clone()])) {
                    let member = &leaf.device.member;
                    let account = (member.server.clone(), member.account);
                    next.participants.insert(account, *role);
                }
                self.succeed(leaves, settings, &mut next);
                put_in(operation, &mut next);
                plan.settings = (next != *settings).then_some(next);
                return Ok(plan);
            }
            OperationKind::Rename(name) => {
                next.name.clone_from(name);
                self.succeed(leaves, settings, &mut next);
                put_in(operation, &mut next);
                plan.settings = (next != *settings).then_some(next);
                return Ok(plan);
            }
            OperationKind::TakeUp => {
                let (_, gone) = self.going(operation.room, leaves)?;
                next.participants
                    .retain(|account, _| !gone.contains(account));
                put_in(operation, &mut next);
                plan.settings = (next != *settings).then_some(next);
                return Ok(plan);
            }
            OperationKind::PutOut => {
                for leaf in self.to_put_out(leaves, settings) {
                    plan.removes.push((leaf.index, leaf.device.member.clone()));
                }
                return Ok(plan);
            }
            OperationKind::Consent => {
                put_in(operation, &mut next);
                plan.settings = (next != *settings).then_some(next);
                return Ok(plan);
            }
            OperationKind::Create | OperationKind::Add | OperationKind::Refresh => {}
        }
        let mut present: BTreeSet<Member> =
            leaves.iter().map(|l| l.device.member.clone()).collect();
        present.insert(self.identity.member.clone());
        // A history is for one device.
        let target = self.history.target(operation.room);
        for claim in &operation.claims {
            let Some(Ok(devices)) = &claim.answer else {
                continue;
            };
            let mut usable = 0_usize;
            let mut refused = None;
            for device in devices {
                // As it stands now: the answer may have waited for others.
                let stands = self.check_present(&claim.address, device);
                match stands.and_then(|()| self.check_claimed(&claim.address, device)) {
                    Ok(key_package) => {
                        usable += 1;
                        if target.is_some_and(|target| target != device.member.device) {
                            continue;
                        }
                        if present.insert(device.member.clone()) {
                            plan.adds.push((device.member.clone(), key_package));
                        }
                    }
                    // The roots may be out of date: the whole job runs again with fresh ones.
                    Err(error) if error.wants_roots() && !self.roots_are_fresh => {
                        return Err(error);
                    }
                    // One device with a stale certificate must not keep the others out.
                    Err(error) => refused = Some(error),
                }
            }
            let alone = operation.succession.is_some();
            if usable == 0 && claim.address != *self.own_address() && !alone {
                return Err(refused.unwrap_or_else(no_key_packages));
            }
        }
        if target.is_some() && plan.adds.is_empty() && leaves.is_empty() {
            return Err(no_key_packages());
        }
        for (member, _) in &plan.adds {
            let account = (member.server.clone(), member.account);
            let role = match &operation.succession {
                Some(former) => former.role(&account.0, account.1),
                None => Role::Member,
            };
            next.participants.entry(account).or_insert(role);
        }
        self.succeed(leaves, settings, &mut next);
        put_in(operation, &mut next);
        plan.settings = (next != *settings).then_some(next);
        Ok(plan)
    }

    /// Whoever acts as an owner, because none is left, becomes one with the first change that it makes.
    fn succeed(&self, leaves: &[Leaf], settings: &RoomSettings, next: &mut RoomSettings) {
        let own = account(&self.identity.member);
        let present = leaves.iter().map(|leaf| account(&leaf.device.member));
        let succeeds = successor(settings, &present.collect()) == Some(&own);
        if succeeds && next != settings && !next.has_owner() {
            next.participants.insert(own, Role::Owner);
        }
    }

    /// Holds a claimed device to the address that was asked for: no server can slip in another.
    pub(in crate::core) fn check_claimed(
        &self,
        address: &Address,
        keys: &ClaimedKeys,
    ) -> Result<MlsMessage, Error> {
        let message = mls::parse(&keys.key_package)?;
        let key_package = message
            .as_key_package()
            .ok_or_else(|| Error::Mls("a claimed key package is not one".to_owned()))?;
        let device = self.identities.verify(
            key_package.signing_identity(),
            Validity::At(self.now_ms() / 1000),
        )?;
        if device.address != *address || device.member != keys.member {
            return Err(Error::Certificate(format!(
                "a key package for {address} is of {}",
                device.address
            )));
        }
        Ok(message)
    }
}

pub(super) fn no_key_packages() -> Error {
    Error::Refused(Refusal::new(
        RefusalCode::NoKeyPackages,
        "no device of the account can be added: its owner must be online once",
    ))
}
