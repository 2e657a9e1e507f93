//! The one commit from outside that a room takes: a member that has fallen out of step replaces its own
//! leaf, and changes nothing else (RFC 9420, section 12.4.3.2).
//!
//! Everything here is judged by what servers see. The hub holds the commit against the group info that it
//! keeps of the room's epoch: the leaf that goes, and the signature. What it can't judge, that every path
//! secret is right, the members' devices do.

use federation_proto::ids::Member;
use federation_proto::refusal::RefusalCode;
use ring::signature::{ED25519, UnparsedPublicKey};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::mls_framing::{self, ExternalCommit, LeafFrame};
use super::{RoomCommit, malformed, unknown_room};
use crate::delivery::NotTaken;
use crate::store::group_info::GroupInfoRecord;
use crate::store::room::RoomRecord;

/// Holds a commit from outside against what surrounds it: it is of the room and epoch that it names, its new
/// leaf is the sender's own device, and it changes nobody's membership.
pub(super) fn check_outside(commit: &RoomCommit) -> Result<(), NotTaken> {
    let external = mls_framing::external_commit(commit.commit.bytes()).map_err(malformed)?;
    if (external.room, external.epoch) != (commit.room, commit.epoch) {
        return Err(malformed(
            "the commit is of another room or epoch than it says",
        ));
    }
    let nobody = commit.adds.is_empty() && commit.removes.is_empty() && commit.welcome.is_none();
    if !nobody || !is_of(&external.leaf, &commit.sender) {
        return Err(not_own_leaf());
    }
    Ok(())
}

/// A follower's part: who commits from outside is in the room.
pub(super) fn check_member(commit: &RoomCommit, room: &RoomRecord) -> Result<(), NotTaken> {
    let outside = mls_framing::comes_from_outside(commit.commit.bytes());
    if outside && !room.has(&commit.sender) {
        return Err(unknown_room());
    }
    Ok(())
}

/// The hub's part: the leaf that goes is the sender's, with the key of the one that comes, and that key
/// has signed the commit for this epoch.
pub(super) fn check_own_leaf(
    commit: &RoomCommit,
    newest: Option<&GroupInfoRecord>,
) -> Result<(), NotTaken> {
    let Some(newest) = newest.filter(|newest| newest.epoch == commit.epoch) else {
        return Err(NotTaken::refused(
            RefusalCode::Unavailable,
            "no group info is kept of the room's epoch: ask for it again after the next commit",
        ));
    };
    let external = mls_framing::external_commit(commit.commit.bytes()).map_err(malformed)?;
    let group = mls_framing::tree_of(&newest.group_info).map_err(malformed)?;
    let old = group.leaf(external.removed).map_err(malformed)?;
    let replaces = old.is_some_and(|old| {
        is_of(&old, &commit.sender) && old.signature_key == external.leaf.signature_key
    });
    if !replaces || !is_signed(&external, group.context) {
        return Err(not_own_leaf());
    }
    Ok(())
}

fn is_signed(external: &ExternalCommit<'_>, context: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, external.leaf.signature_key)
        .verify(&external.signed_content(context), external.signature)
        .is_ok()
}

/// Whether a leaf's certificate names this device, and certifies the leaf's key. Who has issued it is the
/// members' devices' to judge.
fn is_of(leaf: &LeafFrame<'_>, member: &Member) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(leaf.certificate) else {
        return false;
    };
    let Member {
        server,
        account,
        device,
    } = member;
    let expected = format!("entente://{server}/account/{account}/device/{device}");
    let names = certificate.subject_alternative_name().ok().flatten();
    let named = names.is_some_and(
        |names| matches!(names.value.general_names[..], [GeneralName::URI(uri)] if uri == expected),
    );
    named && certificate.public_key().subject_public_key.data.as_ref() == leaf.signature_key
}

fn not_own_leaf() -> NotTaken {
    malformed("a commit from outside the room replaces the sender's own leaf and nothing else")
}
