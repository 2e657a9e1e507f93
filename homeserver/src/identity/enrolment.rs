//! How a device comes to its account: as the first one, by the approval of another one, or by a reset.
//!
//! The password alone makes no device of an account that has one: the new device waits until one of the others
//! has signed for it. What happened is written to the device log in the same part, and every device of the
//! account is told.

use std::sync::Arc;

use federation_proto::codec::Wire as _;
use federation_proto::device_log::{ChainError, DeviceChain, DeviceStatement, How};
use federation_proto::ids::{AccountId, DeviceId};
use federation_proto::limits::CLOCK_SKEW_MS_MAX;
use homeserver_api::client::{EnrolPending, EnrolRequest, EnrolResponse, WaitingDevice};
use homeserver_api::policy::DeviceReset;

use super::device_log::{append, has_room};
use super::devices::{check_name, new_token, note, token_sha256};
use super::user_types::{ATTEMPTS_MAX, record};
use super::{IdentityError, accounts, user_types};
use crate::audit::Actor;
use crate::delivery::mailboxes::Ring;
use crate::node::{Node, to_its_end};
use crate::organisation::{self, DeviceCertificate, DeviceRequest};
use crate::store::account::{self, AccountRecord};
use crate::store::device::{self, DeviceOf, DeviceRecord};
use crate::store::enrolment::{self, Grant, WAITING_MAX, WaitingRecord};
use crate::store::{Part, PartOutcome, Precondition, StoreError, Value, policy_serial};

/// How long a new device waits for its approval.
const WAITING_MS: u64 = 60 * 60 * 1000;
/// How long an administrator's leave for a reset may be used.
const GRANT_MS: u64 = 24 * 60 * 60 * 1000;

/// What became of a request to enrol.
#[derive(Debug)]
pub enum Enrolled {
    /// The device is one of the account's.
    Now(EnrolResponse),
    /// A device of the account has to approve it.
    Waits(EnrolPending),
}

/// Enrols a device of whoever knows the password, or has it wait.
pub async fn enrol(node: &Arc<Node>, request: EnrolRequest) -> Result<Enrolled, IdentityError> {
    check_name(&request.device_name)?;
    let id = account::by_handle(&node.store, &request.handle).await?;
    let found = match id {
        Some(id) => account::get(&node.store, id).await?,
        None => None,
    };
    let now_ms = node.clock.now_ms();
    let hash = found
        .as_ref()
        .map(|(account, _)| account.password_hash.clone());
    let name = request.handle.as_str();
    let random = node.random.as_ref();
    let user_type = found
        .as_ref()
        .map(|(account, _)| account.user_type.as_str());
    let rules = user_types::sign_in_rules(node, user_type).await?;
    let verified = node
        .sign_in
        .verify_by(rules, name, request.password.as_str(), hash, now_ms, random)
        .await;
    if matches!(verified, Err(IdentityError::SignInFailed)) {
        note(node, "sign-in.failed", &request.handle, String::new()).await?;
    }
    verified?;
    for _ in 0..ATTEMPTS_MAX {
        match attempt(node, &request, now_ms).await {
            Ok(None) => {}
            Ok(Some(enrolled)) => return Ok(enrolled),
            Err(error) => {
                if error.is_refusal() {
                    note(node, "device.refused", &request.handle, error.to_string()).await?;
                }
                return Err(error);
            }
        }
    }
    Err(IdentityError::Busy)
}

/// An account as it was read, with the policy and the log that its next device is judged by.
struct Opened {
    id: AccountId,
    account: AccountRecord,
    chain: DeviceChain,
    reset: DeviceReset,
    part: Part,
}

impl Opened {
    /// `None`: something was written meanwhile.
    async fn read(
        node: &Node,
        id: AccountId,
        (account, read): (AccountRecord, Value),
    ) -> Result<Option<Self>, IdentityError> {
        let mut part = Part::default();
        policy_serial::require(&mut part, policy_serial::get(&node.store).await?);
        if account.suspended {
            return Err(IdentityError::Suspended);
        }
        let policy = user_types::get(node, &account.user_type)
            .await?
            .ok_or_else(|| IdentityError::UnknownUserType(account.user_type.clone()))?;
        let policy = account.own.tighten(&policy);
        if account.devices >= policy.devices_max {
            return Err(IdentityError::TooManyDevices(account.devices));
        }
        let chain = node.device_log.chain(node, id).await?;
        if chain.serial() != account.statements {
            return Ok(None);
        }
        if !has_room(&chain) {
            return Err(IdentityError::Invalid(
                "this account has had as many devices as an account can have: ask your administrator for \
                 another account"
                    .to_owned(),
            ));
        }
        part.require(Precondition::Equals(account::key(id), read));
        Ok(Some(Self {
            id,
            account,
            chain,
            reset: policy.device_reset,
            part,
        }))
    }

    /// Adds the device with its certificate and its statement to the part.
    fn add(
        &mut self,
        node: &Node,
        statement: DeviceStatement,
        new: &NewDevice<'_>,
        now_ms: u64,
    ) -> Result<DeviceCertificate, IdentityError> {
        self.chain
            .push(statement.clone())
            .map_err(|error| match error {
                ChainError::Broken(_) => IdentityError::Busy,
                error => IdentityError::Invalid(format!("{error}: make a new key, and try again")),
            })?;
        let address = accounts::address(node, &self.account.handle);
        let certificate = node.keys.issue_device_certificate(
            &DeviceRequest {
                csr: new.csr.to_vec(),
                address,
                account: self.id,
                device: statement.device,
            },
            now_ms,
            node.random.as_ref(),
        )?;
        if certificate.public_key != statement.key {
            return Err(IdentityError::OtherKey);
        }
        let record = DeviceRecord {
            name: new.name.to_owned(),
            enrolled_ms: now_ms,
            public_key: certificate.public_key,
            not_after_ms: certificate.not_after_ms,
            token_sha256: new.token_sha256,
            signed_in_ms: new.signed_in_ms,
            banner: None,
        };
        self.account.devices += 1;
        append(&mut self.part, &mut self.account.statements, &statement)?;
        account::put(&mut self.part, self.id, &self.account)?;
        let of = DeviceOf {
            account: self.id,
            device: statement.device,
        };
        device::create(&mut self.part, of, &record)?;
        Ok(certificate)
    }
}

/// A device that comes to an account.
struct NewDevice<'a> {
    csr: &'a [u8],
    name: &'a str,
    token_sha256: [u8; 32],
    /// When whoever brought it typed the password.
    signed_in_ms: u64,
}

/// One attempt to enrol after the password was right; `None` on a conflict.
async fn attempt(
    node: &Arc<Node>,
    request: &EnrolRequest,
    now_ms: u64,
) -> Result<Option<Enrolled>, IdentityError> {
    let gone = || IdentityError::SignInFailed;
    let id = account::by_handle(&node.store, &request.handle)
        .await?
        .ok_or_else(gone)?;
    let found = account::get(&node.store, id).await?.ok_or_else(gone)?;
    let Some(mut opened) = Opened::read(node, id, found).await? else {
        return Ok(None);
    };
    let how = if opened.account.statements == 0 {
        How::First
    } else if request.reset {
        may_reset(node, &mut opened, now_ms).await?;
        How::Reset
    } else if opened.account.devices == 0 {
        return Err(IdentityError::NoDeviceLeft);
    } else {
        return wait(node, opened, request, now_ms).await;
    };
    let key = organisation::device_key(&request.csr.0)?;
    let device = DeviceId::from_bytes(node.random_id()?);
    let token = new_token(node)?;
    let statement = opened.chain.next(device, key, how, now_ms);
    let new = NewDevice {
        csr: &request.csr.0,
        name: &request.device_name,
        token_sha256: token_sha256(&token),
        signed_in_ms: now_ms,
    };
    let others = opened.chain.devices().to_vec();
    let certificate = opened.add(node, statement, &new, now_ms)?;
    let address = accounts::address(node, &opened.account.handle);
    let action = match how {
        How::Reset => "device.reset",
        _ => "device.enrolled",
    };
    record(
        node,
        &mut opened.part,
        &Actor::Device(device),
        action,
        &address,
        format!("device {device}"),
    );
    if how == How::Reset {
        tracing::warn!(%address, %device, "a device came to an account by a reset, which no other device has approved");
    }
    let others = others.into_iter().map(|known| known.device).collect();
    if commit_and_tell(node, opened.part, others).await? == PartOutcome::Conflict {
        return Ok(None);
    }
    Ok(Some(Enrolled::Now(EnrolResponse {
        address,
        account: id,
        device,
        token,
        chain: [certificate.der.to_vec(), certificate.issuing.to_vec()]
            .map(Into::into)
            .into(),
        root: node.keys.root().to_vec().into(),
        not_after_ms: certificate.not_after_ms,
    })))
}

/// Whether the account's devices may be reset; an administrator's leave is used up with the part.
async fn may_reset(node: &Node, opened: &mut Opened, now_ms: u64) -> Result<(), IdentityError> {
    let granted = enrolment::grant(&node.store, opened.id).await?;
    match granted.filter(|(grant, _)| grant.until_ms > now_ms) {
        Some((_, read)) => {
            enrolment::use_grant(&mut opened.part, opened.id, read);
            Ok(())
        }
        None if opened.reset == DeviceReset::Password => Ok(()),
        None => Err(IdentityError::ResetForbidden),
    }
}

/// Notes the device as one that waits.
async fn wait(
    node: &Arc<Node>,
    mut opened: Opened,
    request: &EnrolRequest,
    now_ms: u64,
) -> Result<Option<Enrolled>, IdentityError> {
    let public_key = organisation::device_key(&request.csr.0)?;
    let mut waiting = 0;
    for (device, record) in enrolment::of_account(&node.store, opened.id).await? {
        let of = DeviceOf {
            account: opened.id,
            device,
        };
        if record.until_ms <= now_ms {
            enrolment::delete(&mut opened.part, of, &record);
        } else if record.chain.is_none() {
            waiting += 1;
        }
    }
    if waiting >= WAITING_MAX {
        return Err(IdentityError::TooManyWaiting);
    }
    let token = new_token(node)?;
    let of = DeviceOf {
        account: opened.id,
        device: DeviceId::from_bytes(node.random_id()?),
    };
    let record_of = WaitingRecord {
        name: request.device_name.clone(),
        csr: request.csr.0.clone(),
        public_key,
        token_sha256: token_sha256(&token),
        asked_ms: now_ms,
        until_ms: now_ms.saturating_add(WAITING_MS),
        chain: None,
    };
    enrolment::put(&mut opened.part, of, &record_of)?;
    let address = accounts::address(node, &opened.account.handle);
    record(
        node,
        &mut opened.part,
        &Actor::Device(of.device),
        "device.waits",
        &address,
        format!("device {}", of.device),
    );
    let others = opened.chain.devices().iter().map(|known| known.device);
    let others = others.collect();
    if commit_and_tell(node, opened.part, others).await? == PartOutcome::Conflict {
        return Ok(None);
    }
    Ok(Some(Enrolled::Waits(EnrolPending {
        address,
        account: of.account,
        device: of.device,
        token,
        root: node.keys.root().to_vec().into(),
        until_ms: record_of.until_ms,
    })))
}

/// Where a device stands that waits, by its token.
pub async fn poll(node: &Node, token: &str) -> Result<Enrolled, IdentityError> {
    let gone = || IdentityError::NotWaiting;
    let of = enrolment::by_token(&node.store, &token_sha256(token))
        .await?
        .ok_or_else(gone)?;
    let (record, _) = enrolment::get(&node.store, of).await?.ok_or_else(gone)?;
    let (account, _) = account::get(&node.store, of.account)
        .await?
        .ok_or_else(gone)?;
    if record.until_ms <= node.clock.now_ms() || account.suspended {
        return Err(gone());
    }
    let address = accounts::address(node, &account.handle);
    let (token, root) = (token.to_owned(), node.keys.root().to_vec().into());
    let Some(chain) = record.chain else {
        return Ok(Enrolled::Waits(EnrolPending {
            address,
            account: of.account,
            device: of.device,
            token,
            root,
            until_ms: record.until_ms,
        }));
    };
    let (device, _) = device::get(&node.store, of).await?.ok_or_else(gone)?;
    Ok(Enrolled::Now(EnrolResponse {
        address,
        account: of.account,
        device: of.device,
        token,
        chain: chain.map(Into::into).into(),
        root,
        not_after_ms: device.not_after_ms,
    }))
}

/// The devices that wait for a device of this account to approve them.
pub async fn waiting(node: &Node, account: AccountId) -> Result<Vec<WaitingDevice>, StoreError> {
    let now_ms = node.clock.now_ms();
    let waiting = enrolment::of_account(&node.store, account).await?;
    Ok(waiting
        .into_iter()
        .filter(|(_, record)| record.chain.is_none() && record.until_ms > now_ms)
        .map(|(device, record)| WaitingDevice {
            device,
            name: record.name,
            public_key: record.public_key.to_vec().into(),
            asked_ms: record.asked_ms,
            until_ms: record.until_ms,
        })
        .collect())
}

/// Takes a waiting device into the account: `caller`, one of its devices, has signed `statement`.
pub async fn approve(
    node: &Arc<Node>,
    caller: DeviceOf,
    device: DeviceId,
    statement: Vec<u8>,
) -> Result<(), IdentityError> {
    let statement = DeviceStatement::from_bytes(statement)
        .map_err(|error| IdentityError::Invalid(format!("the statement: {error}")))?;
    let now_ms = node.clock.now_ms();
    let of = DeviceOf {
        account: caller.account,
        device,
    };
    let by_caller = matches!(statement.how, How::Approved { by, .. } if by == caller.device);
    if !by_caller || statement.account != of.account || statement.device != device {
        return Err(IdentityError::Invalid(
            "the statement is not this device's approval of the waiting one".to_owned(),
        ));
    }
    if statement.at_ms.abs_diff(now_ms) > CLOCK_SKEW_MS_MAX {
        return Err(IdentityError::Invalid(
            "the statement's time is not now: check the device's clock".to_owned(),
        ));
    }
    for _ in 0..ATTEMPTS_MAX {
        let (mut waits, waits_read) = enrolment::get(&node.store, of)
            .await?
            .filter(|(waits, _)| waits.until_ms > now_ms && waits.chain.is_none())
            .ok_or(IdentityError::NotWaiting)?;
        if waits.public_key != statement.key {
            return Err(IdentityError::OtherKey);
        }
        let found = account::get(&node.store, of.account)
            .await?
            .ok_or(IdentityError::UnknownDevice)?;
        let Some(mut opened) = Opened::read(node, of.account, found).await? else {
            continue;
        };
        let others = opened.chain.devices().to_vec();
        let new = NewDevice {
            csr: &waits.csr,
            name: &waits.name,
            token_sha256: waits.token_sha256,
            signed_in_ms: waits.asked_ms,
        };
        let certificate = opened.add(node, statement.clone(), &new, now_ms)?;
        waits.chain = Some([certificate.der.to_vec(), certificate.issuing.to_vec()]);
        let waiting_key = enrolment::key(of);
        opened
            .part
            .require(Precondition::Equals(waiting_key, waits_read));
        enrolment::put(&mut opened.part, of, &waits)?;
        let address = accounts::address(node, &opened.account.handle);
        record(
            node,
            &mut opened.part,
            &Actor::Device(caller.device),
            "device.approved",
            &address,
            format!("device {device}"),
        );
        let others = others.into_iter().map(|known| known.device).collect();
        if commit_and_tell(node, opened.part, others).await? == PartOutcome::Committed {
            return Ok(());
        }
    }
    Err(IdentityError::Busy)
}

/// Turns a waiting device away.
pub async fn decline(
    node: &Arc<Node>,
    caller: DeviceOf,
    device: DeviceId,
) -> Result<(), IdentityError> {
    let of = DeviceOf {
        account: caller.account,
        device,
    };
    let (waits, read) = enrolment::get(&node.store, of)
        .await?
        .filter(|(waits, _)| waits.chain.is_none())
        .ok_or(IdentityError::NotWaiting)?;
    let (account, _) = account::get(&node.store, of.account)
        .await?
        .ok_or(IdentityError::UnknownDevice)?;
    let mut part = Part::default();
    part.require(Precondition::Equals(enrolment::key(of), read));
    enrolment::delete(&mut part, of, &waits);
    record(
        node,
        &mut part,
        &Actor::Device(caller.device),
        "device.declined",
        accounts::address(node, &account.handle),
        format!("device {device}"),
    );
    match node.store.commit(part).await? {
        PartOutcome::Committed => Ok(()),
        PartOutcome::Conflict => Err(IdentityError::NotWaiting),
    }
}

/// Lets whoever knows the account's password reset its devices, once.
pub async fn allow_reset(
    node: &Node,
    actor: &Actor,
    handle: &federation_proto::ids::Handle,
) -> Result<(), IdentityError> {
    let (id, _, _) = accounts::find(node, handle).await?;
    let mut part = Part::default();
    part.require(Precondition::Present(account::key(id)));
    let until_ms = node.clock.now_ms().saturating_add(GRANT_MS);
    enrolment::put_grant(&mut part, id, Grant { until_ms })?;
    let subject = accounts::address(node, handle);
    record(
        node,
        &mut part,
        actor,
        "device.reset-allowed",
        subject,
        "once, within 24 hours".to_owned(),
    );
    match node.store.commit(part).await? {
        PartOutcome::Committed => Ok(()),
        PartOutcome::Conflict => Err(IdentityError::UnknownUser(handle.clone())),
    }
}

/// Commits, and has the account's other devices look at it again, also when whoever asked has gone.
async fn commit_and_tell(
    node: &Arc<Node>,
    part: Part,
    others: Vec<DeviceId>,
) -> Result<PartOutcome, StoreError> {
    let acting = Arc::clone(node);
    to_its_end(async move {
        let outcome = acting.store.commit(part).await?;
        if outcome == PartOutcome::Committed {
            acting.mailboxes.ring(others, Ring::Devices);
        }
        Ok(outcome)
    })
    .await
}
