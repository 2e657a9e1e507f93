//! A device whose session is a function call.

use std::sync::Arc;

use homeserver_api::ids::{AccountId, Address, DeviceId, Member, RoomId};
use tempfile::TempDir;

use super::{Network, Organisation};
use crate::certificate::AnchorSet;
use crate::clock::Clock as _;
use crate::clock::tests::TestClock;
use crate::content::Part;
use crate::core::{Core, Identity};
use crate::error::Error;
use crate::event::Event;
use crate::message::{Body, MessageId, SendOptions};
use crate::mls::DeviceKey;
use crate::store::{NewStore, StoreKey};

pub(crate) const KEY: StoreKey = StoreKey::Key([5; 32]);

pub(crate) struct TestDevice {
    pub(crate) folder: TempDir,
    pub(crate) clock: TestClock,
    pub(crate) address: Address,
    pub(crate) member: Member,
    core: Option<Core>,
    pub(crate) events: Vec<Event>,
    pub(crate) ended: Vec<(u64, Result<RoomId, Error>)>,
}

impl TestDevice {
    /// Enrols a device, trusting `organisations`, and uploads its key packages.
    pub(crate) fn enrol(
        network: &mut Network,
        clock: &TestClock,
        own: &Organisation,
        handle: &str,
        number: u8,
        organisations: &[&Organisation],
    ) -> Self {
        let account = account_of(handle);
        Self::of_account(
            network,
            clock,
            own,
            (handle, account),
            number,
            organisations,
        )
    }

    /// Enrols a device of this account.
    pub(crate) fn of_account(
        network: &mut Network,
        clock: &TestClock,
        own: &Organisation,
        whose: (&str, AccountId),
        number: u8,
        organisations: &[&Organisation],
    ) -> Self {
        let mut device = Self::made(network, clock, own, whose, number, organisations);
        let (single_use, last_resort) = device.run(|core| {
            Ok((
                core.make_key_packages(5, false)?,
                core.make_key_packages(1, true)?,
            ))
        });
        network.put_key_packages(&device.member, single_use, last_resort.into_iter().next());
        device
    }

    /// Enrols a device that nobody can add to a room yet.
    pub(crate) fn without_keys(
        network: &mut Network,
        clock: &TestClock,
        own: &Organisation,
        handle: &str,
        number: u8,
        organisations: &[&Organisation],
    ) -> Self {
        let whose = (handle, account_of(handle));
        Self::made(network, clock, own, whose, number, organisations)
    }

    fn made(
        network: &mut Network,
        clock: &TestClock,
        own: &Organisation,
        (handle, account): (&str, AccountId),
        number: u8,
        organisations: &[&Organisation],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address: Address = format!("{handle}@{}", own.server).parse().unwrap();
        let member = Member {
            server: own.server.clone(),
            account,
            device: DeviceId::from_bytes([number; 16]),
        };
        let key = DeviceKey::generate().unwrap();
        let now_ms = clock.now_ms();
        let chain = own.issue(&member, &address, &key.public().unwrap(), now_ms);
        let identity = Identity {
            endpoint: "127.0.0.1:1".to_owned(),
            root_sha256: [0; 32],
            address: address.clone(),
            member: member.clone(),
            device_name: "test".to_owned(),
            token: "token".to_owned(),
            key,
            chain,
            not_after_ms: now_ms + 30 * 86_400_000 - 7_200_000,
            certified_ms: now_ms,
        };
        let mut anchors = AnchorSet::own(own.server.clone(), own.root.clone());
        anchors.replace_others(
            &own.server,
            organisations
                .iter()
                .map(|other| (other.server.clone(), other.root.clone().into())),
        );
        let mut core = Core::create(
            folder.path(),
            NewStore::create(folder.path(), &KEY).unwrap(),
            Arc::new(clock.clone()),
            &identity,
            &anchors,
        )
        .unwrap();
        core.job(|core| core.set_hub_chain(own.hub_chain()))
            .unwrap();
        core.commit().unwrap();
        network.enrol(
            &address,
            &member,
            &identity.key.public().unwrap(),
            Some(&identity.key),
            own,
        );
        Self {
            folder,
            clock: clock.clone(),
            address,
            member,
            core: Some(core),
            events: Vec::new(),
            ended: Vec::new(),
        }
    }

    pub(crate) fn public_key(&self) -> Vec<u8> {
        let core = self.core.as_ref().unwrap();
        core.identity().key.public().unwrap()
    }

    pub(crate) fn core(&mut self) -> &mut Core {
        self.core.as_mut().unwrap()
    }

    /// Runs a job and makes it durable.
    pub(crate) fn try_run<T>(
        &mut self,
        job: impl FnOnce(&mut Core) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let core = self.core.as_mut().unwrap();
        let outcome = core.job(job);
        let effects = core.commit()?;
        self.events.extend(effects.events);
        self.ended.extend(effects.operations);
        outcome
    }

    pub(crate) fn run<T>(&mut self, job: impl FnOnce(&mut Core) -> Result<T, Error>) -> T {
        self.try_run(job).unwrap()
    }

    /// Stops without any goodbye and starts again from what is on disk.
    pub(crate) fn restart(&mut self) {
        self.core = None;
        let core = Core::open(self.folder.path(), &KEY, Arc::new(self.clock.clone()));
        self.core = Some(core.unwrap());
    }

    /// Submits, takes results, takes deliveries, acknowledges; whether anything moved.
    pub(crate) fn try_step(&mut self, network: &mut Network) -> Result<bool, Error> {
        let submitted = self.submit(network)?;
        let received = self.receive(network)?;
        Ok(submitted || received)
    }

    pub(crate) fn submit(&mut self, network: &mut Network) -> Result<bool, Error> {
        let submissions = self.core().submissions_after(0, 100)?;
        if submissions.is_empty() {
            return Ok(false);
        }
        let results = network.submit(&self.member, submissions);
        self.try_run(|core| core.take_results(results, true))?;
        Ok(true)
    }

    pub(crate) fn receive(&mut self, network: &mut Network) -> Result<bool, Error> {
        let deliveries = network.inbox(&self.member);
        if deliveries.is_empty() {
            return Ok(false);
        }
        let number = self.try_run(|core| core.receive(deliveries, true))?;
        network.acknowledge(&self.member, number);
        Ok(true)
    }

    pub(crate) fn send(&mut self, room: RoomId, text: &str) -> MessageId {
        self.run(|core| core.send(room, Part::Text(text.to_owned()), SendOptions::default()))
    }

    /// The texts of a room's history with their senders' handles.
    pub(crate) fn texts(&mut self, room: RoomId) -> Vec<String> {
        self.run(|core| core.history(room, 0, usize::MAX))
            .into_iter()
            .map(|message| match message.body {
                Body::Text { text } => format!("{}: {text}", message.sender.handle),
                Body::File { name, .. } => format!("{}: <{name}>", message.sender.handle),
            })
            .collect()
    }

    /// What could not be read, and why rooms are over.
    pub(crate) fn unreadable(&self) -> Vec<&str> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Unreadable { reason, .. } | Event::RoomOver { reason, .. } => {
                    Some(reason.as_str())
                }
                _ => None,
            })
            .collect()
    }
}

/// Lets all devices talk until nothing moves any more.
pub(crate) fn settle(network: &mut Network, devices: &mut [&mut TestDevice]) {
    for _ in 0..200 {
        let mut moved = false;
        for device in devices.iter_mut() {
            moved |= device.try_step(network).unwrap();
        }
        if !moved {
            return;
        }
    }
    panic!("the devices never came to rest");
}

/// The account that people of this name have.
fn account_of(handle: &str) -> AccountId {
    let mut account = [0; 16];
    for (to, from) in account.iter_mut().zip(handle.bytes()) {
        *to = from;
    }
    AccountId::from_bytes(account)
}
