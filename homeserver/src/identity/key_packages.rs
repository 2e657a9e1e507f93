//! Key packages: what others need to add a device to a room while it is away.
//!
//! Each single-use one is handed out once: whoever takes it deletes it in the same part. When none is
//! left, or a peer or an own account has had its share of the device's, the last-resort one is handed out, again and again:
//! whoever asks and asks leaves the others theirs.

use bytes::Bytes;
use federation_proto::ids::{AccountId, DeviceId, Handle, Member};
use federation_proto::limits::{CLAIMED_DEVICES_MAX, KEY_PACKAGE_BYTES_MAX};
use federation_proto::refusal::RefusalCode;
use homeserver_api::client::{KEY_PACKAGES_MAX, KeyPackageCount};
use homeserver_api::policy::Contact;
use homeserver_api::session::ClaimedDevice;

use crate::delivery::batch::{Batch, NotTaken, policy_links};
use crate::delivery::{colleagues, contacts};
use crate::node::Node;
use crate::policy::{self, Approach, Input, Rules};
use crate::store::contacts::Outsider;
use crate::store::key_claims::Claimer;
use crate::store::{Part, StoreError, account, device, key_package};

/// Who asks for keys.
#[derive(Debug, Clone, Copy)]
pub enum Claimant<'a> {
    /// A device of an account of this homeserver; its own key packages are left out.
    Own(AccountId, DeviceId),
    /// A device of a peer: whose it is.
    Peer(Outsider<'a>),
}

/// Takes one key package of each device of an account, in the batch's part; whose they are. One answer for an account
/// that does not exist and for one that may not be reached.
pub async fn claim(
    batch: &mut Batch<'_>,
    claimant: Claimant<'_>,
    handle: &Handle,
) -> Result<(AccountId, Vec<ClaimedDevice>), NotTaken> {
    let store = batch.node.store.clone();
    let id = account::by_handle(&store, handle)
        .await?
        .ok_or_else(unknown)?;
    let found = batch.account(id).await?.ok_or_else(unknown)?;
    if found.suspended {
        return Err(unknown());
    }
    // What a barrier forbids looks like no account at all.
    if let Claimant::Own(own, _) = claimant
        && colleagues::may(batch, (own, id), Contact::Invite)
            .await?
            .is_err()
    {
        return Err(unknown());
    }
    if let Claimant::Peer(outsider) = claimant {
        let links = batch.links([outsider.server]);
        let rules = Rules {
            party: found.party(),
            links: &policy_links(&links),
            now_ms: batch.now_ms,
        };
        match policy::evaluate(&rules, &Input::BeInvited).into_result() {
            Ok(()) => {}
            // What an account's own type forbids looks like no account at all.
            Err(refusal)
                if matches!(
                    refusal.code,
                    RefusalCode::ExternalScope | RefusalCode::OutOfScope
                ) =>
            {
                return Err(unknown());
            }
            Err(refusal) => return Err(refusal.into()),
        }
        match contacts::approach(batch, id, &found, &outsider).await? {
            Approach::Free => contacts::meet(batch, id, &outsider).await?,
            Approach::MustAsk => {
                return Err(contacts::must_ask(&batch.node.server, handle).into());
            }
            Approach::Hidden => return Err(unknown()),
        }
    }
    let claimed = take(batch, claimant, id).await?;
    if claimed.is_empty() {
        return Err(NotTaken::refused(
            RefusalCode::NoKeyPackages,
            format!(
                "{handle}@{} has no device that can be added now: try again when one has been online",
                batch.node.server
            ),
        ));
    }
    Ok((id, claimed))
}

async fn take(
    batch: &mut Batch<'_>,
    claimant: Claimant<'_>,
    account: AccountId,
) -> Result<Vec<ClaimedDevice>, StoreError> {
    let store = batch.node.store.clone();
    let mut claimed = Vec::new();
    for (device, record) in device::of_account(&store, account).await? {
        if matches!(claimant, Claimant::Own(_, asking) if asking == device) {
            continue;
        }
        // Nobody could add it: its key packages end with its certificate.
        if record.not_after_ms <= batch.now_ms {
            continue;
        }
        if claimed.len() == CLAIMED_DEVICES_MAX {
            break;
        }
        let by = match claimant {
            // Nobody uses up anything but his own.
            Claimant::Own(own, _) if own == account => None,
            Claimant::Own(own, _) => Some(Claimer::Own(own)),
            Claimant::Peer(outsider) => Some(Claimer::Peer(outsider.server.clone())),
        };
        let may = match &by {
            Some(by) => batch.may_claim(device, by).await?,
            None => true,
        };
        // Items before this one in the batch may have taken some already.
        let some = batch.taken_count().saturating_add(1).min(KEY_PACKAGES_MAX);
        let waiting = if may {
            key_package::single_use(&store, device, some).await?
        } else {
            Vec::new()
        };
        let free = waiting.into_iter().find(|(key, _)| !batch.has_taken(key));
        let key_package = match free {
            Some((key, bytes)) => {
                batch.take(key.clone());
                key_package::consume(&mut batch.part, key);
                if let Some(by) = &by {
                    batch.note_claim(device, by);
                }
                bytes
            }
            None => match key_package::last_resort(&store, device).await? {
                Some(bytes) => bytes,
                None => continue,
            },
        };
        let member = Member {
            server: batch.node.server.clone(),
            account,
            device,
        };
        claimed.push(ClaimedDevice {
            member,
            key_package,
        });
    }
    Ok(claimed)
}

fn unknown() -> NotTaken {
    NotTaken::refused(
        RefusalCode::UnknownRecipient,
        "there is no such account, or it can't be reached from here: check the address",
    )
}

/// Why key packages were not taken in.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// Too many, or too large ones. The device is at fault.
    #[error("{0}")]
    TooMuch(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Adds to what waits to be claimed.
pub async fn publish(
    node: &Node,
    device: DeviceId,
    single_use: Vec<Bytes>,
    last_resort: Option<Bytes>,
) -> Result<KeyPackageCount, PublishError> {
    let before = count(node, device).await?;
    if before.single_use + single_use.len() > KEY_PACKAGES_MAX {
        return Err(PublishError::TooMuch(format!(
            "{} key packages wait already and {KEY_PACKAGES_MAX} may: send at most {}",
            before.single_use,
            KEY_PACKAGES_MAX.saturating_sub(before.single_use)
        )));
    }
    let lengths = single_use.iter().chain(&last_resort).map(Bytes::len);
    if lengths
        .clone()
        .any(|length| length == 0 || length > KEY_PACKAGE_BYTES_MAX)
    {
        return Err(PublishError::TooMuch(format!(
            "a key package has between 1 and {KEY_PACKAGE_BYTES_MAX} bytes"
        )));
    }
    let mut part = Part::default();
    for bytes in &single_use {
        key_package::append(&mut part, device, bytes);
    }
    if let Some(bytes) = &last_resort {
        key_package::put_last_resort(&mut part, device, bytes);
    }
    if !part.writes.is_empty() {
        node.store.commit(part).await?;
    }
    Ok(count(node, device).await?)
}

/// What waits to be claimed.
pub async fn count(node: &Node, device: DeviceId) -> Result<KeyPackageCount, StoreError> {
    let single_use = key_package::single_use(&node.store, device, KEY_PACKAGES_MAX + 1).await?;
    Ok(KeyPackageCount {
        single_use: single_use.len(),
        last_resort: key_package::last_resort(&node.store, device)
            .await?
            .is_some(),
    })
}
