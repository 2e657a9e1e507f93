//! The devices: enrolled, connected, listened to.

use std::path::Path;
use std::sync::Arc;

use entente_sdk::ids::{Address, Member};
use entente_sdk::{Client, Enrolment, Event, StoreKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::inventory::{Account, Inventory, Organisation};
use crate::record::Record;

/// Enrolments under way at once.
const AT_ONCE: usize = 4;

/// One device of an account.
pub(crate) struct Device {
    pub(crate) client: Client,
    organisation: usize,
}

impl Device {
    /// The organisation's place in the inventory.
    pub(crate) const fn organisation(&self) -> usize {
        self.organisation
    }

    /// Its account.
    pub(crate) fn address(&self) -> Address {
        self.client.address()
    }

    /// Which device it is.
    pub(crate) fn member(&self) -> Member {
        self.client.member()
    }

    /// Connects, and keeps in the record whatever happens from now on.
    pub(crate) fn listen(&self, number: usize, record: &Arc<Record>) -> JoinHandle<()> {
        let mut events = self.client.events();
        let record = Arc::clone(record);
        let listening = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if !matches!(event, Event::Connected | Event::Accepted { .. }) {
                    record.happened(number, &event);
                }
            }
        });
        self.client.connect();
        listening
    }

    /// Ends it.
    pub(crate) async fn close(self) {
        self.client.close().await;
    }
}

/// Enrols a device for each account. The organisations take turns, so that devices that come one after the other are of all.
///
/// # Errors
/// When a homeserver refuses, in words.
pub(crate) async fn enrol(inventory: &Inventory, folder: &Path) -> Result<Vec<Device>, String> {
    let organisations = inventory.organisations.iter().enumerate();
    let mut in_turn: Vec<(usize, usize, &Organisation, &Account)> = organisations
        .flat_map(|(of, organisation)| {
            let accounts = organisation.accounts.iter().enumerate();
            accounts.map(move |(place, account)| (place, of, organisation, account))
        })
        .collect();
    in_turn.sort_by_key(|(place, of, ..)| (*place, *of));
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for (number, (_, of, organisation, account)) in in_turn.into_iter().enumerate() {
        let enrolment = Enrolment {
            reset: false,
            server_endpoint: organisation.endpoint.clone(),
            address: account.address.clone(),
            password: account.password.as_str().into(),
            root_sha256: organisation.root_sha256.clone(),
            device_name: "crowd".to_owned(),
        };
        let folder = folder.join(number.to_string());
        let permits = Arc::clone(&permits);
        tasks.spawn(async move {
            let _permit = permits.acquire().await;
            let client = Client::enrol(&folder, key()?, enrolment)
                .await
                .map_err(|error| format!("device {number} can't be enrolled: {error}"))?;
            let device = Device {
                client,
                organisation: of,
            };
            Ok::<_, String>((number, device))
        });
    }
    let mut devices = Vec::new();
    while let Some(outcome) = tasks.join_next().await {
        devices.push(outcome.map_err(|error| error.to_string())??);
        if devices.len().is_multiple_of(50) {
            eprintln!("{} devices are enrolled", devices.len());
        }
    }
    devices.sort_by_key(|(number, _)| *number);
    Ok(devices.into_iter().map(|(_, device)| device).collect())
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
