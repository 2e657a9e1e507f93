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
use crate::mls::{CIPHER_SUITE, Identities, identities, signer, signing_identity, time};

/// Takes everybody.
#[derive(Debug, Clone)]
struct Anyone(Identities);

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
        self.0.identity(who, of)
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
struct Lawless {
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

type Config = WithMlsRules<
    Lawless,
    WithIdentityProvider<Anyone, WithCryptoProvider<RustCryptoProvider, BaseConfig>>,
>;

fn raw(device: &mut TestDevice, rules: &Lawless) -> mls_rs::Client<Config> {
    let identity = device.core().identity().clone();
    let provider = Anyone(identities(AnchorSet::default()));
    mls_rs::Client::builder()
        .crypto_provider(RustCryptoProvider::with_enabled_cipher_suites(vec![
            CIPHER_SUITE,
        ]))
        .identity_provider(provider)
        .mls_rules(rules.clone())
        .signing_identity(
            signing_identity(&identity.chain, &identity.key).unwrap(),
            signer(&identity.key).unwrap(),
            CIPHER_SUITE,
        )
        .build()
}

fn none() -> ExtensionList {
    ExtensionList::default()
}

/// Alice, Bob and Mallory in a room, and a certified ghost outside.
struct Scene {
    world: World,
    room: RoomId,
    rules: Lawless,
    client: mls_rs::Client<Config>,
    mallory: mls_rs::Group<Config>,
    ghost: mls_rs::Client<Config>,
}

impl Scene {
    fn new() -> Self {
        let mut world = World::new();
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
            ghost,
        }
    }

    fn now(&self) -> MlsTime {
        time(self.world.clock.now_ms())
    }

    fn epoch(&mut self) -> u64 {
        self.world.bob.run(Core::rooms)[0].epoch
    }

    fn deliver(&mut self, body: DeliveryBody) {
        let World { network, bob, .. } = &mut self.world;
        network.deliver(&bob.member, body);
        bob.receive(network).unwrap();
    }

    fn as_commit(&mut self, bytes: &[u8]) -> DeliveryBody {
        DeliveryBody::Commit {
            room: self.room,
            epoch: self.epoch(),
            commit: bytes.to_vec().into(),
            accepted_ms: self.world.clock.now_ms(),
        }
    }

    fn as_message(&self, bytes: &[u8]) -> DeliveryBody {
        DeliveryBody::Message {
            room: self.room,
            message: bytes.to_vec().into(),
            accepted_ms: self.world.clock.now_ms(),
            expires_ms: u64::MAX,
        }
    }

    /// Bob refuses the bytes as a commit and as a message, and the room is as before.
    fn refuses(&mut self, what: &str, bytes: &[u8]) {
        let (commit, message) = (self.as_commit(bytes), self.as_message(bytes));
        let before = self.epoch();
        for (body, reason) in [
            (commit, "it is no commit of a member"),
            (message, "it is no message of this room"),
        ] {
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

    fn goes_on(&mut self) {
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
    scene.refuses("an external commit", &commit.to_bytes().unwrap());

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

/// Goal: nobody is drawn into a room that outsiders can command; the same welcome without that is
/// taken, so the refusal means something.
#[test]
fn welcomes_with_external_senders_are_refused() {
    for with_senders in [true, false] {
        let mut scene = Scene::new();
        let now = scene.now();
        let mut extensions = none();
        if with_senders {
            let (identity, _) = scene.ghost.signing_identity().unwrap();
            let senders = ExternalSendersExt::new(vec![identity.clone()]);
            extensions.set_from(senders).unwrap();
        }
        let room = RoomId::from_bytes([0xEE; 16]);
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

/// Goal: a member that lets outsiders in by a commit gets nowhere: Bob does not follow it. A hub that
/// ordered it has ended the room for him, which he is told.
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
    let commit = scene.as_commit(&output.commit_message.to_bytes().unwrap());
    scene.deliver(commit);
    let unreadable = scene.world.bob.unreadable();
    assert!(
        unreadable[0].contains("the room can't go on"),
        "{unreadable:?}"
    );
    assert!(scene.world.bob.run(Core::rooms).is_empty());
}
