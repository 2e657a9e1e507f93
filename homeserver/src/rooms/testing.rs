//! True MLS for tests that care for something else: what they submit as a commit is framing with noise inside, and
//! becomes a commit that a hub takes, made by the device that submits it.
//!
//! Whatever can't be made, of a device that is in no such room or adds who is not there, stays as it is: a hub
//! refuses that before it looks at MLS.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use federation_proto::ids::{DeviceId, Member, RoomId, ServerName};
use homeserver_api::session::{Commit, Outcome, SubmissionBody};
use mls_rs::MlsMessage;
use room_rules::settings::{Context, Role, RoomSettings};
use room_rules::testing::mls::{
    Client, Group, bytes, client, context, create, group_info, key_package, next_group_info,
};
use room_rules::testing::widest_consent;

use crate::node::Node;
use crate::organisation::Keys;
use crate::store::device::DeviceOf;

/// How the noise of [`super::mls_framing::testing::commit_message`] ends.
const NOISE: [u8; 32] = [3; 32];

#[derive(Default)]
struct World {
    clients: HashMap<DeviceId, Client>,
    /// Of each device's organisation.
    keys: HashMap<DeviceId, Arc<Keys>>,
    rooms: Vec<Room>,
}

/// A room as its members know it. Rooms of several tests may have one id, and never a device in common.
struct Room {
    id: RoomId,
    groups: HashMap<DeviceId, Group>,
    /// What was taken of each epoch: by whom, and the commit.
    ordered: HashMap<u64, (DeviceId, Commit)>,
}

static WORLD: LazyLock<Mutex<World>> = LazyLock::new(Mutex::default);

fn world() -> MutexGuard<'static, World> {
    WORLD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A device with this Ed25519 key was certified by the homeserver with these keys.
pub(crate) fn certified(
    keys: &Arc<Keys>,
    device: DeviceId,
    key: &rcgen::KeyPair,
    chain: &[Vec<u8>],
) {
    // PKCS#8: the seed follows 16 bytes of structure.
    let seed = key.serialize_der()[16..48].try_into().unwrap();
    let mut world = world();
    world.clients.insert(device, client(&seed, chain));
    world.keys.insert(device, Arc::clone(keys));
}

/// Consents of these organisations to a room with all of them, as wide as can be, later than those that stand there.
pub(crate) fn consent(
    settings: &mut RoomSettings,
    room: RoomId,
    organisations: &[Arc<Keys>],
    node: &Node,
) {
    let names = organisations.iter().map(|keys| keys.server().clone());
    let names: BTreeSet<ServerName> = names.collect();
    let latest = settings.consents.values().map(|c| c.claims().serial).max();
    let now_ms = node
        .clock
        .now_ms()
        .max(latest.map_or(0, |latest| latest + 1));
    for keys in organisations {
        let consent = widest_consent(room, keys.server(), names.clone(), now_ms);
        let signed = keys.sign_room_consent(consent, node.random.as_ref());
        let consents = &mut settings.consents;
        consents.insert(keys.server().clone(), signed.unwrap());
    }
}

/// Makes a true commit of a submission's noise, when it is one.
pub(crate) fn fill(node: &Node, of: DeviceOf, body: &mut SubmissionBody) {
    if let SubmissionBody::Commit(commit) = body
        && commit.commit.ends_with(&NOISE)
    {
        let mut world = world();
        let filled = world.fill(node, of, commit);
        if let Some(filled) = filled {
            *commit = filled;
        }
    }
}

/// Remembers what was taken: the room goes on from there.
pub(crate) fn submitted(of: DeviceOf, body: &SubmissionBody, outcome: &Outcome) {
    if let (SubmissionBody::Commit(commit), Outcome::Accepted { .. }) = (body, outcome) {
        let mut world = world();
        if let Some(room) = world.room(commit.room, of.device) {
            room.ordered
                .insert(commit.epoch, (of.device, commit.clone()));
        }
    }
}

/// The organisations of these devices, each once.
fn organisations(
    keys: &HashMap<DeviceId, Arc<Keys>>,
    devices: impl Iterator<Item = DeviceId>,
) -> Option<Vec<Arc<Keys>>> {
    let mut found: BTreeMap<ServerName, Arc<Keys>> = BTreeMap::new();
    for device in devices {
        let keys = keys.get(&device)?;
        found.insert(keys.server().clone(), Arc::clone(keys));
    }
    Some(found.into_values().collect())
}

impl World {
    fn organisations(&self, devices: impl Iterator<Item = DeviceId>) -> Option<Vec<Arc<Keys>>> {
        organisations(&self.keys, devices)
    }

    fn room(&mut self, id: RoomId, device: DeviceId) -> Option<&mut Room> {
        let knows = |room: &&mut Room| {
            let added = |(_, commit): &(DeviceId, Commit)| {
                commit.adds.iter().any(|member| member.device == device)
            };
            room.id == id && (room.groups.contains_key(&device) || room.ordered.values().any(added))
        };
        self.rooms.iter_mut().rev().find(knows)
    }

    fn fill(&mut self, node: &Node, of: DeviceOf, commit: &Commit) -> Option<Commit> {
        let mut filled = commit.clone();
        let own = self.clients.get(&of.device)?.clone();
        let now_ms = node.clock.now_ms();
        let mut packages = Vec::new();
        for member in &commit.adds {
            packages.push(key_package(self.clients.get(&member.device)?, now_ms));
        }
        if commit.epoch == 0 {
            let begun = self.room(commit.room, of.device);
            if begun.is_some_and(|room| room.ordered.contains_key(&0)) {
                return None;
            }
            let sender = Member {
                server: node.server.clone(),
                account: of.account,
                device: of.device,
            };
            let chain = node.keys.room_chain(now_ms, node.random.as_ref()).unwrap();
            let owners: Vec<_> = commit
                .adds
                .iter()
                .map(|m| (m.clone(), Role::Owner))
                .collect();
            let mut context = context(&chain, &sender, &owners);
            let devices = owners.iter().map(|(member, _)| member.device);
            let organisations = self.organisations(devices.chain([of.device]))?;
            consent(&mut context.settings, commit.room, &organisations, node);
            // Somebody is said to be of another organisation than he is of.
            context.extensions().ok()?;
            let group = create(&own, commit.room, &context);
            filled.founding = Some(group_info(&group));
            self.rooms.push(Room {
                id: commit.room,
                groups: HashMap::from([(of.device, group)]),
                ordered: HashMap::new(),
            });
        }
        let keys = self.keys.clone();
        let room = self.room(commit.room, of.device)?;
        let group = room.group(&own, of.device, commit.epoch)?;
        group.clear_pending_commit();
        let mut next = Context::read(&group.context().extensions).ok()?;
        let before = next.settings.participants.len();
        for member in &commit.adds {
            let account = (member.server.clone(), member.account);
            let participants = &mut next.settings.participants;
            participants.entry(account).or_insert(Role::Owner);
        }
        if next.settings.domains().len() != next.settings.consents.len() {
            let added = commit.adds.iter().map(|member| member.device);
            let present = group.roster().members_iter().map(|leaf| {
                let device = room_rules::device_in(leaf.signing_identity()).unwrap();
                device.member.device
            });
            let present: Vec<_> = present.collect();
            let organisations = organisations(&keys, added.chain(present))?;
            consent(&mut next.settings, commit.room, &organisations, node);
        }
        let places: Vec<_> = group
            .roster()
            .members_iter()
            .map(|leaf| {
                let device = room_rules::device_in(leaf.signing_identity()).unwrap();
                (leaf.index(), device.member)
            })
            .collect();
        let mut builder = group.commit_builder();
        for package in packages {
            builder = builder.add_member(package).ok()?;
        }
        for member in &commit.removes {
            let (index, _) = places.iter().find(|(_, there)| there == member)?;
            builder = builder.remove_member(*index).ok()?;
        }
        if next.settings.participants.len() != before {
            let extensions = next.extensions().ok()?;
            builder = builder.set_group_context_ext(extensions).ok()?;
        }
        let output = builder.build().ok()?;
        filled.commit = bytes(&output.commit_message);
        filled.group_info = next_group_info(&output);
        if filled.welcome.is_some() {
            filled.welcome = output.welcome_messages.first().map(bytes);
        }
        Some(filled)
    }
}

impl Room {
    /// A device's group in this epoch.
    fn group(&mut self, own: &Client, device: DeviceId, epoch: u64) -> Option<&mut Group> {
        if !self.groups.contains_key(&device) {
            let added = |(_, commit): &&(DeviceId, Commit)| {
                commit.adds.iter().any(|member| member.device == device)
            };
            let (_, commit) = self
                .ordered
                .values()
                .filter(added)
                .max_by_key(|(_, c)| c.epoch)?;
            let welcome = MlsMessage::from_bytes(commit.welcome.as_ref()?).ok()?;
            let (group, _) = own.join_group(None, &welcome, None).ok()?;
            self.groups.insert(device, group);
        }
        let group = self.groups.get_mut(&device)?;
        while group.current_epoch() < epoch {
            let (_, commit) = self.ordered.get(&group.current_epoch())?;
            let message = MlsMessage::from_bytes(&commit.commit).ok()?;
            group.process_incoming_message(message).ok()?;
        }
        (group.current_epoch() == epoch).then_some(group)
    }
}
