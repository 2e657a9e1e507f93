//! Successor rooms: where a conversation goes on when its hub is gone for good.
//!
//! An owner or moderator makes one at his own homeserver. It is a room like any other, into which people are brought with their
//! consent; it says, signed, which room it continues. Nothing of the former room changes. Every device judges that word by what it
//! knew of the former room: who might say so there, and a secret of the epoch that only those have who were in it.

use std::collections::BTreeSet;

use bytes::Bytes;
use homeserver_api::codec::Wire as _;
use homeserver_api::ids::{Address, Member, RoomId};
use room_rules::continuation::{Continuation, EXPORTER_LABEL, SECRET_BYTES, authenticator};
use room_rules::settings::{RoomSettings, account, successor};
use serde::{Deserialize, Serialize};

use super::Core;
use super::plan::no_key_packages;
use super::records::{Operation, OperationKind, RoomRecord, Standing, Succession};
use super::rooms::{Leaf, settings};
use crate::error::Error;
use crate::event::Event;
use crate::message::Continues;
use crate::mls::{self, Group};

/// Epochs whose secrets are kept: whoever makes a successor may have missed the last commits before the hub was gone.
const EPOCHS_KEPT_MAX: usize = 8;
/// Devices that are remembered as those whose word counts; in a room with more owners and moderators the first ones do.
const HEIRS_MAX: usize = 256;

/// What a device keeps of a room to judge what says that it continues it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LineageRecord {
    /// Secrets of the last epochs that this device was in, oldest first.
    pub(crate) secrets: Vec<(u64, [u8; SECRET_BYTES])>,
    /// Devices of owners and moderators, and of who acts as an owner, with their keys.
    pub(crate) heirs: Vec<(Member, [u8; 32])>,
    /// What the room itself says to continue, encoded.
    pub(crate) says: Option<Bytes>,
}

/// What is kept of a room in the epoch that its group is in, with these leaves.
pub(super) fn lineage_of(
    before: LineageRecord,
    group: &Group,
    leaves: &[Leaf],
    settings: &RoomSettings,
) -> Result<LineageRecord, Error> {
    let LineageRecord { mut secrets, .. } = before;
    let epoch = group.current_epoch();
    let secret = group
        .export_secret(EXPORTER_LABEL, b"", SECRET_BYTES)
        .map_err(mls::error)?;
    let secret: [u8; SECRET_BYTES] = secret
        .as_bytes()
        .try_into()
        .map_err(|_| Error::Mls("an exported secret has another length".to_owned()))?;
    secrets.retain(|(known, _)| *known < epoch);
    secrets.push((epoch, secret));
    let too_many = secrets.len().saturating_sub(EPOCHS_KEPT_MAX);
    secrets.drain(..too_many);
    let present: BTreeSet<_> = leaves
        .iter()
        .map(|leaf| account(&leaf.device.member))
        .collect();
    let acting = successor(settings, &present);
    let may = |member: &Member| {
        let role = settings.role(member);
        role.is_some_and(|role| role.may_change_participants()) || acting == Some(&account(member))
    };
    let heirs = leaves.iter().filter(|leaf| may(&leaf.device.member));
    let heirs = heirs.filter_map(|leaf| {
        let key = leaf.device.public_key.as_slice().try_into().ok()?;
        Some((leaf.device.member.clone(), key))
    });
    Ok(LineageRecord {
        secrets,
        heirs: heirs.take(HEIRS_MAX).collect(),
        says: says(settings)?,
    })
}

/// What a room says to continue, encoded.
pub(super) fn says(settings: &RoomSettings) -> Result<Option<Bytes>, Error> {
    let says = settings.continues.as_ref().map(|said| said.to_bytes());
    says.transpose()
        .map_err(|error| Error::Mls(error.to_string()))
}

impl Core {
    /// Begins a room that continues `former` at the own homeserver, with its people but those of the organisation that
    /// orders the former one; the operation's number.
    pub(crate) fn start_successor(&mut self, former: RoomId) -> Result<u64, Error> {
        let record = self.open_room(former)?.clone();
        if record.standing == Standing::Creating {
            return Err(Error::InvalidArgument(
                "the room does not stand yet".to_owned(),
            ));
        }
        let own = self.identity.member.clone();
        if record.hub == own.server {
            return Err(Error::InvalidArgument(
                "your own homeserver orders this conversation: it goes on there".to_owned(),
            ));
        }
        if let Some(there_is) = self.continued_by(former).first() {
            return Err(Error::InvalidArgument(format!(
                "conversation {there_is} continues it already: write there"
            )));
        }
        if !record
            .policy
            .lineage
            .heirs
            .iter()
            .any(|(member, _)| *member == own)
        {
            return Err(Error::InvalidArgument(
                "only owners and moderators continue a conversation elsewhere: ask one of them"
                    .to_owned(),
            ));
        }
        let list = settings(self.group(former)?)?;
        let mut addresses: BTreeSet<Address> = self
            .known_leaves(former)?
            .into_iter()
            .filter(|leaf| leaf.device.member.server != record.hub)
            .map(|leaf| leaf.device.address)
            .collect();
        addresses.insert(self.own_address().clone());
        if addresses.len() == 1 {
            return Err(Error::InvalidArgument(format!(
                "everybody else in it is of {}, whose homeserver orders it: nobody could be brought over",
                record.hub
            )));
        }
        let roles = list.participants.iter();
        let roles = roles.map(|((server, account), role)| (server.clone(), *account, *role));
        let succession = Succession {
            room: former,
            name: list.name.clone(),
            roles: roles.collect(),
        };
        let room = RoomId::from_bytes(self.random_bytes()?);
        let number =
            self.new_operation(room, OperationKind::Create, addresses, Some(succession))?;
        self.advance_room(room)?;
        Ok(number)
    }

    /// That `new` continues `former`, signed by this device.
    pub(super) fn continuation(&self, former: RoomId, new: RoomId) -> Result<Continuation, Error> {
        let lineage = &self.room(former)?.policy.lineage;
        let (epoch, secret) = lineage.secrets.last().ok_or(Error::UnknownRoom(former))?;
        let mut made = Continuation {
            room: former,
            epoch: *epoch,
            authenticator: authenticator(secret, new),
            by: self.identity.member.clone(),
            signature: [0; 64],
        };
        let bytes = made
            .signed_bytes(new)
            .map_err(|error| Error::Mls(error.to_string()))?;
        made.signature = self.identity.key.sign(&bytes)?;
        Ok(made)
    }

    /// Which room this one says to continue, and whether that is to be believed.
    pub(super) fn continues(&self, record: &RoomRecord) -> Option<Continues> {
        let bytes = record.policy.lineage.says.clone()?;
        let said = Continuation::from_bytes(bytes).ok()?;
        let doubt = self.judge(record, &said).err().map(str::to_owned);
        Some(Continues {
            room: said.room,
            doubt,
        })
    }

    /// Holds what a room says to continue against what this device knew of that.
    fn judge(&self, record: &RoomRecord, said: &Continuation) -> Result<(), &'static str> {
        if record.hub != said.by.server {
            return Err("it is ordered by another homeserver than that of who says so");
        }
        let former = self
            .rooms
            .get(&said.room)
            .ok_or("this device was not in that conversation")?;
        if former.hub == record.hub {
            return Err("the homeserver that orders that conversation orders this one too");
        }
        let lineage = &former.policy.lineage;
        let (_, key) = lineage
            .heirs
            .iter()
            .find(|(member, _)| *member == said.by)
            .ok_or("who says so was no owner or moderator of that conversation")?;
        if !said.is_signed(record.room, key) {
            return Err("the device that is to have said so has not signed it");
        }
        let (_, secret) = lineage
            .secrets
            .iter()
            .find(|(epoch, _)| *epoch == said.epoch)
            .ok_or("this device knows nothing of the time from which it is said")?;
        if !said.is_of_epoch(record.room, secret) {
            return Err("who says so was not in that conversation then");
        }
        Ok(())
    }

    /// The rooms that continue this one, as far as this device believes them.
    pub(super) fn continued_by(&self, former: RoomId) -> Vec<RoomId> {
        let continues = |record: &&RoomRecord| {
            let found = self.continues(record);
            found.is_some_and(|found| found.room == former && found.doubt.is_none())
        };
        let rooms = self.rooms.values().filter(continues);
        rooms.map(|record| record.room).collect()
    }

    /// Tells who could not be brought over into a room that continues another one.
    pub(super) fn tell_not_invited(&mut self, operation: &Operation, invited: &BTreeSet<Member>) {
        if operation.succession.is_none() {
            return;
        }
        let own = self.own_address().clone();
        for claim in operation.claims.iter().filter(|claim| claim.address != own) {
            let reason = match &claim.answer {
                Some(Err(refusal)) => refusal.to_string(),
                Some(Ok(devices))
                    if devices
                        .iter()
                        .any(|device| invited.contains(&device.member)) =>
                {
                    continue;
                }
                _ => no_key_packages().to_string(),
            };
            self.effects.events.push(Event::NotInvited {
                room: operation.room,
                address: claim.address.clone(),
                reason,
            });
        }
    }

    /// Tells of a new room which one it says to continue.
    pub(super) fn tell_continuation(&mut self, room: RoomId) -> Result<(), Error> {
        if let Some(continues) = self.continues(self.room(room)?) {
            self.effects
                .events
                .push(Event::RoomContinues { room, continues });
        }
        Ok(())
    }
}
