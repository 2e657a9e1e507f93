//! The addresses that accounts are certified for, held to those that they are known by.
//!
//! The device log has no addresses: each is its homeserver's word, given anew with every certificate. It is believed once, when an account
//! is met. A homeserver that was taken over could else certify somebody's device for a colleague's address, and have him written to,
//! and shown, as that colleague, while the safety number with the colleague stays as it is. So an account keeps the address that it was met
//! under until a person confirms another one; and one that another account is known by nobody confirms.

use homeserver_api::ids::{AccountId, Address, RoomId, ServerName};

use super::records::Called;
use super::{Known, Person};
use crate::certificate::DeviceCertificate;
use crate::core::Core;
use crate::core::rooms::Leaf;
use crate::error::Error;
use crate::event::Event;

impl Person {
    /// Whether its certificates may have this address.
    pub(super) fn has_name(&self, address: &Address) -> bool {
        self.address == *address || self.former.contains(address)
    }
}

impl Known {
    /// The address that a device's account is known by; that of its certificate, when the account is not known.
    pub(super) fn address_of<'a>(&'a self, device: &'a DeviceCertificate) -> &'a Address {
        let member = &device.member;
        let person = self.person(&member.server, member.account);
        person.map_or(&device.address, |person| &person.address)
    }

    /// Whether a device's certificate has an address that its account is not known by.
    pub(super) fn is_misnamed(&self, device: &DeviceCertificate) -> bool {
        let member = &device.member;
        let person = self.person(&member.server, member.account);
        person.is_some_and(|person| !person.has_name(&device.address))
    }
}

impl Core {
    /// The address that a device is shown under.
    pub(in crate::core) fn address_of<'a>(&'a self, device: &'a DeviceCertificate) -> &'a Address {
        self.known.address_of(device)
    }

    /// A leaf as it is shown: under the address that its account is known by.
    pub(in crate::core) fn as_known(&self, mut leaf: Leaf) -> Leaf {
        let address = self.known.address_of(&leaf.device).clone();
        leaf.device.address = address;
        leaf
    }

    /// Whether another account than this one is known by an address.
    pub(super) fn is_anothers(&self, address: &Address, key: &(ServerName, AccountId)) -> bool {
        let own = &self.identity.member;
        let is_own = key.0 == own.server && key.1 == own.account;
        let mut people = self.known.people.iter();
        (!is_own && address == self.own_address())
            || people.any(|(of, person)| of != key && person.has_name(address))
    }

    /// Why nothing goes to a device, when its certificate has an address that its account is not known by.
    pub(super) fn renamed(&self, device: &DeviceCertificate) -> Option<Error> {
        if !self.known.is_misnamed(device) {
            return None;
        }
        let key = (device.member.server.clone(), device.member.account);
        Some(Error::Renamed {
            address: self.known.address_of(device).clone(),
            certified: device.address.clone(),
            taken: self.is_anothers(&device.address, &key),
        })
    }

    /// Looks at the addresses that the devices in a room are certified for.
    pub(super) fn note_names(&mut self, room: RoomId) -> Result<(), Error> {
        for leaf in self.leaves(room)?.iter() {
            self.note_name(&leaf.device)?;
        }
        Ok(())
    }

    /// Takes note of the address that a device of somebody whom this device has met is certified for, and tells of one that
    /// his account is not known by. The newest certificate says which one it is: older ones stay in rooms for a while.
    pub(super) fn note_name(&mut self, device: &DeviceCertificate) -> Result<(), Error> {
        let key = (device.member.server.clone(), device.member.account);
        let Some(person) = self.known.people.get_mut(&key) else {
            return Ok(());
        };
        if person.has_name(&device.address) {
            let newest = |called: &Called| called.over.unwrap_or(called.since);
            if let Some(called) = &mut person.called
                && newest(called) < device.not_before
            {
                called.over = Some(device.not_before);
                self.put_person(&key)?;
            }
            return Ok(());
        }
        let is_known = |called: &Called| match called.over {
            // An older certificate stays in a room until its device has another.
            Some(over) => device.not_before <= over,
            None => called.address == device.address || called.since > device.not_before,
        };
        if person.called.as_ref().is_some_and(is_known) {
            return Ok(());
        }
        person.called = Some(Called {
            address: device.address.clone(),
            since: device.not_before,
            over: None,
        });
        let address = person.address.clone();
        let event = Event::AddressChanged {
            address,
            certified: device.address.clone(),
            taken: self.is_anothers(&device.address, &key),
        };
        self.effects.events.push(event);
        self.put_person(&key)
    }

    /// Takes over the address that an account is certified for meanwhile, unless another one is known by it. Devices of
    /// the account that wait for the same confirmation need not wait for that.
    pub(super) fn take_name(&mut self, key: &(ServerName, AccountId)) -> Result<(), Error> {
        let Some(person) = self.known.people.get(key) else {
            return Ok(());
        };
        let Some(called) = person.called.clone() else {
            return Ok(());
        };
        if self.is_anothers(&called.address, key) {
            if called.over.is_some() || !person.unconfirmed().is_empty() {
                return Ok(());
            }
            return Err(Error::Renamed {
                address: person.address.clone(),
                certified: called.address,
                taken: true,
            });
        }
        if let Some(person) = self.known.people.get_mut(key) {
            person.called = None;
            let former = match called.over {
                Some(_) => called.address,
                None => std::mem::replace(&mut person.address, called.address),
            };
            person.former.insert(former);
        }
        Ok(())
    }
}
