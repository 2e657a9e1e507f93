//! Devices: renewal and removal.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use federation_proto::device_log::{DeviceChain, How};
use federation_proto::ids::{DeviceId, Handle};
use homeserver_api::client::{DEVICE_NAME_BYTES_MAX, RenewRequest, RenewResponse};
use ring::digest::{SHA256, digest};

use super::device_log::append;
use super::user_types::{ATTEMPTS_MAX, record};
use super::{IdentityError, accounts};
use crate::audit::{Actor, Event};
use crate::delivery::evidence::{self, Cut, Opened};
use crate::delivery::inbox;
use crate::delivery::mailboxes::Ring;
use crate::node::{Hint, Node, to_its_end};
use crate::organisation::{DeviceCertificate, DeviceRequest};
use crate::store::account::{self, AccountRecord};
use crate::store::departure::{self, Departure};
use crate::store::device::{self, DeviceOf, DeviceRecord};
use crate::store::evidence::Reason;
use crate::store::{
    Part, PartOutcome, Precondition, StoreError, key_claims, key_package, policy_serial,
    submit_state,
};

/// Audits what whoever signs in was refused, within bounds: anyone may try.
pub(super) async fn note(
    node: &Node,
    action: &'static str,
    handle: &Handle,
    detail: String,
) -> Result<(), StoreError> {
    let event = Event {
        at_ms: node.clock.now_ms(),
        actor: Actor::System,
        action,
        subject: accounts::address(node, handle).to_string(),
        detail,
    };
    node.repeated.note(&node.store, event).await
}

/// Issues a new certificate for the same key. The device's key packages carry the old one, which ends
/// sooner, so they go with it; the device puts new ones.
pub async fn renew(
    node: &Node,
    of: DeviceOf,
    request: RenewRequest,
) -> Result<RenewResponse, IdentityError> {
    for _ in 0..ATTEMPTS_MAX {
        let unknown = || IdentityError::UnknownDevice;
        let (account, _) = account::get(&node.store, of.account)
            .await?
            .ok_or_else(unknown)?;
        let (mut device, read) = device::get(&node.store, of).await?.ok_or_else(unknown)?;
        let address = accounts::address(node, &account.handle);
        let certificate = node.keys.issue_device_certificate(
            &DeviceRequest {
                csr: request.csr.0.clone(),
                address: address.clone(),
                account: of.account,
                device: of.device,
            },
            node.clock.now_ms(),
            node.random.as_ref(),
        )?;
        if certificate.public_key != device.public_key {
            return Err(IdentityError::OtherKey);
        }
        device.not_after_ms = certificate.not_after_ms;
        let mut part = Part::default();
        part.require(Precondition::Equals(device::key(of), read));
        device::put(&mut part, of, &device)?;
        let waiting = key_package::single_use(&node.store, of.device, usize::MAX).await?;
        let keys = waiting.into_iter().map(|(key, _)| key).collect();
        key_package::withdraw(&mut part, of.device, keys);
        let actor = Actor::Device(of.device);
        record(
            node,
            &mut part,
            &actor,
            "device.renewed",
            &address,
            String::new(),
        );
        if node.store.commit(part).await? == PartOutcome::Committed {
            return Ok(RenewResponse {
                chain: chain(&certificate),
                not_after_ms: certificate.not_after_ms,
            });
        }
    }
    Err(IdentityError::Busy)
}

/// Removes a device: its session is cut, its token and keys are void, its mail is deleted.
pub async fn remove(node: &Arc<Node>, actor: &Actor, of: DeviceOf) -> Result<(), IdentityError> {
    for _ in 0..ATTEMPTS_MAX {
        let mut part = Part::default();
        policy_serial::advance(&mut part, policy_serial::get(&node.store).await?)?;
        let unknown = || IdentityError::UnknownDevice;
        let (device, _) = device::get(&node.store, of).await?.ok_or_else(unknown)?;
        let (mut account, read) = account::get(&node.store, of.account)
            .await?
            .ok_or_else(unknown)?;
        let mut chain = node.device_log.chain(node, of.account).await?;
        if chain.serial() != account.statements {
            continue;
        }
        account.devices = account.devices.saturating_sub(1);
        part.require(Precondition::Equals(account::key(of.account), read));
        delete_records(node, &mut part, of, &device, (&mut account, &mut chain)).await?;
        account::put(&mut part, of.account, &account)?;
        departure::put(
            &mut part,
            Departure {
                account: of.account,
                device: Some(of.device),
            },
        );
        let cut = Cut {
            account: of.account,
            handle: &account.handle,
            reason: Reason::DeviceRemoved,
            actor,
            devices: vec![(of.device, device.public_key)],
        };
        let evidence = evidence::open(node, &mut part, cut)?;
        let subject = accounts::address(node, &account.handle);
        let detail = format!("device {}", of.device);
        record(node, &mut part, actor, "device.removed", subject, detail);
        let act = commit_removal(Arc::clone(node), part, vec![of.device], evidence);
        if to_its_end(act).await? == PartOutcome::Committed {
            let others = chain.devices().iter().map(|known| known.device);
            node.mailboxes.ring(others, Ring::Devices);
            return Ok(());
        }
    }
    Err(IdentityError::Busy)
}

/// Deletes a device's records, its mail apart, and writes to the device log that it has gone. The account's
/// record, which counts the statements, is for the caller to write.
pub(super) async fn delete_records(
    node: &Node,
    part: &mut Part,
    of: DeviceOf,
    device: &DeviceRecord,
    (account, chain): (&mut AccountRecord, &mut DeviceChain),
) -> Result<(), StoreError> {
    let now_ms = node.clock.now_ms();
    let statement = chain.next(of.device, device.public_key, How::Removed, now_ms);
    chain
        .push(statement.clone())
        .map_err(|_| StoreError::Corrupt {
            family: "device log",
        })?;
    append(part, &mut account.statements, &statement)?;
    part.require(Precondition::Present(device::key(of)));
    device::delete(part, of, device);
    submit_state::delete(part, of.device);
    let key_packages = key_package::single_use(&node.store, of.device, usize::MAX).await?;
    let keys = key_packages.into_iter().map(|(key, _)| key).collect();
    key_package::delete_all(part, of.device, keys);
    key_claims::delete_all(&node.store, part, of.device).await?;
    Ok(())
}

/// Writes the removal of devices, then cuts their sessions and deletes their mail.
pub(super) async fn commit_removal(
    node: Arc<Node>,
    part: Part,
    devices: Vec<DeviceId>,
    opened: Opened,
) -> Result<PartOutcome, StoreError> {
    let outcome = node.store.commit(part).await?;
    if outcome == PartOutcome::Committed {
        evidence::cut_sessions(&node, &opened, &devices).await?;
        node.hint(Hint::Departed);
        for device in devices {
            inbox::delete(&node, device).await?;
        }
    }
    Ok(outcome)
}

pub(super) fn check_name(name: &str) -> Result<(), IdentityError> {
    let printable = name.chars().all(|c| !c.is_control());
    if name.is_empty() || name.len() > DEVICE_NAME_BYTES_MAX || !printable {
        return Err(IdentityError::Invalid(format!(
            "a device's name has between 1 and {DEVICE_NAME_BYTES_MAX} bytes and no control characters"
        )));
    }
    Ok(())
}

fn chain(device: &DeviceCertificate) -> Vec<homeserver_api::Base64> {
    vec![device.der.to_vec().into(), device.issuing.to_vec().into()]
}

pub(super) fn new_token(node: &Node) -> Result<String, IdentityError> {
    let mut bytes = [0_u8; 32];
    node.random
        .fill(&mut bytes)
        .map_err(|_| IdentityError::System("the system has no randomness".to_owned()))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Only hashes are stored: who reads the store can't sign in with what is there.
pub(super) fn token_sha256(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}
