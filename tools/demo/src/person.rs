//! People: an account with one device, and everything that its client shows, put on record.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use entente_sdk::ids::{Address, RoomId};
use entente_sdk::{
    Body, Client, Enrolment, Error, Event, Events, Message, MessageId, SendOptions, StoreKey,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::failure::{Failure, Result, While};
use crate::homeserver::Homeserver;
use crate::record::{Entry, Record};

/// How long a single answer may take while all homeservers are up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A person with one device.
pub(crate) struct Person {
    /// The address.
    pub(crate) address: Address,
    folder: PathBuf,
    record: Record,
    device: Device,
}

/// The device while it is on.
struct Device {
    client: Client,
    listener: JoinHandle<()>,
    files: watch::Receiver<Vec<Message>>,
}

impl Person {
    /// Makes the account through `hsctl`, then enrols a device with the password it prints.
    pub(crate) async fn enrol(
        server: &Homeserver,
        handle: &str,
        user_type: &str,
        record: &Record,
    ) -> Result<Self> {
        let account = server.create_user(handle, user_type).await?;
        let folder = server.folder().join(format!("device-of-{handle}"));
        let enrolment = Enrolment {
            reset: false,
            server_endpoint: server.client_endpoint(),
            address: account.address.clone(),
            password: account.password.into(),
            root_sha256: server.root_sha256().to_owned(),
            device_name: "demonstration".to_owned(),
        };
        let client = Client::enrol(&folder, store_key(&account.address), enrolment)
            .await
            .while_to(format!("enrol a device of {}", account.address))
            .map_err(|failure| failure.with_log(server.log()))?;
        let person = Self {
            device: Device::switch_on(client, record),
            address: account.address,
            folder,
            record: record.clone(),
        };
        person.wait_connected().await?;
        Ok(person)
    }

    /// The client.
    pub(crate) fn client(&self) -> &Client {
        &self.device.client
    }

    /// Switches the device off; its store stays on disk.
    pub(crate) async fn switch_off(&mut self) {
        self.device.client.close().await;
        // The events end with the client.
        let _ = (&mut self.device.listener).await;
    }

    /// Switches the device on again from what is on disk.
    pub(crate) async fn switch_on(&mut self) -> Result {
        let client = Client::open(&self.folder, store_key(&self.address))
            .await
            .while_to(format!("open the device of {} again", self.address))?;
        self.device = Device::switch_on(client, &self.record);
        self.wait_connected().await
    }

    async fn wait_connected(&self) -> Result {
        within("connect", &self.address, self.client().connected()).await
    }

    /// Starts a conversation.
    pub(crate) async fn start_conversation(&self, with: &Address) -> Result<RoomId> {
        let with = std::slice::from_ref(with);
        within(
            "start a conversation",
            &self.address,
            self.client().start_conversation(with),
        )
        .await
    }

    /// Waits until this device is in the room.
    pub(crate) async fn wait_for_room(&self, room: RoomId) -> Result {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let rooms = self.client().rooms().await.while_to("list the rooms")?;
            if rooms.iter().any(|known| known.room == room) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(Failure::new(format!(
            "{} was not added to the conversation within {} s",
            self.address,
            PATIENCE.as_secs()
        )))
    }

    /// Sends a text that must arrive, once.
    pub(crate) async fn say(&self, room: RoomId, text: String, timed: bool) -> Result<MessageId> {
        say(self.client(), &self.record, room, text, timed).await
    }

    /// Tries to send a text that must be refused; the error.
    pub(crate) async fn try_to_say(
        &self,
        room: RoomId,
        text: &str,
        options: SendOptions,
    ) -> Result<Error> {
        self.record.add(Entry::Forbidden {
            text: text.to_owned(),
        });
        let attempt = async {
            let message = self.client().send_text(room, text, options).await?;
            self.client().wait_accepted(message).await
        };
        self.must_fail("send that", attempt).await
    }

    /// Tries to start a conversation that must be refused; the error.
    pub(crate) async fn try_to_start(&self, with: &Address) -> Result<Error> {
        let with = std::slice::from_ref(with);
        self.must_fail(
            "start a conversation",
            self.client().start_conversation(with),
        )
        .await
    }

    async fn must_fail<T>(
        &self,
        what: &str,
        attempt: impl Future<Output = std::result::Result<T, Error>>,
    ) -> Result<Error> {
        match tokio::time::timeout(PATIENCE, attempt).await {
            Ok(Err(error)) => Ok(error),
            Ok(Ok(_)) => Err(Failure::new(format!(
                "{} could {what}, which must be refused",
                self.address
            ))),
            Err(_) => Err(Failure::new(format!(
                "{} tried to {what} and got no answer within {} s",
                self.address,
                PATIENCE.as_secs()
            ))),
        }
    }

    /// Sends a file.
    pub(crate) async fn send_file(&self, room: RoomId, file: &Path) -> Result {
        let sent = self.client().send_file(room, file, SendOptions::default());
        within("send a file", &self.address, sent).await.map(|_| ())
    }

    /// Waits for a file with this name and saves it.
    pub(crate) async fn receive_file(&self, name: &str, to: &Path) -> Result {
        let mut files = self.device.files.clone();
        let named =
            |message: &&Message| matches!(&message.body, Body::File { name: of, .. } if of == name);
        let arrived = async {
            let files = files
                .wait_for(|files| files.iter().any(|message| named(&message)))
                .await
                .map_err(|_| Error::Closed)?;
            files
                .iter()
                .find(named)
                .map(|message| message.id)
                .ok_or(Error::Closed)
        };
        let message = within("get the message with the file", &self.address, arrived).await?;
        within(
            "save the file",
            &self.address,
            self.client().save_file(message, to),
        )
        .await
    }

    /// How often each text stands in the room's history on this device.
    pub(crate) async fn history(&self, room: RoomId) -> Result<Vec<Message>> {
        self.client()
            .history(room)
            .await
            .while_to(format!("read the history of {}", self.address))
    }
}

/// Sends a text that must arrive, once.
pub(crate) async fn say(
    client: &Client,
    record: &Record,
    room: RoomId,
    text: String,
    timed: bool,
) -> Result<MessageId> {
    // On record before it is sent: it may be shown before this call returns.
    record.add(Entry::Written {
        text: text.clone(),
        at: Instant::now(),
        timed,
    });
    let message = client
        .send_text(room, &text, SendOptions::default())
        .await
        .while_to(format!("send `{text}`"))?;
    record.add(Entry::Sent { text, message });
    Ok(message)
}

impl Device {
    fn switch_on(client: Client, record: &Record) -> Self {
        // Listening first: nothing may be shown before somebody looks.
        let events = client.events();
        let (found, files) = watch::channel(Vec::new());
        let listener = tokio::spawn(listen(events, record.clone(), found));
        client.connect();
        Self {
            client,
            listener,
            files,
        }
    }
}

async fn listen(mut events: Events, record: Record, files: watch::Sender<Vec<Message>>) {
    while let Some(event) = events.next().await {
        match event {
            Event::Message(message) => match &message.body {
                Body::Text { text } => record.add(Entry::Shown {
                    text: text.clone(),
                    message: message.id,
                    at: Instant::now(),
                }),
                Body::File { .. } => files.send_modify(|files| files.push(message)),
            },
            Event::Accepted { message, .. } => record.add(Entry::Accepted { message }),
            Event::Returned {
                message,
                server,
                refusal,
            } => record.add(Entry::Returned {
                message,
                reason: format!("{server}: {refusal}"),
            }),
            // Refusals reach whoever waits for the message; the rest changes nothing on record.
            _ => {}
        }
    }
}

async fn within<T>(
    what: &str,
    who: &Address,
    attempt: impl Future<Output = std::result::Result<T, Error>>,
) -> Result<T> {
    match tokio::time::timeout(PATIENCE, attempt).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Failure::new(format!(
            "{who} can't {what}: {error} [{}]",
            error.code()
        ))),
        Err(_) => Err(Failure::new(format!(
            "{who} can't {what}: no answer within {} s",
            PATIENCE.as_secs()
        ))),
    }
}

/// The demonstration's devices live in a folder that goes with it; their stores are encrypted all
/// the same, with a passphrase that is no secret.
fn store_key(address: &Address) -> StoreKey {
    StoreKey::Passphrase(format!("demonstration of {address}"))
}
