//! Rooms and their groups: loading, listing, ending.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use homeserver_api::ids::{Address, Member, RoomId};
use homeserver_api::refusal::{Refusal, RefusalCode};
use room_rules::settings::{Context, RoomSettings, account, successor};

use super::consents::policy_of;
use super::records::{PolicyRecord, ProgressRecord, RoomRecord, SentRecord, Standing};
use super::{CachedGroup, Core, Steps};
use crate::certificate::{self, CertificateHash, DeviceCertificate};
use crate::error::Error;
use crate::event::Event;
use crate::message::{Room, RoomMember};
use crate::mls::{self, Group, MlsStorage};
use crate::store::Family;

/// One leaf of a group.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    pub(super) index: u32,
    pub(super) device: DeviceCertificate,
    pub(super) mark: CertificateHash,
}

impl Core {
    /// The rooms that this device is in.
    pub(crate) fn rooms(&mut self) -> Result<Vec<Room>, Error> {
        let joined: Vec<RoomRecord> = self
            .rooms
            .values()
            .filter(|record| matches!(record.standing, Standing::Joined | Standing::Resyncing(_)))
            .filter(|record| !self.history.is_transfer(record.room))
            .cloned()
            .collect();
        joined
            .into_iter()
            .map(|record| {
                let continues = self.continues(&record);
                let continued_by = self.continued_by(record.room);
                let group = self.group(record.room)?;
                let epoch = group.current_epoch();
                let settings = settings(group)?;
                let leaves = self.known_leaves(record.room)?;
                let role = |leaf: &Leaf| {
                    let role = settings.role(&leaf.device.member)?;
                    Some((leaf.device.address.clone(), role))
                };
                let roles = leaves.iter().filter_map(role).collect();
                let present = leaves.iter().map(|leaf| account(&leaf.device.member));
                let heir = successor(&settings, &present.collect()).cloned();
                let is_heir = |leaf: &&Leaf| heir == Some(account(&leaf.device.member));
                let acting_owner = leaves.iter().find(is_heir);
                let acting_owner = acting_owner.map(|leaf| leaf.device.address.clone());
                let mut members = members_of(&leaves);
                members.sort_by(|a, b| (&a.address, &a.member).cmp(&(&b.address, &b.member)));
                let addresses: BTreeSet<Address> =
                    members.iter().map(|m| m.address.clone()).collect();
                Ok(Room {
                    room: record.room,
                    hub: record.hub,
                    epoch,
                    name: settings.name,
                    acting_owner,
                    addresses: addresses.into_iter().collect(),
                    members,
                    roles,
                    out_of_step: matches!(record.standing, Standing::Resyncing(_)),
                    gap: record.gap,
                    continues,
                    continued_by,
                })
            })
            .collect()
    }

    pub(super) fn room(&self, room: RoomId) -> Result<&RoomRecord, Error> {
        self.rooms.get(&room).ok_or(Error::UnknownRoom(room))
    }

    /// A room that this device can send to.
    pub(super) fn open_room(&self, room: RoomId) -> Result<&RoomRecord, Error> {
        let record = self.room(room)?;
        match &record.standing {
            Standing::Creating | Standing::Joined | Standing::Resyncing(_) => Ok(record),
            Standing::Left => Err(Error::UnknownRoom(room)),
            Standing::Broken(reason) => Err(Error::Mls(reason.clone())),
        }
    }

    /// Whether this device can send to a room; the error says why not.
    pub(crate) fn room_is_open(&self, room: RoomId) -> Result<(), Error> {
        self.open_room(room).map(|_| ())
    }

    pub(super) fn put_room(&mut self, record: RoomRecord) -> Result<(), Error> {
        self.store.put(Family::Room, b"", record.number, &record)?;
        self.schedule_resync(&record);
        self.schedule_take_up(&record);
        self.schedule_renewal(&record);
        self.schedule_gone(&record);
        self.rooms.insert(record.room, record);
        Ok(())
    }

    /// Begins a room with this device alone.
    pub(super) fn create_room(&mut self, room: RoomId, context: &Context) -> Result<(), Error> {
        let now = self.now_ms();
        let group = self
            .mls
            .create_group_with_id(
                room.as_bytes().to_vec(),
                context.extensions()?,
                mls_rs::ExtensionList::default(),
                Some(mls::time(now)),
            )
            .map_err(mls::error)?;
        let leaves = leaves(&group)?;
        let number = self.state.last_room + 1;
        self.state.last_room = number;
        self.put_room(RoomRecord {
            number,
            room,
            hub: self.identity.member.server.clone(),
            standing: Standing::Creating,
            sent_in_epoch: 0,
            sent: SentRecord::default(),
            written_before: 0,
            ended_epoch: None,
            ended_with: Vec::new(),
            epoch_began_ms: now,
            readable_from: 0,
            gap: None,
            resyncs: Vec::new(),
            name: context.settings.name.clone(),
            removals: Vec::new(),
            take_up_at_ms: None,
            gone: Vec::new(),
            policy: policy_of(
                PolicyRecord::default(),
                &group,
                &leaves,
                &self.identity.member,
            )?,
        })?;
        self.set_group(room, group, leaves);
        Ok(())
    }

    pub(super) fn delete_room(&mut self, room: RoomId) -> Result<(), Error> {
        if let Some(record) = self.rooms.remove(&room) {
            self.store.delete(Family::Room, b"", record.number);
            self.resync_at.remove(&room);
            self.take_up_at.remove(&room);
            self.renew_at.remove(&room);
            self.gone_at.remove(&room);
        }
        self.delete_group(room)
    }

    /// The room's group, to look at.
    pub(super) fn group(&mut self, room: RoomId) -> Result<&mut Group, Error> {
        Ok(&mut self.cached(room)?.group)
    }

    /// The room's group, to change; it is written when the job ends.
    pub(super) fn group_mut(&mut self, room: RoomId) -> Result<&mut Group, Error> {
        let cached = self.cached(room)?;
        cached.dirty = true;
        Ok(&mut cached.group)
    }

    /// The room's group, taken out of this device for good: what is stored of it goes with the room.
    pub(super) fn take_group(&mut self, room: RoomId) -> Result<Group, Error> {
        self.cached(room)?;
        let cached = self.groups.remove(&room).ok_or(Error::UnknownRoom(room))?;
        self.leave(room)?;
        Ok(cached.group)
    }

    fn cached(&mut self, room: RoomId) -> Result<&mut CachedGroup, Error> {
        if !self.groups.contains_key(&room) {
            let id = room.as_bytes();
            let tree = self.storage.tree(id)?;
            let stored = tree.is_some();
            let group = match tree {
                Some(tree) => self.mls.load_group_with_ratchet_tree(id, tree),
                None => self.mls.load_group(id),
            }
            .map_err(mls::error)?;
            let stored_tree = stored.then(|| group.current_epoch());
            let cached = CachedGroup {
                group,
                dirty: false,
                kept: false,
                stored_tree,
                leaves: None,
            };
            self.groups.insert(room, cached);
        }
        self.groups.get_mut(&room).ok_or(Error::UnknownRoom(room))
    }

    /// Keeps a group that this device made or joined; it is written when the job ends.
    pub(super) fn set_group(&mut self, room: RoomId, group: Group, leaves: Vec<Leaf>) {
        let cached = CachedGroup {
            leaves: Some((group.current_epoch(), leaves.into())),
            group,
            dirty: true,
            kept: false,
            stored_tree: None,
        };
        self.groups.insert(room, cached);
    }

    /// Who is in the room's group.
    pub(super) fn leaves(&mut self, room: RoomId) -> Result<Arc<[Leaf]>, Error> {
        self.cached(room)?.leaves()
    }

    /// Who is in the room's group, as it is shown: under the addresses that they are known by.
    pub(super) fn known_leaves(&mut self, room: RoomId) -> Result<Vec<Leaf>, Error> {
        let leaves = self.leaves(room)?;
        let leaves = leaves.iter().cloned();
        Ok(leaves.map(|leaf| self.as_known(leaf)).collect())
    }

    /// Whose the leaves are, as it is shown.
    pub(super) fn known_members(&self, leaves: &[Leaf]) -> Vec<RoomMember> {
        let known = leaves.iter().cloned().map(|leaf| self.as_known(leaf));
        members_of(&known.collect::<Vec<_>>())
    }

    /// Keeps what a step has done to the group, as the state to come back to.
    pub(super) fn keep_group(&mut self, room: RoomId) -> Result<(), Error> {
        let together = self.steps != Steps::KeptAlone;
        if let Some(cached) = self.groups.get_mut(&room).filter(|cached| cached.dirty) {
            match together {
                true => cached.kept = true,
                false => cached.save(room, &self.storage)?,
            }
        }
        Ok(())
    }

    /// Keeps what a step has done to any group, as the state to come back to.
    pub(super) fn keep_groups(&mut self) -> Result<(), Error> {
        if self.steps == Steps::KeptAlone {
            return self.save_groups();
        }
        for cached in self.groups.values_mut().filter(|cached| cached.dirty) {
            cached.kept = true;
        }
        Ok(())
    }

    /// Writes every changed group into the batch.
    pub(super) fn save_groups(&mut self) -> Result<(), Error> {
        for (room, cached) in self.groups.iter_mut().filter(|(_, cached)| cached.dirty) {
            cached.save(*room, &self.storage)?;
        }
        Ok(())
    }

    /// Drops what a failed step may have done to the group in memory.
    pub(super) fn drop_group(&mut self, room: RoomId) {
        let dropped = self.groups.remove(&room);
        if dropped.is_some_and(|cached| cached.kept) {
            self.steps = Steps::Lost;
        }
    }

    pub(super) fn delete_group(&mut self, room: RoomId) -> Result<(), Error> {
        self.groups.remove(&room);
        self.storage.delete_group(room.as_bytes())
    }

    /// This device was removed.
    pub(super) fn leave(&mut self, room: RoomId) -> Result<(), Error> {
        self.end_room(room, Standing::Left)?;
        self.effects.events.push(Event::RoomLeft { room });
        Ok(())
    }

    /// The room can't go on for this device.
    pub(super) fn break_room(&mut self, room: RoomId, reason: &str) -> Result<(), Error> {
        let reason = reason.to_owned();
        self.end_room(room, Standing::Broken(reason.clone()))?;
        self.effects.events.push(Event::RoomOver { room, reason });
        Ok(())
    }

    fn end_room(&mut self, room: RoomId, standing: Standing) -> Result<(), Error> {
        let refusal = Refusal::new(
            RefusalCode::UnknownRoom,
            match &standing {
                Standing::Broken(reason) => {
                    format!("the room can't go on for this device: {reason}")
                }
                _ => "this device is out of the room".to_owned(),
            },
        );
        self.keep_as_past(room)?;
        let epoch = self.group(room).ok().map(|group| group.current_epoch());
        let present = self.leaves(room).map(|leaves| self.known_members(&leaves));
        self.end_sequences(room)?;
        self.forget_ordered(room)?;
        let mut record = self.room(room)?.clone();
        record.standing = standing;
        record.removals.clear();
        record.take_up_at_ms = None;
        record.gone.clear();
        record.ended_epoch = record.ended_epoch.max(epoch);
        record.ended_with = present.unwrap_or_default();
        self.put_room(record)?;
        self.delete_group(room)?;
        let operations: Vec<u64> = self
            .operations
            .values()
            .filter(|operation| operation.room == room)
            .map(|operation| operation.number)
            .collect();
        for number in operations {
            self.end_operation(number, Err(Error::Refused(refusal.clone())));
        }
        for number in self.store.numbers(Family::Queue, room.as_bytes())? {
            self.store.delete(Family::Queue, room.as_bytes(), number);
            self.answer_message(room, number, ProgressRecord::Refused(refusal.clone()))?;
        }
        Ok(())
    }

    /// Before a commit of this time is made or applied: the certificates of the group's present members, which are not
    /// judged by date again; and by which of the hub's removals whole accounts go.
    pub(super) fn admit_members(&mut self, room: RoomId, at_ms: u64) -> Result<Arc<[Leaf]>, Error> {
        let leaves = self.leaves(room)?;
        self.identities
            .set_admitted(leaves.iter().map(|leaf| leaf.mark).collect());
        let removals = self.room(room)?.removals.iter();
        let leaving = removals.filter(|removal| removal.account);
        let leaving = leaving.map(|removal| removal.reference.clone()).collect();
        self.identities.rules().set_leaving(leaving);
        self.identities.rules().set_time(at_ms);
        Ok(leaves)
    }

    /// Tells who came and who went between two rosters.
    pub(super) fn tell_changes(
        &mut self,
        room: RoomId,
        (before, after): (&[Leaf], &[Leaf]),
        left: Vec<Address>,
    ) {
        let (before, after) = (self.known_members(before), self.known_members(after));
        self.tell_members(room, (&before, &after), left);
    }

    /// Tells who is in the room that was not before, and who was and is not.
    pub(super) fn tell_members(
        &mut self,
        room: RoomId,
        (before, after): (&[RoomMember], &[RoomMember]),
        left: Vec<Address>,
    ) {
        let only_in = |members: &[RoomMember], others: &[RoomMember]| -> Vec<RoomMember> {
            let others: BTreeSet<&Member> = others.iter().map(|other| &other.member).collect();
            let own = members.iter().filter(|one| !others.contains(&one.member));
            own.cloned().collect()
        };
        let (added, removed) = (only_in(after, before), only_in(before, after));
        if !added.is_empty() || !removed.is_empty() {
            self.effects.events.push(Event::MembersChanged {
                room,
                added,
                removed,
                left,
            });
        }
    }
}

impl CachedGroup {
    /// Who is in the group. Only what an epoch has changed is read from its certificate: in a large room reading all of
    /// them takes longer than everything else that a commit asks for.
    fn leaves(&mut self) -> Result<Arc<[Leaf]>, Error> {
        let now = self.group.current_epoch();
        let known = match &self.leaves {
            Some((epoch, leaves)) if *epoch == now => return Ok(Arc::clone(leaves)),
            Some((_, leaves)) => leaves.as_ref(),
            None => &[],
        };
        let known: HashMap<u32, &Leaf> = known.iter().map(|leaf| (leaf.index, leaf)).collect();
        let members = self.group.roster().members_iter();
        let leaves = members.map(|member| match known.get(&member.index()) {
            Some(known) if known.mark == room_rules::mark(member.signing_identity())? => {
                Ok(Leaf::clone(known))
            }
            _ => leaf(&member),
        });
        let leaves: Arc<[Leaf]> = leaves.collect::<Result<_, Error>>()?;
        self.leaves = Some((now, Arc::clone(&leaves)));
        Ok(leaves)
    }

    /// Writes the group into the batch; its tree only when that is a new one.
    fn save(&mut self, room: RoomId, storage: &MlsStorage) -> Result<(), Error> {
        let epoch = self.group.current_epoch();
        if self.stored_tree != Some(epoch) {
            storage.put_tree(room.as_bytes(), &self.group.export_tree())?;
            self.stored_tree = Some(epoch);
        }
        self.group
            .write_to_storage_without_ratchet_tree()
            .map_err(mls::error)?;
        self.dirty = false;
        self.kept = false;
        Ok(())
    }
}

/// Whose leaves these are.
pub(super) fn members_of(leaves: &[Leaf]) -> Vec<RoomMember> {
    let member = |leaf: &Leaf| RoomMember {
        member: leaf.device.member.clone(),
        address: leaf.device.address.clone(),
    };
    leaves.iter().map(member).collect()
}

/// Whether somebody is one of those whom this device knew in a room, with the same key: a homeserver that certifies devices
/// can make up anybody else's, and a whole group with them.
pub(super) fn is_known(known: &[Leaf], who: &Leaf) -> bool {
    let same = |old: &Leaf| {
        old.device.member == who.device.member && old.device.public_key == who.device.public_key
    };
    known.iter().any(same)
}

/// The group's leaves. Their certificates were checked when they came in.
pub(super) fn leaves(group: &Group) -> Result<Vec<Leaf>, Error> {
    group
        .roster()
        .members_iter()
        .map(|member| leaf(&member))
        .collect()
}

/// What every room of ours has in its group's context.
pub(super) fn context(group: &Group) -> Result<Context, Error> {
    Ok(Context::read(&group.context().extensions)?)
}

/// Who takes part, with which role.
pub(super) fn settings(group: &Group) -> Result<RoomSettings, Error> {
    context(group).map(|context| context.settings)
}

/// The leaf at an index.
pub(super) fn leaf_at(group: &Group, index: u32) -> Result<Leaf, Error> {
    group
        .member_at_index(index)
        .ok_or_else(|| Error::Mls("the sender is no member".to_owned()))
        .and_then(|member| leaf(&member))
}

/// What a member's leaf says.
pub(super) fn leaf(member: &mls_rs::group::Member) -> Result<Leaf, Error> {
    let certificate = member
        .signing_identity()
        .credential
        .as_x509()
        .and_then(|chain| chain.first())
        .ok_or_else(|| Error::Mls("a member without a certificate".to_owned()))?;
    Ok(Leaf {
        index: member.index(),
        device: certificate::read(certificate)?,
        mark: room_rules::mark(member.signing_identity())?,
    })
}
