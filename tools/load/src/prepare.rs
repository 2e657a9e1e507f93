//! Before measuring: devices are enrolled, each pair gets a room, and mls-rs makes the messages.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use entente_sdk::ids::RoomId;
use entente_sdk::session::Endpoint;
use entente_sdk::{Client, DetachedRoom, Enrolment, Error, Event, SendOptions, StoreKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::inventory::{Account, Inventory, Side};

/// Messages made beforehand for each pair.
const POOL_MESSAGES: u64 = 256;
/// Length of a message's text: 1 KiB.
const TEXT_BYTES: usize = 1024;
/// Digits that a text begins with: the message's number.
const NUMBER_DIGITS: usize = 20;
/// Enrolments and rooms under way at once.
const AT_ONCE: usize = 4;

/// A pair that is ready to send.
pub(crate) struct Prepared {
    pub(crate) sender: Device,
    pub(crate) receiver: Device,
    /// Encrypts and decrypts fresh messages; absent: everything is a replay.
    pub(crate) ciphers: Option<Ciphers>,
    pub(crate) room: RoomId,
    /// MLS PrivateMessages of [`TEXT_BYTES`] of text each.
    pub(crate) pool: Vec<Bytes>,
}

/// A device as its session needs it.
pub(crate) struct Device {
    pub(crate) endpoint: Endpoint,
    pub(crate) token: String,
}

/// Both devices' keys for the room.
pub(crate) struct Ciphers {
    pub(crate) sender: RefCell<DetachedRoom>,
    pub(crate) receiver: RefCell<DetachedRoom>,
}

impl Device {
    fn of(client: &Client) -> Self {
        Self {
            endpoint: client.endpoint(),
            token: client.token(),
        }
    }
}

/// Prepares pairs; calls `done` after each.
///
/// # Errors
/// When an account is missing or the homeservers refuse something, in words.
pub(crate) async fn pairs(
    inventory: &Inventory,
    count: usize,
    folder: &Path,
    done: impl Fn(),
) -> Result<Vec<Prepared>, String> {
    for (side, name) in [(&inventory.from, "from"), (&inventory.to, "to")] {
        if side.accounts.len() < count {
            return Err(format!(
                "{count} pairs need {count} accounts on each side; the inventory's `{name}` has {}",
                side.accounts.len()
            ));
        }
    }
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    let accounts = inventory.from.accounts.iter().zip(&inventory.to.accounts);
    for (index, (from, to)) in accounts.take(count).enumerate() {
        let from = enrolment(&inventory.from, from);
        let to = enrolment(&inventory.to, to);
        let folder = folder.join(format!("pair-{index}"));
        let permits = Arc::clone(&permits);
        tasks.spawn(async move {
            let _permit = permits.acquire().await;
            pair(from, to, &folder)
                .await
                .map_err(|error| format!("pair {index} can't be prepared: {error}"))
        });
    }
    let mut prepared = Vec::with_capacity(count);
    while let Some(outcome) = tasks.join_next().await {
        prepared.push(outcome.map_err(|error| error.to_string())??);
        done();
    }
    Ok(prepared)
}

/// Enrols devices that only connect, spread over the accounts; calls `done` after each.
///
/// # Errors
/// When there is no account, or the homeserver refuses, in words.
pub(crate) async fn idle_devices(
    side: &Side,
    count: usize,
    folder: &Path,
    done: impl Fn(),
) -> Result<Vec<Device>, String> {
    if side.accounts.is_empty() {
        return Err("idle devices need at least one account in the inventory's `from`".to_owned());
    }
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for (index, account) in side.accounts.iter().cycle().take(count).enumerate() {
        let enrolment = Enrolment {
            // None of an account's devices is there to approve the next one.
            reset: true,
            ..enrolment(side, account)
        };
        let folder = folder.join(format!("idle-{index}"));
        let permits = Arc::clone(&permits);
        tasks.spawn(async move {
            let _permit = permits.acquire().await;
            let client = Client::enrol(&folder, key()?, enrolment)
                .await
                .map_err(|error| format!("idle device {index} can't be enrolled: {error}"))?;
            let device = Device::of(&client);
            client.close().await;
            Ok::<_, String>(device)
        });
    }
    let mut devices = Vec::with_capacity(count);
    while let Some(outcome) = tasks.join_next().await {
        devices.push(outcome.map_err(|error| error.to_string())??);
        done();
    }
    Ok(devices)
}

impl Ciphers {
    /// Encrypts message `number`.
    ///
    /// # Errors
    /// When mls-rs does not.
    pub(crate) fn encrypt(&self, number: u64) -> Result<Bytes, Error> {
        self.sender.borrow_mut().encrypt(&text(number))
    }

    /// Decrypts a message and reads its number; `None` when it is not one of ours.
    pub(crate) fn decrypt(&self, message: &[u8]) -> Option<u64> {
        let text = self.receiver.borrow_mut().decrypt(message).ok()?;
        number(&text)
    }
}

async fn pair(from: Enrolment, to: Enrolment, folder: &Path) -> Result<Prepared, String> {
    let recipient = to.address.clone();
    let receiver = Client::enrol(folder.join("to"), key()?, to)
        .await
        .map_err(|error| error.to_string())?;
    let sender = Client::enrol(folder.join("from"), key()?, from)
        .await
        .map_err(|error| error.to_string())?;
    let mut arrivals = receiver.events();
    receiver.connect();
    sender.connect();
    let room = sender
        .start_conversation(&[recipient])
        .await
        .map_err(|error| error.to_string())?;
    loop {
        match arrivals.next().await {
            Some(Event::RoomJoined { room: joined }) if joined == room => break,
            Some(_) => {}
            None => return Err("the receiver's client ended before it joined the room".to_owned()),
        }
    }
    // From here on the pair's own sessions take over, and the room's keys are in memory alone.
    sender.disconnect().await;
    receiver.disconnect().await;
    let failed = |error: Error| error.to_string();
    let options = SendOptions::default();
    let ciphers = Ciphers {
        sender: RefCell::new(sender.detach(room, options).await.map_err(failed)?),
        receiver: RefCell::new(receiver.detach(room, options).await.map_err(failed)?),
    };
    let pool: Result<_, _> = (0..POOL_MESSAGES)
        .map(|number| ciphers.encrypt(number))
        .collect();
    let prepared = Prepared {
        sender: Device::of(&sender),
        receiver: Device::of(&receiver),
        ciphers: Some(ciphers),
        room,
        pool: pool.map_err(failed)?,
    };
    sender.close().await;
    receiver.close().await;
    Ok(prepared)
}

fn enrolment(side: &Side, account: &Account) -> Enrolment {
    Enrolment {
        reset: false,
        server_endpoint: side.endpoint.clone(),
        address: account.address.clone(),
        password: account.password.as_str().into(),
        root_sha256: side.root_sha256.clone(),
        device_name: "load generator".to_owned(),
    }
}

/// A store key that nobody remembers: the stores go away with the run.
#[expect(clippy::disallowed_methods, reason = "a store key is drawn here")]
fn key() -> Result<StoreKey, String> {
    let mut key = [0; 32];
    SystemRandom::new()
        .fill(&mut key)
        .map_err(|_| "the system gives no random numbers".to_owned())?;
    Ok(StoreKey::Key(key))
}

fn text(number: u64) -> String {
    let mut text = format!("{number:0width$} ", width = NUMBER_DIGITS);
    while text.len() < TEXT_BYTES {
        text.push_str("abcdefghijklmnopqrstuvwxyz 0123456789 ");
    }
    text.truncate(TEXT_BYTES);
    text
}

/// The number in a text of ours; the rest must be as sent.
fn number(received: &str) -> Option<u64> {
    let number = received.get(..NUMBER_DIGITS)?.parse().ok()?;
    (text(number) == received).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a text has exactly 1 KiB and gives its number back; any change to it is noticed.
    #[test]
    fn texts_carry_their_number() {
        for n in [0, 99, 123_456, u64::MAX] {
            let whole = text(n);
            assert_eq!(whole.len(), TEXT_BYTES);
            assert_eq!(number(&whole), Some(n));
            let mut changed = whole.clone();
            changed.replace_range(TEXT_BYTES - 1.., "!");
            assert_eq!(number(&changed), None);
        }
    }
}
