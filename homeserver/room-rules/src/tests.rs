//! Commits that must not be, made by clients to whom nothing is forbidden: the hub and an honest member each
//! refuse every one.

use bytes::Bytes;
use federation_proto::ids::{AccountId, RoomId};
use federation_proto::limits::ROOM_CONSENT_MS_MAX;
use mls_rs::client_builder::{BaseConfig, WithCryptoProvider, WithIdentityProvider, WithMlsRules};
use mls_rs::extension::ExtensionType;
use mls_rs::extension::built_in::ExternalSendersExt;
use mls_rs::group::ReceivedMessage;
use mls_rs::group::proposal::Proposal;
use mls_rs::time::MlsTime;
use mls_rs::{Extension, ExtensionList, MlsMessage, ProtocolVersion};
use mls_rs_crypto_rustcrypto::RustCryptoProvider;

mod beginnings;
mod large;
mod leaving;
mod policy;
mod rfc9420;

use super::*;
use crate::certificate::AnchorSet;
use crate::settings::{Context, ROOM_EXTENSION, Role};
use crate::testing::Organisation;
use crate::testing::mls::{
    Device, Group, bytes, context, create, group_info, key_package, next_group_info, signer,
};

const NOW_MS: u64 = 1_790_000_000_000;
const ROOM: RoomId = RoomId::from_bytes([7; 16]);

type HonestConfig = WithMlsRules<
    Rules,
    WithIdentityProvider<Identities, WithCryptoProvider<RustCryptoProvider, BaseConfig>>,
>;

/// A room of Alice, who owns it, Mallory with some role, and Carol, whose client is honest. Dave takes part
/// without a device; nobody knows the ghost.
struct Scene {
    a: Organisation,
    b: Organisation,
    /// Of which nobody takes part.
    c: Organisation,
    alice: Device,
    dave: Device,
    ghost: Device,
    owner: Group,
    mallory: Group,
    /// Of Mallory's key.
    seed: [u8; 32],
    second: Device,
    carol: mls_rs::Group<HonestConfig>,
    /// Carol's.
    rules: Rules,
    hub: Observed,
}

fn anchors(a: &Organisation, b: &Organisation) -> AnchorSet {
    anchors_of(&[a, b])
}

fn anchors_of(organisations: &[&Organisation]) -> AnchorSet {
    let (own, others) = organisations.split_first().unwrap();
    let mut anchors = AnchorSet::own(own.server.clone(), own.root.clone());
    let others = others.iter();
    let others = others.map(|other| (other.server.clone(), other.root.clone().into()));
    anchors.replace_others(&own.server, others);
    anchors
}

/// Puts in the consents of these organisations, for this time.
fn consented(context: &mut Context, organisations: &[&Organisation], lasts_ms: u64) {
    let names: Vec<&str> = organisations.iter().map(|o| o.server.as_str()).collect();
    for organisation in organisations {
        let mut consent = organisation.consent(ROOM, &names, NOW_MS);
        consent.expires_ms = NOW_MS + lasts_ms;
        let signed = organisation.consents(consent);
        let consents = &mut context.settings.consents;
        consents.insert(organisation.server.clone(), signed);
    }
}

fn honest(device: &Device, anchors: AnchorSet) -> (mls_rs::Client<HonestConfig>, Rules) {
    let (identity, _) = device.client.signing_identity().unwrap();
    let public = RoomKey::from_seed(&device.seed).unwrap().public().to_vec();
    let secret = [&device.seed[..], &public].concat().into();
    let identities = Identities::new(anchors, Imports::Verified);
    let client = mls_rs::Client::builder()
        .crypto_provider(RustCryptoProvider::with_enabled_cipher_suites(vec![
            CIPHER_SUITE,
        ]))
        .identity_provider(identities.clone())
        .mls_rules(identities.rules().clone())
        .extension_type(ROOM_EXTENSION)
        .signing_identity(identity.clone(), secret, CIPHER_SUITE)
        .build();
    (client, identities.rules().clone())
}

impl Scene {
    fn new(role: Role) -> Self {
        Self::consented(role, ROOM_CONSENT_MS_MAX)
    }

    /// With consents of the two organisations that end after this time.
    fn consented(role: Role, lasts_ms: u64) -> Self {
        let (a, b, c) = (
            Organisation::new("a.example"),
            Organisation::new("b.example"),
            Organisation::new("c.example"),
        );
        let all = || anchors_of(&[&a, &b, &c]);
        let alice = Device::new(&a, "alice", 0x11, NOW_MS);
        let mallory = Device::new(&b, "mallory", 0x21, NOW_MS);
        let second = Device::new(&b, "mallory", 0x22, NOW_MS);
        let carol = Device::new(&b, "carol", 0x31, NOW_MS);
        let dave = Device::new(&b, "dave", 0x41, NOW_MS);
        let ghost = Device::new(&a, "ghost", 0x91, NOW_MS);
        let others = [
            (mallory.member.clone(), role),
            (carol.member.clone(), Role::Member),
            (dave.member.clone(), Role::Member),
        ];
        let mut context = context(&a.hub_chain(), &alice.member, &others);
        consented(&mut context, &[&a, &b], lasts_ms);
        let mut owner = create(&alice.client, ROOM, &context);
        let first = group_info(&owner);
        let hub = Observed::found(&first, &all(), &a.room_key(), &alice.member, NOW_MS);
        let (carols, rules) = honest(&carol, all());
        rules.set_time(NOW_MS);
        let none = ExtensionList::default;
        let now = Some(MlsTime::from(NOW_MS / 1000));
        let output = owner
            .commit_builder()
            .add_member(key_package(&mallory.client, NOW_MS))
            .unwrap()
            .add_member(
                carols
                    .generate_key_package_message(none(), none(), now)
                    .unwrap(),
            )
            .unwrap()
            .build()
            .unwrap();
        owner.apply_pending_commit().unwrap();
        let commit = bytes(&output.commit_message);
        let judged = hub
            .unwrap()
            .judge(&[], &commit, &next_group_info(&output), NOW_MS);
        let judged = judged.unwrap();
        assert_eq!(judged.committer, alice.member);
        assert_eq!(judged.adds, [mallory.member.clone(), carol.member.clone()]);
        let welcome = &output.welcome_messages[0];
        let (carol, _) = carols.join_group(None, welcome, None).unwrap();
        let seed = mallory.seed;
        let (mallory, _) = mallory.client.join_group(None, welcome, None).unwrap();
        Self {
            a,
            b,
            c,
            alice,
            dave,
            ghost,
            owner,
            mallory,
            seed,
            second,
            carol,
            rules,
            hub: judged.next,
        }
    }

    /// What the hub and Carol say to a commit with its group info.
    fn judge(&mut self, commit: &MlsMessage, info: &Bytes) -> [Result<(), Error>; 2] {
        self.judge_at(commit, info, NOW_MS)
    }

    fn judge_at(
        &mut self,
        commit: &MlsMessage,
        info: &Bytes,
        now_ms: u64,
    ) -> [Result<(), Error>; 2] {
        let hub = self
            .hub
            .judge(&[], &bytes(commit), info, now_ms)
            .map(|_| ());
        self.rules.set_time(now_ms);
        let now = MlsTime::from(now_ms / 1000);
        let carol = self
            .carol
            .process_incoming_message_with_time(commit.clone(), now);
        [hub, carol.map(|_| ()).map_err(Error::from)]
    }

    fn context(&self) -> Context {
        self.hub.context().clone()
    }
}

/// What Mallory tries, with the roles that may do it.
type Attempt = (
    &'static str,
    &'static [Role],
    fn(&mut Scene) -> (MlsMessage, Bytes),
);

fn commit(scene: &mut Scene, proposals: Vec<Proposal>) -> (MlsMessage, Bytes) {
    let builder = scene.mallory.commit_builder().raw_proposals(proposals);
    let output = builder.build().unwrap();
    (output.commit_message.clone(), next_group_info(&output))
}

/// The chain in Mallory's leaf.
fn own_chain(scene: &Scene) -> Vec<Vec<u8>> {
    let index = scene.mallory.current_member_index();
    let member = scene.mallory.member_at_index(index).unwrap();
    let chain = member
        .signing_identity()
        .credential
        .as_x509()
        .unwrap()
        .clone();
    chain.iter().map(|der| der.to_vec()).collect()
}

/// Mallory's leaf with another key or chain.
fn renew(scene: &mut Scene, seed: &[u8; 32], chain: &[Vec<u8>]) -> (MlsMessage, Bytes) {
    let (secret, identity) = signer(seed, chain);
    let builder = scene.mallory.commit_builder();
    let builder = builder.set_new_signing_identity(secret, identity);
    let output = builder.build().unwrap();
    (output.commit_message.clone(), next_group_info(&output))
}

fn settings(scene: &mut Scene, change: fn(&mut Context, &Scene)) -> (MlsMessage, Bytes) {
    let mut context = scene.context();
    change(&mut context, scene);
    context.settings.drop_unlisted();
    let extensions = context.extensions().unwrap();
    commit(scene, vec![Proposal::GroupContextExtensions(extensions)])
}

fn add(scene: &mut Scene, whom: fn(&Scene) -> &Device) -> (MlsMessage, Bytes) {
    let key_package = key_package(&whom(scene).client, NOW_MS);
    let builder = scene.mallory.commit_builder();
    let output = builder.add_member(key_package).unwrap().build().unwrap();
    (output.commit_message.clone(), next_group_info(&output))
}

fn remove(scene: &mut Scene, index: u32) -> (MlsMessage, Bytes) {
    let builder = scene.mallory.commit_builder();
    let output = builder.remove_member(index).unwrap().build().unwrap();
    (output.commit_message.clone(), next_group_info(&output))
}

fn give(role: Role) -> impl Fn(&mut Context, &Device) {
    move |context, device| {
        let account = (device.member.server.clone(), device.member.account);
        context.settings.participants.insert(account, role);
    }
}

const NOBODY: &[Role] = &[];
const EVERYBODY: &[Role] = &[Role::Owner, Role::Moderator, Role::Member];
const WHO_MAY: &[Role] = &[Role::Owner, Role::Moderator];
const OWNERS: &[Role] = &[Role::Owner];

/// Each thing that a commit could do, and who may. Alice is leaf 0, Mallory 1, Carol 2.
const ATTEMPTS: &[Attempt] = &[
    ("nothing but a new leaf", EVERYBODY, |s| commit(s, vec![])),
    ("his certificate with another key", NOBODY, |s| {
        let chain = own_chain(s);
        renew(s, &[0x77; 32], &chain)
    }),
    ("his certificate with another issuing CA", NOBODY, |s| {
        let mut chain = own_chain(s);
        chain[1] = s.a.issuing().0;
        let seed = s.seed;
        renew(s, &seed, &chain)
    }),
    ("add an own further device", EVERYBODY, |s| {
        add(s, |s| &s.second)
    }),
    ("add somebody who takes part", EVERYBODY, |s| {
        add(s, |s| &s.dave)
    }),
    ("add a ghost", NOBODY, |s| add(s, |s| &s.ghost)),
    ("remove a member", WHO_MAY, |s| remove(s, 2)),
    ("remove an owner", OWNERS, |s| remove(s, 0)),
    ("let somebody take part", WHO_MAY, |s| {
        settings(s, |c, s| give(Role::Member)(c, &s.ghost))
    }),
    ("make an owner", OWNERS, |s| {
        settings(s, |c, s| give(Role::Owner)(c, &s.dave))
    }),
    ("take the owner's role", OWNERS, |s| {
        settings(s, |c, s| give(Role::Member)(c, &s.alice))
    }),
    ("strike out who is in the room", NOBODY, |s| {
        settings(s, |c, s| {
            let carol = AccountId::from_bytes([0x30; 16]);
            let carol = (s.b.server.clone(), carol);
            c.settings.participants.remove(&carol).unwrap();
        })
    }),
    ("rename the room", WHO_MAY, |s| {
        settings(s, |c, _| c.settings.name = "Lunch".to_owned())
    }),
    ("keep fewer epochs", OWNERS, |s| {
        settings(s, |c, _| c.settings.retained_epochs = 2)
    }),
    ("another hub", NOBODY, |s| {
        settings(s, |c, s| {
            c.settings.hub = s.b.server.clone();
            c.hub = hub_identity(&s.b.hub_chain()).unwrap();
        })
    }),
    ("a new certificate of the hub", OWNERS, |s| {
        settings(s, |c, s| c.hub = hub_identity(&s.a.hub(&[1; 32])).unwrap())
    }),
    ("a hub that nobody vouches for", NOBODY, |s| {
        settings(s, |c, s| {
            let other = Organisation::new(s.a.server.as_str());
            c.hub = hub_identity(&other.hub_chain()).unwrap();
        })
    }),
    ("no settings", NOBODY, |s| {
        let none = ExtensionList::new();
        commit(s, vec![Proposal::GroupContextExtensions(none)])
    }),
    ("a second external sender", NOBODY, |s| {
        let mut extensions = s.context().extensions().unwrap();
        let (hub, ghost) = (s.context().hub, hub_identity(&s.b.hub_chain()).unwrap());
        extensions
            .set_from(ExternalSendersExt::new(vec![hub, ghost]))
            .unwrap();
        commit(s, vec![Proposal::GroupContextExtensions(extensions)])
    }),
    ("a pre-shared key", NOBODY, |s| {
        let epoch = s.mallory.current_epoch();
        let builder = s.mallory.commit_builder();
        let output = builder.add_resumption_psk(epoch).unwrap().build().unwrap();
        (output.commit_message.clone(), next_group_info(&output))
    }),
    ("an end of the room", NOBODY, |s| {
        let (version, none) = (ProtocolVersion::MLS_10, ExtensionList::new());
        let builder = s.mallory.commit_builder();
        let builder = builder.reinit(None, version, CIPHER_SUITE, none).unwrap();
        let output = builder.build().unwrap();
        (output.commit_message.clone(), group_info(&s.mallory))
    }),
    ("another's proposal to add", NOBODY, |s| {
        let key_package = key_package(&s.dave.client, NOW_MS);
        let proposal = s.owner.propose_add(key_package, vec![]).unwrap();
        s.mallory
            .process_incoming_message(proposal.clone())
            .unwrap();
        let now = MlsTime::from(NOW_MS / 1000);
        s.carol
            .process_incoming_message_with_time(proposal, now)
            .unwrap();
        commit(s, vec![])
    }),
    ("from outside, a ghost", NOBODY, |s| {
        let info = MlsMessage::from_bytes(&group_info(&s.mallory)).unwrap();
        let (group, commit) = s.ghost.client.commit_external(info).unwrap();
        (commit, group_info(&group))
    }),
    ("from outside, in another's place", NOBODY, |s| {
        let info = MlsMessage::from_bytes(&group_info(&s.mallory)).unwrap();
        let builder = s.second.client.external_commit_builder().unwrap();
        let (group, commit) = builder.with_removal(1).build(info).unwrap();
        (commit, group_info(&group))
    }),
    ("from outside, with another key", NOBODY, |s| {
        let info = MlsMessage::from_bytes(&group_info(&s.mallory)).unwrap();
        let device = Device::new(&s.b, "mallory", 0x21, NOW_MS);
        let device = device.with_another_key(&s.b, "mallory", NOW_MS);
        let builder = device.client.external_commit_builder().unwrap();
        let (group, commit) = builder.with_removal(1).build(info).unwrap();
        (commit, group_info(&group))
    }),
    ("from outside, back in", EVERYBODY, |s| {
        let info = MlsMessage::from_bytes(&group_info(&s.mallory)).unwrap();
        let device = Device::new(&s.b, "mallory", 0x21, NOW_MS);
        let builder = device.client.external_commit_builder().unwrap();
        let (group, commit) = builder.with_removal(1).build(info).unwrap();
        (commit, group_info(&group))
    }),
];

/// Goal: what a role may, both the hub and an honest member take, and what it may not, both refuse. Method: the
/// table above, each attempt by each role.
#[test]
fn who_may_what() {
    for role in [Role::Owner, Role::Moderator, Role::Member] {
        for (what, may, attempt) in ATTEMPTS {
            let mut scene = Scene::new(role);
            let (commit, info) = attempt(&mut scene);
            let [hub, carol] = scene.judge(&commit, &info);
            let may = may.contains(&role);
            assert_eq!(hub.is_ok(), may, "{what} by {role}, the hub: {hub:?}");
            assert_eq!(carol.is_ok(), may, "{what} by {role}, Carol: {carol:?}");
        }
    }
}

/// Goal: the hub takes a commit only with the group info of exactly the state that it leads to, signed by its
/// author, with the tree and the key for coming back. Method: one commit with each other group info.
#[test]
fn group_infos_describe_what_comes() {
    let mut scene = Scene::new(Role::Member);
    let old = group_info(&scene.mallory);
    let (commit, info) = commit(&mut scene, vec![]);
    let commit = bytes(&commit);
    let judge = |info: &[u8]| {
        scene
            .hub
            .judge(&[], &commit, info, NOW_MS)
            .map(|j| j.committer)
    };
    assert!(judge(&old).is_err());
    assert!(judge(&commit).is_err());
    assert!(judge(&[]).is_err());
    for at in (0..info.len()).step_by(97).chain([info.len() - 1]) {
        let mut changed = info.to_vec();
        changed[at] ^= 1;
        assert!(judge(&changed).is_err(), "byte {at}");
    }
    assert!(judge(&info).is_ok());
    // Of the same state, signed by somebody else who is in it.
    let message = MlsMessage::from_bytes(&commit).unwrap();
    scene.owner.process_incoming_message(message).unwrap();
    let by_owner = group_info(&scene.owner);
    let refused = scene
        .hub
        .judge(&[], &commit, &by_owner, NOW_MS)
        .unwrap_err();
    assert!(refused.to_string().contains("another than the committer"));
    scene.mallory.apply_pending_commit().unwrap();
    let without_tree = scene
        .mallory
        .group_info_message_allowing_ext_commit(false)
        .unwrap();
    assert!(
        scene
            .hub
            .judge(&[], &commit, &bytes(&without_tree), NOW_MS)
            .is_err()
    );
    let without_key = scene.mallory.group_info_message(true).unwrap();
    assert!(
        scene
            .hub
            .judge(&[], &commit, &bytes(&without_key), NOW_MS)
            .is_err()
    );
}

/// Goal: a device that is added must be certified when the hub orders that; a member whose certificate has run
/// out goes on. Method: the same two commits 40 days later.
#[test]
fn dates_are_judged_once() {
    let mut scene = Scene::new(Role::Member);
    let late = NOW_MS + 40 * 86_400_000;
    let (added, info) = add(&mut scene, |s| &s.dave);
    let refused = scene.hub.judge(&[], &bytes(&added), &info, late);
    assert!(refused.is_err());
    scene.mallory.clear_pending_commit();
    let (update, info) = commit(&mut scene, vec![]);
    scene.hub.judge(&[], &bytes(&update), &info, late).unwrap();
    // A partner whose agreement has ended, and whose root is gone, does not stop the room.
    let alone = AnchorSet::own(scene.a.server.clone(), scene.a.root.clone());
    let hub = Observed::open(&group_info(&scene.owner), alone, None).unwrap();
    hub.judge(&[], &bytes(&update), &info, late).unwrap();
}

/// Goal: the hub's removals are in every commit that could take them up, and nobody else's proposals are: by
/// commits with and without them, of members and from outside.
#[test]
fn removals_have_to_be_taken_up() {
    let mut scene = Scene::new(Role::Member);
    let open = |scene: &Scene, key: &RoomKey| {
        Observed::open(
            &group_info(&scene.owner),
            anchors(&scene.a, &scene.b),
            Some(key),
        )
        .unwrap()
    };
    let hub = open(&scene, &scene.a.room_key());
    let strange = RoomKey::from_seed(&[1; 32]).unwrap();
    assert!(
        open(&scene, &strange)
            .propose_removals(&[(2, false)])
            .is_err()
    );
    let removals = hub.propose_removals(&[(2, false)]).unwrap();
    assert_eq!(removal::read(&removals[0]).unwrap().leaf, 2);
    let (without, info) = commit(&mut scene, vec![]);
    let refused = hub
        .judge(&removals, &bytes(&without), &info, NOW_MS)
        .unwrap_err();
    assert_eq!(refused, Error::PendingRemoves);
    scene.mallory.clear_pending_commit();
    let proposal = MlsMessage::from_bytes(&removals[0]).unwrap();
    scene
        .mallory
        .process_incoming_message(proposal.clone())
        .unwrap();
    let (with, info) = commit(&mut scene, vec![]);
    assert!(hub.judge(&[], &bytes(&with), &info, NOW_MS).is_err());
    let judged = hub.judge(&removals, &bytes(&with), &info, NOW_MS).unwrap();
    assert_eq!((judged.removes.len(), judged.left_out), (1, 0));
    // Carol learns that she is out.
    scene.carol.process_incoming_message(proposal).unwrap();
    let now = MlsTime::from(NOW_MS / 1000);
    let received = scene
        .carol
        .process_incoming_message_with_time(with, now)
        .unwrap();
    let ReceivedMessage::Commit(applied) = received else {
        panic!("no commit");
    };
    assert!(matches!(
        applied.effect,
        mls_rs::group::CommitEffect::Removed { .. }
    ));
    // From outside nobody can take them up, and the hub is told how many are left.
    let info = MlsMessage::from_bytes(&group_info(&scene.owner)).unwrap();
    let device = Device::new(&scene.b, "mallory", 0x21, NOW_MS);
    let builder = device.client.external_commit_builder().unwrap();
    let (group, back) = builder.with_removal(1).build(info).unwrap();
    let judged = hub
        .judge(&removals, &bytes(&back), &group_info(&group), NOW_MS)
        .unwrap();
    assert!(judged.outside && judged.adds.is_empty() && judged.removes.is_empty());
    assert_eq!((judged.left_out, judged.committer), (1, device.member));
}

/// Goal: a panic in MLS's library is an error like any other, and leaves nothing locked. Method: one in the middle of a judgement.
#[test]
fn panics_are_errors() {
    let identities = Identities::new(AnchorSet::default(), Imports::Verified);
    let judged: Result<(), Error> = guarded(|| {
        let _turn = identities.turn();
        panic!("as an index that is out of bounds")
    });
    assert!(matches!(judged, Err(Error::Mls(_))), "{judged:?}");
    drop(identities.turn());
}
