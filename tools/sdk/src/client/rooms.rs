//! Who is in a room, and what it is called.

use homeserver_api::ids::{Address, RoomId};
use room_rules::settings::Role;

use super::Client;
use crate::core::RoomNumber;
use crate::error::Error;

impl Client {
    /// Makes a room with these accounts and this account's other devices; resolves when its hub
    /// has ordered it. Runs in the background session, so [`Client::connect`] comes first.
    ///
    /// # Errors
    /// The refusal, when an organisation's policy or agreement forbids it.
    pub async fn start_conversation(&self, with: &[Address]) -> Result<RoomId, Error> {
        let with = with.to_vec();
        self.shared
            .run_operation(move |core| core.start_conversation(&with))
            .await
    }

    /// Continues a room in a new one that the own homeserver orders, with its people but those of the organisation that orders it now:
    /// for when that one's homeserver is gone for good. Nothing of the former room changes. Resolves when the new room stands;
    /// [`crate::Event::NotInvited`] tells who could not be brought over.
    ///
    /// # Errors
    /// When the own role does not allow it, when the own homeserver orders the room anyway, when another room continues it already,
    /// or when nobody can be brought over.
    pub async fn continue_elsewhere(&self, room: RoomId) -> Result<RoomId, Error> {
        self.shared
            .run_operation(move |core| core.start_successor(room))
            .await
    }

    /// Adds accounts to a room; resolves when its hub has ordered it.
    ///
    /// # Errors
    /// As for [`Client::start_conversation`].
    pub async fn add_members(&self, room: RoomId, add: &[Address]) -> Result<(), Error> {
        let add = add.to_vec();
        self.shared
            .run_operation(move |core| core.add_members(room, &add))
            .await
            .map(|_| ())
    }

    /// Gives an account in a room another role, and waits until the room's hub has ordered that.
    ///
    /// # Errors
    /// When the own role does not allow it, when the address is not in the room, or when the hub refuses.
    pub async fn set_role(&self, room: RoomId, address: &Address, role: Role) -> Result<(), Error> {
        let address = address.clone();
        self.shared
            .run_operation(move |core| core.set_role(room, &address, role))
            .await
            .map(|_| ())
    }

    /// Gives a room another name, or none by an empty one; resolves when its hub has ordered it.
    ///
    /// # Errors
    /// When it is no name, the own role does not allow it, or the hub refuses.
    pub async fn rename(&self, room: RoomId, name: &str) -> Result<(), Error> {
        let name = name.to_owned();
        self.shared
            .run_operation(move |core| core.rename(room, &name))
            .await
            .map(|_| ())
    }

    /// Leaves a room, with every device of the account. From now on nothing is read or sent there any more, and what was
    /// read stays until it expires; resolves when the own homeserver has it, which tells the room's hub, as long as
    /// that takes.
    ///
    /// # Errors
    /// When the room is unknown or does not stand yet, or the homeserver refuses.
    pub async fn leave(&self, room: RoomId) -> Result<(), Error> {
        self.shared
            .run_operation(move |core| core.leave_room(room))
            .await
            .map(|_| ())
    }

    /// The number of a room's present epoch: members who read the same one to each other are in the same room.
    ///
    /// # Errors
    /// When this device is not in the room.
    pub async fn room_number(&self, room: RoomId) -> Result<RoomNumber, Error> {
        self.shared.run(move |core| core.room_number(room)).await
    }

    /// Removes all devices of accounts from a room; resolves when its hub has ordered it.
    ///
    /// # Errors
    /// When the room or one of the accounts is unknown, or the hub refuses.
    pub async fn remove_members(&self, room: RoomId, remove: &[Address]) -> Result<(), Error> {
        let remove = remove.to_vec();
        self.shared
            .run_operation(move |core| core.remove_members(room, &remove))
            .await
            .map(|_| ())
    }
}
