//! Who a bearer token stands for, and whether its device may act now.
//!
//! A device keeps its token for as long as it is one of the account's. The user type may ask for the password again after
//! a time, for consent to a notice, and for a client that is new enough: until then the device may do nothing but that.

use std::sync::Arc;

use homeserver_api::password::Password;
use homeserver_api::policy::ClientVersion;

use super::devices::{note, token_sha256};
use super::user_types::{ATTEMPTS_MAX, record};
use super::{IdentityError, LocalAccount, accounts, user_types};
use crate::audit::Actor;
use crate::delivery::mailboxes::Ring;
use crate::node::Node;
use crate::policy::gate::{self, Barred, Device};
use crate::store::account;
use crate::store::device::{self, DeviceOf, DeviceRecord};
use crate::store::{Part, PartOutcome, Precondition, StoreError, policy_serial};

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The device.
    pub of: DeviceOf,
    /// Why it may do nothing now but change that.
    pub barred: Option<Barred>,
}

/// The device that a bearer token stands for, if it exists and its account is not suspended.
pub async fn authenticate(node: &Node, token: &str) -> Result<Option<Caller>, StoreError> {
    let Some(of) = device::by_token(&node.store, &token_sha256(token)).await? else {
        return Ok(None);
    };
    let Some((device, _)) = device::get(&node.store, of).await? else {
        return Ok(None);
    };
    let serial = policy_serial::get(&node.store).await?;
    let serial = policy_serial::number(serial.as_ref())?;
    let account = node.accounts.get(&node.store, of.account, serial).await?;
    let now_ms = node.clock.now_ms();
    Ok(account
        .filter(|account| !account.suspended)
        .map(|account| Caller {
            of,
            barred: gate::may_act(&account.policy, &known(&device), now_ms).err(),
        }))
}

/// Whether the device, with a client that calls itself `client`, may have a session; until when, milliseconds since the
/// Unix epoch (`None`: without end).
pub fn admit(
    account: &LocalAccount,
    device: &DeviceRecord,
    client: Option<ClientVersion>,
    now_ms: u64,
) -> Result<Option<u64>, IdentityError> {
    let device = known(device);
    gate::may_act(&account.policy, &device, now_ms)?;
    gate::may_connect(&account.policy, client)?;
    Ok(gate::sign_in_ends_ms(&account.policy, &device))
}

/// As [`admit`], for a session that is about to begin.
pub async fn may_connect(
    node: &Node,
    of: DeviceOf,
    client: Option<ClientVersion>,
) -> Result<(), IdentityError> {
    let serial = policy_serial::get(&node.store).await?;
    let serial = policy_serial::number(serial.as_ref())?;
    let account = node.accounts.get(&node.store, of.account, serial).await?;
    let account = account.ok_or(IdentityError::UnknownDevice)?;
    let (device, _) = device::get(&node.store, of)
        .await?
        .ok_or(IdentityError::UnknownDevice)?;
    let admitted = admit(&account, &device, client, node.clock.now_ms());
    if let Err(IdentityError::Barred(barred)) = &admitted {
        let detail = format!("device {}: {barred}", of.device);
        note(node, "session.refused", &account.handle, detail).await?;
    }
    admitted.map(drop)
}

/// The device's user proves anew to know the password: the sign-in counts from now.
pub async fn again(
    node: &Arc<Node>,
    caller: DeviceOf,
    password: &Password,
) -> Result<(), IdentityError> {
    let (account, _) = account::get(&node.store, caller.account)
        .await?
        .ok_or(IdentityError::UnknownDevice)?;
    let (random, now_ms) = (node.random.as_ref(), node.clock.now_ms());
    let rules = user_types::sign_in_rules(node, Some(&account.user_type)).await?;
    let (name, hash) = (account.handle.as_str(), account.password_hash.clone());
    let verified = node
        .sign_in
        .verify_by(rules, name, password.as_str(), Some(hash), now_ms, random)
        .await;
    if matches!(verified, Err(IdentityError::SignInFailed)) {
        let detail = format!("device {}", caller.device);
        note(node, "sign-in.failed", &account.handle, detail).await?;
        return Err(IdentityError::WrongPassword);
    }
    verified?;
    change(node, caller, "device.signed-in-again", |device| {
        device.signed_in_ms = now_ms;
    })
    .await
}

/// The device's user agrees to the notice with this hash, in lower-case hexadecimal.
pub async fn agree(
    node: &Arc<Node>,
    caller: DeviceOf,
    banner_sha256: &str,
) -> Result<(), IdentityError> {
    let (account, _) = account::get(&node.store, caller.account)
        .await?
        .ok_or(IdentityError::UnknownDevice)?;
    let policy = user_types::get(node, &account.user_type).await?;
    let asked = policy.as_ref().and_then(gate::banner_sha256);
    let banner = asked
        .filter(|banner| hex::encode(banner) == banner_sha256)
        .ok_or_else(|| {
            IdentityError::Invalid(
                "this is not the organisation's present notice: read it again, then agree to that"
                    .to_owned(),
            )
        })?;
    change(node, caller, "device.banner-agreed", |device| {
        device.banner = Some(banner);
    })
    .await
}

/// Changes what is known of a device; its session, if there is one, looks at it again.
async fn change(
    node: &Arc<Node>,
    of: DeviceOf,
    action: &'static str,
    step: impl Fn(&mut DeviceRecord),
) -> Result<(), IdentityError> {
    for _ in 0..ATTEMPTS_MAX {
        let unknown = || IdentityError::UnknownDevice;
        let (account, _) = account::get(&node.store, of.account)
            .await?
            .ok_or_else(unknown)?;
        let (mut device, read) = device::get(&node.store, of).await?.ok_or_else(unknown)?;
        step(&mut device);
        let mut part = Part::default();
        part.require(Precondition::Equals(device::key(of), read));
        device::put(&mut part, of, &device)?;
        let subject = accounts::address(node, &account.handle);
        let actor = Actor::Device(of.device);
        record(node, &mut part, &actor, action, subject, String::new());
        if node.store.commit(part).await? == PartOutcome::Committed {
            node.mailboxes.ring([of.device], Ring::Rules);
            return Ok(());
        }
    }
    Err(IdentityError::Busy)
}

const fn known(device: &DeviceRecord) -> Device {
    Device {
        signed_in_ms: device.signed_in_ms,
        banner: device.banner,
    }
}
