//! The devices of people whom this device has met, held to their organisations' device logs.
//!
//! Of each organisation the newest head is kept that has grown from every one before; of each account the
//! statements about its devices. What comes later must go on from there: a history that was rewritten, a log that
//! has gone back or forked, a device that no history has is refused, and told. Whom this device meets for the first
//! time it takes as he is shown, his address too.

pub(super) mod gone;
mod history;
mod judge;
mod names;
mod reading;
mod records;
mod rooms;
pub(crate) mod safety;

use std::collections::{BTreeMap, BTreeSet};

use homeserver_api::codec::Wire as _;
use homeserver_api::device_log::{Device as ListedDevice, DeviceChain, DeviceStatement, How};
use homeserver_api::ids::{AccountId, Address, DeviceId, Member, RequestId, RoomId, ServerName};
use homeserver_api::session::SubmissionBody;

use super::Core;
use super::records::Purpose;
use crate::error::Error;
use crate::event::Event;
use crate::store::{Family, Store};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use records::read_any;
use records::{Called, LogRecord, PersonRecord, Question};
pub(crate) use rooms::Held;

/// What is known of people's devices; a cache of the store.
#[derive(Default)]
pub(super) struct Known {
    people: BTreeMap<(ServerName, AccountId), Person>,
    logs: BTreeMap<ServerName, LogRecord>,
    /// Accounts that are asked about at the moment.
    asked: BTreeSet<(ServerName, AccountId)>,
    /// The numbers of the questions that wait for an answer: in a large room there are as many as people.
    questions: BTreeMap<RequestId, u64>,
    /// What keeps this device from sending to a room, as far as it has been looked at.
    held: BTreeMap<RoomId, Vec<Held>>,
}

/// An account that this device has met.
struct Person {
    number: u64,
    /// The address that it was met under, or that a person has confirmed since: it is shown under this one.
    address: Address,
    /// The addresses that it had here before.
    former: BTreeSet<Address>,
    /// The address that it is certified for, when that is another one and nobody has confirmed it here.
    called: Option<Called>,
    chain: DeviceChain,
    /// The number of the newest statement up to which resets are taken for good.
    confirmed: u64,
}

/// How a device stands that somebody shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing is known of its account.
    Stranger,
    /// The account has it.
    Listed,
    /// The account has had it, and has it no more.
    Removed,
    /// The account has never had it, or not with this key.
    Unlisted,
    /// The account has it by a reset that nobody has confirmed here.
    Unconfirmed,
}

impl Known {
    /// Reads everything from the store again.
    pub(super) fn load(store: &Store) -> Result<Self, Error> {
        let mut known = Self::default();
        for (number, record) in store.scan::<PersonRecord>(Family::Person, b"")? {
            let statements: Result<Vec<_>, _> = record
                .statements
                .into_iter()
                .map(DeviceStatement::from_bytes)
                .collect();
            let chain = statements
                .ok()
                .and_then(|statements| DeviceChain::judge(record.account, statements).ok())
                .ok_or_else(|| Error::Store("what is known of a person is damaged".to_owned()))?;
            let person = Person {
                former: record.former,
                called: record.called,
                ..Person::new(number, record.address, chain, record.confirmed)
            };
            known.people.insert((record.server, record.account), person);
        }
        for (_, record) in store.scan::<LogRecord>(Family::DeviceLog, b"")? {
            known.logs.insert(record.server.clone(), record);
        }
        for (number, question) in store.scan::<Question>(Family::Question, b"")? {
            known.questions.insert(question.request, number);
            if let Some(account) = question.account {
                known.asked.insert((question.server, account));
            }
        }
        Ok(known)
    }

    fn person(&self, server: &ServerName, account: AccountId) -> Option<&Person> {
        self.people.get(&(server.clone(), account))
    }

    /// Whether an account of this address is known, or was once known by it.
    fn is_met(&self, address: &Address) -> bool {
        self.people.values().any(|person| person.has_name(address))
    }

    /// How a device stands, whose certificate holds.
    fn standing(&self, member: &Member, key: &[u8]) -> Standing {
        let Some(person) = self.person(&member.server, member.account) else {
            return Standing::Stranger;
        };
        match person.chain.device(member.device) {
            Some(device) if device.key != key => Standing::Unlisted,
            Some(device) if person.has_to_confirm(device) => Standing::Unconfirmed,
            Some(_) => Standing::Listed,
            None if person.chain.has_had(member.device) => Standing::Removed,
            None => Standing::Unlisted,
        }
    }
}

impl Person {
    const fn new(number: u64, address: Address, chain: DeviceChain, confirmed: u64) -> Self {
        Self {
            number,
            address,
            former: BTreeSet::new(),
            called: None,
            chain,
            confirmed,
        }
    }

    /// Whether a device goes back to a reset that nobody has confirmed here; all do of an account that nobody has.
    fn has_to_confirm(&self, device: &ListedDevice) -> bool {
        self.confirmed == 0 || device.reset > Some(self.confirmed)
    }

    /// Devices that go back to a reset that nobody has confirmed here.
    fn unconfirmed(&self) -> Vec<DeviceId> {
        self.chain
            .devices()
            .iter()
            .filter(|device| self.has_to_confirm(device))
            .map(|device| device.device)
            .collect()
    }
}

impl Core {
    /// Sizes of an organisation's log to name in a question, ascending; the question is noted under `request`.
    pub(super) fn note_question(
        &mut self,
        request: RequestId,
        server: &ServerName,
        account: Option<AccountId>,
        address: &Address,
    ) -> Result<Vec<u64>, Error> {
        let heads = self.known.logs.get(server).map(LogRecord::heads);
        let mut heads = heads.unwrap_or_default();
        heads.sort_by_key(|head| head.size);
        let known = heads.iter().map(|head| head.size).collect();
        let number = self.state.last_question + 1;
        self.state.last_question = number;
        let question = Question {
            request,
            server: server.clone(),
            account,
            address: address.clone(),
            heads,
        };
        self.store.put(Family::Question, b"", number, &question)?;
        self.known.questions.insert(request, number);
        Ok(known)
    }

    /// Takes a question out that is answered, or never will be.
    fn take_question(&mut self, request: RequestId) -> Result<Option<Question>, Error> {
        let Some(number) = self.known.questions.remove(&request) else {
            return Ok(None);
        };
        let Some(question) = self.store.get::<Question>(Family::Question, b"", number)? else {
            return Ok(None);
        };
        self.store.delete(Family::Question, b"", number);
        self.effects.devices_answered = true;
        if let Some(account) = question.account {
            self.known.asked.remove(&(question.server.clone(), account));
        }
        Ok(Some(question))
    }

    /// The devices of this account, as far as its history is known.
    pub(crate) fn own_devices(&self) -> Vec<DeviceId> {
        let own = &self.identity.member;
        let person = self.known.person(&own.server, own.account);
        let devices = person.map(|person| person.chain.devices());
        devices
            .into_iter()
            .flatten()
            .map(|device| device.device)
            .collect()
    }

    /// Asks for the history of an account, unless that is under way.
    pub(crate) fn ask_devices(
        &mut self,
        server: &ServerName,
        account: AccountId,
        address: &Address,
    ) -> Result<(), Error> {
        if !self.known.asked.insert((server.clone(), account)) {
            return Ok(());
        }
        let request = RequestId::from_bytes(self.random_bytes()?);
        let known = self.note_question(request, server, Some(account), address)?;
        let body = SubmissionBody::AskDevices {
            request,
            server: server.clone(),
            account,
            known,
        };
        self.enqueue(body, Purpose::Devices { request })?;
        Ok(())
    }

    /// Takes everybody of an address as he is now, resets and another address included: a person has asked him by another way.
    pub(crate) fn confirm(&mut self, address: &Address) -> Result<(), Error> {
        let found: Vec<_> = self
            .known
            .people
            .iter()
            .filter(|(_, person)| person.address == *address)
            .map(|(key, _)| key.clone())
            .collect();
        if found.is_empty() {
            return Err(Error::InvalidArgument(format!(
                "this device has not met {address} yet: there is nothing to confirm"
            )));
        }
        for key in found {
            self.take_name(&key)?;
            if let Some(person) = self.known.people.get_mut(&key) {
                person.confirmed = person.chain.serial();
            }
            self.put_person(&key)?;
        }
        self.known.held.clear();
        let rooms: Vec<RoomId> = self.rooms.keys().copied().collect();
        for room in rooms {
            self.send_queued(room)?;
        }
        Ok(())
    }

    fn put_person(&mut self, key: &(ServerName, AccountId)) -> Result<(), Error> {
        let Some(person) = self.known.people.get(key) else {
            return Ok(());
        };
        let statements: Result<Vec<_>, _> = person
            .chain
            .statements()
            .iter()
            .map(homeserver_api::codec::Wire::to_bytes)
            .collect();
        let record = PersonRecord {
            server: key.0.clone(),
            account: key.1,
            address: person.address.clone(),
            former: person.former.clone(),
            called: person.called.clone(),
            statements: statements.map_err(|e| Error::Store(e.to_string()))?,
            confirmed: person.confirmed,
        };
        self.store.put(Family::Person, b"", person.number, &record)
    }

    /// This device's signature under the account's next statement: it takes a waiting device in.
    pub(crate) fn approval(&mut self, device: DeviceId, key: [u8; 32]) -> Result<Vec<u8>, Error> {
        let own = self.identity.member.clone();
        let now = self.now_ms();
        let chain = self
            .known
            .person(&own.server, own.account)
            .map(|person| &person.chain)
            .ok_or_else(|| {
                Error::InvalidArgument(
                    "this device does not know its account's devices yet: connect once".to_owned(),
                )
            })?;
        let unsigned = How::Approved {
            by: own.device,
            signature: [0; 64],
        };
        let mut statement = chain.next(device, key, unsigned, now);
        let damaged = |e: homeserver_api::codec::EncodeError| Error::Store(e.to_string());
        let bytes = statement.approval_bytes().map_err(damaged)?;
        statement.how = How::Approved {
            by: own.device,
            signature: self.identity.key.sign(&bytes)?,
        };
        Ok(statement.to_bytes().map_err(damaged)?.to_vec())
    }

    /// Tells that something about devices is not believed.
    fn tell_refused(&mut self, server: &ServerName, address: Option<&Address>, reason: String) {
        tracing::warn!(%server, reason, "what a homeserver says of devices is refused");
        self.effects.events.push(Event::DevicesRefused {
            server: server.clone(),
            address: address.cloned(),
            reason,
        });
    }
}
