//! The one commit from outside that a room takes: a member that has fallen out of step replaces its own
//! leaf, and changes nothing else (RFC 9420, section 12.4.3.2).
//!
//! Here is what a follower can see of it. The hub judges it as every other commit, by the room's group; what it
//! can't judge, that every path secret is right, the members' devices do.

use federation_proto::ids::Member;
use room_rules::certificate;

use super::mls_framing::{self, LeafFrame};
use super::{RoomCommit, malformed, unknown_room};
use crate::delivery::NotTaken;
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

/// Whether a leaf's certificate names this device, and certifies the leaf's key. Who has issued it is the
/// hub's and the members' devices' to judge.
fn is_of(leaf: &LeafFrame<'_>, member: &Member) -> bool {
    certificate::read(leaf.certificate)
        .is_ok_and(|device| device.member == *member && device.public_key == leaf.signature_key)
}

fn not_own_leaf() -> NotTaken {
    malformed("a commit from outside the room replaces the sender's own leaf and nothing else")
}
