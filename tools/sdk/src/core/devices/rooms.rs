//! What devices mean for rooms: who is asked about, and what keeps this device from sending.

use std::collections::BTreeSet;

use homeserver_api::ids::{AccountId, Address, DeviceId, Member, RoomId, ServerName};

use super::Standing;
use crate::core::Core;
use crate::core::records;
use crate::error::{Error, renamed_in_words};
use crate::event::Event;

/// Why this device does not send to a room.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Held {
    /// A device came by a reset that nobody has confirmed here.
    Reset(Address),
    /// A device is in the room that its account, as far as is known, does not have.
    Unlisted(Address, DeviceId),
    /// An account is in the room under the address of another one that is known, and nothing is known of it.
    Another(Address),
    /// A device is certified for another address than its account is known by, and nobody has confirmed that here.
    Renamed {
        address: Address,
        certified: Address,
        /// Whether another account is known by it: then nobody can.
        taken: bool,
    },
    /// A device is in the room that its account has removed.
    Removed(Address, Member),
}

impl Held {
    /// Why, and what to do.
    pub(in crate::core) fn reason(&self) -> String {
        match self {
            Self::Reset(address) => format!(
                "{address} has a new device that no other device of the account has approved: ask them by \
                 another way, then confirm it (`chat confirm {address}`)"
            ),
            Self::Unlisted(address, device) => format!(
                "the device {device} in the room is none that {address} is known to have; their homeserver is \
                 being asked"
            ),
            Self::Another(address) => format!(
                "another account is in the conversation as {address} than the one that this device knows: don't take it for \
                 theirs; their homeserver is being asked"
            ),
            Self::Renamed {
                address,
                certified,
                taken,
            } => renamed_in_words(address, certified, *taken),
            Self::Removed(address, Member { device, .. }) => format!(
                "{address} has removed the device {device}, and it is in the conversation still: it goes on when that \
                 device has left, which is for the homeserver that orders it, or for an owner of it"
            ),
        }
    }

    const fn address(&self) -> &Address {
        match self {
            Self::Reset(address)
            | Self::Unlisted(address, _)
            | Self::Another(address)
            | Self::Renamed { address, .. }
            | Self::Removed(address, _) => address,
        }
    }
}

impl Core {
    /// Looks at who is in a room, and asks about whom is not known. Call it when somebody has come.
    pub(in crate::core) fn meet(&mut self, room: RoomId) -> Result<(), Error> {
        self.known.held.remove(&room);
        self.note_names(room)?;
        for held in self.held(room)? {
            if let Held::Unlisted(..) | Held::Another(_) = held {
                self.tell_held(room, &held);
            }
        }
        self.note_gone(room)?;
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
                let address = self.known.address_of(&leaf.device).clone();
                unknown.insert((member.server.clone(), member.account, address));
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
            let member = &leaf.device.member;
            if *member == own {
                continue;
            }
            if let Some(Error::Renamed {
                address,
                certified,
                taken,
            }) = self.renamed(&leaf.device)
            {
                held.insert(Held::Renamed {
                    address,
                    certified,
                    taken,
                });
            }
            let address = self.known.address_of(&leaf.device);
            match self.known.standing(member, &leaf.device.public_key) {
                Standing::Unconfirmed => held.insert(Held::Reset(address.clone())),
                Standing::Unlisted => held.insert(Held::Unlisted(address.clone(), member.device)),
                Standing::Stranger if self.known.is_met(address) => {
                    held.insert(Held::Another(address.clone()))
                }
                Standing::Removed => held.insert(Held::Removed(address.clone(), member.clone())),
                // A stranger can be held to nothing.
                Standing::Stranger | Standing::Listed => false,
            };
        }
        let held: Vec<Held> = held.into_iter().collect();
        self.known.held.insert(room, held.clone());
        Ok(held)
    }

    /// What keeps this device from sending to a room, in words, as far as it is told.
    pub(crate) fn held_because(&mut self, room: RoomId) -> Result<Vec<String>, Error> {
        self.open_room(room)?;
        let mut held = self.held(room)?;
        held.retain(|why| self.is_told(room, why));
        Ok(held.iter().map(Held::reason).collect())
    }

    /// Whether this device may send to a room; if not, it is told once why.
    pub(in crate::core) fn may_send(&mut self, room: RoomId) -> Result<bool, Error> {
        let held = self.held(room)?;
        for why in &held {
            if self.is_told(room, why) {
                self.tell_held(room, why);
            }
        }
        Ok(held.is_empty())
    }

    /// Whether a reason is told: what honest homeservers mend within moments is not before it has lasted.
    fn is_told(&self, room: RoomId, held: &Held) -> bool {
        match held {
            Held::Removed(_, device) => self.is_told_gone(room, device),
            Held::Reset(_) | Held::Unlisted(..) | Held::Another(_) | Held::Renamed { .. } => true,
        }
    }

    pub(super) fn tell_held(&mut self, room: RoomId, held: &Held) {
        self.effects.events.push(Event::Held {
            room,
            address: held.address().clone(),
            reason: held.reason(),
        });
    }

    /// More is known of an account: rooms in which it is are looked at again, and what waited there may go.
    pub(super) fn known_better(&mut self, key: &(ServerName, AccountId)) -> Result<(), Error> {
        let rooms: Vec<(RoomId, bool)> = self
            .rooms
            .values()
            .map(|record| (record.room, record.standing == records::Standing::Joined))
            .collect();
        for (room, is_joined) in rooms {
            let before = self.known.held.remove(&room).unwrap_or_default();
            // The others are looked at when this device is in their step again.
            if !is_joined {
                continue;
            }
            let is_in = self.leaves(room)?.iter().any(|leaf| {
                leaf.device.member.server == key.0 && leaf.device.member.account == key.1
            });
            if !is_in {
                self.known.held.insert(room, before);
                continue;
            }
            self.note_names(room)?;
            let now = self.held(room)?;
            for why in now.iter().filter(|why| !before.contains(why)) {
                if self.is_told(room, why) {
                    self.tell_held(room, why);
                }
            }
            self.note_gone(room)?;
            if now.is_empty() && !before.is_empty() {
                self.send_queued(room)?;
            }
        }
        Ok(())
    }
}
