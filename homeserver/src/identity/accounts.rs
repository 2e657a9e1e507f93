//! Accounts, as administrators handle them. Every act and its audit event are one part.

use std::sync::Arc;

use federation_proto::device_log::How;
use federation_proto::ids::{AccountId, Address, DeviceId, Handle};
use homeserver_api::admin::{
    ChangeUserRequest, CreateUserRequest, CreatedUser, ResetPasswordRequest, UserDetail,
    UserSummary,
};
use homeserver_api::client::{AccountInfo, Came, DeviceInfo};
use homeserver_api::password::{ChangePasswordRequest, Password};
use homeserver_api::policy::OwnRules;

use super::user_types::{self, ATTEMPTS_MAX, STANDARD, record};
use super::{IdentityError, devices, passwords, usage};
use crate::audit::Actor;
use crate::delivery::evidence::{self, Cut};
use crate::delivery::mailboxes::Ring;
use crate::node::{Hint, Node, to_its_end};
use crate::policy::gate::banner_sha256;
use crate::store::account::{self, AccountRecord};
use crate::store::departure::{self, Departure};
use crate::store::device::{self, DeviceOf, DeviceRecord};
use crate::store::evidence::Reason;
use crate::store::{
    Part, PartOutcome, Precondition, StoreError, Value, allowance, contacts, enrolment,
    policy_serial, user_type,
};

const PAGE_HANDLES: usize = 500;

/// Creates an account; the answer has the password when none was given.
pub async fn create(
    node: &Node,
    actor: &Actor,
    request: CreateUserRequest,
) -> Result<CreatedUser, IdentityError> {
    let user_type = request.user_type.unwrap_or_else(|| STANDARD.to_owned());
    check_password(node, &user_type, &request.handle, request.password.as_ref()).await?;
    let (password_hash, made) = new_password(node, request.password).await?;
    let account = AccountId::from_bytes(node.random_id()?);
    let handle = request.handle;
    for _ in 0..ATTEMPTS_MAX {
        if account::by_handle(&node.store, &handle).await?.is_some() {
            return Err(IdentityError::HandleTaken(handle));
        }
        // Bound to the policy's serial: the user type can't be deleted meanwhile.
        let mut part = Part::default();
        policy_serial::require(&mut part, policy_serial::get(&node.store).await?);
        require_type(node, &mut part, &user_type).await?;
        let new = AccountRecord {
            handle: handle.clone(),
            user_type: user_type.clone(),
            suspended: false,
            password_hash: password_hash.clone(),
            devices: 0,
            statements: 0,
            created_ms: node.clock.now_ms(),
            own: OwnRules::default(),
        };
        account::take_handle(&mut part, &handle, account);
        account::put(&mut part, account, &new)?;
        let detail = format!("user type {user_type}");
        record(
            node,
            &mut part,
            actor,
            "user.created",
            address(node, &handle),
            detail,
        );
        if node.store.commit(part).await? == PartOutcome::Committed {
            return Ok(CreatedUser {
                address: address(node, &handle),
                account,
                user_type,
                password: made,
            });
        }
    }
    Err(IdentityError::Busy)
}

/// Up to `limit` accounts with handles after `after`, by handle.
pub async fn list(
    node: &Node,
    after: Option<&Handle>,
    limit: usize,
) -> Result<Vec<UserSummary>, StoreError> {
    let mut found = Vec::new();
    let mut after = after.cloned();
    while found.len() < limit {
        let page = account::handles(&node.store, after.as_ref(), PAGE_HANDLES).await?;
        let Some((last, _)) = page.last() else {
            break;
        };
        after = Some(last.clone());
        for (_, id) in page {
            // Handles outlive their accounts.
            if let Some((account, _)) = account::get(&node.store, id).await? {
                found.push(summary(node, id, account));
            }
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// An account in full.
pub async fn get(node: &Node, handle: &Handle) -> Result<UserDetail, IdentityError> {
    let (id, account, _) = find(node, handle).await?;
    let created_ms = account.created_ms;
    Ok(UserDetail {
        summary: summary(node, id, account),
        device_list: device_list(node, id).await?,
        created_ms,
        usage: Some(usage::of(node, id).await?),
    })
}

/// An account as its owner sees it.
pub async fn info(node: &Node, id: AccountId) -> Result<AccountInfo, IdentityError> {
    let (account, _) = account::get(&node.store, id)
        .await?
        .ok_or(IdentityError::SignInFailed)?;
    let policy = user_types::get(node, &account.user_type)
        .await?
        .ok_or_else(|| IdentityError::UnknownUserType(account.user_type.clone()))?;
    Ok(AccountInfo {
        address: address(node, &account.handle),
        account: id,
        user_type: account.user_type,
        policy: account.own.tighten(&policy),
        own: account.own,
        banner_sha256: banner_sha256(&policy).map(hex::encode),
        devices: device_list(node, id).await?,
        waiting: super::enrolment::waiting(node, id).await?,
    })
}

/// Changes an account's user type or suspends it: at once, for sessions and mail on its way.
pub async fn change(
    node: &Arc<Node>,
    actor: &Actor,
    handle: &Handle,
    request: &ChangeUserRequest,
) -> Result<UserDetail, IdentityError> {
    for _ in 0..ATTEMPTS_MAX {
        let (id, mut account, read) = find(node, handle).await?;
        let mut part = Part::default();
        policy_serial::advance(&mut part, policy_serial::get(&node.store).await?)?;
        part.require(Precondition::Equals(account::key(id), read));
        let mut detail = Vec::new();
        if let Some(user_type) = &request.user_type {
            require_type(node, &mut part, user_type).await?;
            detail.push(format!("user type {} to {user_type}", account.user_type));
            account.user_type.clone_from(user_type);
        }
        let mut opened = None;
        if let Some(suspended) = request.suspended {
            detail.push(if suspended { "suspended" } else { "resumed" }.to_owned());
            let newly = suspended && !account.suspended;
            account.suspended = suspended;
            if suspended {
                // Cut off, in its rooms too; the account stays in their lists.
                let devices = keys_of(&device::of_account(&node.store, id).await?);
                for (device, _) in &devices {
                    let device = Some(*device);
                    departure::put(
                        &mut part,
                        Departure {
                            account: id,
                            device,
                        },
                    );
                }
                if newly {
                    let cut = Cut {
                        account: id,
                        handle,
                        reason: Reason::UserSuspended,
                        actor,
                        devices: devices.clone(),
                    };
                    let devices: Vec<_> = devices.iter().map(|(device, _)| *device).collect();
                    opened = Some((evidence::open(node, &mut part, cut)?, devices));
                }
            }
        }
        if detail.is_empty() {
            return get(node, handle).await;
        }
        account::put(&mut part, id, &account)?;
        let subject = address(node, handle);
        record(
            node,
            &mut part,
            actor,
            "user.changed",
            subject,
            detail.join("; "),
        );
        let acting = Arc::clone(node);
        let act = async move {
            let outcome = acting.store.commit(part).await?;
            if outcome == PartOutcome::Committed {
                match opened {
                    Some((opened, devices)) => {
                        evidence::cut_sessions(&acting, &opened, &devices).await?;
                    }
                    None => ring(&acting, id).await?,
                }
                acting.hint(Hint::Departed);
            }
            Ok::<_, StoreError>(outcome)
        };
        if to_its_end(act).await? == PartOutcome::Committed {
            return get(node, handle).await;
        }
    }
    Err(IdentityError::Busy)
}

/// Deletes an account with its devices; its handle stays taken.
pub async fn delete(node: &Arc<Node>, actor: &Actor, handle: &Handle) -> Result<(), IdentityError> {
    for _ in 0..ATTEMPTS_MAX {
        let (id, mut account, read) = find(node, handle).await?;
        let mut chain = node.device_log.chain(node, id).await?;
        if chain.serial() != account.statements {
            continue;
        }
        let mut part = Part::default();
        policy_serial::advance(&mut part, policy_serial::get(&node.store).await?)?;
        part.require(Precondition::Equals(account::key(id), read));
        part.delete(account::key(id));
        allowance::delete_account(&mut part, id);
        contacts::delete(&mut part, id);
        let devices = device::of_account(&node.store, id).await?;
        for (device, record) in &devices {
            let of = DeviceOf {
                account: id,
                device: *device,
            };
            let log = (&mut account, &mut chain);
            devices::delete_records(node, &mut part, of, record, log).await?;
        }
        enrolment::delete_account(&node.store, &mut part, id).await?;
        departure::put(
            &mut part,
            Departure {
                account: id,
                device: None,
            },
        );
        let cut = Cut {
            account: id,
            handle,
            reason: Reason::UserDeleted,
            actor,
            devices: keys_of(&devices),
        };
        let evidence = evidence::open(node, &mut part, cut)?;
        let subject = address(node, handle);
        let detail = format!("{} devices", devices.len());
        record(node, &mut part, actor, "user.deleted", subject, detail);
        let devices = devices.into_iter().map(|(device, _)| device).collect();
        let act = devices::commit_removal(Arc::clone(node), part, devices, evidence);
        if to_its_end(act).await? == PartOutcome::Committed {
            return Ok(());
        }
    }
    Err(IdentityError::Busy)
}

/// Sets a new password; the answer has it when none was given.
pub async fn reset_password(
    node: &Node,
    actor: &Actor,
    handle: &Handle,
    request: ResetPasswordRequest,
) -> Result<CreatedUser, IdentityError> {
    let (_, known, _) = find(node, handle).await?;
    check_password(node, &known.user_type, handle, request.password.as_ref()).await?;
    let (password_hash, made) = new_password(node, request.password).await?;
    for _ in 0..ATTEMPTS_MAX {
        let (id, mut account, read) = find(node, handle).await?;
        let mut part = Part::default();
        part.require(Precondition::Equals(account::key(id), read));
        account.password_hash.clone_from(&password_hash);
        account::put(&mut part, id, &account)?;
        let subject = address(node, handle);
        record(
            node,
            &mut part,
            actor,
            "user.password-reset",
            subject,
            String::new(),
        );
        if node.store.commit(part).await? == PartOutcome::Committed {
            return Ok(CreatedUser {
                address: address(node, handle),
                account: id,
                user_type: account.user_type,
                password: made,
            });
        }
    }
    Err(IdentityError::Busy)
}

/// Gives the own account another password, by whoever knows the present one. Its devices stay signed in: each has
/// a token of its own.
pub async fn change_password(
    node: &Node,
    caller: DeviceOf,
    request: ChangePasswordRequest,
) -> Result<(), IdentityError> {
    let gone = || IdentityError::SignInFailed;
    let (known, _) = account::get(&node.store, caller.account)
        .await?
        .ok_or_else(gone)?;
    let (random, now_ms) = (node.random.as_ref(), node.clock.now_ms());
    let hash = Some(known.password_hash.clone());
    let name = known.handle.as_str();
    let rules = user_types::sign_in_rules(node, Some(&known.user_type)).await?;
    let verified = node
        .sign_in
        .verify_by(rules, name, request.old.as_str(), hash, now_ms, random)
        .await;
    if matches!(verified, Err(IdentityError::SignInFailed)) {
        let detail = format!("device {}", caller.device);
        devices::note(node, "user.password-refused", &known.handle, detail).await?;
        return Err(IdentityError::WrongPassword);
    }
    verified?;
    check_password(node, &known.user_type, &known.handle, Some(&request.new)).await?;
    let password_hash = node.sign_in.hash(request.new.as_str(), random).await?;
    for _ in 0..ATTEMPTS_MAX {
        let (mut account, read) = account::get(&node.store, caller.account)
            .await?
            .ok_or_else(gone)?;
        // An administrator has set another one meanwhile: what was verified is no longer the password.
        if account.password_hash != known.password_hash {
            return Err(IdentityError::WrongPassword);
        }
        let mut part = Part::default();
        part.require(Precondition::Equals(account::key(caller.account), read));
        account.password_hash.clone_from(&password_hash);
        account::put(&mut part, caller.account, &account)?;
        record(
            node,
            &mut part,
            &Actor::Device(caller.device),
            "user.password-changed",
            address(node, &account.handle),
            String::new(),
        );
        if node.store.commit(part).await? == PartOutcome::Committed {
            return Ok(());
        }
    }
    Err(IdentityError::Busy)
}

/// Removes a device of an account: its session is cut.
pub async fn remove_device(
    node: &Arc<Node>,
    actor: &Actor,
    handle: &Handle,
    device: DeviceId,
) -> Result<(), IdentityError> {
    let (account, _, _) = find(node, handle).await?;
    devices::remove(node, actor, DeviceOf { account, device }).await
}

/// Whether any account has this user type.
pub(super) async fn any_of_type(node: &Node, name: &str) -> Result<bool, StoreError> {
    let mut after = None;
    loop {
        let page = account::handles(&node.store, after.as_ref(), PAGE_HANDLES).await?;
        let Some((last, _)) = page.last() else {
            return Ok(false);
        };
        after = Some(last.clone());
        for (_, id) in page {
            let found = account::get(&node.store, id).await?;
            if found.is_some_and(|(account, _)| account.user_type == name) {
                return Ok(true);
            }
        }
    }
}

pub(super) fn address(node: &Node, handle: &Handle) -> Address {
    Address {
        handle: handle.clone(),
        server: node.server.clone(),
    }
}

/// Makes sure that the user type exists; the standard one is written down at its first use.
async fn require_type(node: &Node, part: &mut Part, name: &str) -> Result<(), IdentityError> {
    if user_type::get(&node.store, name).await?.is_some() {
        return Ok(());
    }
    match user_types::get(node, name).await? {
        Some(policy) => Ok(user_type::put(part, name, &policy)?),
        None => Err(IdentityError::UnknownUserType(name.to_owned())),
    }
}

/// Holds a password that somebody has chosen to the rules of the user type. One that the homeserver makes is good anywhere.
async fn check_password(
    node: &Node,
    user_type: &str,
    handle: &Handle,
    given: Option<&Password>,
) -> Result<(), IdentityError> {
    let Some(password) = given else {
        return Ok(());
    };
    let policy = user_types::get(node, user_type)
        .await?
        .ok_or_else(|| IdentityError::UnknownUserType(user_type.to_owned()))?;
    match policy.passwords.problem(handle, password.as_str()) {
        Some(problem) => Err(IdentityError::Invalid(problem)),
        None => Ok(()),
    }
}

async fn new_password(
    node: &Node,
    given: Option<Password>,
) -> Result<(String, Option<Password>), IdentityError> {
    let random = node.random.as_ref();
    match given {
        Some(password) => Ok((node.sign_in.hash(password.as_str(), random).await?, None)),
        None => {
            let made = Password::from(passwords::make(random)?);
            Ok((node.sign_in.hash(made.as_str(), random).await?, Some(made)))
        }
    }
}

pub(super) async fn find(
    node: &Node,
    handle: &Handle,
) -> Result<(AccountId, AccountRecord, Value), IdentityError> {
    let unknown = || IdentityError::UnknownUser(handle.clone());
    let id = account::by_handle(&node.store, handle)
        .await?
        .ok_or_else(unknown)?;
    let (account, read) = account::get(&node.store, id).await?.ok_or_else(unknown)?;
    Ok((id, account, read))
}

/// Devices with their keys.
fn keys_of(devices: &[(DeviceId, DeviceRecord)]) -> Vec<(DeviceId, [u8; 32])> {
    let key = |(device, record): &(DeviceId, DeviceRecord)| (*device, record.public_key);
    devices.iter().map(key).collect()
}

/// Lets the account's sessions look at its rules again.
async fn ring(node: &Node, id: AccountId) -> Result<(), StoreError> {
    let devices = device::of_account(&node.store, id).await?;
    let ids = devices.into_iter().map(|(device, _)| device);
    node.mailboxes.ring(ids, Ring::Rules);
    Ok(())
}

fn summary(node: &Node, id: AccountId, account: AccountRecord) -> UserSummary {
    UserSummary {
        address: address(node, &account.handle),
        account: id,
        user_type: account.user_type,
        suspended: account.suspended,
        devices: usize::try_from(account.devices).unwrap_or(usize::MAX),
    }
}

/// The account's devices, and how each came to it.
async fn device_list(node: &Node, id: AccountId) -> Result<Vec<DeviceInfo>, StoreError> {
    let devices = device::of_account(&node.store, id).await?;
    let chain = node.device_log.chain(node, id).await?;
    let came = |device| {
        let known = chain.device(device)?;
        let statement = chain
            .statements()
            .iter()
            .find(|statement| statement.serial == known.serial)?;
        Some(match statement.how {
            How::Approved { by, .. } => Came::Approved { by },
            How::Reset => Came::Reset,
            How::First | How::Removed => Came::First,
        })
    };
    Ok(devices
        .into_iter()
        .map(|(device, record)| DeviceInfo {
            device,
            name: record.name,
            enrolled_ms: record.enrolled_ms,
            not_after_ms: record.not_after_ms,
            // One that has just gone.
            came: came(device).unwrap_or(Came::First),
        })
        .collect())
}
