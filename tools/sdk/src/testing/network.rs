//! All homeservers at once, without policy: they order, fan out and remember as the contract says.

use std::collections::BTreeMap;

use bytes::Bytes;
use homeserver_api::codec::Wire as _;
use homeserver_api::device_log::DeviceHistory;
use homeserver_api::ids::{AccountId, Address, DeviceId, Member, RoomId, ServerName};
use homeserver_api::refusal::{Refusal, RefusalCode};
use homeserver_api::room_consent::RoomConsent;
use homeserver_api::session::{
    Commit, Delivery, DeliveryBody, GroupInfo, KeyMaterial, Outcome, Report, Submission,
    SubmissionBody, SubmissionResult,
};

mod consents;
mod evil;
mod leaving;
mod people;

use super::{Log, Organisation};
use crate::clock::Clock as _;
use crate::clock::tests::TestClock;
use crate::mls::DeviceKey;

#[derive(Default)]
struct Device {
    inbox: Vec<Delivery>,
    last_delivery: u64,
    /// Every submission ever taken and its outcome.
    taken: BTreeMap<u64, (Submission, Outcome)>,
    key_packages: Vec<Bytes>,
    last_resort: Option<Bytes>,
}

struct Room {
    epoch: u64,
    members: Vec<Member>,
    group_info: Bytes,
    /// What its hub has ordered and no commit has taken up: who goes, whether with his account, and the proposal.
    going: Vec<(Member, bool, Bytes)>,
}

pub(crate) struct Network {
    clock: TestClock,
    accounts: BTreeMap<Address, Vec<Member>>,
    devices: BTreeMap<Member, Device>,
    rooms: BTreeMap<RoomId, Room>,
    roots: BTreeMap<ServerName, Vec<u8>>,
    /// The organisations' device logs.
    pub(crate) logs: BTreeMap<ServerName, Log>,
    /// Logs that are shown to one device in place of the true ones.
    pub(crate) shown_logs: BTreeMap<Member, Log>,
    /// Changes every device history before it is delivered.
    pub(crate) spoil_history: Option<fn(&mut DeviceHistory)>,
    /// Keeps back every answer about devices that is not to a claim.
    pub(crate) withhold_devices: bool,
    /// With what each organisation signs consents.
    issuing: BTreeMap<ServerName, consents::Issuing>,
    /// What consents say in place of as much as can be, by organisation.
    pub(crate) rules: BTreeMap<ServerName, fn(&mut RoomConsent)>,
    /// Who has no agreement with whom.
    pub(crate) no_peers: Vec<(ServerName, ServerName)>,
    /// Who signs every consent in place of whose it is.
    pub(crate) forged_by: Option<ServerName>,
    /// How many consents were asked for.
    pub(crate) consents_asked: u64,
    /// Every message that was fanned out.
    pub(crate) messages: Vec<Bytes>,
    /// Every commit that was ordered.
    pub(crate) commits: Vec<Commit>,
    /// Answers that replace the usual ones, by address, for claims.
    pub(crate) refuse_claims: BTreeMap<Address, Refusal>,
    /// What the next messages are answered instead of being taken.
    pub(crate) refuse_messages: Vec<Refusal>,
    /// What every commit is answered instead of being ordered.
    pub(crate) refuse_commits: Option<Refusal>,
    /// Keeps what is committed from now on instead of ordering it.
    pub(crate) kept_commits: Option<Vec<Commit>>,
    /// What every request for a group info is answered.
    pub(crate) refuse_group_infos: Option<Refusal>,
    /// How many group infos were asked for.
    pub(crate) group_infos_asked: u64,
    /// What the next message is answered, to be tried again later.
    pub(crate) defer_next: Option<u64>,
    /// Keys that are handed out for an address in place of its own.
    pub(crate) swap_claims: BTreeMap<Address, Address>,
    /// What every look-up is answered.
    pub(crate) refuse_look_ups: Option<Refusal>,
    /// What every report is answered instead of being taken.
    pub(crate) refuse_reports: Option<Refusal>,
    /// Every report that was taken.
    pub(crate) reports: Vec<Report>,
    /// People whom every look-up names beside those who were looked for.
    pub(crate) lie_about_people: Vec<Address>,
}

impl Network {
    pub(crate) fn new(clock: &TestClock) -> Self {
        Self {
            clock: clock.clone(),
            accounts: BTreeMap::new(),
            devices: BTreeMap::new(),
            rooms: BTreeMap::new(),
            roots: BTreeMap::new(),
            logs: BTreeMap::new(),
            shown_logs: BTreeMap::new(),
            spoil_history: None,
            withhold_devices: false,
            issuing: BTreeMap::new(),
            rules: BTreeMap::new(),
            no_peers: Vec::new(),
            forged_by: None,
            consents_asked: 0,
            messages: Vec::new(),
            commits: Vec::new(),
            refuse_claims: BTreeMap::new(),
            refuse_messages: Vec::new(),
            refuse_commits: None,
            kept_commits: None,
            refuse_group_infos: None,
            group_infos_asked: 0,
            defer_next: None,
            swap_claims: BTreeMap::new(),
            refuse_look_ups: None,
            refuse_reports: None,
            reports: Vec::new(),
            lie_about_people: Vec::new(),
        }
    }

    pub(crate) fn enrol(
        &mut self,
        address: &Address,
        member: &Member,
        key: &[u8],
        signer: Option<&DeviceKey>,
        own: &Organisation,
    ) {
        let now_ms = self.clock.now_ms();
        self.roots.insert(own.server.clone(), own.root.clone());
        self.issuing.insert(own.server.clone(), own.issuing());
        let log = self.logs.entry(member.server.clone());
        log.or_insert_with(|| Log::of(own, now_ms)).add(
            member.account,
            member.device,
            key.try_into().unwrap(),
            signer,
        );
        self.admit(address, member);
    }

    /// Takes in a device whose statement is in the log already, or never will be.
    pub(crate) fn admit(&mut self, address: &Address, member: &Member) {
        self.accounts
            .entry(address.clone())
            .or_default()
            .push(member.clone());
        self.devices.entry(member.clone()).or_default();
    }

    pub(crate) fn put_key_packages(
        &mut self,
        member: &Member,
        single_use: Vec<Vec<u8>>,
        last_resort: Option<Vec<u8>>,
    ) {
        let device = self.devices.get_mut(member).unwrap();
        device
            .key_packages
            .extend(single_use.into_iter().map(Bytes::from));
        if let Some(last_resort) = last_resort {
            device.last_resort = Some(last_resort.into());
        }
    }

    /// What a renewed certificate does to what waits.
    pub(crate) fn withdraw_key_packages(&mut self, member: &Member) {
        let device = self.devices.get_mut(member).unwrap();
        device.key_packages.clear();
        device.last_resort = None;
    }

    /// What is handed out next, the last-resort one included.
    pub(crate) fn waiting_key_packages(&self, member: &Member) -> Vec<Bytes> {
        let device = &self.devices[member];
        let single_use = device.key_packages.iter();
        single_use.chain(&device.last_resort).cloned().collect()
    }

    pub(crate) fn key_package_count(&self, member: &Member) -> (usize, bool) {
        let device = &self.devices[member];
        (device.key_packages.len(), device.last_resort.is_some())
    }

    pub(crate) fn address(&self, member: &Member) -> Address {
        let mut accounts = self.accounts.iter();
        let (address, _) = accounts
            .find(|(_, members)| members.contains(member))
            .unwrap();
        address.clone()
    }

    pub(crate) fn member(&self, device: DeviceId) -> Option<Member> {
        self.devices.keys().find(|m| m.device == device).cloned()
    }

    pub(crate) fn device_count(&self) -> usize {
        self.devices.len()
    }

    /// Removes a device.
    pub(crate) fn forget(&mut self, member: &Member) {
        self.devices.remove(member);
    }

    pub(crate) fn key_packages(&self, member: &Member) -> usize {
        self.devices[member].key_packages.len()
    }

    /// Takes submissions. One that is repeated must be the same, byte for byte.
    pub(crate) fn submit(
        &mut self,
        from: &Member,
        submissions: Vec<Submission>,
    ) -> Vec<SubmissionResult> {
        submissions
            .into_iter()
            .map(|submission| {
                let counter = submission.counter;
                let outcome = self.submit_one(from, submission);
                SubmissionResult { counter, outcome }
            })
            .collect()
    }

    fn submit_one(&mut self, from: &Member, submission: Submission) -> Outcome {
        let device = &self.devices[from];
        if let Some((before, outcome)) = device.taken.get(&submission.counter) {
            assert_eq!(
                before, &submission,
                "a counter was used for two submissions"
            );
            return outcome.clone();
        }
        let expected = device.taken.keys().last().map_or(1, |last| last + 1);
        if submission.counter != expected {
            let reason = format!("expected {expected}");
            return Outcome::Refused(Refusal::new(RefusalCode::CounterGap, reason));
        }
        if let Some(retry_after_ms) = self.defer_next.take() {
            return Outcome::Deferred {
                retry_after_ms,
                refusal: Refusal::new(RefusalCode::RateLimited, "slower"),
            };
        }
        let outcome = self.act(from, &submission);
        let device = self.devices.get_mut(from).unwrap();
        device
            .taken
            .insert(submission.counter, (submission, outcome.clone()));
        outcome
    }

    fn act(&mut self, from: &Member, submission: &Submission) -> Outcome {
        let accepted_ms = self.clock.now_ms();
        match &submission.body {
            SubmissionBody::ClaimKeys {
                request,
                address,
                known,
            } => {
                let claimed = self.claim(from, address);
                let result = claimed.map(|devices| {
                    let of = devices[0].member.clone();
                    KeyMaterial {
                        history: self.history(from, &of.server, of.account, known),
                        devices,
                    }
                });
                let request = *request;
                self.deliver(from, DeliveryBody::KeyMaterial { request, result });
            }
            SubmissionBody::AskDevices { .. } if self.withhold_devices => {}
            SubmissionBody::AskDevices {
                request,
                server,
                account,
                known,
            } => {
                let result = Ok(KeyMaterial {
                    history: self.history(from, server, *account, known),
                    devices: Vec::new(),
                });
                let request = *request;
                self.deliver(from, DeliveryBody::KeyMaterial { request, result });
            }
            SubmissionBody::LookUp {
                request,
                server,
                sought,
            } => {
                let (request, result) = (*request, self.look_up(server, sought));
                self.deliver(from, DeliveryBody::Directory { request, result });
            }
            SubmissionBody::Report(_) if self.refuse_reports.is_some() => {
                let refusal = self.refuse_reports.clone();
                return refusal.map_or(Outcome::Accepted { accepted_ms }, Outcome::Refused);
            }
            SubmissionBody::Report(report) => self.reports.push(report.clone()),
            SubmissionBody::RequestGroupInfo { request, room } => {
                let result = self.group_info(from, *room);
                let (request, room) = (*request, *room);
                self.deliver(
                    from,
                    DeliveryBody::GroupInfo {
                        request,
                        room,
                        result,
                    },
                );
            }
            SubmissionBody::AskConsent {
                request,
                server,
                room,
                domains,
            } => {
                let (request, room) = (*request, *room);
                let result = self.consent(server, room, domains);
                let body = DeliveryBody::RoomConsent {
                    request,
                    room,
                    result,
                };
                self.deliver(from, body);
            }
            SubmissionBody::Leave { room } => self.leaves(*room, |member| {
                (&member.server, member.account) == (&from.server, from.account)
            }),
            SubmissionBody::Commit(_) if self.refuse_commits.is_some() => {
                let refusal = self.refuse_commits.clone();
                return refusal.map_or(Outcome::Accepted { accepted_ms }, Outcome::Refused);
            }
            SubmissionBody::Commit(commit) => match &mut self.kept_commits {
                Some(kept) => kept.push(commit.clone()),
                None => self.order(from, submission.counter, commit),
            },
            SubmissionBody::Message { room, message } => {
                if !self.refuse_messages.is_empty() {
                    return Outcome::Refused(self.refuse_messages.remove(0));
                }
                let room_now = &self.rooms[room];
                let is_going = |member: &Member| room_now.going.iter().any(|(m, ..)| m == member);
                if is_going(from) {
                    let refusal = Refusal::new(RefusalCode::UnknownRoom, "it goes");
                    return Outcome::Refused(refusal);
                }
                let stays = |member: &&Member| !is_going(member);
                let members: Vec<Member> = room_now.members.iter().filter(stays).cloned().collect();
                assert!(members.contains(from), "the sender is no member");
                self.messages.push(message.clone());
                for member in members.iter().filter(|member| *member != from) {
                    self.deliver(
                        member,
                        DeliveryBody::Message {
                            room: *room,
                            message: message.clone(),
                            accepted_ms,
                            expires_ms: u64::MAX,
                        },
                    );
                }
            }
        }
        Outcome::Accepted { accepted_ms }
    }

    /// The hub's newest group info, for members alone.
    fn group_info(&mut self, from: &Member, room: RoomId) -> Result<GroupInfo, Refusal> {
        self.group_infos_asked += 1;
        if let Some(refusal) = &self.refuse_group_infos {
            return Err(refusal.clone());
        }
        let found = self.rooms.get(&room);
        let found = found.filter(|room| room.members.contains(from));
        let found = found.ok_or_else(|| Refusal::new(RefusalCode::UnknownRoom, "none"))?;
        Ok(GroupInfo {
            epoch: found.epoch,
            group_info: found.group_info.clone(),
        })
    }

    /// The newest group info is this from now on: what a member could hand in that means ill.
    pub(crate) fn set_group_info(&mut self, room: RoomId, group_info: Bytes) {
        self.rooms.get_mut(&room).unwrap().group_info = group_info;
    }

    /// A room's newest group info.
    pub(crate) fn newest_group_info(&self, room: RoomId) -> Bytes {
        self.rooms[&room].group_info.clone()
    }

    /// Loses the first commit that waits for a device.
    pub(crate) fn lose_commit(&mut self, member: &Member) {
        let inbox = &mut self.devices.get_mut(member).unwrap().inbox;
        let is_commit = |delivery: &Delivery| matches!(delivery.body, DeliveryBody::Commit { .. });
        let at = inbox.iter().position(is_commit).unwrap();
        inbox.remove(at);
    }

    /// Spoils the first commit that waits for a device, and for no other.
    pub(crate) fn spoil_commit(&mut self, member: &Member) {
        let inbox = &mut self.devices.get_mut(member).unwrap().inbox;
        for delivery in inbox {
            if let DeliveryBody::Commit { commit, .. } = &mut delivery.body {
                let mut bytes = commit.to_vec();
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
                *commit = bytes.into();
                return;
            }
        }
        panic!("no commit waits");
    }

    /// An account's history as it is shown to a device.
    pub(crate) fn history(
        &self,
        to: &Member,
        server: &ServerName,
        account: AccountId,
        known: &[u64],
    ) -> Bytes {
        let shown = self.shown_logs.get(to).filter(|log| log.is_of(server));
        let log = shown.unwrap_or_else(|| &self.logs[server]);
        let mut history = log.history(account, known);
        if let Some(spoil) = self.spoil_history {
            spoil(&mut history);
        }
        history.to_bytes().unwrap()
    }

    /// The hub's compare-and-swap.
    fn order(&mut self, from: &Member, counter: u64, commit: &Commit) {
        let epoch = self.rooms.get(&commit.room).map(|room| room.epoch);
        let in_turn = match epoch {
            None => commit.epoch == 0,
            Some(epoch) => commit.epoch == epoch,
        };
        if !in_turn {
            let refusal = Refusal::new(RefusalCode::WrongEpoch, "another commit was first");
            let room = commit.room;
            self.deliver(
                from,
                DeliveryBody::CommitRefused {
                    room,
                    counter,
                    refusal,
                },
            );
            return;
        }
        if let Some(room) = self.rooms.get(&commit.room)
            && room.leaves_out(&self.roots, commit, self.clock.now_ms())
        {
            let refusal = Refusal::new(RefusalCode::PendingRemoves, "somebody goes");
            let room = commit.room;
            let body = DeliveryBody::CommitRefused {
                room,
                counter,
                refusal,
            };
            self.deliver(from, body);
            return;
        }
        self.commits.push(commit.clone());
        let before = self
            .rooms
            .get(&commit.room)
            .map_or_else(|| vec![from.clone()], |room| room.members.clone());
        self.order_for(&before, commit);
    }

    /// Orders a commit whoever made it: what a hub could do that means ill.
    pub(crate) fn order_for(&mut self, before: &[Member], commit: &Commit) {
        let accepted_ms = self.clock.now_ms();
        for member in before {
            self.deliver(
                member,
                DeliveryBody::Commit {
                    room: commit.room,
                    epoch: commit.epoch,
                    commit: commit.commit.clone(),
                    accepted_ms,
                },
            );
        }
        for member in &commit.adds {
            self.deliver(
                member,
                DeliveryBody::Welcome {
                    room: commit.room,
                    hub: commit.hub.clone(),
                    welcome: commit.welcome.clone().unwrap(),
                    accepted_ms,
                },
            );
        }
        let members = before
            .iter()
            .filter(|member| !commit.removes.contains(member))
            .chain(&commit.adds)
            .cloned()
            .collect();
        self.rooms.insert(
            commit.room,
            Room {
                epoch: commit.epoch + 1,
                members,
                group_info: commit.group_info.clone(),
                going: Vec::new(),
            },
        );
    }

    pub(crate) fn deliver(&mut self, to: &Member, body: DeliveryBody) {
        let device = self.devices.get_mut(to).unwrap();
        device.last_delivery += 1;
        let number = device.last_delivery;
        device.inbox.push(Delivery { number, body });
    }

    /// What waits for a device never comes.
    pub(crate) fn drop_deliveries(&mut self, member: &Member) {
        self.devices.get_mut(member).unwrap().inbox.clear();
    }

    /// What waits for a device.
    pub(crate) fn inbox(&self, member: &Member) -> Vec<Delivery> {
        self.devices[member].inbox.clone()
    }

    pub(crate) fn acknowledge(&mut self, member: &Member, number: u64) {
        let device = self.devices.get_mut(member).unwrap();
        device.inbox.retain(|delivery| delivery.number > number);
    }

    /// Highest counter that was taken.
    pub(crate) fn last_counter(&self, member: &Member) -> u64 {
        self.devices[member]
            .taken
            .keys()
            .last()
            .copied()
            .unwrap_or(0)
    }

    /// Exchanges the last two things that wait for a device.
    pub(crate) fn swap_inbox(&mut self, member: &Member) {
        let inbox = &mut self.devices.get_mut(member).unwrap().inbox;
        let last = inbox.len() - 1;
        let body = inbox[last].body.clone();
        inbox[last].body = std::mem::replace(&mut inbox[last - 1].body, body);
    }

    /// An ordinary `returned` for a message.
    pub(crate) fn return_message(
        &mut self,
        to: &Member,
        room: RoomId,
        counter: u64,
        server: &ServerName,
        refusal: Refusal,
    ) {
        let body = DeliveryBody::Returned {
            room,
            counter,
            server: server.clone(),
            refusal,
        };
        self.deliver(to, body);
    }
}
