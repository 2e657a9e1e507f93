//! Nobody outside a room has a say in it, and nobody inside can give it to them.
//!
//! Mallory is a member whose client follows no rule: it takes every credential, commits whatever it
//! is told to, and encrypts its handshakes when that helps. What it makes reaches Bob the way
//! everything does, as a delivery of his own homeserver.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use homeserver_api::session::DeliveryBody;
use mls_rs::client_builder::{BaseConfig, WithCryptoProvider, WithIdentityProvider, WithMlsRules};
use mls_rs::extension::built_in::ExternalSendersExt;
use mls_rs::group::{GroupContext, Roster};
use mls_rs::identity::SigningIdentity;
use mls_rs::mls_rules::{
    CommitDirection, CommitOptions, CommitSource, EncryptionOptions, ProposalBundle,
};
use mls_rs::time::MlsTime;
use mls_rs::{ExtensionList, IdentityProvider, MlsMessage, MlsRules};
use mls_rs_core::identity::{CredentialType, MemberValidationContext};
use mls_rs_crypto_rustcrypto::RustCryptoProvider;

use super::*;
use crate::certificate::AnchorSet;
use crate::clock::Clock as _;
use crate::core::Core;
use crate::event::Event;
use crate::ids::Address;
use crate::mls::{CIPHER_SUITE, Identities, identities, signer, signing_identity, time};

/// Takes everybody.
#[derive(Debug, Clone)]
pub(super) struct Anyone(pub(super) Identities);

impl IdentityProvider for Anyone {
    type Error = Error;

    fn validate_member(
        &self,
        _: &SigningIdentity,
        _: Option<MlsTime>,
        _: MemberValidationContext<'_>,
    ) -> Result<(), Error> {
        Ok(())
    }

    fn validate_external_sender(
        &self,
        _: &SigningIdentity,
        _: Option<MlsTime>,
        _: Option<&ExtensionList>,
    ) -> Result<(), Error> {
        Ok(())
    }

    fn identity(&self, who: &SigningIdentity, of: &ExtensionList) -> Result<Vec<u8>, Error> {
        Ok(self.0.identity(who, of)?)
    }

    fn valid_successor(
        &self,
        _: &SigningIdentity,
        _: &SigningIdentity,
        _: &ExtensionList,
    ) -> Result<bool, Error> {
        Ok(true)
    }

    fn supported_types(&self) -> Vec<CredentialType> {
        vec![CredentialType::X509]
    }
}

/// Allows everything.
#[derive(Debug, Clone, Default)]
pub(super) struct Lawless {
    encrypts_handshakes: Arc<AtomicBool>,
}

impl MlsRules for Lawless {
    type Error = Error;

    fn filter_proposals(
        &self,
        _: CommitDirection,
        _: CommitSource,
        _: &Roster<'_>,
        _: &GroupContext,
        proposals: ProposalBundle,
    ) -> Result<ProposalBundle, Error> {
        Ok(proposals)
    }

    fn commit_options(
        &self,
        _: &Roster<'_>,
        _: &GroupContext,
        _: &ProposalBundle,
    ) -> Result<CommitOptions, Error> {
        Ok(CommitOptions::new().with_ratchet_tree_extension(true))
    }

    fn encryption_options(
        &self,
        _: &Roster<'_>,
        _: &GroupContext,
    ) -> Result<EncryptionOptions, Error> {
        Ok(EncryptionOptions::new(
            self.encrypts_handshakes.load(Ordering::Acquire),
            mls_rs::client_builder::PaddingMode::None,
        ))
    }
}

pub(super) type Config = WithMlsRules<
    Lawless,
    WithIdentityProvider<Anyone, WithCryptoProvider<RustCryptoProvider, BaseConfig>>,
>;

pub(super) fn raw(device: &mut TestDevice, rules: &Lawless) -> mls_rs::Client<Config> {
    let identity = device.core().identity().clone();
    let provider = Anyone(identities(AnchorSet::default()));
    mls_rs::Client::builder()
        .crypto_provider(RustCryptoProvider::with_enabled_cipher_suites(vec![
            CIPHER_SUITE,
        ]))
        .identity_provider(provider)
        .mls_rules(rules.clone())
        .extension_type(room_rules::settings::ROOM_EXTENSION)
        .signing_identity(
            signing_identity(&identity.chain, &identity.key).unwrap(),
            signer(&identity.key).unwrap(),
            CIPHER_SUITE,
        )
        .build()
}

pub(super) fn none() -> ExtensionList {
    ExtensionList::default()
}

/// Alice, Bob and Mallory in a room, and a certified ghost outside.
pub(super) struct Scene {
    pub(super) world: World,
    pub(super) room: RoomId,
    pub(super) rules: Lawless,
    client: mls_rs::Client<Config>,
    pub(super) mallory: mls_rs::Group<Config>,
    /// Her address.
    pub(super) address: Address,
    pub(super) ghost: mls_rs::Client<Config>,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self::in_world(World::new())
    }

    pub(super) fn in_world(mut world: World) -> Self {
        let room = world.conversation();
        let rules = Lawless::default();
        let now = time(world.clock.now_ms());
        let mut without_keys = |handle, number| {
            let (network, a, b) = (&mut world.network, &world.a, &world.b);
            TestDevice::without_keys(network, &world.clock, a, handle, number, &[b])
        };
        let mut device = without_keys("mallory", 6);
        let ghost = raw(&mut without_keys("ghost", 9), &rules);
        let client = raw(&mut device, &rules);
        let key_package = client
            .generate_key_package_message(none(), none(), Some(now))
            .and_then(|message| message.to_bytes())
            .unwrap();
        world
            .network
            .put_key_packages(&device.member, vec![key_package], None);
        let with = [device.address.clone()];
        world.alice.run(|core| core.add_members(room, &with));
        world.settle();
        let welcome = world
            .network
            .inbox(&device.member)
            .into_iter()
            .find_map(|delivery| match delivery.body {
                DeliveryBody::Welcome { welcome, .. } => Some(welcome),
                _ => None,
            })
            .unwrap();
        let welcome = MlsMessage::from_bytes(&welcome).unwrap();
        let (mallory, _) = client.join_group(None, &welcome, None).unwrap();
        Self {
            world,
            room,
            rules,
            client,
            mallory,
            address: device.address.clone(),
            ghost,
        }
    }

    pub(super) fn now(&self) -> MlsTime {
        time(self.world.clock.now_ms())
    }

    pub(super) fn epoch(&mut self) -> u64 {
        self.world.bob.run(Core::rooms)[0].epoch
    }

    pub(super) fn deliver(&mut self, body: DeliveryBody) {
        let World { network, bob, .. } = &mut self.world;
        network.deliver(&bob.member, body);
        bob.receive(network).unwrap();
    }

    pub(super) fn as_commit(&mut self, bytes: &[u8]) -> DeliveryBody {
        DeliveryBody::Commit {
            room: self.room,
            epoch: self.epoch(),
            commit: bytes.to_vec().into(),
            accepted_ms: self.world.clock.now_ms(),
        }
    }

    pub(super) fn as_message(&self, bytes: &[u8]) -> DeliveryBody {
        DeliveryBody::Message {
            room: self.room,
            message: bytes.to_vec().into(),
            accepted_ms: self.world.clock.now_ms(),
            expires_ms: u64::MAX,
        }
    }

    /// Bob refuses the bytes as a commit and as a message, and the room is as before.
    pub(super) fn refuses(&mut self, what: &str, bytes: &[u8]) {
        self.refuses_because(what, bytes, "it is no commit of a member");
    }

    /// As [`Self::refuses`], the commit for this reason.
    pub(super) fn refuses_because(&mut self, what: &str, bytes: &[u8], why: &str) {
        let (commit, message) = (self.as_commit(bytes), self.as_message(bytes));
        let before = self.epoch();
        for (body, reason) in [(commit, why), (message, "it is no message of this room")] {
            let told = self.world.bob.unreadable().len();
            self.deliver(body);
            let unreadable = self.world.bob.unreadable();
            assert_eq!(unreadable.len(), told + 1, "{what} was taken");
            assert!(
                unreadable[told].contains(reason),
                "{what}: {}",
                unreadable[told]
            );
        }
        assert_eq!(self.epoch(), before, "{what}");
        let rooms = self.world.bob.run(Core::rooms);
        assert_eq!(rooms[0].members.len(), 3, "{what}");
    }

    pub(super) fn goes_on(&mut self) {
        let room = self.room;
        self.world.alice.send(room, "and on");
        self.world.alice.run(|core| core.refresh(room));
        self.world.settle();
        self.world.bob.send(room, "yes");
        self.world.settle();
        assert!(
            self.world
                .bob
                .texts(room)
                .contains(&"alice: and on".to_owned())
        );
        assert!(
            self.world
                .alice
                .texts(room)
                .contains(&"bob: yes".to_owned())
        );
    }
}

/// A new member's proposal, claimed to be an external sender's: the sender's kind is a byte behind
/// version, wire format, group id and epoch, and an external sender has an index.
fn as_external_sender(proposal: &[u8]) -> Vec<u8> {
    const SENDER: usize = 2 + 2 + 1 + 16 + 8;
    let mut bytes = proposal.to_vec();
    assert_eq!(bytes[SENDER], 3, "a new member's proposal");
    bytes[SENDER] = 2;
    bytes.splice(SENDER + 1..SENDER + 1, [0; 4]);
    assert!(crate::mls::parse(&bytes).is_ok());
    bytes
}

/// Goal: commits and proposals from outside, proposals of members, and commits that servers can't see
/// are refused in every place where they could be delivered, and the room goes on.
#[test]
fn nothing_from_outside_is_taken() {
    let mut scene = Scene::new();
    let now = scene.now();
    let info = scene
        .mallory
        .group_info_message_allowing_ext_commit(true)
        .unwrap();

    let (_, commit) = scene.ghost.commit_external(info.clone()).unwrap();
    let why = "it comes from outside";
    scene.refuses_because("an external commit", &commit.to_bytes().unwrap(), why);

    let proposal = scene
        .ghost
        .external_add_proposal(&info, None, Vec::new(), none(), none(), Some(now))
        .and_then(|message| message.to_bytes())
        .unwrap();
    scene.refuses("a new member's proposal", &proposal);
    let proposal = as_external_sender(&proposal);
    scene.refuses("an external sender's proposal", &proposal);

    let key_package = scene
        .ghost
        .generate_key_package_message(none(), none(), Some(now))
        .unwrap();
    let proposal = scene
        .mallory
        .propose_add(key_package.clone(), Vec::new())
        .and_then(|message| message.to_bytes())
        .unwrap();
    scene.refuses("a member's proposal", &proposal);

    scene
        .rules
        .encrypts_handshakes
        .store(true, Ordering::Release);
    scene.mallory.clear_proposal_cache();
    let output = scene
        .mallory
        .commit_builder()
        .add_member(key_package)
        .unwrap()
        .commit_time(now)
        .build()
        .unwrap();
    let commit = output.commit_message.to_bytes().unwrap();
    scene.refuses("an encrypted commit", &commit);
    scene.goes_on();
}

/// Goal: nobody is drawn into a room to which an organisation there has not consented, with everybody else there; the same
/// welcome with all consents is taken, so the refusal means something. Method: rooms without consents, with one that names not both,
/// that another organisation has signed, and that is for another room.
#[test]
fn welcomes_need_everybodys_consent() {
    for wrong in ["no policy", "not named", "forged", "another room", ""] {
        let mut scene = Scene::new();
        let now = scene.now();
        let (mallory, _) = scene.client.signing_identity().unwrap();
        let mallory = room_rules::device_in(mallory).unwrap().member;
        let bob = scene.world.bob.member.clone();
        let hub = scene.world.a.hub_chain();
        let others = [(bob.clone(), Role::Member)];
        let mut context = room_rules::testing::mls::context(&hub, &mallory, &others);
        let room = RoomId::from_bytes([0xEE; 16]);
        let network = &mut scene.world.network;
        let names = ["a.example", "b.example"];
        network.forged_by = (wrong == "forged").then(|| "b.example".parse().unwrap());
        let of = match wrong {
            "another room" => RoomId::from_bytes([0xEF; 16]),
            _ => room,
        };
        let consents = &mut context.settings.consents;
        *consents = network.consents_of(of, &names);
        match wrong {
            "no policy" => consents.clear(),
            "not named" => consents.extend(network.consents_of(room, &["a.example"])),
            _ => {}
        }
        let extensions = context.extensions().unwrap();
        let mut group = scene
            .client
            .create_group_with_id(room.as_bytes().to_vec(), extensions, none(), Some(now))
            .unwrap();
        let waiting = scene.world.network.waiting_key_packages(&bob);
        let output = group
            .commit_builder()
            .add_member(MlsMessage::from_bytes(&waiting[0]).unwrap())
            .unwrap()
            .commit_time(now)
            .build()
            .unwrap();
        scene.deliver(DeliveryBody::Welcome {
            room,
            hub: "a.example".parse().unwrap(),
            welcome: output.welcome_messages[0].to_bytes().unwrap().into(),
            accepted_ms: 0,
        });
        let joined = scene.world.bob.run(Core::rooms);
        let joined = joined.iter().any(|joined| joined.room == room);
        assert_eq!(joined, wrong.is_empty(), "{wrong}");
    }
}

/// Goal: nobody is drawn into a room that outsiders can command; the same welcome without that is
/// taken, so the refusal means something.
#[test]
fn welcomes_with_external_senders_are_refused() {
    for with_senders in [true, false] {
        let mut scene = Scene::new();
        let now = scene.now();
        let (mallory, _) = scene.client.signing_identity().unwrap();
        let mallory = room_rules::device_in(mallory).unwrap().member;
        let bob = scene.world.bob.member.clone();
        let hub = scene.world.a.hub_chain();
        let mut context = room_rules::testing::mls::context(&hub, &mallory, &[(bob, Role::Member)]);
        let room = RoomId::from_bytes([0xEE; 16]);
        context.settings.consents = scene
            .world
            .network
            .consents_of(room, &["a.example", "b.example"]);
        let mut extensions = context.extensions().unwrap();
        if with_senders {
            let (ghost, _) = scene.ghost.signing_identity().unwrap();
            let senders = ExternalSendersExt::new(vec![context.hub, ghost.clone()]);
            extensions.set_from(senders).unwrap();
        }
        let mut group = scene
            .client
            .create_group_with_id(room.as_bytes().to_vec(), extensions, none(), Some(now))
            .unwrap();
        let bob = scene.world.bob.member.clone();
        let waiting = scene.world.network.waiting_key_packages(&bob);
        let output = group
            .commit_builder()
            .add_member(MlsMessage::from_bytes(&waiting[0]).unwrap())
            .unwrap()
            .commit_time(now)
            .build()
            .unwrap();
        let told = scene.world.bob.unreadable().len();
        scene.deliver(DeliveryBody::Welcome {
            room,
            hub: "a.example".parse().unwrap(),
            welcome: output.welcome_messages[0].to_bytes().unwrap().into(),
            accepted_ms: 0,
        });
        let joined = scene.world.bob.run(Core::rooms);
        let joined = joined.iter().any(|joined| joined.room == room);
        assert_eq!(joined, !with_senders);
        let unreadable = scene.world.bob.unreadable().len();
        assert_eq!(unreadable, told + usize::from(with_senders));
        scene.goes_on();
    }
}

/// Goal: a member that lets outsiders in by a commit gets nowhere: Bob does not follow it, nor the group info
/// that comes with it, however often a hub that has ordered it hands it out. In the end the room ends for him,
/// which he is told.
#[test]
fn commits_that_let_outsiders_in_are_not_followed() {
    let mut scene = Scene::new();
    let now = scene.now();
    let (identity, _) = scene.ghost.signing_identity().unwrap();
    let mut extensions = none();
    let senders = ExternalSendersExt::new(vec![identity.clone()]);
    extensions.set_from(senders).unwrap();
    let output = scene
        .mallory
        .commit_builder()
        .set_group_context_ext(extensions)
        .unwrap()
        .commit_time(now)
        .build()
        .unwrap();
    let bytes = output.commit_message.to_bytes().unwrap();
    scene.mallory.apply_pending_commit().unwrap();
    let (room, hub) = (scene.room, "a.example".parse().unwrap());
    let commit = crate::frames::Commit {
        room,
        hub,
        epoch: scene.epoch(),
        commit: bytes.into(),
        adds: Vec::new(),
        removes: Vec::new(),
        welcome: None,
        group_info: info_of(&scene.mallory),
        founding: None,
    };
    let World {
        network,
        bob,
        clock,
        ..
    } = &mut scene.world;
    network.order_for(std::slice::from_ref(&bob.member), &commit);
    for _ in 0..100 {
        while bob.try_step(network).unwrap() {}
        assert_eq!(
            bob.core().next_deadline_ms().is_some(),
            bob.unreadable().is_empty()
        );
        clock.advance(10 * 60 * 1000);
        bob.run(Core::do_due);
    }
    let over = bob.events.iter().filter_map(|event| match event {
        Event::RoomOver { reason, .. } => Some(reason),
        _ => None,
    });
    let over: Vec<_> = over.collect();
    assert!(over.len() == 1 && over[0].contains("settings"), "{over:?}");
    assert!(bob.run(Core::rooms).is_empty());
}

pub(super) fn info_of(group: &mls_rs::Group<Config>) -> bytes::Bytes {
    let info = group.group_info_message_allowing_ext_commit(true).unwrap();
    info.to_bytes().unwrap().into()
}

/// Where a member's leaf is.
pub(super) fn leaf_of(group: &mls_rs::Group<Config>, who: &SigningIdentity) -> u32 {
    let mut members = group.roster().members_iter();
    let member = members.find(|member| member.signing_identity.signature_key == who.signature_key);
    member.unwrap().index
}

/// Goal: of commits from outside Bob takes a member's own way back and nothing else: not a ghost's in a member's
/// place, not another device's of the same account, not one with another key for the same device whoever certified it, not
/// one for an epoch that is over, not one that is not its alleged author's. Method: each as his homeserver would
/// deliver it, and the honest one at last.
#[test]
fn only_members_come_back() {
    let mut scene = Scene::new();
    let why = "it comes from outside and takes another's place";
    let message = |scene: &Scene| {
        let info = scene.mallory.group_info_message_allowing_ext_commit(true);
        info.unwrap()
    };
    let alice = scene.world.alice.core().identity().clone();
    let alice_identity = signing_identity(&alice.chain, &alice.key).unwrap();
    let place = leaf_of(&scene.mallory, &alice_identity);
    let outside = |client: &mls_rs::Client<Config>, place: u32, info: MlsMessage| {
        let builder = client.external_commit_builder().unwrap();
        let (_, commit) = builder.with_removal(place).build(info).unwrap();
        commit.to_bytes().unwrap()
    };
    let info = message(&scene);
    let bytes = outside(&scene.ghost, place, info.clone());
    scene.refuses_because("a ghost", &bytes, why);

    // Another device of Mallory's account, in the place of her first one.
    let own = leaf_of(&scene.mallory, scene.client.signing_identity().unwrap().0);
    let (network, a, b) = (&mut scene.world.network, &scene.world.a, &scene.world.b);
    let clock = scene.world.clock.clone();
    let mut second = TestDevice::without_keys(network, &clock, a, "mallory", 7, &[b]);
    let second = raw(&mut second, &scene.rules);
    let bytes = outside(&second, own, info.clone());
    scene.refuses_because("another device", &bytes, why);

    // The same device with another key: her organisation certifies it.
    let (network, a, b) = (&mut scene.world.network, &scene.world.a, &scene.world.b);
    let mut swapped = TestDevice::without_keys(network, &clock, a, "mallory", 6, &[b]);
    let swapped = raw(&mut swapped, &scene.rules);
    let bytes = outside(&swapped, own, info.clone());
    scene.refuses_because("another key", &bytes, why);

    // Without a removal it adds a device.
    let (_, bytes) = scene.ghost.commit_external(info.clone()).unwrap();
    let bytes = bytes.to_bytes().unwrap();
    scene.refuses_because("a newcomer", &bytes, "it comes from outside");

    // For an epoch that is over: told apart before anything is looked at.
    let stale = outside(&scene.client, own, info);
    let room = scene.room;
    scene.world.alice.run(|core| core.refresh(room));
    scene.world.settle();
    let mallory = scene.world.network.commits.last().unwrap().commit.clone();
    let mallory = MlsMessage::from_bytes(&mallory).unwrap();
    let now = scene.now();
    scene
        .mallory
        .process_incoming_message_with_time(mallory, now)
        .unwrap();
    scene.refuses("a stale one", &stale);

    // Not signed by who it says: Bob asks the hub, which has ordered nothing of the kind.
    let info = message(&scene);
    let honest = outside(&scene.client, own, info);
    let before = scene.epoch();
    let mut forged = honest.clone();
    let at = forged.len() - 40;
    forged[at] ^= 1;
    let commit = scene.as_commit(&forged);
    scene.deliver(commit);
    scene.world.settle();
    assert_eq!(scene.epoch(), before);
    let nothing_missed = |event: &Event| matches!(event, Event::RoomResynced { from_ms, until_ms, .. } if from_ms == until_ms);
    assert!(scene.world.bob.events.iter().any(nothing_missed));
    assert!(!scene.world.bob.run(Core::rooms)[0].out_of_step);

    // The true one passes.
    let commit = scene.as_commit(&honest);
    let told = scene.world.bob.unreadable().len();
    scene.deliver(commit);
    assert_eq!(scene.world.bob.unreadable().len(), told);
    assert_eq!(scene.epoch(), before + 1);
    assert_eq!(scene.world.bob.run(Core::rooms)[0].members.len(), 3);
}

/// Goal: a group info that is signed with another key for a member's device is not believed, whoever has certified that
/// key: its organisation could make up a whole group. Method: a group of the room's name in a later epoch, by Mallory's
/// device under a new certificate, with Bob in it, while he is out of step.
#[test]
fn other_keys_make_no_group_infos() {
    let mut scene = Scene::new();
    let (room, now) = (scene.room, scene.now());
    let (network, a, b) = (&mut scene.world.network, &scene.world.a, &scene.world.b);
    let clock = scene.world.clock.clone();
    let waiting = network.waiting_key_packages(&scene.world.bob.member);
    let mut swapped = TestDevice::without_keys(network, &clock, a, "mallory", 6, &[b]);
    let mut forged = raw(&mut swapped, &scene.rules)
        .create_group_with_id(room.as_bytes().to_vec(), none(), none(), Some(now))
        .unwrap();
    let builder = forged.commit_builder();
    let with_bob = MlsMessage::from_bytes(&waiting[0]).unwrap();
    let builder = builder.add_member(with_bob).unwrap();
    builder.commit_time(now).build().unwrap();
    forged.apply_pending_commit().unwrap();
    // Two commits that Bob lacks.
    for _ in 0..2 {
        scene.world.alice.run(|core| core.refresh(room));
        scene
            .world
            .alice
            .try_step(&mut scene.world.network)
            .unwrap();
    }
    let World { network, bob, .. } = &mut scene.world;
    network.lose_commit(&bob.member);
    bob.receive(network).unwrap();
    while forged.current_epoch() < scene.mallory.current_epoch() + 2 {
        forged.commit_builder().commit_time(now).build().unwrap();
        forged.apply_pending_commit().unwrap();
    }
    let genuine = network.newest_group_info(room);
    network.set_group_info(room, info_of(&forged));
    let ordered = network.commits.len();
    while bob.try_step(network).unwrap() {}
    assert_eq!(network.group_infos_asked, 1);
    assert_eq!(network.commits.len(), ordered, "nothing is built on it");
    // The control: the genuine one is taken.
    network.set_group_info(room, genuine);
    clock.advance(10 * 60 * 1000);
    bob.run(Core::do_due);
    while bob.try_step(network).unwrap() {}
    assert_eq!(network.commits.len(), ordered + 1);
}
