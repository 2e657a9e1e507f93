//! Which commits are valid: only what a present member proposes itself, in the commit.
//!
//! A pure function of the group and the commit. Outsiders propose nothing, and commit one thing alone: a
//! member that has fallen out of step replaces its own leaf, with the same device and key. Nothing is
//! proposed by reference; besides the committer's own new leaf, devices are added and removed and
//! nothing else about a room changes. So no server can put a ghost into a room or take its
//! settings away. Why that one commit is taken: `docs/adr/0019-a-member-may-come-back-from-outside.md`.

use mls_rs::MlsRules;
use mls_rs::group::{GroupContext, Roster, Sender};
use mls_rs::identity::SigningIdentity;
use mls_rs::mls_rules::{
    CommitDirection, CommitOptions, CommitSource, EncryptionOptions, ProposalBundle, ProposalInfo,
    ProposalSource,
};

use crate::certificate;
use crate::error::Error;

/// How every refusal by these rules begins.
pub(super) const REFUSED: &str = "the commit is refused";

/// The rules of every room.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules;

impl MlsRules for Rules {
    type Error = Error;

    fn filter_proposals(
        &self,
        _direction: CommitDirection,
        source: CommitSource,
        roster: &Roster<'_>,
        _context: &GroupContext,
        proposals: ProposalBundle,
    ) -> Result<ProposalBundle, Error> {
        let committer = match source {
            CommitSource::ExistingMember(committer) => committer,
            CommitSource::NewMember(identity) => {
                replaces_own_leaf(roster, &identity, &proposals)?;
                return Ok(proposals);
            }
        };
        let own = |sender: &Sender, source: &ProposalSource| {
            *sender == Sender::Member(committer.index())
                && !matches!(source, ProposalSource::ByReference(_))
        };
        for ProposalInfo { sender, source, .. } in proposals.add_proposals() {
            if !own(sender, source) {
                return Err(refused("somebody else proposed it"));
            }
        }
        for ProposalInfo { sender, source, .. } in proposals.remove_proposals() {
            if !own(sender, source) {
                return Err(refused("somebody else proposed it"));
            }
        }
        let known = proposals.add_proposals().len() + proposals.remove_proposals().len();
        if proposals.length() != known {
            return Err(refused("it does more than add and remove devices"));
        }
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

/// Whether a commit from outside is its author's way back in: an external init, the removal of the author's
/// own leaf, and nothing else. The key is the leaf's too, so that nobody who can certify a device can take
/// its place.
fn replaces_own_leaf(
    roster: &Roster<'_>,
    identity: &SigningIdentity,
    proposals: &ProposalBundle,
) -> Result<(), Error> {
    let (inits, removals) = (
        proposals.external_init_proposals(),
        proposals.remove_proposals(),
    );
    let ([_], [removal], 2) = (inits, removals, proposals.length()) else {
        return Err(refused("it comes from outside"));
    };
    let leaf = roster
        .member_with_index(removal.proposal.to_remove())
        .map_err(|_| refused("it removes nobody"))?;
    let (old, new) = (device_of(leaf.signing_identity())?, device_of(identity)?);
    if old != new || leaf.signing_identity().signature_key != identity.signature_key {
        return Err(refused("it comes from outside and takes another's place"));
    }
    Ok(())
}

fn device_of(identity: &SigningIdentity) -> Result<String, Error> {
    let chain = identity.credential.as_x509();
    let leaf = chain
        .and_then(|chain| chain.first())
        .ok_or_else(|| refused("its author has no certificate"))?;
    Ok(certificate::read(leaf)?.uri)
}

fn refused(reason: &str) -> Error {
    Error::Mls(format!("{REFUSED}: {reason}"))
}
