//! Changes of membership: claim key packages, commit, submit, wait for the hub's order.
//!
//! An operation is durable from its first step, because claimed key packages are spent. One commit
//! a room is under way at a time. It is applied when the hub's order brings it back, never before;
//! when another commit was first, ours is dropped and made again on top of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use homeserver_api::ids::{Address, Member, RequestId, RoomId};
use homeserver_api::refusal::Refusal;
use homeserver_api::session::{Commit, KeyMaterial, SubmissionBody};
use mls_rs::MlsMessage;
use room_rules::settings::{Context, Role, check_name};

use super::Core;
use super::plan::no_key_packages;
use super::records::{
    Claim, ClaimedKeys, CommitInFlight, Operation, OperationKind, Purpose, Standing, Succession,
};
use super::resync::own_group_info;
use super::rooms::context;
use crate::error::Error;
use crate::mls;
use crate::store::Family;

/// How long a leaf that could not be renewed is left alone, unless its certificate was renewed.
const REFRESH_AGAIN_AFTER_MS: u64 = 60 * 1000;
/// Most accounts in one operation.
const ACCOUNTS_MAX: usize = 256;

impl Core {
    /// Begins a new room with these accounts; the operation's number.
    pub(crate) fn start_conversation(&mut self, with: &[Address]) -> Result<u64, Error> {
        let mut addresses: BTreeSet<Address> = with.iter().cloned().collect();
        if addresses.is_empty() {
            return Err(Error::InvalidArgument(
                "a conversation needs somebody to talk to".to_owned(),
            ));
        }
        // The account's other devices belong to the conversation too.
        addresses.insert(self.own_address().clone());
        let room = RoomId::from_bytes(self.random_bytes()?);
        self.start_operation(room, OperationKind::Create, addresses)
    }

    /// Begins to add accounts to a room; the operation's number.
    pub(crate) fn add_members(&mut self, room: RoomId, add: &[Address]) -> Result<u64, Error> {
        self.open_room(room)?;
        let addresses: BTreeSet<Address> = add.iter().cloned().collect();
        if addresses.is_empty() {
            return Err(Error::InvalidArgument("name somebody to add".to_owned()));
        }
        self.start_operation(room, OperationKind::Add, addresses)
    }

    /// Begins to remove accounts from a room; the operation's number.
    pub(crate) fn remove_members(
        &mut self,
        room: RoomId,
        remove: &[Address],
    ) -> Result<u64, Error> {
        self.open_room(room)?;
        let addresses: BTreeSet<Address> = remove.iter().cloned().collect();
        if addresses.contains(self.own_address()) {
            return Err(Error::InvalidArgument(
                "a device can't remove its own account: leave the room instead".to_owned(),
            ));
        }
        let present = self.known_leaves(room)?.into_iter();
        let present: BTreeSet<Address> = present.map(|leaf| leaf.device.address).collect();
        if let Some(absent) = addresses.iter().find(|a| !present.contains(*a)) {
            return Err(Error::InvalidArgument(format!(
                "{absent} is not in the room"
            )));
        }
        if addresses.is_empty() {
            return Err(Error::InvalidArgument("name somebody to remove".to_owned()));
        }
        self.start_operation(room, OperationKind::Remove(addresses), BTreeSet::new())
    }

    /// Begins to give an account in a room another role; the operation's number.
    pub(crate) fn set_role(
        &mut self,
        room: RoomId,
        address: &Address,
        role: Role,
    ) -> Result<u64, Error> {
        self.open_room(room)?;
        let leaves = self.known_leaves(room)?;
        if !leaves.iter().any(|leaf| leaf.device.address == *address) {
            return Err(Error::InvalidArgument(format!(
                "{address} is not in the room"
            )));
        }
        let kind = OperationKind::SetRole(address.clone(), role);
        self.start_operation(room, kind, BTreeSet::new())
    }

    /// Begins to give a room another name; the operation's number.
    pub(crate) fn rename(&mut self, room: RoomId, name: &str) -> Result<u64, Error> {
        self.open_room(room)?;
        check_name(name)?;
        let kind = OperationKind::Rename(name.to_owned());
        self.start_operation(room, kind, BTreeSet::new())
    }

    /// Begins to renew this device's leaf in a room, unless that has just failed.
    pub(super) fn refresh_if_possible(&mut self, room: RoomId) -> Result<(), Error> {
        let again = self.refresh_after.get(&room);
        if again.is_some_and(|at| *at > self.now_ms()) || self.certificate_has_expired() {
            return Ok(());
        }
        self.refresh(room)
    }

    /// Goes on in rooms whose leaf could not be renewed and may be tried again now: what is held there
    /// would else wait until something happens in the room.
    pub(super) fn retry_refreshes(&mut self) -> Result<(), Error> {
        let now = self.now_ms();
        let due: Vec<RoomId> = self
            .refresh_after
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(room, _)| *room)
            .collect();
        for room in due {
            self.refresh_after.remove(&room);
            self.advance_room(room)?;
        }
        Ok(())
    }

    /// Whether nobody would take this device's certificate any more; it is renewed first.
    fn certificate_has_expired(&self) -> bool {
        self.identity.not_after_ms <= self.now_ms()
    }

    /// Begins to renew this device's leaf in a room, unless that is under way.
    pub(crate) fn refresh(&mut self, room: RoomId) -> Result<(), Error> {
        let under_way = self
            .operations
            .values()
            .any(|o| o.room == room && o.kind == OperationKind::Refresh);
        if !under_way {
            self.start_operation(room, OperationKind::Refresh, BTreeSet::new())?;
        }
        Ok(())
    }

    pub(super) fn start_operation(
        &mut self,
        room: RoomId,
        kind: OperationKind,
        addresses: BTreeSet<Address>,
    ) -> Result<u64, Error> {
        let number = self.new_operation(room, kind, addresses, None)?;
        self.advance_room(room)?;
        Ok(number)
    }

    pub(super) fn new_operation(
        &mut self,
        room: RoomId,
        kind: OperationKind,
        addresses: BTreeSet<Address>,
        succession: Option<Succession>,
    ) -> Result<u64, Error> {
        if addresses.len() > ACCOUNTS_MAX {
            return Err(Error::InvalidArgument(format!(
                "at most {ACCOUNTS_MAX} accounts at once"
            )));
        }
        let number = self.state.last_operation + 1;
        self.state.last_operation = number;
        let mut claims = Vec::with_capacity(addresses.len());
        for address in addresses {
            let request = RequestId::from_bytes(self.random_bytes()?);
            let known = self.note_question(request, &address.server, None, &address)?;
            let body = SubmissionBody::ClaimKeys {
                request,
                address: address.clone(),
                known,
            };
            self.enqueue(
                body,
                Purpose::Claim {
                    operation: number,
                    request,
                },
            )?;
            claims.push(Claim {
                request,
                address,
                answer: None,
            });
        }
        let mut operation = Operation {
            number,
            room,
            kind,
            claims,
            consents: Vec::new(),
            commit: None,
            lost: 0,
            not_before_epoch: 0,
            waits_in_epoch: None,
            succession,
        };
        self.ask_foreseen(&mut operation)?;
        self.put_operation(operation)?;
        Ok(number)
    }

    pub(super) fn put_operation(&mut self, operation: Operation) -> Result<(), Error> {
        self.store
            .put(Family::Operation, b"", operation.number, &operation)?;
        self.operations.insert(operation.number, operation);
        Ok(())
    }

    /// Ends an operation and tells who waits for it.
    pub(super) fn end_operation(&mut self, number: u64, outcome: Result<RoomId, Error>) {
        if self.operations.remove(&number).is_some() {
            self.store.delete(Family::Operation, b"", number);
            self.effects.operations.push((number, outcome));
        }
    }

    pub(super) fn fail_operation(&mut self, number: u64, error: Error) -> Result<(), Error> {
        if let Some(operation) = self.operations.get(&number) {
            let (room, create) = (operation.room, operation.kind == OperationKind::Create);
            if matches!(
                operation.kind,
                OperationKind::Refresh | OperationKind::TakeUp
            ) {
                let again = self.now_ms().saturating_add(REFRESH_AGAIN_AFTER_MS);
                self.refresh_after.insert(room, again);
                self.effects.schedule_changed = true;
            }
            self.end_operation(number, Err(error));
            if create {
                self.delete_room(room)?;
            }
        }
        Ok(())
    }

    /// Takes in the answer to a claim.
    pub(super) fn take_key_material(
        &mut self,
        request: RequestId,
        result: Result<KeyMaterial, Refusal>,
    ) -> Result<(), Error> {
        let result = self.judge_material(request, result)?;
        let waiting = self.operations.values().find_map(|operation| {
            let at = operation
                .claims
                .iter()
                .position(|claim| claim.request == request && claim.answer.is_none())?;
            Some((operation.clone(), at))
        });
        // An answer that nobody waits for: the operation has failed meanwhile.
        let Some((mut operation, at)) = waiting else {
            return Ok(());
        };
        let result = match result {
            Ok(devices) => Ok(devices),
            Err(Error::Refused(refusal)) => Err(refusal),
            Err(error) => {
                let number = operation.number;
                return self.fail_operation(number, error);
            }
        };
        if let Some(claim) = operation.claims.get_mut(at) {
            claim.answer = Some(result.map(|devices| {
                devices
                    .into_iter()
                    .map(|device| ClaimedKeys {
                        member: device.member,
                        key_package: device.key_package,
                    })
                    .collect()
            }));
        }
        let own = self.own_address().clone();
        // Who can't be brought over stays behind, and keeps nobody else.
        let alone = operation.succession.is_some();
        let refused = operation
            .claims
            .iter()
            .find_map(|claim| match &claim.answer {
                // An account with a single device has no keys left to claim of its own.
                Some(Err(refusal)) if claim.address != own && !alone => Some(refusal.clone()),
                _ => None,
            });
        let (number, room) = (operation.number, operation.room);
        self.put_operation(operation)?;
        match refused {
            Some(refusal) => self.fail_operation(number, Error::Refused(refusal)),
            None => self.advance_room(room),
        }
    }

    /// Makes the room's next commit if it has one to make, else sends what waited for commits.
    pub(super) fn advance_room(&mut self, room: RoomId) -> Result<(), Error> {
        loop {
            if self.commit_in_flight(room) {
                return Ok(());
            }
            let epoch = match self.rooms.get(&room).map(|record| &record.standing) {
                None => 0,
                Some(Standing::Joined | Standing::Creating) => self.group(room)?.current_epoch(),
                Some(_) => return Ok(()),
            };
            // Before anything else.
            let removals_wait = self.removals_wait(room);
            if removals_wait {
                self.take_up_if_due(room)?;
            }
            let pause = self.commits_pause(room);
            let next = self.operations.values().find(|operation| {
                operation.room == room
                    && !pause
                    && (!removals_wait || operation.kind == OperationKind::TakeUp)
                    && operation.not_before_epoch <= epoch
                    && operation.waits_in_epoch != Some(epoch)
                    && operation.is_answered()
            });
            let Some(operation) = next.cloned() else {
                break;
            };
            // Messages may have been encrypted in this job: a commit that fails must not take their
            // ratchet back, or keys would be used twice.
            self.keep_group(room)?;
            match self.make_commit(&operation) {
                Ok(true) => return Ok(()),
                Ok(false) => self.end_operation(operation.number, Ok(room)),
                // The roots may be out of date: the whole job runs again with fresh ones.
                Err(error) if error.wants_roots() && !self.roots_are_fresh => {
                    return Err(error);
                }
                Err(error @ Error::Store(_)) => return Err(error),
                Err(error) => {
                    self.drop_group(room);
                    self.fail_operation(operation.number, error)?;
                }
            }
        }
        self.send_queued(room)
    }

    /// Whether a commit of this device is under way in the room.
    pub(super) fn commit_in_flight(&self, room: RoomId) -> bool {
        self.operations
            .values()
            .any(|operation| operation.room == room && operation.commit.is_some())
    }

    /// Whether a commit is under way that changes who is in the room.
    pub(super) fn membership_commit_in_flight(&self, room: RoomId) -> bool {
        self.operations.values().any(|operation| {
            operation.room == room
                && operation.commit.is_some()
                && operation.kind != OperationKind::Refresh
        })
    }

    /// Makes an operation's commit and queues it; whether there was something to commit.
    fn make_commit(&mut self, operation: &Operation) -> Result<bool, Error> {
        let room = operation.room;
        let now = self.now_ms();
        let (leaves, context) = if self.rooms.contains_key(&room) {
            let leaves = self.admit_members(room, now)?;
            (leaves, context(self.group(room)?)?)
        } else if operation.kind == OperationKind::Create {
            let mut context = self.new_context()?;
            if let Some(former) = &operation.succession {
                context.settings.name.clone_from(&former.name);
                context.settings.continues = Some(self.continuation(former.room, room)?);
            }
            (Arc::from([]), context)
        } else {
            return Err(Error::UnknownRoom(room));
        };
        let mut plan = self.plan(operation, &leaves, &context.settings)?;
        if self.ask_for_plan(operation, &plan)? {
            return Ok(true);
        }
        let refresh = operation.kind == OperationKind::Refresh;
        let (going, _) = self.going(room, &leaves)?;
        let takes_up = operation.kind == OperationKind::TakeUp && !going.is_empty();
        // Its renewal begins a new one.
        if refresh && self.certificate_has_expired() {
            return Ok(false);
        }
        let creates = operation.kind == OperationKind::Create;
        let nothing = plan.is_empty() || (creates && plan.adds.is_empty());
        if nothing && !refresh && !takes_up {
            return if creates {
                let own = self.own_address();
                Err(
                    if operation.claims.iter().all(|claim| claim.address == *own) {
                        Error::InvalidArgument(
                        "this is your account's only device, so a conversation with yourself has \
                         nobody else in it: name another address"
                            .to_owned(),
                    )
                    } else {
                        no_key_packages()
                    },
                )
            } else {
                Ok(false)
            };
        }
        let mut founding = None;
        if !self.rooms.contains_key(&room) {
            // A new room begins with those who are invited; later ones need a change.
            let settings = plan.settings.take().unwrap_or(context.settings.clone());
            let hub = context.hub.clone();
            self.identities
                .check_consents(&settings, room.as_bytes(), Some(now))?;
            self.create_room(room, &Context { settings, hub })?;
            founding = Some(own_group_info(self.group(room)?)?);
            self.admit_members(room, now)?;
        }
        let signing_identity = mls::signing_identity(&self.identity.chain, &self.identity.key)?;
        let signer = mls::signer(&self.identity.key)?;
        let group = self.group_mut(room)?;
        let epoch = group.current_epoch();
        let mut builder = group.commit_builder().commit_time(mls::time(now));
        if refresh {
            builder = builder.set_new_signing_identity(signer, signing_identity);
        }
        let mut adds = Vec::new();
        for (member, key_package) in plan.adds {
            builder = builder.add_member(key_package).map_err(mls::error)?;
            adds.push(member);
        }
        let removals = going.len();
        let mut removes = going;
        for (index, member) in plan.removes {
            builder = builder.remove_member(index).map_err(mls::error)?;
            removes.push(member);
        }
        if let Some(settings) = plan.settings {
            let hub = context.hub;
            let extensions = Context { settings, hub }.extensions()?;
            builder = builder
                .set_group_context_ext(extensions)
                .map_err(mls::error)?;
        }
        // The tree and the key packages are others'.
        let output = mls::guarded(|| builder.build().map_err(mls::error))?;
        let bytes = |message: &MlsMessage| {
            message
                .to_bytes()
                .map(bytes::Bytes::from)
                .map_err(mls::error)
        };
        let commit = Commit {
            room,
            hub: self.room(room)?.hub.clone(),
            epoch,
            commit: bytes(&output.commit_message)?,
            adds,
            removes,
            welcome: output.welcome_messages.first().map(bytes).transpose()?,
            group_info: output
                .external_commit_group_info
                .as_ref()
                .map(bytes)
                .transpose()?
                .unwrap_or_default(),
            founding,
        };
        let purpose = Purpose::Commit {
            operation: operation.number,
        };
        let invited: BTreeSet<Member> = commit.adds.iter().cloned().collect();
        let counter = self.enqueue(SubmissionBody::Commit(commit), purpose)?;
        self.tell_not_invited(operation, &invited);
        let mut operation = operation.clone();
        operation.commit = Some(CommitInFlight {
            counter,
            epoch,
            removals,
        });
        self.put_operation(operation)?;
        Ok(true)
    }
}
