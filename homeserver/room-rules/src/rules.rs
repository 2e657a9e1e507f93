//! Which commits are valid: what a present member proposes in its own commit, as its role may, and the removals
//! that the room's hub has proposed.
//!
//! A pure function of the group and the commit. The hub proposes removals and nothing else; a commit comes from
//! outside in one case alone: a member that has fallen out of step replaces its own leaf, with the same device
//! and key. Devices are added of accounts that take part, and whoever takes part is in the room's own settings,
//! which change as [`RoomSettings::check_change`] says. So no server can put a ghost into a room or take its
//! settings away.
//!
//! Who leaves is removed by the hub. Its proposal says whether the account goes with the device; then every
//! commit that takes it up takes the account off the room's list, whoever makes it, and changes nothing else in
//! it for that.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use federation_proto::ids::Member;
use mls_rs::MlsRules;
use mls_rs::group::proposal::BorrowedProposal;
use mls_rs::group::{GroupContext, Roster, Sender};
use mls_rs::identity::SigningIdentity;
use mls_rs::mls_rules::{
    CommitDirection, CommitOptions, CommitSource, EncryptionOptions, ProposalBundle, ProposalInfo,
    ProposalSource,
};

use crate::certificate::AnchorSet;
use crate::consents::{self, Acts, Place};
use crate::error::Error;
use crate::identity::device_in;
use crate::settings::{Account, Context, Role, RoomSettings, account, successor};

/// The place of the hub among the external senders.
const HUB: Sender = Sender::External(0);

/// The rules of every room. Clones share what they know of the hub's proposals.
#[derive(Debug, Clone)]
pub struct Rules {
    /// References of the hub's proposals by which whole accounts go. mls-rs does not show the rules a proposal's
    /// authenticated data; a reference is the hash of the whole proposal, so it stands for them.
    leaving: Arc<RwLock<BTreeSet<Vec<u8>>>>,
    /// The hub's time, milliseconds since the Unix epoch. mls-rs does not show the rules the time of a commit.
    now_ms: Arc<AtomicU64>,
    /// The roots that room consents lead to; those of former partners too, because whoever judges a commit is in
    /// the room.
    anchors: Arc<RwLock<AnchorSet>>,
}

impl Rules {
    /// Judges room consents by these roots.
    pub(crate) fn new(anchors: Arc<RwLock<AnchorSet>>) -> Self {
        Self {
            leaving: Arc::default(),
            // Until somebody says what time it is nothing is in force.
            now_ms: Arc::new(AtomicU64::new(u64::MAX)),
            anchors,
        }
    }

    /// Names the time at which a commit is about to be made or processed: the hub's stamp of it, once it has one.
    pub fn set_time(&self, now_ms: u64) {
        self.now_ms.store(now_ms, Ordering::Release);
    }

    /// Names the hub's proposals by which whole accounts go, of the group in which a commit is about to be
    /// made or processed: those that [`crate::removal::read`] says it of.
    pub fn set_leaving(&self, references: BTreeSet<Vec<u8>>) {
        *self.leaving.write().unwrap_or_else(PoisonError::into_inner) = references;
    }

    /// Whether the hub's proposal takes its leaf's whole account along.
    fn is_leaving(&self, proposal: &ProposalInfo<BorrowedProposal<'_>>) -> bool {
        let ProposalSource::ByReference(reference) = &proposal.source else {
            return false;
        };
        let leaving = self.leaving.read().unwrap_or_else(PoisonError::into_inner);
        leaving.contains(&**reference)
    }

    /// The accounts that go with these proposals: the hub has named them as such, and none of their leaves
    /// is left.
    fn accounts_gone(
        &self,
        roster: &Roster<'_>,
        proposals: &ProposalBundle,
    ) -> Result<BTreeSet<Account>, Error> {
        let (mut named, mut removed) = (BTreeSet::new(), BTreeSet::new());
        for proposal in proposals.iter_proposals() {
            if let BorrowedProposal::Remove(remove) = &proposal.proposal {
                removed.insert(remove.to_remove());
                if is_hubs(&proposal) && self.is_leaving(&proposal) {
                    named.insert(remove.to_remove());
                }
            }
        }
        if named.is_empty() {
            return Ok(BTreeSet::new());
        }
        let (mut gone, mut left) = (BTreeSet::new(), BTreeSet::new());
        for leaf in roster.members_iter() {
            let of = account(&device_in(leaf.signing_identity())?.member);
            if named.contains(&leaf.index()) {
                gone.insert(of);
            } else if !removed.contains(&leaf.index()) {
                left.insert(of);
            }
        }
        Ok(gone.difference(&left).cloned().collect())
    }
}

/// Who commits.
struct Committer {
    member: Member,
    role: Role,
    sender: Sender,
}

impl MlsRules for Rules {
    type Error = Error;

    fn filter_proposals(
        &self,
        direction: CommitDirection,
        source: CommitSource,
        roster: &Roster<'_>,
        context: &GroupContext,
        mut proposals: ProposalBundle,
    ) -> Result<ProposalBundle, Error> {
        let current = Context::read(context.extensions())?;
        let committer = match source {
            CommitSource::ExistingMember(committer) => {
                let member = device_in(committer.signing_identity())?.member;
                Committer {
                    role: acting_role(&current.settings, roster, &member)?,
                    sender: Sender::Member(committer.index()),
                    member,
                }
            }
            CommitSource::NewMember(identity) => {
                let member = replaces_own_leaf(roster, &identity, &proposals)?;
                role_of(&current.settings, &member)?;
                return Ok(proposals);
            }
        };
        if direction == CommitDirection::Send {
            // What others have proposed and may not is left out, or nobody could commit any more.
            let may_stand = |proposal: &ProposalInfo<BorrowedProposal<'_>>| {
                !matches!(proposal.source, ProposalSource::ByReference(_)) || is_hubs(proposal)
            };
            proposals.retain(|proposal| Ok::<_, Error>(may_stand(proposal)))?;
        }
        let gone = self.accounts_gone(roster, &proposals)?;
        let next = next_settings(&committer, &current, &gone, &proposals)?;
        let changed = next.is_some();
        let next = next.unwrap_or_else(|| current.settings.clone());
        let (mut removed, mut adds) = (BTreeSet::new(), false);
        for proposal in proposals.iter_proposals() {
            match &proposal.proposal {
                BorrowedProposal::Remove(remove) if is_hubs(&proposal) => {
                    removed.insert(remove.to_remove());
                }
                BorrowedProposal::Remove(remove) if is_own(&committer, &proposal) => {
                    check_removal(&committer, roster, remove.to_remove(), &current.settings)?;
                    removed.insert(remove.to_remove());
                }
                BorrowedProposal::Add(add) if is_own(&committer, &proposal) => {
                    role_of(&next, &device_in(add.signing_identity())?.member)?;
                    adds = true;
                }
                BorrowedProposal::GroupContextExtensions(_) if is_own(&committer, &proposal) => {}
                _ => {
                    return Err(Error::refused(
                        "it does more than a member may propose in its own commit",
                    ));
                }
            }
        }
        if changed {
            // Nobody is in the room who takes no part in it.
            for leaf in roster.members_iter() {
                if !removed.contains(&leaf.index()) {
                    role_of(&next, &device_in(leaf.signing_identity())?.member)?;
                }
            }
        }
        let removes = !removed.is_empty();
        let anchors = self.anchors.read().unwrap_or_else(PoisonError::into_inner);
        let place = Place {
            room: context.group_id(),
            now_ms: self.now_ms.load(Ordering::Acquire),
            anchors: &anchors,
        };
        consents::check_commit(&current.settings, &next, Acts { adds, removes }, place)?;
        Ok(proposals)
    }

    fn commit_options(
        &self,
        _roster: &Roster<'_>,
        _context: &GroupContext,
        _proposals: &ProposalBundle,
    ) -> Result<CommitOptions, Error> {
        // A path in every commit, so that each heals the group; the tree in the welcome and in the group
        // info that the hub keeps, so that nobody has to ask for it apart.
        Ok(CommitOptions::new()
            .with_path_required(true)
            .with_ratchet_tree_extension(true)
            .with_single_welcome_message(true)
            .with_allow_external_commit(true))
    }

    fn encryption_options(
        &self,
        _roster: &Roster<'_>,
        _context: &GroupContext,
    ) -> Result<EncryptionOptions, Error> {
        // Handshakes travel in the open so that servers can hold membership to policy; contents
        // are padded before they come here.
        Ok(EncryptionOptions::new(
            false,
            mls_rs::client_builder::PaddingMode::None,
        ))
    }
}

fn role_of(settings: &RoomSettings, member: &Member) -> Result<Role, Error> {
    settings.role(member).ok_or_else(|| {
        Error::refused(format!(
            "a device of {} is of an account that takes no part in the room",
            member.server
        ))
    })
}

/// What a member may do: as its role says, or as an owner while there is none and it is the successor.
pub(crate) fn acting_role(
    settings: &RoomSettings,
    roster: &Roster<'_>,
    member: &Member,
) -> Result<Role, Error> {
    let role = role_of(settings, member)?;
    if settings.has_owner() {
        return Ok(role);
    }
    let mut present = BTreeSet::new();
    for leaf in roster.members_iter() {
        present.insert(account(&device_in(leaf.signing_identity())?.member));
    }
    let succeeds = successor(settings, &present) == Some(&account(member));
    Ok(if succeeds { Role::Owner } else { role })
}

fn is_own(committer: &Committer, proposal: &ProposalInfo<BorrowedProposal<'_>>) -> bool {
    proposal.sender == committer.sender && proposal.source == ProposalSource::ByValue
}

fn is_hubs(proposal: &ProposalInfo<BorrowedProposal<'_>>) -> bool {
    proposal.sender == HUB
        && matches!(proposal.source, ProposalSource::ByReference(_))
        && matches!(proposal.proposal, BorrowedProposal::Remove(_))
}

/// The settings that a commit gives the room, if it does.
fn next_settings(
    committer: &Committer,
    current: &Context,
    gone: &BTreeSet<Account>,
    proposals: &ProposalBundle,
) -> Result<Option<RoomSettings>, Error> {
    let mut without = current.settings.clone();
    without
        .participants
        .retain(|account, _| !gone.contains(account));
    without.drop_unlisted();
    let change = match proposals.group_context_ext_proposals() {
        [] if without == current.settings => return Ok(None),
        [] => return Err(still_listed()),
        [change] => change,
        _ => return Err(Error::refused("it changes the settings twice")),
    };
    let next = Context::read(&change.proposal)?;
    if next
        .settings
        .participants
        .keys()
        .any(|account| gone.contains(account))
    {
        return Err(still_listed());
    }
    // Who has left is taken off the list by whoever commits next; anybody puts in a newer consent of his own
    // organisation; and nothing else is changed.
    let own = &committer.member.server;
    let mut plain = next.settings.clone();
    if let (Some(present), Some(put_in)) = (without.consents.get(own), plain.consents.get_mut(own))
    {
        put_in.clone_from(present);
    }
    if next.settings != current.settings && plain == without && next.hub == current.hub {
        return Ok(Some(next.settings));
    }
    without.check_change(committer.role, &next.settings)?;
    if next.hub != current.hub && committer.role != Role::Owner {
        return Err(Error::refused(
            "only owners take up another certificate of the hub",
        ));
    }
    Ok(Some(next.settings))
}

fn still_listed() -> Error {
    Error::refused("it leaves an account in the list that goes with its last device")
}

/// A member removes devices of its own account, and those of whom its role may act on.
fn check_removal(
    committer: &Committer,
    roster: &Roster<'_>,
    index: u32,
    settings: &RoomSettings,
) -> Result<(), Error> {
    let leaf = roster
        .member_with_index(index)
        .map_err(|_| Error::refused("it removes nobody"))?;
    let target = device_in(leaf.signing_identity())?.member;
    let own =
        (&target.server, target.account) == (&committer.member.server, committer.member.account);
    if own || committer.role.may_act_on(role_of(settings, &target)?) {
        Ok(())
    } else {
        Err(Error::refused(
            "only owners and moderators remove others, and nobody removes who is above him",
        ))
    }
}

/// Whether a commit from outside is its author's way back in: an external init, the removal of the author's
/// own leaf, and nothing else. The key is the leaf's too, so that nobody who can certify a device can take
/// its place. Whose it is.
fn replaces_own_leaf(
    roster: &Roster<'_>,
    identity: &SigningIdentity,
    proposals: &ProposalBundle,
) -> Result<Member, Error> {
    let (inits, removals) = (
        proposals.external_init_proposals(),
        proposals.remove_proposals(),
    );
    let ([_], [removal], 2) = (inits, removals, proposals.length()) else {
        return Err(Error::refused("it comes from outside"));
    };
    let leaf = roster
        .member_with_index(removal.proposal.to_remove())
        .map_err(|_| Error::refused("it removes nobody"))?;
    let (old, new) = (device_in(leaf.signing_identity())?, device_in(identity)?);
    if old.uri != new.uri || leaf.signing_identity().signature_key != identity.signature_key {
        return Err(Error::refused(
            "it comes from outside and takes another's place",
        ));
    }
    Ok(new.member)
}
