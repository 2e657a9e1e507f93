use std::sync::Arc;

use homeserver_api::ids::{AccountId, Address, DeviceId, Member};
use mls_rs::client_builder::{BaseConfig, WithCryptoProvider, WithIdentityProvider};
use mls_rs::extension::built_in::ExternalSendersExt;
use mls_rs::group::ReceivedMessage;
use mls_rs::{ExtensionList, MlsMessage};
use room_rules::settings::Role;
use room_rules::testing::mls::context;

use super::*;
use crate::certificate::AnchorSet;
use crate::clock::Clock as _;
use crate::clock::tests::TestClock;
use crate::store::{Store, StoreKey};
use crate::testing::Organisation;

/// A client without any rules of ours.
type RawClient = mls_rs::Client<
    WithIdentityProvider<Identities, WithCryptoProvider<RustCryptoProvider, BaseConfig>>,
>;

fn named(organisation: &Organisation, handle: &str, number: u8) -> (Member, Address) {
    let member = Member {
        server: organisation.server.clone(),
        account: AccountId::from_bytes([number; 16]),
        device: DeviceId::from_bytes([number; 16]),
    };
    let address = format!("{handle}@{}", organisation.server).parse().unwrap();
    (member, address)
}

struct Scene {
    _folder: tempfile::TempDir,
    clock: TestClock,
    organisation: Organisation,
    identities: Identities,
    honest: Group,
    mallory: mls_rs::Group<
        WithIdentityProvider<Identities, WithCryptoProvider<RustCryptoProvider, BaseConfig>>,
    >,
}

fn raw(identities: &Identities, key: &DeviceKey, chain: &[Vec<u8>]) -> RawClient {
    mls_rs::Client::builder()
        .crypto_provider(RustCryptoProvider::with_enabled_cipher_suites(vec![
            CIPHER_SUITE,
        ]))
        .identity_provider(identities.clone())
        .extension_type(ROOM_EXTENSION)
        .signing_identity(
            signing_identity(chain, key).unwrap(),
            key.for_mls().unwrap(),
            CIPHER_SUITE,
        )
        .build()
}

impl Scene {
    /// An honest client's group with a member that follows no rules of ours.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = TestClock::default();
        let organisation = Organisation::new("a.example");
        let anchors = AnchorSet::own(organisation.server.clone(), organisation.root.clone());
        let identities = identities(anchors);
        let store = Arc::new(Store::create(folder.path(), &StoreKey::Key([1; 32])).unwrap());
        let storage = MlsStorage::new(store, Arc::new(clock.clone()));
        let device = |handle, number| {
            let (member, address) = named(&organisation, handle, number);
            let key = DeviceKey::generate().unwrap();
            let public = key.public().unwrap();
            let chain = organisation.issue(&member, &address, &public, clock.now_ms());
            (key, chain)
        };
        let (key, chain) = device("alice", 1);
        let week = Duration::from_secs(7 * 86_400);
        let alice = client(&key, &chain, &storage, &identities, week).unwrap();
        let now = Some(time(clock.now_ms()));
        let none = ExtensionList::default;
        let participants = [(3, "carol"), (4, "dave"), (6, "mallory"), (9, "ghost")]
            .map(|(number, handle)| (named(&organisation, handle, number).0, Role::Owner));
        let creator = named(&organisation, "alice", 1).0;
        let context = context(&organisation.hub_chain(), &creator, &participants);
        let mut honest = alice
            .create_group_with_id(vec![7; 16], context.extensions().unwrap(), none(), now)
            .unwrap();
        let (key, chain) = device("mallory", 6);
        let mallory = raw(&identities, &key, &chain);
        let key_package = mallory
            .generate_key_package_message(none(), none(), now)
            .unwrap();
        let output = honest
            .commit_builder()
            .add_member(key_package)
            .unwrap()
            .commit_time(time(clock.now_ms()))
            .build()
            .unwrap();
        honest.apply_pending_commit().unwrap();
        let (mallory, _) = mallory
            .join_group(None, &output.welcome_messages[0], None)
            .unwrap();
        Self {
            _folder: folder,
            clock,
            organisation,
            identities,
            honest,
            mallory,
        }
    }

    /// A key package of a new device that follows no rules of ours.
    fn outsider(&self, handle: &str, number: u8) -> (RawClient, MlsMessage) {
        let (member, address) = named(&self.organisation, handle, number);
        let key = DeviceKey::generate().unwrap();
        let public = key.public().unwrap();
        let chain = self
            .organisation
            .issue(&member, &address, &public, self.clock.now_ms());
        let client = raw(&self.identities, &key, &chain);
        let none = ExtensionList::default;
        let key_package = client
            .generate_key_package_message(none(), none(), Some(time(self.clock.now_ms())))
            .unwrap();
        (client, key_package)
    }

    fn refuses(&mut self, commit: MlsMessage) {
        let epoch = self.honest.current_epoch();
        let now = time(self.clock.now_ms());
        let processed = self.honest.process_incoming_message_with_time(commit, now);
        assert!(processed.is_err(), "it was taken");
        assert_eq!(self.honest.current_epoch(), epoch);
        assert_eq!(self.honest.roster().members().len(), 2);
    }
}

/// Goal: the scene's member can make commits that are taken, so that refusals mean something.
#[test]
fn ordinary_commits_are_taken() {
    let mut scene = Scene::new();
    let (_, key_package) = scene.outsider("carol", 3);
    let output = scene
        .mallory
        .commit_builder()
        .add_member(key_package)
        .unwrap()
        .commit_time(time(scene.clock.now_ms()))
        .build()
        .unwrap();
    let now = time(scene.clock.now_ms());
    let processed = scene
        .honest
        .process_incoming_message_with_time(output.commit_message, now)
        .unwrap();
    assert!(matches!(processed, ReceivedMessage::Commit(_)));
    assert_eq!(scene.honest.roster().members().len(), 3);
}

/// Goal: no member can let outsiders in by a setting: a commit with external senders is refused.
#[test]
fn external_senders_are_refused() {
    let mut scene = Scene::new();
    let (outsider, _) = scene.outsider("ghost", 9);
    let (identity, _) = outsider.signing_identity().unwrap();
    let mut extensions = ExtensionList::default();
    let senders = ExternalSendersExt::new(vec![identity.clone()]);
    extensions.set_from(senders).unwrap();
    // mls-rs itself asks the provider about the sender when the commit is made.
    let made = scene
        .mallory
        .commit_builder()
        .set_group_context_ext(extensions)
        .unwrap()
        .build();
    assert!(made.is_err());
}

/// Goal: nothing else about a room can be changed by a commit.
#[test]
fn settings_are_refused() {
    let mut scene = Scene::new();
    let output = scene
        .mallory
        .commit_builder()
        .set_group_context_ext(ExtensionList::default())
        .unwrap()
        .build()
        .unwrap();
    scene.refuses(output.commit_message);
    scene.mallory.clear_pending_commit();
    let output = scene
        .mallory
        .commit_builder()
        .reinit(
            None,
            mls_rs::ProtocolVersion::MLS_10,
            CIPHER_SUITE,
            ExtensionList::default(),
        )
        .unwrap()
        .build()
        .unwrap();
    scene.refuses(output.commit_message);
}

/// Goal: a commit from outside is refused, even with a group info that allows it.
#[test]
fn external_commits_are_refused() {
    let mut scene = Scene::new();
    let (ghost, _) = scene.outsider("ghost", 9);
    let info = scene
        .mallory
        .group_info_message_allowing_ext_commit(true)
        .unwrap();
    let (_, commit) = ghost.commit_external(info).unwrap();
    scene.refuses(commit);
}

/// Goal: a commit of somebody else's proposals is refused, whoever proposed them.
#[test]
fn references_are_refused() {
    let mut scene = Scene::new();
    let (_, key_package) = scene.outsider("ghost", 9);
    let proposal = scene.mallory.propose_add(key_package, Vec::new()).unwrap();
    scene.honest.process_incoming_message(proposal).unwrap();
    let output = scene
        .mallory
        .commit_builder()
        .commit_time(time(scene.clock.now_ms()))
        .build()
        .unwrap();
    assert!(!output.welcome_messages.is_empty(), "it does add the ghost");
    scene.refuses(output.commit_message);
    // Nor does the honest client commit what others proposed.
    let made = scene.honest.commit_builder().build().unwrap();
    assert!(made.welcome_messages.is_empty());
}

/// Goal: a device that is added must be certified for the moment of its admission; one that is a
/// member already is not judged by date again, neither in commits nor in a tree that is imported.
#[test]
fn validity_is_judged_once() {
    let mut scene = Scene::new();
    let (late, stale) = scene.outsider("carol", 3);
    scene.clock.advance(40 * 86_400_000);
    let output = scene
        .mallory
        .commit_builder()
        .add_member(stale)
        .unwrap()
        .commit_time(time(scene.clock.now_ms() - 40 * 86_400_000))
        .build()
        .unwrap();
    // Mallory's own certificate has run out as well; it is admitted, Carol's is not.
    let members = scene
        .honest
        .roster()
        .members_iter()
        .map(|member| room_rules::mark(member.signing_identity()).unwrap())
        .collect();
    scene.identities.set_admitted(members);
    scene.refuses(output.commit_message);
    drop(late);
    scene.mallory.clear_pending_commit();
    let update = scene.mallory.commit_builder().build().unwrap();
    let now = time(scene.clock.now_ms());
    scene
        .honest
        .process_incoming_message_with_time(update.commit_message, now)
        .unwrap();
    scene.mallory.apply_pending_commit().unwrap();
    // A newcomer with a good certificate imports a tree of stale ones.
    let (dave, key_package) = scene.outsider("dave", 4);
    let output = scene
        .mallory
        .commit_builder()
        .add_member(key_package)
        .unwrap()
        .build()
        .unwrap();
    dave.join_group(None, &output.welcome_messages[0], None)
        .unwrap();
}

proptest::proptest! {
    /// Goal: no bytes make the parser panic, and nothing may follow a message.
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(0_u8.., 0..500)) {
        let _ = parse(&bytes);
        let mut headed = vec![0, 1, 0, 2];
        headed.extend(bytes);
        let _ = parse(&headed);
    }
}
