//! Holding what a homeserver says to what is known.

use std::collections::BTreeSet;

use bytes::Bytes;
use homeserver_api::codec::Wire as _;
use homeserver_api::device_log::{
    DeviceChain, DeviceHistory, Head, HistoryError, LogError, SignedHead,
};
use homeserver_api::ids::{AccountId, Address, DeviceId, Member, RequestId, ServerName};
use homeserver_api::merkle::Frontier;
use homeserver_api::refusal::Refusal;
use homeserver_api::session::{ClaimedDevice, KeyMaterial};

use super::records::{KnownHead, LogRecord, Question};
use super::{Person, Standing};
use crate::certificate::{DeviceCertificate, Validity};
use crate::core::Core;
use crate::core::records::ClaimedKeys;
use crate::error::Error;
use crate::event::Event;
use crate::store::Family;

impl Core {
    /// Judges an answer about an account's devices; those of its key packages that may be used.
    pub(in crate::core) fn judge_material(
        &mut self,
        request: RequestId,
        result: Result<KeyMaterial, Refusal>,
    ) -> Result<Result<Vec<ClaimedDevice>, Error>, Error> {
        let question = self.take_question(request)?;
        let material = match result {
            Ok(material) => material,
            Err(refusal) => return Ok(Err(Error::Refused(refusal))),
        };
        // An answer that was judged before.
        let Some(question) = question else {
            return Ok(Ok(Vec::new()));
        };
        let account = match question.account {
            Some(account) => Ok(account),
            // Its own account a device knows: no answer says which it is.
            None if question.address == *self.own_address() => Ok(self.identity.member.account),
            None => self.certified_account(&question.address, &material.devices),
        };
        let judged = account
            .clone()
            .and_then(|account| self.judge_history(&question, account, &material.history));
        match judged {
            Ok(()) => {}
            Err(error) if error.wants_roots() && !self.roots_are_fresh => {
                return Err(error);
            }
            Err(error @ Error::Store(_)) => return Err(error),
            Err(error) => {
                if matches!(error, Error::Devices(_)) {
                    let address = question.address.clone();
                    self.tell_refused(&question.server, Some(&address), error.to_string());
                }
                return Ok(Err(error));
            }
        }
        let account = account.ok();
        for device in &material.devices {
            if Some(device.member.account) == account
                && let Ok(certified) = self.certified_for(device)
            {
                self.note_name(&certified)?;
            }
        }
        Ok(self.usable(&question, account, material.devices))
    }

    /// The account of an address, by the certificate of one of its devices: an answer about another one's devices is not
    /// taken for it.
    fn certified_account(
        &self,
        address: &Address,
        devices: &[ClaimedDevice],
    ) -> Result<AccountId, Error> {
        let mut refused =
            Error::Devices("the answer has no device: its owner must be online once".to_owned());
        for device in devices {
            let claimed = ClaimedKeys {
                member: device.member.clone(),
                key_package: device.key_package.clone(),
            };
            match self.check_claimed(address, &claimed) {
                Ok(_) => return Ok(device.member.account),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// The claimed devices that the account has, and that nobody has to confirm first.
    fn usable(
        &mut self,
        question: &Question,
        account: Option<AccountId>,
        devices: Vec<ClaimedDevice>,
    ) -> Result<Vec<ClaimedDevice>, Error> {
        let (asked, address) = (devices.len(), &question.address);
        let mut refused = None;
        let mut usable = Vec::new();
        for device in devices {
            let certified = self.certified_for(&device).ok();
            let standing = match &certified {
                Some(_) if Some(device.member.account) != account => Standing::Unlisted,
                Some(certified) => {
                    let key = &certified.public_key;
                    self.known.standing(&device.member, key)
                }
                // What is wrong with it is told where it is used.
                None => Standing::Listed,
            };
            let name = device.member.device;
            let renamed = certified.and_then(|certified| self.renamed(&certified));
            let error = match (standing, renamed) {
                (Standing::Listed | Standing::Stranger, None) => {
                    usable.push(device);
                    continue;
                }
                (Standing::Listed | Standing::Stranger | Standing::Unconfirmed, Some(renamed)) => {
                    renamed
                }
                (Standing::Unconfirmed, None) => Error::Unconfirmed(address.clone()),
                (Standing::Removed, _) => Error::Devices(format!(
                    "the homeserver hands out keys of the device {name}, which {address} has removed"
                )),
                (Standing::Unlisted, _) => Error::Devices(format!(
                    "the homeserver hands out keys of the device {name}, which {address} does not have"
                )),
            };
            if matches!(error, Error::Devices(_)) {
                self.tell_refused(&question.server, Some(address), error.to_string());
            }
            refused = Some(error);
        }
        match refused {
            Some(error) if usable.is_empty() && asked > 0 => Err(error),
            _ => Ok(usable),
        }
    }

    /// Whether a device that was claimed is still its account's, and needs nobody's confirmation.
    pub(in crate::core) fn check_present(
        &self,
        address: &Address,
        keys: &ClaimedKeys,
    ) -> Result<(), Error> {
        // What is wrong with its keys is told where they are used.
        let Ok(certified) = self.claimed_certificate(keys) else {
            return Ok(());
        };
        let standing = self.known.standing(&keys.member, &certified.public_key);
        match (standing, self.renamed(&certified)) {
            (Standing::Listed | Standing::Stranger, None) => Ok(()),
            (Standing::Listed | Standing::Stranger | Standing::Unconfirmed, Some(renamed)) => {
                Err(renamed)
            }
            (Standing::Unconfirmed, None) => Err(Error::Unconfirmed(address.clone())),
            (Standing::Removed | Standing::Unlisted, _) => Err(Error::Devices(format!(
                "the device {} is none of {address}'s any more",
                keys.member.device
            ))),
        }
    }

    /// Takes over what the own homeserver says of the own account's devices; `named` are the sizes of its log that the
    /// question named.
    pub(crate) fn take_own_history(&mut self, history: &[u8], named: &[u64]) -> Result<(), Error> {
        let own = self.identity.member.clone();
        let log = self.known.logs.get(&own.server);
        let question = Question {
            request: RequestId::from_bytes([0; 16]),
            server: own.server.clone(),
            account: Some(own.account),
            address: self.own_address().clone(),
            // What was learnt since is judged as what any answer is overtaken by.
            heads: log
                .map(LogRecord::heads)
                .unwrap_or_default()
                .into_iter()
                .filter(|head| named.contains(&head.size))
                .collect(),
        };
        let bytes = Bytes::copy_from_slice(history);
        let judged = self
            .judge_history(&question, own.account, &bytes)
            .and_then(|()| {
                let key = self.identity.key.public()?;
                match self.known.standing(&own, &key) {
                    Standing::Unlisted | Standing::Removed | Standing::Stranger => {
                        Err(Error::Devices(
                            "the device log does not have this device: its homeserver shows others a device \
                             list without it"
                                .to_owned(),
                        ))
                    }
                    Standing::Listed | Standing::Unconfirmed => Ok(()),
                }
            });
        match judged {
            Err(error @ Error::Devices(_)) => {
                let address = self.own_address().clone();
                self.tell_refused(&own.server, Some(&address), error.to_string());
                // What was told must stay told: the job goes on.
                Ok(())
            }
            judged => judged,
        }
    }

    /// Sizes of the own organisation's log that the next question about the own account names.
    pub(crate) fn own_log_sizes(&self) -> Vec<u64> {
        let log = self.known.logs.get(&self.identity.member.server);
        let heads = log.map(LogRecord::heads).unwrap_or_default();
        let sizes: BTreeSet<u64> = heads.iter().map(|head| head.size).collect();
        sizes.into_iter().collect()
    }

    fn judge_history(
        &mut self,
        question: &Question,
        account: AccountId,
        history: &Bytes,
    ) -> Result<(), Error> {
        let server = &question.server;
        let (root, former) = self.anchors.roots(server)?;
        let root = Bytes::from(root.to_vec());
        let history = DeviceHistory::from_bytes(history.clone())
            .map_err(|error| Error::Devices(error.to_string()))?;
        let (chain, head) = history
            .verify(server, account, &root, &former, self.now_ms())
            .map_err(|error| match error {
                // It may have another one by now.
                HistoryError::Log(LogError::Certificate(_)) if !self.roots_are_fresh => {
                    Error::UnknownRoot(server.clone())
                }
                error => Error::Devices(error.to_string()),
            })?;
        let mut log = self.grown(question, &history, head)?;
        let own = &self.identity.member;
        if log.read.is_none() && (server, account) == (&own.server, own.account) {
            log.read = read_to_newest(&history, head, &chain);
        }
        self.take_chain(question, account, chain)?;
        self.put_log(log)
    }

    /// What is known of an organisation's log.
    pub(super) fn log_of(&self, server: &ServerName) -> LogRecord {
        let known = self.known.logs.get(server).cloned();
        known.unwrap_or_else(|| LogRecord::new(server, self.known.logs.len()))
    }

    /// Holds the answer's head to the heads that the question named, and to what was learnt since.
    fn grown(
        &self,
        question: &Question,
        history: &DeviceHistory,
        head: &Head,
    ) -> Result<LogRecord, Error> {
        let server = &question.server;
        let fault = |error: LogError| Error::Devices(error.to_string());
        for known in &question.heads {
            head.follows(&known.head(server), history.growth_from(known.size))
                .map_err(fault)?;
        }
        let mut log = self.log_of(server);
        let now = KnownHead::of(head);
        let mut all_shown = true;
        for later in log.heads().iter().filter(|h| !question.heads.contains(h)) {
            // Learnt while the answer was on its way: comparable only when the sizes are the same.
            if later.size == now.size {
                head.follows(&later.head(server), None).map_err(fault)?;
            } else {
                all_shown = false;
            }
        }
        if all_shown {
            log.proved = Some(now);
            log.heard.clear();
        } else {
            log.hear(now);
        }
        Ok(log)
    }

    /// Hears of a head from the own homeserver: the next answer has to have grown from it. The head, when it is
    /// believed.
    pub(crate) fn hear_head(
        &mut self,
        server: &ServerName,
        head: &[u8],
    ) -> Result<Option<Head>, Error> {
        let (root, former) = self.anchors.roots(server)?;
        let root = Bytes::from(root.to_vec());
        let heard = SignedHead::from_bytes(head.to_vec())
            .map_err(|error| error.to_string())
            .and_then(|signed| {
                let now = self.now_ms();
                let head = signed.verify(server, &root, &former, now).cloned();
                head.map_err(|error| error.to_string())
            });
        let head = match heard {
            Ok(head) => head,
            Err(reason) => {
                self.tell_refused(server, None, reason);
                return Ok(None);
            }
        };
        let mut log = self.log_of(server);
        let known = log.heads();
        if let Some(same) = known.iter().find(|known| known.size == head.size) {
            if let Err(error) = head.follows(&same.head(server), None) {
                self.tell_refused(server, None, error.to_string());
                return Ok(None);
            }
            return Ok(Some(head));
        }
        let newest = known.iter().map(|known| known.size).max().unwrap_or(0);
        // An older one says nothing new.
        if head.size > newest {
            log.hear(KnownHead::of(&head));
            self.put_log(log)?;
        }
        Ok(Some(head))
    }

    pub(super) fn put_log(&mut self, log: LogRecord) -> Result<(), Error> {
        self.store.put(Family::DeviceLog, b"", log.number, &log)?;
        self.known.logs.insert(log.server.clone(), log);
        Ok(())
    }

    /// Takes over an account's statements, when they go on from those that are known.
    fn take_chain(
        &mut self,
        question: &Question,
        account: AccountId,
        chain: DeviceChain,
    ) -> Result<(), Error> {
        let key = (question.server.clone(), account);
        let address = question.address.clone();
        let is_another = self.known.is_met(&address);
        let Some(person) = self.known.people.get_mut(&key) else {
            let number = self.state.last_person + 1;
            self.state.last_person = number;
            // An address does not go over to another account by itself: as after a reset, a person asks him.
            let confirmed = if is_another { 0 } else { chain.serial() };
            let person = Person::new(number, address.clone(), chain, confirmed);
            if is_another {
                let devices = person.unconfirmed();
                self.effects.events.push(Event::DevicesChanged {
                    address,
                    added: devices.clone(),
                    removed: Vec::new(),
                    unconfirmed: devices,
                });
            }
            self.known.people.insert(key.clone(), person);
            self.put_person(&key)?;
            return self.known_better(&key);
        };
        // What the question was by, its homeserver has said; the account keeps what it is known by.
        let address = person.address.clone();
        if !person.chain.agrees_with(&chain) {
            return Err(Error::Devices(format!(
                "the homeserver shows another history of {address}'s devices than before"
            )));
        }
        if chain.serial() <= person.chain.serial() {
            // Overtaken by a newer one.
            return Ok(());
        }
        let ids = |chain: &DeviceChain| -> BTreeSet<DeviceId> {
            chain.devices().iter().map(|device| device.device).collect()
        };
        let (before, after) = (ids(&person.chain), ids(&chain));
        person.chain = chain;
        let unconfirmed = person.unconfirmed();
        let event = Event::DevicesChanged {
            address,
            added: after.difference(&before).copied().collect(),
            removed: before.difference(&after).copied().collect(),
            unconfirmed,
        };
        self.effects.events.push(event);
        self.put_person(&key)?;
        self.known_better(&key)
    }

    /// What the certificate of a device's claimed key package says.
    fn certified_for(&self, device: &ClaimedDevice) -> Result<DeviceCertificate, Error> {
        self.claimed_certificate(&ClaimedKeys {
            member: device.member.clone(),
            key_package: device.key_package.clone(),
        })
    }

    /// What the certificate of a claimed key package says.
    fn claimed_certificate(&self, claimed: &ClaimedKeys) -> Result<DeviceCertificate, Error> {
        let message = crate::mls::parse(&claimed.key_package)?;
        let key_package = message
            .as_key_package()
            .ok_or_else(|| Error::Mls("a claimed key package is not one".to_owned()))?;
        let identity = key_package.signing_identity();
        let device = self.identities.verify(identity, Validity::NotJudged)?;
        if device.member != claimed.member {
            return Err(Error::Certificate("it is another device's".to_owned()));
        }
        Ok(device)
    }

    /// The accounts of an address that this device has met.
    pub(super) fn met(&self, address: &Address) -> Vec<Member> {
        self.known
            .people
            .iter()
            .filter(|(_, person)| person.address == *address)
            .filter_map(|((server, account), person)| {
                let device = person.chain.devices().first()?.device;
                Some(Member {
                    server: server.clone(),
                    account: *account,
                    device,
                })
            })
            .collect()
    }
}

/// Read up to and with the account's newest statement: the log before it is as the proof of its place says.
fn read_to_newest(history: &DeviceHistory, head: &Head, chain: &DeviceChain) -> Option<Frontier> {
    let mut read = Frontier::before(history.index, head.size, &history.path)?;
    read.push(chain.last_hash());
    Some(read)
}
