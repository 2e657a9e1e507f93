//! The hub's judgement of a commit: by the public half of the room's group, which the kept group info describes,
//! with the rules that every client has too.
//!
//! What a payload says of its commit counts only when the commit does just that; and the group info that
//! comes with it has to describe the room afterwards, byte for byte. So every group info that is kept leads back
//! into the room, and judges the next commit.
//!
//! Rooms stay in memory for a while. That only saves work: each is known by the hash of the group info that
//! it was read from, and read from that again when it is forgotten.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use federation_proto::hash::Digest;
use federation_proto::ids::{Member, RoomId};
use federation_proto::manifest::FormerRoot;
use federation_proto::refusal::RefusalCode;
use homeserver_api::admin::PeerState;
use room_rules::certificate::{AnchorSet, Roots};
use room_rules::consents::Bounds;
use room_rules::settings::RoomSettings;
use room_rules::{Error, Judged, Observed};

use super::{RoomCommit, malformed, mls_framing, pace, pending_removes};
use crate::delivery::NotTaken;
use crate::delivery::batch::Batch;
use crate::store::room::{Going, RoomRecord};

/// Most rooms in memory.
const ROOMS_MAX: usize = 32;

/// Rooms that are ordered here, as their last commits left them: the newest one last.
#[derive(Debug, Default)]
pub struct ObservedRooms(Mutex<VecDeque<(Key, Arc<Observed>)>>);

/// The room, and what it was read from.
type Key = (RoomId, Digest);

impl ObservedRooms {
    fn get(&self, key: &Key) -> Option<Arc<Observed>> {
        let rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = rooms.iter().find(|(known, _)| known == key);
        known.map(|(_, room)| Arc::clone(room))
    }

    /// Forgets all, as a start does.
    #[cfg(test)]
    pub(crate) fn forget(&self) {
        self.0.lock().unwrap().clear();
    }

    /// Keeps a room as it is at this group info. What it was before stays beside it: the commit that
    /// led here may not be taken in the end.
    fn put(&self, key: Key, room: Arc<Observed>) {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.retain(|(known, _)| *known != key);
        let mut of_room = rooms
            .iter()
            .enumerate()
            .filter(|(_, ((id, _), _))| *id == key.0);
        if let (Some((oldest, _)), Some(_)) = (of_room.next(), of_room.next()) {
            rooms.remove(oldest);
        }
        rooms.push_back((key, room));
        if rooms.len() > ROOMS_MAX {
            rooms.pop_front();
        }
    }
}

/// What the room is after a commit that is valid.
pub(super) struct Checked {
    /// How many epochs it keeps.
    pub(super) retained_epochs: u16,
    /// Its group; `None`: the commit was not judged, by a fault.
    pub(super) next: Option<Arc<Observed>>,
}

/// Whether a commit is valid, takes up the removals that wait, does what its payload says, and comes with the
/// group info of what it begins.
pub(super) async fn check(
    batch: &mut Batch<'_>,
    commit: &RoomCommit,
    before: &RoomRecord,
) -> Result<Checked, NotTaken> {
    #[cfg(feature = "faults")]
    if is_unjudged(batch, commit).await? {
        return Ok(Checked {
            retained_epochs: room_rules::settings::RETAINED_EPOCHS,
            next: None,
        });
    }
    let group_info = commit.group_info.as_deref().unwrap_or_default();
    let room = room_before(batch, commit).await?;
    pace::together(batch, commit, room.acting_role(&commit.sender).ok())?;
    let going = before.going.iter();
    let removals: Vec<Bytes> = going.map(|going| going.proposal.clone()).collect();
    // At its stamp, as clients do: that never goes back.
    let at_ms = batch.now_ms.max(before.stamp_ms);
    let judged = room
        .judge(&removals, commit.commit.bytes(), group_info, at_ms)
        .map_err(refused)?;
    check_path(commit, &judged)?;
    check_payload(commit, &judged)?;
    // Whether it is taken in the end or not: the key is of this very group info.
    let key = (commit.room, Digest::of(group_info));
    let next = Arc::new(judged.next);
    batch.node.observed_rooms.put(key, Arc::clone(&next));
    Ok(Checked {
        retained_epochs: retained_epochs(&next.context().settings).map_err(refused)?,
        next: Some(next),
    })
}

/// How many epochs a room keeps: as many as its settings and all consents say.
fn retained_epochs(settings: &RoomSettings) -> Result<u16, Error> {
    let bounds = Bounds::of(&settings.consents)?;
    Ok(settings.retained_epochs.min(bounds.retained_epochs))
}

/// The hub's proposals to remove these devices from the room as it is, each with whether its account goes too.
/// Whoever is not in the group is left out.
pub(super) fn propose(
    room: &Observed,
    leaving: Vec<(Member, bool)>,
    now_ms: u64,
) -> Result<Vec<Going>, NotTaken> {
    let leaves = room.leaves().map_err(refused)?;
    let place = |member: &Member| leaves.iter().find(|leaf| leaf.member == *member);
    let placed: Vec<_> = leaving
        .into_iter()
        .filter_map(|(member, account)| Some((place(&member)?.index, member, account)))
        .collect();
    let indices: Vec<(u32, bool)> = placed
        .iter()
        .map(|(at, _, account)| (*at, *account))
        .collect();
    let proposals = room.propose_removals(&indices).map_err(refused)?;
    let going = placed.into_iter().zip(proposals);
    Ok(going
        .map(|((_, member, account), proposal)| Going {
            member,
            account,
            since_ms: now_ms,
            proposal,
        })
        .collect())
}

/// Who is in the room that a group info describes, by the word of whoever has sent it.
pub(super) fn members(group_info: &[u8]) -> Result<Vec<Member>, NotTaken> {
    let leaves = room_rules::leaves_in(group_info).map_err(refused)?;
    Ok(leaves.into_iter().map(|leaf| leaf.member).collect())
}

/// The faults `order-unjudged`, and `fork-rooms`, whose second commit nothing is left to judge by.
#[cfg(feature = "faults")]
async fn is_unjudged(batch: &mut Batch<'_>, commit: &RoomCommit) -> Result<bool, NotTaken> {
    let present = batch.room(commit.room).await?.map(|room| room.epoch);
    let is_late = present.is_some_and(|present| present != commit.epoch);
    Ok(crate::faults::is_on("order-unjudged") || (is_late && crate::faults::is_on("fork-rooms")))
}

/// The room in the epoch that the commit ends.
async fn room_before(
    batch: &mut Batch<'_>,
    commit: &RoomCommit,
) -> Result<Arc<Observed>, NotTaken> {
    let (node, now_ms) = (batch.node, batch.now_ms);
    if commit.epoch == 0 {
        let anchors = anchors(batch);
        let founding = commit.founding.as_deref().ok_or_else(|| {
            malformed("a room's first commit comes with the group info of epoch 0")
        })?;
        let key = node.keys.room_key();
        let room = Observed::found(founding, &anchors, key, &commit.sender, now_ms);
        let room = room.map_err(refused)?;
        if room.group_id() != commit.room.as_bytes() {
            return Err(malformed("the group info of epoch 0 is of another room"));
        }
        return Ok(Arc::new(room));
    }
    kept(batch, commit.room).await
}

/// A room that is ordered here, in its present epoch.
pub(super) async fn kept(batch: &mut Batch<'_>, id: RoomId) -> Result<Arc<Observed>, NotTaken> {
    let node = batch.node;
    let anchors = anchors(batch);
    let Some(kept) = batch.group_info(id).await? else {
        return Err(NotTaken::refused(
            RefusalCode::Unavailable,
            "no group info is kept of the room's epoch: start another room",
        ));
    };
    let key = (id, Digest::of(&kept.group_info));
    if let Some(room) = node.observed_rooms.get(&key) {
        // Agreements may have changed since.
        room.set_anchors(anchors);
        return Ok(room);
    }
    let room = Observed::open(&kept.group_info, anchors, Some(node.keys.room_key()));
    let room = room.map(Arc::new).map_err(refused)?;
    node.observed_rooms.put(key, Arc::clone(&room));
    Ok(room)
}

/// The roots that new certificates have to lead to: the own one, and those of partners.
fn anchors(batch: &Batch<'_>) -> AnchorSet {
    let node = batch.node;
    let own = roots(&node.keys.root(), node.keys.former_roots());
    let mut anchors = AnchorSet::own(node.server.clone(), own);
    let peers = node.peers.all();
    let partners = peers
        .iter()
        .filter(|peer| matches!(peer.state, PeerState::Active | PeerState::Suspended))
        .map(|peer| (peer.server.clone(), roots(&peer.root, peer.former_roots())));
    anchors.replace_others(&node.server, partners);
    anchors
}

fn roots(root: &[u8], former: Vec<FormerRoot>) -> Roots {
    let former = former
        .into_iter()
        .map(|former| (former.root.to_vec(), former.until_ms));
    Roots::new(root.to_vec(), former)
}

/// Whether the update path has a node for each that it has to replace. MLS's public half takes a shorter one, by which no
/// member can come into the next epoch.
fn check_path(commit: &RoomCommit, judged: &Judged) -> Result<(), NotTaken> {
    let nodes = mls_framing::path_nodes(commit.commit.bytes()).map_err(malformed)?;
    if nodes.is_some_and(|nodes| nodes != judged.path_nodes) {
        return Err(malformed(
            "the commit's update path has not as many nodes as its author's place in the tree asks for",
        ));
    }
    Ok(())
}

/// Holds what the payload says against what the commit does.
fn check_payload(commit: &RoomCommit, judged: &Judged) -> Result<(), NotTaken> {
    #[cfg(feature = "faults")]
    if crate::faults::is_on("believe-payloads") {
        return Ok(());
    }
    let same = |said: &[Member], done: &[Member]| {
        said.len() == done.len() && said.iter().collect::<BTreeSet<_>>() == done.iter().collect()
    };
    if judged.committer != commit.sender {
        return Err(malformed("the commit is another device's than it says"));
    }
    if !same(&commit.adds, &judged.adds) || !same(&commit.removes, &judged.removes) {
        return Err(malformed(
            "the commit adds or removes other devices than it says",
        ));
    }
    Ok(())
}

fn refused(error: Error) -> NotTaken {
    let code = match &error {
        Error::NotFullMesh { .. } => Some(RefusalCode::NotFullMesh),
        Error::ConsentEnded(_) => Some(RefusalCode::AgreementExpired),
        Error::NoCommonBounds(_) => Some(RefusalCode::OutOfScope),
        _ => None,
    };
    if let Some(code) = code {
        return NotTaken::refused(code, error.to_string());
    }
    match error {
        // What the room's rules forbid no other client makes good.
        Error::Refused(_) => NotTaken::refused(RefusalCode::Malformed, error.to_string()),
        Error::PendingRemoves => pending_removes(),
        error => malformed(error),
    }
}
