//! The client: one enrolled device.

use std::path::Path;

use bytes::Bytes;
use homeserver_api::client::AccountInfo;
use homeserver_api::ids::{Address, Member, RoomId};

use crate::error::Error;
use crate::event::Events;
use crate::message::{Message, MessageId, Room, SendOptions};
use crate::session::Endpoint;
use crate::store::StoreKey;

/// What a person types to enrol a device.
#[derive(Clone)]
pub struct Enrolment {
    /// Where the homeserver is: `host:port`.
    pub server_endpoint: String,
    /// The account.
    pub address: Address,
    /// The account's password.
    pub password: String,
    /// SHA-256 of the organisation's root certificate as its administrator gives it out: 64
    /// hexadecimal digits; spaces and colons between them don't matter.
    pub root_sha256: String,
    /// What the user calls the device.
    pub device_name: String,
}

/// One enrolled device. Clones are the same device; the background session ends with the last
/// clone, or with [`Client::close`].
#[derive(Debug, Clone)]
pub struct Client {
    _private: (),
}

impl Client {
    /// Enrols a new device, makes its store in `dir` and uploads its key packages.
    ///
    /// # Errors
    /// When the folder holds a device already, the homeserver can't be reached, is not the pinned
    /// one, or refuses the password.
    pub async fn enrol(
        dir: impl AsRef<Path>,
        key: StoreKey,
        enrolment: Enrolment,
    ) -> Result<Self, Error> {
        let _ = (dir.as_ref(), key, enrolment);
        unimplemented!()
    }

    /// Opens an enrolled device; needs no network.
    ///
    /// # Errors
    /// When the folder holds no device, the key is wrong, or another process has it open.
    pub async fn open(dir: impl AsRef<Path>, key: StoreKey) -> Result<Self, Error> {
        let _ = (dir.as_ref(), key);
        unimplemented!()
    }

    /// The account's address.
    #[must_use]
    pub fn address(&self) -> Address {
        unimplemented!()
    }

    /// This device.
    #[must_use]
    pub fn member(&self) -> Member {
        unimplemented!()
    }

    /// The homeserver, for [`crate::session::Session::open`].
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        unimplemented!()
    }

    /// The device's token, for [`crate::session::Session::open`]; keep it secret.
    #[must_use]
    pub fn token(&self) -> String {
        unimplemented!()
    }

    /// The account as the homeserver shows it now.
    ///
    /// # Errors
    /// When the homeserver can't be reached or refuses.
    pub async fn account(&self) -> Result<AccountInfo, Error> {
        unimplemented!()
    }

    /// Starts the background session: connects, reconnects with a growing pause, sends what waits,
    /// receives, deletes what expires. Needs a tokio runtime; does nothing when it runs already.
    pub fn connect(&self) {
        unimplemented!()
    }

    /// Waits until the session stands.
    ///
    /// # Errors
    /// When the client is closed, or the homeserver refuses this device for good.
    pub async fn connected(&self) -> Result<(), Error> {
        unimplemented!()
    }

    /// Ends the background session; [`Client::connect`] starts it again.
    pub async fn disconnect(&self) {
        unimplemented!()
    }

    /// Ends everything and releases the store; every clone answers [`Error::Closed`] afterwards.
    pub async fn close(&self) {
        unimplemented!()
    }

    /// Events from now on. What happened before is in [`Client::history`].
    #[must_use]
    pub fn events(&self) -> Events {
        unimplemented!()
    }

    /// Makes a room with these accounts and this account's other devices; resolves when its hub
    /// has ordered it. Runs in the background session, so [`Client::connect`] comes first.
    ///
    /// # Errors
    /// The refusal, when an organisation's policy or agreement forbids it.
    pub async fn start_conversation(&self, with: &[Address]) -> Result<RoomId, Error> {
        let _ = with;
        unimplemented!()
    }

    /// Adds accounts to a room; resolves when its hub has ordered it.
    ///
    /// # Errors
    /// As for [`Client::start_conversation`].
    pub async fn add_members(&self, room: RoomId, add: &[Address]) -> Result<(), Error> {
        let _ = (room, add);
        unimplemented!()
    }

    /// Removes all devices of accounts from a room; resolves when its hub has ordered it.
    ///
    /// # Errors
    /// When the room or one of the accounts is unknown, or the hub refuses.
    pub async fn remove_members(&self, room: RoomId, remove: &[Address]) -> Result<(), Error> {
        let _ = (room, remove);
        unimplemented!()
    }

    /// The rooms that this device is in.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn rooms(&self) -> Result<Vec<Room>, Error> {
        unimplemented!()
    }

    /// Sends text. Resolves when the message is durable on this device; it goes out as soon as
    /// the session stands.
    ///
    /// # Errors
    /// When the room is unknown, the text too long, or the store fails.
    pub async fn send_text(
        &self,
        room: RoomId,
        text: &str,
        options: SendOptions,
    ) -> Result<MessageId, Error> {
        let _ = (room, text, options);
        unimplemented!()
    }

    /// Encrypts and uploads a file, then sends a message that refers to it.
    ///
    /// # Errors
    /// When the file can't be read, or the homeserver can't be reached or refuses it.
    pub async fn send_file(
        &self,
        room: RoomId,
        path: impl AsRef<Path>,
        options: SendOptions,
    ) -> Result<MessageId, Error> {
        let _ = (room, path.as_ref(), options);
        unimplemented!()
    }

    /// Downloads, checks and decrypts a message's file to `path`, which must not exist yet.
    ///
    /// # Errors
    /// When the message refers to no file, the file can't be had, or is not the one sent.
    pub async fn save_file(&self, message: MessageId, path: impl AsRef<Path>) -> Result<(), Error> {
        let _ = (message, path.as_ref());
        unimplemented!()
    }

    /// Waits until the own homeserver has taken an own message; when it did, milliseconds since
    /// the Unix epoch.
    ///
    /// # Errors
    /// The refusal, when it refused.
    pub async fn wait_accepted(&self, message: MessageId) -> Result<u64, Error> {
        let _ = message;
        unimplemented!()
    }

    /// One message.
    ///
    /// # Errors
    /// When there is none, or the store fails.
    pub async fn message(&self, message: MessageId) -> Result<Message, Error> {
        let _ = message;
        unimplemented!()
    }

    /// A room's messages, own ones too, oldest first.
    ///
    /// # Errors
    /// When the room is unknown or the store fails.
    pub async fn history(&self, room: RoomId) -> Result<Vec<Message>, Error> {
        let _ = room;
        unimplemented!()
    }

    /// Tells that a message was shown: its burn time runs from the first call.
    ///
    /// # Errors
    /// When there is no such message, or the store fails.
    pub async fn mark_shown(&self, message: MessageId) -> Result<(), Error> {
        let _ = message;
        unimplemented!()
    }

    /// Encrypts text for a room without sending or remembering it: an MLS PrivateMessage for a
    /// load generator to send.
    ///
    /// # Errors
    /// As for [`Client::send_text`].
    pub async fn encrypt_only(
        &self,
        room: RoomId,
        text: &str,
        options: SendOptions,
    ) -> Result<Bytes, Error> {
        let _ = (room, text, options);
        unimplemented!()
    }

    /// Decrypts an MLS PrivateMessage of a room without remembering it; each only once.
    ///
    /// # Errors
    /// When it is not acceptable, or was decrypted before.
    pub async fn decrypt_only(&self, room: RoomId, message: Bytes) -> Result<String, Error> {
        let _ = (room, message);
        unimplemented!()
    }
}
