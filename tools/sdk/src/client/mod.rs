//! The client: one enrolled device.

mod contacts;
mod devices;
mod driver;
mod enrol;
mod files;
mod history;
mod rooms;
mod shared;
mod upkeep;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use homeserver_api::client::{AccountInfo, WaitingDevice};
use homeserver_api::contacts::{ContactAct, ContactInfo};
use homeserver_api::ids::{Address, DeviceId, Member, RoomId, ServerName};
use homeserver_api::password::Password;
use homeserver_api::policy::{OwnRules, UserTypePolicy};
use homeserver_api::session::{Listing, Sought};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use enrol::{Enrolment, Waiting};
#[cfg(feature = "fuzzing")]
pub(crate) use files::open_any_chunk;
pub use history::{Backup, HistorySent, Restored, read_backup};

use crate::clock::{Clock, SystemClock};
use crate::content::Part;
use crate::core::{Core, DetachedRoom, SafetyNumber};
use crate::error::Error;
use crate::event::Events;
use crate::message::{AbuseReport, Message, MessageId, Room, SendOptions};
use crate::session::Endpoint;
use crate::store::{self, StoreKey};
use shared::{Link, Shared};

/// One enrolled device. Clones are the same device; the background session ends with the last
/// clone, or with [`Client::close`].
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
    background: Arc<Background>,
    folder: Arc<PathBuf>,
}

/// The background tasks; dropping it stops them.
#[derive(Debug, Default)]
struct Background {
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Client {
    /// Enrols a new device, makes its store in `dir` and uploads its key packages.
    ///
    /// # Errors
    /// When the folder holds a device already, the homeserver can't be reached, is not the pinned
    /// one, or refuses the password. Should only the key packages' upload fail, the device is
    /// enrolled, and [`Client::connect`] makes good for it.
    pub async fn enrol(
        dir: impl AsRef<Path>,
        key: StoreKey,
        enrolment: Enrolment,
    ) -> Result<Self, Error> {
        Self::enrol_with(dir, key, enrolment, |_| {}).await
    }

    /// As [`Client::enrol`]. When a device of the account has to approve this one, `waits` is called, for a person to
    /// carry the code there; then this waits for it.
    ///
    /// # Errors
    /// As for [`Client::enrol`]; also when the device is declined, or nobody approves it in time.
    pub async fn enrol_with(
        dir: impl AsRef<Path>,
        key: StoreKey,
        enrolment: Enrolment,
        waits: impl FnOnce(&Waiting),
    ) -> Result<Self, Error> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let core = enrol::enrol(dir.as_ref(), key, enrolment, Arc::clone(&clock), waits).await?;
        let client = Self::new(core, clock, dir.as_ref())?;
        upkeep::first(&client.shared).await?;
        Ok(client)
    }

    /// Opens an enrolled device; needs no network.
    ///
    /// # Errors
    /// When the folder holds no device, the key is wrong, or another process has it open.
    pub async fn open(dir: impl AsRef<Path>, key: StoreKey) -> Result<Self, Error> {
        Self::open_with_clock(dir, key, Arc::new(SystemClock)).await
    }

    /// Opens an enrolled device that takes the time from `clock`.
    ///
    /// # Errors
    /// As for [`Client::open`].
    pub async fn open_with_clock(
        dir: impl AsRef<Path>,
        key: StoreKey,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let folder = dir.as_ref().to_owned();
        let core_clock = Arc::clone(&clock);
        let core = tokio::task::spawn_blocking(move || Core::open(&folder, &key, core_clock))
            .await
            .map_err(|e| Error::Store(e.to_string()))??;
        Self::new(core, clock, dir.as_ref())
    }

    fn new(core: Core, clock: Arc<dyn Clock>, folder: &Path) -> Result<Self, Error> {
        Ok(Self {
            folder: Arc::new(folder.to_owned()),
            shared: Shared::new(core, clock)?,
            background: Arc::default(),
        })
    }

    /// The account's address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.shared.identity.address.clone()
    }

    /// This device.
    #[must_use]
    pub fn member(&self) -> Member {
        self.shared.identity.member.clone()
    }

    /// The homeserver, for [`crate::session::Session::open`].
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        self.shared.endpoint.clone()
    }

    /// The device's token, for [`crate::session::Session::open`]; keep it secret.
    #[must_use]
    pub fn token(&self) -> String {
        self.shared.identity.token.clone()
    }

    /// The account as the homeserver shows it now.
    ///
    /// # Errors
    /// When the homeserver can't be reached or refuses.
    pub async fn account(&self) -> Result<AccountInfo, Error> {
        upkeep::account_info(&self.shared).await
    }

    /// Agrees to the organisation's notice as `account`, which was shown to the user, has it.
    ///
    /// # Errors
    /// When the homeserver can't be reached or refuses: above all when the notice has changed since.
    pub async fn agree(&self, account: &AccountInfo) -> Result<(), Error> {
        upkeep::agree(&self.shared, account).await
    }

    /// Types the password again, where the user type asks for it after a time.
    ///
    /// # Errors
    /// When the homeserver can't be reached or refuses: above all when it is not the account's password.
    pub async fn sign_in_again(&self, password: Password) -> Result<(), Error> {
        upkeep::sign_in_again(&self.shared, password).await
    }

    /// Sets what the account's owner rules beyond the user type.
    ///
    /// # Errors
    /// When the homeserver can't be reached or refuses: above all what is looser than the user type.
    pub async fn set_own_rules(&self, own: &OwnRules) -> Result<(), Error> {
        upkeep::set_own_rules(&self.shared, own).await
    }

    /// Gives the account another password. Its devices stay signed in.
    ///
    /// # Errors
    /// When the homeserver can't be reached or refuses: above all when `old` is not the present password.
    pub async fn change_password(&self, old: Password, new: Password) -> Result<(), Error> {
        upkeep::change_password(&self.shared, old, new).await
    }

    /// Approves the device of the account that waits and shows this code; which one it is.
    ///
    /// # Errors
    /// When no waiting device has the code, or the homeserver can't be reached or refuses.
    pub async fn approve_device(&self, code: &str) -> Result<WaitingDevice, Error> {
        devices::approve(&self.shared, code).await
    }

    /// Turns away the device that waits, by its id or the code that it shows; which one it is.
    ///
    /// # Errors
    /// As for [`Client::approve_device`].
    pub async fn decline_device(&self, which: &str) -> Result<WaitingDevice, Error> {
        devices::decline(&self.shared, which).await
    }

    /// The account's devices by the organisation's device log, which partners are shown too. What the homeserver lists
    /// beside ([`Client::account`]) is its own word alone.
    ///
    /// # Errors
    /// When the homeserver can't be reached, or shows a history that does not go on from what was known.
    pub async fn logged_devices(&self) -> Result<Vec<DeviceId>, Error> {
        devices::logged(&self.shared).await
    }

    /// Signs a device of the account out, wherever it is: its session is cut.
    ///
    /// # Errors
    /// When the account has no such device, or the homeserver can't be reached or refuses.
    pub async fn remove_device(&self, device: DeviceId) -> Result<(), Error> {
        devices::remove(&self.shared, device).await
    }

    /// Takes somebody's devices as they are now, those that came by a reset too, and the address that his homeserver certifies them
    /// for: a person has asked him by another way. `address` is the one that he is known by. What waited for that is sent.
    ///
    /// # Errors
    /// When this device has not met him, or knows somebody else by his new address and there is nothing else to confirm.
    pub async fn confirm(&self, address: &Address) -> Result<(), Error> {
        let address = address.clone();
        self.shared.run(move |core| core.confirm(&address)).await
    }

    /// What keeps this device from sending to a room, in words; nothing as a rule. What honest homeservers mend within moments is not
    /// named before it has lasted a minute.
    ///
    /// # Errors
    /// When the room is unknown or the store fails.
    pub async fn held(&self, room: RoomId) -> Result<Vec<String>, Error> {
        self.shared.run(move |core| core.held_because(room)).await
    }

    /// The safety number with somebody, by the newest devices of both as far as they can be had now.
    ///
    /// # Errors
    /// When this device has not met him.
    pub async fn safety(&self, address: &Address) -> Result<SafetyNumber, Error> {
        devices::safety(&self.shared, address).await
    }

    /// Everybody of other organisations with whom the account has asked or decided something.
    ///
    /// # Errors
    /// When the homeserver can't be reached or refuses.
    pub async fn contacts(&self) -> Result<Vec<ContactInfo>, Error> {
        contacts::list(&self.shared).await
    }

    /// Asks somebody of another organisation to be let in, with a line that he reads before he decides; he is let in
    /// himself by that. Done when the own homeserver has it: the answer comes as [`crate::Event::Contact`].
    ///
    /// # Errors
    /// When the homeserver can't be reached or refuses.
    pub async fn ask_contact(&self, address: &Address, text: &str) -> Result<ContactInfo, Error> {
        contacts::act(&self.shared, address, ContactAct::Ask, text).await
    }

    /// Lets somebody of another organisation start conversations with the account.
    ///
    /// # Errors
    /// When the homeserver can't be reached or refuses.
    pub async fn allow_contact(&self, address: &Address) -> Result<ContactInfo, Error> {
        contacts::act(&self.shared, address, ContactAct::Allow, "").await
    }

    /// Keeps somebody of another organisation from starting conversations and from asking. Rooms that both are in
    /// stay as they are.
    ///
    /// # Errors
    /// When the homeserver can't be reached or refuses.
    pub async fn block_contact(&self, address: &Address) -> Result<ContactInfo, Error> {
        contacts::act(&self.shared, address, ContactAct::Block, "").await
    }

    /// Takes back what was asked or decided about somebody.
    ///
    /// # Errors
    /// When there is nothing, or the homeserver can't be reached or refuses.
    pub async fn remove_contact(&self, address: &Address) -> Result<(), Error> {
        contacts::remove(&self.shared, address).await
    }

    /// Signs the device out for good: the homeserver voids its token, key packages and waiting messages, then the
    /// store is deleted. What was not sent yet is lost.
    ///
    /// # Errors
    /// When the homeserver can't be reached or fails; then nothing has changed here. A device that it no longer
    /// knows is signed out already.
    pub async fn sign_out(&self) -> Result<(), Error> {
        upkeep::remove_device(&self.shared).await?;
        self.close().await;
        let folder = Arc::clone(&self.folder);
        tokio::task::spawn_blocking(move || store::delete(&folder))
            .await
            .map_err(|e| Error::Store(e.to_string()))?
    }

    /// Starts the background session: connects, reconnects with a growing pause, sends what waits,
    /// receives, deletes what expires. Needs a tokio runtime; does nothing when it runs already.
    pub fn connect(&self) {
        let mut running = self.background.lock();
        let stands = running
            .as_ref()
            .is_some_and(|running| running.tasks.iter().all(|task| !task.is_finished()));
        if stands || matches!(*self.shared.link.borrow(), Link::Closed) {
            return;
        }
        let stop = watch::Sender::new(false);
        self.shared.link.send_replace(Link::Connecting);
        let tasks = vec![
            tokio::spawn(driver::run(Arc::clone(&self.shared), stop.subscribe())),
            tokio::spawn(driver::keep(Arc::clone(&self.shared), stop.subscribe())),
        ];
        *running = Some(Running { stop, tasks });
    }

    /// Waits until the session stands.
    ///
    /// # Errors
    /// When the client is closed, or the homeserver refuses this device for good.
    pub async fn connected(&self) -> Result<(), Error> {
        self.link_is(|link| !matches!(link, Link::Connecting)).await
    }

    /// Waits until a session stands and all that waited for this device when it began is here: who looks for a
    /// room then knows of those that others have made.
    ///
    /// # Errors
    /// As for [`Client::connected`].
    pub async fn caught_up(&self) -> Result<(), Error> {
        self.link_is(|link| !matches!(link, Link::Connecting | Link::Up))
            .await
    }

    async fn link_is(&self, meant: impl FnMut(&Link) -> bool) -> Result<(), Error> {
        let mut link = self.shared.link.subscribe();
        let stands = link.wait_for(meant).await.map_err(|_| Error::Closed)?;
        match &*stands {
            Link::Up | Link::CaughtUp => Ok(()),
            Link::Refused(error) => Err(error.clone()),
            Link::Closed | Link::Connecting => Err(Error::Closed),
            Link::Stopped => Err(Error::InvalidArgument(
                "the client was not told to connect".to_owned(),
            )),
        }
    }

    /// Ends the background session; [`Client::connect`] starts it again.
    pub async fn disconnect(&self) {
        let running = self.background.lock().take();
        if let Some(Running { stop, tasks }) = running {
            stop.send_replace(true);
            for task in tasks {
                // A task that panicked has ended too.
                let _ = task.await;
            }
        }
    }

    /// Ends everything and releases the store; every clone answers [`Error::Closed`] afterwards.
    pub async fn close(&self) {
        self.disconnect().await;
        self.shared.close().await;
    }

    /// Events from now on. What happened before is in [`Client::history`].
    #[must_use]
    pub fn events(&self) -> Events {
        self.shared.events()
    }

    /// Looks people of an organisation up, the own one or a partner: who is found by whom is for that
    /// organisation to say, and whoever may not be found is as if not there. Waits for the partner's answer.
    ///
    /// # Errors
    /// The refusal, when an organisation's policy or agreement forbids the look-up, or too many were made.
    pub async fn look_up(&self, server: &ServerName, sought: Sought) -> Result<Listing, Error> {
        let (asked, whom) = (server.clone(), sought.clone());
        let listing = self
            .shared
            .run_look_up(move |core| core.look_up(asked, whom))
            .await?
            .map_err(Error::Refused)?;
        let fits =
            |address: &Address| address.server == *server && sought.includes(&address.handle);
        if listing.addresses.iter().all(fits) {
            Ok(listing)
        } else {
            Err(Error::Protocol(
                "it named people whom nobody looked for".to_owned(),
            ))
        }
    }

    /// Reports somebody of a room to the administrators, with messages of his that are disclosed to them. Resolves
    /// when the own homeserver has it; who was reported.
    ///
    /// # Errors
    /// When a message is not here, not of this room, an own one, or of somebody else than the others; or the
    /// refusal, when too much is reported or the partner that is to be told is none.
    pub async fn report(&self, room: RoomId, report: AbuseReport) -> Result<Address, Error> {
        self.shared
            .run_report(move |core| core.report(room, report))
            .await?
            .map_err(Error::Refused)
    }

    /// What the account may do, as the homeserver told it last; `None` before it ever did.
    ///
    /// # Errors
    /// When the client is closed.
    pub async fn policy(&self) -> Result<Option<UserTypePolicy>, Error> {
        self.shared.run(|core| Ok(core.known_policy())).await
    }

    /// The rooms that this device is in.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn rooms(&self) -> Result<Vec<Room>, Error> {
        self.shared.run(Core::rooms).await
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
        let part = Part::Text(text.to_owned());
        self.shared
            .run(move |core| core.send(room, part, options))
            .await
    }

    /// Asks the homeserver whether the account may send a file of this size, before anything of it is encrypted.
    ///
    /// # Errors
    /// The refusal, when it may not; or when the file can't be read, or the homeserver can't be reached.
    pub async fn check_file(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let policy = self.account().await?.policy;
        files::check(path.as_ref(), &policy).await
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
        let policy = self
            .shared
            .run(move |core| core.room_is_open(room).map(|()| core.policy()))
            .await?;
        files::check_name(path.as_ref(), &policy, options.label)?;
        let ttl_seconds = options.ttl_seconds.unwrap_or(policy.ttl.default_seconds);
        let file = files::upload(&self.shared, path.as_ref(), ttl_seconds).await?;
        let options = SendOptions {
            ttl_seconds: Some(ttl_seconds),
            ..options
        };
        self.shared
            .run(move |core| core.send(room, Part::File(file), options))
            .await
    }

    /// Downloads, checks and decrypts a message's file to `path`, which must not exist yet.
    ///
    /// # Errors
    /// When the message refers to no file, the file can't be had, or is not the one sent.
    pub async fn save_file(&self, message: MessageId, path: impl AsRef<Path>) -> Result<(), Error> {
        let file = self.shared.run(move |core| core.file(message)).await?;
        files::download(&self.shared, &file, path.as_ref()).await
    }

    /// Waits until the own homeserver has taken an own message; when it did, milliseconds since
    /// the Unix epoch.
    ///
    /// # Errors
    /// The refusal, when it refused.
    pub async fn wait_accepted(&self, message: MessageId) -> Result<u64, Error> {
        self.shared
            .wait_answer(message)
            .await?
            .map_err(Error::Refused)
    }

    /// One message.
    ///
    /// # Errors
    /// When there is none, or the store fails.
    pub async fn message(&self, message: MessageId) -> Result<Message, Error> {
        self.shared.run(move |core| core.message(message)).await
    }

    /// The greatest [`Message::number`] that was given; what comes later has a greater one.
    ///
    /// # Errors
    /// When the client is closed.
    pub async fn last_number(&self) -> Result<u64, Error> {
        self.shared.run(|core| Ok(core.last_number())).await
    }

    /// A room's messages, own ones too, oldest first.
    ///
    /// # Errors
    /// When the room is unknown or the store fails.
    pub async fn history(&self, room: RoomId) -> Result<Vec<Message>, Error> {
        self.history_after(room, 0, usize::MAX).await
    }

    /// A room's messages whose [`Message::number`] is above `after`, oldest first, at most `count`.
    ///
    /// # Errors
    /// When the room is unknown or the store fails.
    pub async fn history_after(
        &self,
        room: RoomId,
        after: u64,
        count: usize,
    ) -> Result<Vec<Message>, Error> {
        self.shared
            .run(move |core| core.history(room, after, count))
            .await
    }

    /// Tells that a message is about to be shown: a received one's burn time runs from the first call.
    ///
    /// # Errors
    /// When there is no such message any more, which must not be shown then; or when the store fails.
    pub async fn mark_shown(&self, message: MessageId) -> Result<(), Error> {
        self.shared.run(move |core| core.mark_shown(message)).await
    }

    /// Takes a room's keys out of this device, which is no longer in the room afterwards: for a load
    /// generator that encrypts and decrypts by hand. What it encrypts is sent with `options`.
    ///
    /// # Errors
    /// When the room is unknown or the store fails.
    pub async fn detach(&self, room: RoomId, options: SendOptions) -> Result<DetachedRoom, Error> {
        self.shared
            .run(move |core| core.detach(room, options))
            .await
    }
}

impl Background {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(running) = self.lock().as_ref() {
            running.stop.send_replace(true);
        }
    }
}

#[cfg(test)]
mod tests;
