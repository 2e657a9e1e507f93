//! Which commits are valid: only what a present member proposes itself, in the commit.
//!
//! A pure function of the commit. Outsiders propose nothing and commit nothing; nothing is
//! proposed by reference; besides the committer's own new leaf, devices are added and removed and
//! nothing else about a room changes. So no server can put a ghost into a room or take its
//! settings away.

use mls_rs::MlsRules;
use mls_rs::group::{GroupContext, Roster, Sender};
use mls_rs::mls_rules::{
    CommitDirection, CommitOptions, CommitSource, EncryptionOptions, ProposalBundle, ProposalInfo,
    ProposalSource,
};

use crate::error::Error;

/// The rules of every room.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules;

impl MlsRules for Rules {
    type Error = Error;

    fn filter_proposals(
        &self,
        _direction: CommitDirection,
        source: CommitSource,
        _roster: &Roster<'_>,
        _context: &GroupContext,
        proposals: ProposalBundle,
    ) -> Result<ProposalBundle, Error> {
        let CommitSource::ExistingMember(committer) = source else {
            return Err(refused("it comes from outside"));
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
        // A path in every commit, so that each heals the group; the tree in the welcome, because no
        // server could hand it out.
        Ok(CommitOptions::new()
            .with_path_required(true)
            .with_ratchet_tree_extension(true)
            .with_single_welcome_message(true)
            .with_allow_external_commit(false))
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

fn refused(reason: &str) -> Error {
    Error::Mls(format!("the commit is refused: {reason}"))
}
