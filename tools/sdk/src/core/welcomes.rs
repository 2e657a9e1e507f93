//! Welcomes: how this device comes into a room that somebody adds it to.
//!
//! Whoever certifies devices and delivers to this one can make up a group of any room's name, with this device in it. So a
//! welcome into a room that this device knows is held to what it knows of it: the hub is the same, no consent gives way to
//! an older one, and nobody is drawn back into an epoch that he has been in. While this device is on its way back into the
//! room, somebody whom it knew there must have signed it, as a group info ([`super::resync`]): what waits to be sent there
//! is for those whom its author knew. Once it is out of the room, somebody may add it again who came later; then nothing
//! that was written before is sent there.

use std::collections::BTreeSet;

use homeserver_api::ids::{RoomId, ServerName};

use super::Core;
use super::consents::{check_goes_on, policy_of};
use super::records::{PolicyRecord, RoomRecord, SentRecord, Standing};
use super::rooms::{Leaf, is_known, leaves, settings};
use crate::error::Error;
use crate::event::Event;
use crate::message::{Gap, RoomMember};
use crate::mls::{self, Group, Identities};

/// A group that a welcome leads into.
struct Joined {
    group: Group,
    leaves: Vec<Leaf>,
    /// The leaf of whoever has signed the welcome.
    signer: u32,
}

/// What this device was in a room before a welcome into it.
struct Former {
    /// The last epoch that it was in.
    epoch: Option<u64>,
    /// Who was in it, as far as it knew.
    members: Vec<RoomMember>,
    /// Since when it has been out of the room's step; nothing when it is out of the room.
    out_of_step: Option<Gap>,
}

impl Core {
    /// Takes in that somebody has added this device to a room.
    pub(super) fn take_welcome(
        &mut self,
        room: RoomId,
        hub: ServerName,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let known = self.rooms.get(&room).cloned();
        if let Some(record) = &known {
            check_may_come(record, &hub)?;
        }
        self.key_packages_used += 1;
        let message = mls::parse(bytes)?;
        let client = &self.mls;
        let (group, info) = mls::guarded(|| {
            let joined = client.join_group(None, &message, None);
            joined.map_err(mls::error)
        })?;
        let leaves = check_joined(&self.identities, room, &group)?;
        if settings(&group)?.hub != hub {
            return Err(Error::Mls("the room has another hub".to_owned()));
        }
        let joined = Joined {
            group,
            leaves,
            signer: info.sender,
        };
        let Some(record) = known else {
            return self.come_first(room, hub, joined);
        };
        match self.former(&record, &joined)? {
            Some(former) => self.come_again(record, former, joined),
            None => Ok(()),
        }
    }

    /// Comes into a room that this device has never been in.
    fn come_first(&mut self, room: RoomId, hub: ServerName, joined: Joined) -> Result<(), Error> {
        let Joined { group, leaves, .. } = joined;
        let before = PolicyRecord::default();
        let policy = policy_of(before, &group, &leaves, &self.identity.member)?;
        let name = settings(&group)?.name;
        self.state.last_room += 1;
        self.put_room(RoomRecord {
            number: self.state.last_room,
            room,
            hub,
            standing: Standing::Joined,
            sent_in_epoch: 0,
            sent: SentRecord::default(),
            written_before: 0,
            ended_epoch: None,
            ended_with: Vec::new(),
            epoch_began_ms: self.now_ms(),
            // What was encrypted before is for those who were here.
            readable_from: group.current_epoch(),
            gap: None,
            resyncs: Vec::new(),
            name,
            removals: Vec::new(),
            take_up_at_ms: None,
            gone: Vec::new(),
            policy,
        })?;
        self.set_group(room, group, leaves);
        self.effects.events.push(Event::RoomJoined { room });
        self.tell_continuation(room)?;
        self.meet(room)
    }

    /// Holds a group to what this device knows of the room; nothing, when its own way back there leads beyond that group.
    fn former(&mut self, record: &RoomRecord, joined: &Joined) -> Result<Option<Former>, Error> {
        let epoch = joined.group.current_epoch();
        check_goes_on(&record.policy, &settings(&joined.group)?)?;
        let mut former = Former {
            epoch: record.ended_epoch,
            members: record.ended_with.clone(),
            out_of_step: None,
        };
        if let Standing::Resyncing(resync) = &record.standing {
            let known = self.leaves(record.room)?;
            check_signer(&known, joined)?;
            if resync.commit.is_some_and(|own| epoch <= own.epoch) {
                return Ok(None);
            }
            let last = self.group(record.room)?.current_epoch();
            former.epoch = former.epoch.max(Some(last));
            former.members = self.known_members(&known);
            let until_ms = self.now_ms();
            former.out_of_step = Some(Gap {
                from_ms: resync.since_ms.min(until_ms),
                until_ms,
            });
        }
        // Nobody is drawn back into what this device has left: its keys there are spent.
        if former.epoch.is_some_and(|last| epoch <= last) {
            return Err(Error::Mls(
                "a welcome to an epoch that this device was in before".to_owned(),
            ));
        }
        Ok(Some(former))
    }

    /// Goes on in a room that this device was out of, or out of whose step it was.
    fn come_again(
        &mut self,
        before: RoomRecord,
        former: Former,
        joined: Joined,
    ) -> Result<(), Error> {
        let Joined { group, leaves, .. } = joined;
        let (room, own) = (before.room, &self.identity.member);
        let record = RoomRecord {
            policy: policy_of(before.policy, &group, &leaves, own)?,
            name: settings(&group)?.name,
            standing: Standing::Joined,
            sent_in_epoch: 0,
            written_before: match former.out_of_step {
                Some(_) => before.written_before,
                None => self.state.last_number,
            },
            ended_epoch: former.epoch,
            ended_with: Vec::new(),
            epoch_began_ms: self.now_ms(),
            readable_from: group.current_epoch(),
            gap: former.out_of_step,
            removals: Vec::new(),
            take_up_at_ms: None,
            gone: Vec::new(),
            ..before
        };
        self.put_room(record)?;
        if let Some(gap) = former.out_of_step {
            // A member was quicker to add this device again.
            self.delete_group(room)?;
            self.end_sequences(room)?;
            self.forget_ordered(room)?;
            self.effects.events.push(Event::RoomResynced {
                room,
                from_ms: gap.from_ms,
                until_ms: gap.until_ms,
            });
        } else {
            self.effects.events.push(Event::RoomJoined { room });
            self.tell_continuation(room)?;
        }
        let members = self.known_members(&leaves);
        self.set_group(room, group, leaves);
        self.tell_members(room, (&former.members, &members), Vec::new());
        self.meet(room)?;
        self.advance_room(room)
    }
}

/// Whether a welcome into a room that this device knows is looked at.
fn check_may_come(record: &RoomRecord, hub: &ServerName) -> Result<(), Error> {
    if matches!(record.standing, Standing::Joined | Standing::Creating) {
        return Err(Error::Mls(
            "a welcome to a room that this device is in".to_owned(),
        ));
    }
    if record.hub != *hub {
        return Err(Error::Mls(
            "the welcome is to a room with another hub than the one that this device knows by its id"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Whether somebody has signed a welcome whom this device knew in the room.
fn check_signer(known: &[Leaf], joined: &Joined) -> Result<(), Error> {
    let mut leaves = joined.leaves.iter();
    let signer = leaves.find(|leaf| leaf.index == joined.signer);
    if signer.is_some_and(|signer| is_known(known, signer)) {
        return Ok(());
    }
    Err(Error::Mls(
        "the welcome is signed by somebody who came while this device was out of step".to_owned(),
    ))
}

/// Holds a group that this device comes into to what a room is: who is in it.
pub(super) fn check_joined(
    identities: &Identities,
    room: RoomId,
    group: &Group,
) -> Result<Vec<Leaf>, Error> {
    if group.group_id() != room.as_bytes() {
        return Err(Error::Mls("the welcome is to another room".to_owned()));
    }
    if group.cipher_suite() != mls::CIPHER_SUITE {
        return Err(Error::Mls("the room's cipher suite is another".to_owned()));
    }
    let settings = settings(group)?;
    identities.check_consents(&settings, room.as_bytes(), None)?;
    let mut seen = BTreeSet::new();
    let leaves = leaves(group)?;
    let stranger = |leaf: &&Leaf| settings.role(&leaf.device.member).is_none();
    if let Some(stranger) = leaves.iter().find(stranger) {
        return Err(Error::Mls(format!(
            "a device of {} is in the room, who takes no part in it",
            stranger.device.address
        )));
    }
    if !leaves.iter().all(|leaf| seen.insert(&leaf.device.member)) {
        return Err(Error::Mls("a device is in the room twice".to_owned()));
    }
    Ok(leaves)
}
