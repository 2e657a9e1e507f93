//! Who may be added to a room, and whether a commit's lists make sense.

use std::collections::BTreeSet;

use federation_proto::ids::{Member, ServerName};
use federation_proto::limits::{GROUP_INFO_BYTES_MAX, HANDSHAKE_BYTES_MAX, WELCOME_BYTES_MAX};
use federation_proto::refusal::{Refusal, RefusalCode};

use super::{MEMBERS_MAX, RoomCommit, external, malformed, mls_framing};
use crate::delivery::NotTaken;
use crate::delivery::batch::{Batch, policy_links};
use crate::delivery::{colleagues, contacts};
use crate::policy::{self, Approach, Direction, Input, Rules};
use crate::store::StoreError;
use crate::store::contacts::Outsider;
use crate::store::room::RoomRecord;
use homeserver_api::admin::Operation;

/// Holds a commit's outside against its length and against what surrounds it. One from outside the group
/// passes only when its sender replaces its own leaf.
pub(super) fn check_framing(commit: &RoomCommit) -> Result<(), NotTaken> {
    if commit.commit.len() > HANDSHAKE_BYTES_MAX {
        return Err(NotTaken::refused(
            RefusalCode::TooLarge,
            format!("a commit has at most {HANDSHAKE_BYTES_MAX} bytes: add fewer devices at once"),
        ));
    }
    let welcome_bytes = commit.welcome.as_ref().map_or(0, |welcome| welcome.len());
    if welcome_bytes > WELCOME_BYTES_MAX {
        return Err(NotTaken::refused(
            RefusalCode::TooLarge,
            format!(
                "a welcome, which holds the room's tree, has at most {WELCOME_BYTES_MAX} bytes: add fewer devices at once, or remove those that are no longer used"
            ),
        ));
    }
    if mls_framing::comes_from_outside(commit.commit.bytes()) {
        return external::check_outside(commit);
    }
    let frame = mls_framing::commit(commit.commit.bytes()).map_err(malformed)?;
    if frame.room != commit.room || frame.epoch != commit.epoch {
        return Err(malformed(
            "the commit is of another room or epoch than it says",
        ));
    }
    Ok(())
}

/// Holds a commit's outside and its lists against each other and against the room before it. Devices of
/// `lenient` may be removed although the room does not list them.
pub(super) fn check_commit(
    commit: &RoomCommit,
    room: &RoomRecord,
    lenient: Option<&ServerName>,
) -> Result<(), NotTaken> {
    check_framing(commit)?;
    if let Some(welcome) = &commit.welcome {
        mls_framing::welcome(welcome.bytes()).map_err(malformed)?;
    }
    if commit.welcome.is_some() == commit.adds.is_empty() {
        return Err(malformed(
            "a commit has a welcome exactly when it adds devices",
        ));
    }
    let adds: BTreeSet<&Member> = commit.adds.iter().collect();
    let removes: BTreeSet<&Member> = commit.removes.iter().collect();
    if adds.len() != commit.adds.len() || removes.len() != commit.removes.len() {
        return Err(malformed("a commit names each device once"));
    }
    if adds.iter().any(|member| room.has(member)) {
        return Err(malformed("a commit adds a device that is in the room"));
    }
    let may_go = |member: &Member| room.has(member) || lenient == Some(&member.server);
    if !removes.iter().all(|member| may_go(member)) || removes.contains(&commit.sender) {
        return Err(malformed(
            "a commit removes other devices that are in the room",
        ));
    }
    if room.members.len() + adds.len() > MEMBERS_MAX + removes.len() {
        return Err(NotTaken::refused(
            RefusalCode::TooLarge,
            format!("a room has at most {MEMBERS_MAX} devices: start another one"),
        ));
    }
    Ok(())
}

/// Holds the group info that comes with a proposed commit against the commit.
pub(super) fn check_group_info(commit: &RoomCommit) -> Result<(), NotTaken> {
    let Some(group_info) = &commit.group_info else {
        return Err(malformed(
            "a proposed commit comes with the group info of the epoch that it begins",
        ));
    };
    if group_info.len() > GROUP_INFO_BYTES_MAX {
        return Err(NotTaken::refused(
            RefusalCode::TooLarge,
            format!(
                "the room is too large: its group info has at most {GROUP_INFO_BYTES_MAX} bytes; remove devices that are no longer used"
            ),
        ));
    }
    let frame = mls_framing::group_info(group_info).map_err(malformed)?;
    if frame.room != commit.room || Some(frame.epoch) != commit.epoch.checked_add(1) {
        return Err(malformed(
            "the group info is of another room or epoch than the commit begins",
        ));
    }
    Ok(())
}

/// Whether an own member may bring devices of these servers into a room.
pub(super) async fn check_invite(
    batch: &mut Batch<'_>,
    commit: &RoomCommit,
) -> Result<(), NotTaken> {
    let sender = batch
        .account(commit.sender.account)
        .await?
        .ok_or_else(unknown_sender)?;
    let servers: BTreeSet<&ServerName> = commit.adds.iter().map(|member| &member.server).collect();
    let links = batch.links(servers);
    let rules = Rules {
        party: sender.party(),
        links: &policy_links(&links),
        now_ms: batch.now_ms,
    };
    policy::evaluate(&rules, &Input::Invite).into_result()?;
    Ok(())
}

/// Whether the hub may add these devices: each is its own and may be with everyone in the room, or
/// is of a peer whose agreement grants it.
pub(super) async fn check_adds(
    batch: &mut Batch<'_>,
    commit: &RoomCommit,
    after: &RoomRecord,
) -> Result<(), NotTaken> {
    let own = batch.node.server.clone();
    let others: BTreeSet<&ServerName> = commit
        .adds
        .iter()
        .map(|member| &member.server)
        .filter(|server| **server != own)
        .collect();
    for server in others {
        let Some(view) = batch.peer(server) else {
            return Err(NotTaken::refused(
                RefusalCode::NoAgreement,
                format!("there is no agreement with {server}: ask your administrator to make one"),
            ));
        };
        view.judge(Direction::Outbound, Operation::Invite, None, batch.now_ms)?;
    }
    for member in commit.adds.iter().filter(|member| member.server == own) {
        // Added by a person of another organisation, or into a room with others in it.
        may_be_added(batch, member, &commit.sender, after).await??;
    }
    Ok(())
}

/// Whether `by` may bring an own device into a room, which is `room` then: agreements, policy and barriers let it, and the
/// person of whom the device is lets `by` in, unless that is a colleague.
pub(super) async fn may_be_added(
    batch: &mut Batch<'_>,
    member: &Member,
    by: &Member,
    room: &RoomRecord,
) -> Result<Result<(), Refusal>, StoreError> {
    let gone = || {
        Err(Refusal::new(
            RefusalCode::UnknownRecipient,
            "there is no such device: ask for its account's keys again",
        ))
    };
    if batch.account_of(member.device).await? != Some(member.account) {
        return Ok(gone());
    }
    let Some(account) = batch.account(member.account).await? else {
        return Ok(gone());
    };
    if account.suspended {
        return Ok(gone());
    }
    let links = batch.links(room.servers());
    let rules = Rules {
        party: account.party(),
        links: &policy_links(&links),
        now_ms: batch.now_ms,
    };
    if let Err(refusal) = policy::evaluate(&rules, &Input::BeInvited).into_result() {
        return Ok(Err(refusal));
    }
    if let Err(refusal) = colleagues::may_be_added(batch, member, by, room).await? {
        return Ok(Err(refusal));
    }
    if by.server == batch.node.server {
        return Ok(Ok(()));
    }
    let outsider = Outsider {
        server: &by.server,
        account: by.account,
        handle: None,
    };
    let approach = contacts::approach(batch, member.account, &account, &outsider).await?;
    Ok(match approach {
        Approach::Free => Ok(()),
        Approach::MustAsk => Err(contacts::must_ask(&batch.node.server, &account.handle)),
        Approach::Hidden => gone(),
    })
}

fn unknown_sender() -> NotTaken {
    NotTaken::refused(
        RefusalCode::AccountSuspended,
        "this account is gone: ask your administrator",
    )
}
