//! Devices that their accounts have removed, and that are in a room still.
//!
//! Whoever orders a room takes a removed device out of it as soon as the homeserver of its account asks for that. One of the two that was
//! taken over does not, and then whoever has stolen the device reads on. So nothing is sent to the room from the moment at which this
//! device knows. With honest homeservers that is over within moments; when it is not, it is told, and this device takes the removed one
//! out itself, where the room's rules let it.

use std::collections::BTreeSet;

use homeserver_api::ids::{Member, RoomId};
use room_rules::settings::{Role, RoomSettings, account, successor};

use super::{Held, Standing};
use crate::core::Core;
use crate::core::records::{self, GoneDevice, OperationKind, RoomRecord};
use crate::core::rooms::{Leaf, settings};
use crate::error::Error;

/// How long a room's hub has to take a removed device out before that is told. Members take up what it orders at once when they
/// have something to send.
pub(in crate::core) const GONE_TOLD_AFTER_MS: u64 = 60_000;

impl Core {
    /// Takes note of the removed devices in a room, and of when they were first seen there.
    pub(super) fn note_gone(&mut self, room: RoomId) -> Result<(), Error> {
        let (now, held) = (self.now_ms(), self.held(room)?);
        let known = &self.room(room)?.gone;
        let noted = |device: &Member| {
            let before = known.iter().find(|gone| gone.device == *device);
            before.cloned().unwrap_or_else(|| GoneDevice {
                device: device.clone(),
                since_ms: now,
                told: false,
            })
        };
        let gone = held.iter().filter_map(|why| match why {
            Held::Removed(_, device) => Some(noted(device)),
            _ => None,
        });
        let gone: Vec<GoneDevice> = gone.collect();
        if gone == *known {
            return Ok(());
        }
        let mut record = self.room(room)?.clone();
        record.gone = gone;
        self.put_room(record)
    }

    /// Keeps up when it is told that removed devices are in a room still.
    pub(in crate::core) fn schedule_gone(&mut self, record: &RoomRecord) {
        let untold = record.gone.iter().filter(|gone| !gone.told);
        let first = untold.map(|gone| gone.since_ms).min();
        let joined = record.standing == records::Standing::Joined;
        match first.filter(|_| joined) {
            Some(since_ms) => {
                let at_ms = since_ms.saturating_add(GONE_TOLD_AFTER_MS);
                self.gone_at.insert(record.room, at_ms);
                self.effects.schedule_changed = true;
            }
            None => drop(self.gone_at.remove(&record.room)),
        }
    }

    /// Tells of removed devices that have been in a room for long enough.
    pub(in crate::core) fn gone_due(&mut self) -> Result<(), Error> {
        let now = self.now_ms();
        let due = self.gone_at.iter().filter(|(_, at)| **at <= now);
        for room in due.map(|(room, _)| *room).collect::<Vec<_>>() {
            self.tell_gone(room)?;
        }
        Ok(())
    }

    fn tell_gone(&mut self, room: RoomId) -> Result<(), Error> {
        let (now, leaves) = (self.now_ms(), self.leaves(room)?);
        let mut record = self.room(room)?.clone();
        let mut told = BTreeSet::new();
        for mut gone in std::mem::take(&mut record.gone) {
            if !gone.told && gone.since_ms.saturating_add(GONE_TOLD_AFTER_MS) <= now {
                let leaf = leaves.iter().find(|leaf| leaf.device.member == gone.device);
                let ordered = |leaf: &Leaf| record.removals.iter().any(|r| r.leaf == leaf.index);
                // The hub has done what it has to; it is for the members to take that up.
                if leaf.is_none_or(ordered) {
                    continue;
                }
                gone.told = true;
                told.insert(gone.device.clone());
            }
            record.gone.push(gone);
        }
        self.put_room(record)?;
        for why in self.held(room)? {
            if matches!(&why, Held::Removed(_, device) if told.contains(device)) {
                self.tell_held(room, &why);
            }
        }
        self.put_out(room)
    }

    /// Whether it was told that a removed device is in a room still.
    pub(super) fn is_told_gone(&self, room: RoomId, device: &Member) -> bool {
        let record = self.rooms.get(&room);
        let mut gone = record.into_iter().flat_map(|record| &record.gone);
        gone.any(|gone| gone.told && gone.device == *device)
    }

    /// Begins to take removed devices out of a room that its hub has left in, as far as this device may.
    pub(in crate::core) fn put_out(&mut self, room: RoomId) -> Result<(), Error> {
        let record = self.rooms.get(&room);
        let is_told = record.is_some_and(|record| record.gone.iter().any(|gone| gone.told));
        let under_way = self
            .operations
            .values()
            .any(|o| o.room == room && o.kind == OperationKind::PutOut);
        if !is_told || under_way {
            return Ok(());
        }
        let leaves = self.leaves(room)?;
        let settings = settings(self.group(room)?)?;
        if !self.to_put_out(&leaves, &settings).is_empty() {
            self.start_operation(room, OperationKind::PutOut, BTreeSet::new())?;
        }
        Ok(())
    }

    /// The leaves of removed devices that this device may take out: those of its own account, and those on whose accounts its role
    /// may act.
    pub(in crate::core) fn to_put_out<'a>(
        &self,
        leaves: &'a [Leaf],
        settings: &RoomSettings,
    ) -> Vec<&'a Leaf> {
        let own = &self.identity.member;
        let present = leaves.iter().map(|leaf| account(&leaf.device.member));
        let role = match successor(settings, &present.collect()) {
            Some(heir) if *heir == account(own) => Some(Role::Owner),
            _ => settings.role(own),
        };
        let may = |member: &Member| {
            let roles = role.zip(settings.role(member));
            account(member) == account(own) || roles.is_some_and(|(role, of)| role.may_act_on(of))
        };
        let is_meant = |leaf: &&Leaf| {
            let (member, key) = (&leaf.device.member, &leaf.device.public_key);
            member != own && self.known.standing(member, key) == Standing::Removed && may(member)
        };
        leaves.iter().filter(is_meant).collect()
    }
}
