//! What devices mean for rooms: who is asked about, and what keeps this device from sending.

use std::collections::BTreeSet;

use homeserver_api::ids::{AccountId, Address, DeviceId, RoomId, ServerName};

use super::Standing;
use crate::core::Core;
use crate::core::records;
use crate::error::Error;
use crate::event::Event;

/// Why this device does not send to a room.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Held {
    /// A device came by a reset that nobody has confirmed here.
    Reset(Address),
    /// A device is in the room that its account, as far as is known, does not have.
    Unlisted(Address, DeviceId),
}

impl Held {
    /// Why, and what to do.
    fn reason(&self) -> String {
        match self {
            Self::Reset(address) => format!(
                "{address} has a new device that no other device of the account has approved: ask them by \
                 another way, then confirm it (`chat confirm {address}`)"
            ),
            Self::Unlisted(address, device) => format!(
                "the device {device} in the room is none that {address} is known to have; their homeserver is \
                 being asked"
            ),
        }
    }

    const fn address(&self) -> &Address {
        match self {
            Self::Reset(address) | Self::Unlisted(address, _) => address,
        }
    }
}

impl Core {
    /// Looks at who is in a room, and asks about whom is not known. Call it when somebody has come.
    pub(in crate::core) fn meet(&mut self, room: RoomId) -> Result<(), Error> {
        self.known.held.remove(&room);
        for held in self.held(room)? {
            if let Held::Unlisted(..) = held {
                self.tell_held(room, &held);
            }
        }
        self.ask_who_they_are(room)
    }

    /// Asks about people in a room who are not known, or not with the device that is there.
    pub(in crate::core) fn ask_who_they_are(&mut self, room: RoomId) -> Result<(), Error> {
        let own = self.identity.member.clone();
        let mut unknown = BTreeSet::new();
        for leaf in self.leaves(room)?.iter() {
            let member = &leaf.device.member;
            if *member == own {
                continue;
            }
            let standing = self.known.standing(member, &leaf.device.public_key);
            if matches!(standing, Standing::Stranger | Standing::Unlisted) {
                unknown.insert((
                    member.server.clone(),
                    member.account,
                    leaf.device.address.clone(),
                ));
            }
        }
        for (server, account, address) in unknown {
            self.ask_devices(&server, account, &address)?;
        }
        Ok(())
    }

    /// What keeps this device from sending to a room.
    pub(in crate::core) fn held(&mut self, room: RoomId) -> Result<Vec<Held>, Error> {
        if let Some(held) = self.known.held.get(&room) {
            return Ok(held.clone());
        }
        let own = self.identity.member.clone();
        let mut held = BTreeSet::new();
        for leaf in self.leaves(room)?.iter() {
            let (member, address) = (&leaf.device.member, &leaf.device.address);
            if *member == own {
                continue;
            }
            match self.known.standing(member, &leaf.device.public_key) {
                Standing::Unconfirmed => held.insert(Held::Reset(address.clone())),
                Standing::Unlisted => held.insert(Held::Unlisted(address.clone(), member.device)),
                // Somebody else under the address of one who is met.
                Standing::Stranger if self.known.is_met(address) => {
                    held.insert(Held::Reset(address.clone()))
                }
                // A stranger can be held to nothing; a removed one gets nothing any more.
                Standing::Stranger | Standing::Listed | Standing::Removed => false,
            };
        }
        let held: Vec<Held> = held.into_iter().collect();
        self.known.held.insert(room, held.clone());
        Ok(held)
    }

    /// What keeps this device from sending to a room, in words.
    pub(crate) fn held_because(&mut self, room: RoomId) -> Result<Vec<String>, Error> {
        self.open_room(room)?;
        Ok(self.held(room)?.iter().map(Held::reason).collect())
    }

    /// Whether this device may send to a room; if not, it is told once why.
    pub(in crate::core) fn may_send(&mut self, room: RoomId) -> Result<bool, Error> {
        let held = self.held(room)?;
        for why in &held {
            self.tell_held(room, why);
        }
        Ok(held.is_empty())
    }

    fn tell_held(&mut self, room: RoomId, held: &Held) {
        self.effects.events.push(Event::Held {
            room,
            address: held.address().clone(),
            reason: held.reason(),
        });
    }

    /// More is known of an account: rooms in which it is are looked at again, and what waited there may go.
    pub(super) fn known_better(&mut self, key: &(ServerName, AccountId)) -> Result<(), Error> {
        let open: Vec<RoomId> = self
            .rooms
            .values()
            .filter(|record| record.standing == records::Standing::Joined)
            .map(|record| record.room)
            .collect();
        for room in open {
            let before = self.known.held.remove(&room).unwrap_or_default();
            let is_in = self.leaves(room)?.iter().any(|leaf| {
                leaf.device.member.server == key.0 && leaf.device.member.account == key.1
            });
            if !is_in {
                self.known.held.insert(room, before);
                continue;
            }
            let now = self.held(room)?;
            for why in now.iter().filter(|why| !before.contains(why)) {
                self.tell_held(room, why);
            }
            if now.is_empty() && !before.is_empty() {
                self.send_queued(room)?;
            }
        }
        Ok(())
    }
}
