//! What a hub can sign with its room key: everything that MLS lets an external sender propose.

use mls_rs::external_client::builder::{
    ExternalBaseConfig, WithCryptoProvider, WithIdentityProvider, WithMlsRules,
};
use mls_rs::external_client::{ExternalClient, ExternalGroup};
use mls_rs::psk::ExternalPskId;
use mls_rs::{ExtensionList, MlsMessage};
use mls_rs_core::crypto::SignatureSecretKey;
use mls_rs_crypto_rustcrypto::RustCryptoProvider;

use super::super::outsiders::{Anyone, Lawless};
use super::*;
use crate::certificate::AnchorSet;
use crate::mls::{CIPHER_SUITE, identities};

type Hub = ExternalGroup<
    WithMlsRules<
        Lawless,
        WithIdentityProvider<Anyone, WithCryptoProvider<RustCryptoProvider, ExternalBaseConfig>>,
    >,
>;

/// The room as its hub has it, with the true room key and without a rule.
fn hub(world: &World, room: RoomId) -> Hub {
    let key = world.a.room_key();
    let secret = SignatureSecretKey::new([&[42; 32][..], key.public()].concat());
    let crypto = RustCryptoProvider::with_enabled_cipher_suites(vec![CIPHER_SUITE]);
    let info = MlsMessage::from_bytes(&world.network.newest_group_info(room)).unwrap();
    let extensions = info.as_group_info().unwrap().group_context().extensions();
    let identity = room_rules::settings::Context::read(extensions).unwrap().hub;
    ExternalClient::builder()
        .crypto_provider(crypto)
        .identity_provider(Anyone(identities(AnchorSet::default())))
        .mls_rules(Lawless::default())
        .extension_type(room_rules::settings::ROOM_EXTENSION)
        .signer(secret, identity)
        .build()
        .observe_group(info, None, None)
        .unwrap()
}

/// Goal: of what its hub signs with the room's true key a client keeps removals alone: no device is added, no extension changed, no
/// key mixed in, no group begun anew, by whatever commit comes next, and each is told. Method: the hub's proposals are delivered to both as
/// removals; then Alice commits.
#[test]
fn forged_external_proposals() {
    let mut world = World::new();
    let room = world.conversation();
    let ghost = world.ghost(7);
    let package = world.network.waiting_key_packages(&ghost.member).remove(0);
    let package = MlsMessage::from_bytes(&package).unwrap();
    let mut hub = hub(&world, room);
    let psk = ExternalPskId::new(b"known to the hub".to_vec());
    let proposals = [
        hub.propose_add(package, Vec::new()),
        hub.propose_group_context_extensions(ExtensionList::default(), Vec::new()),
        hub.propose_external_psk(psk, Vec::new()),
        hub.propose_reinit(
            None,
            mls_rs::ProtocolVersion::MLS_10,
            CIPHER_SUITE,
            ExtensionList::default(),
            Vec::new(),
        ),
        // A removal that does not say how far it goes.
        hub.propose_remove(1, Vec::new()),
    ];
    let epoch = world.alice.run(Core::rooms)[0].epoch;
    let members = [world.alice.member.clone(), world.bob.member.clone()];
    for proposal in proposals {
        let bytes = proposal.unwrap().to_bytes().unwrap().into();
        world
            .network
            .order_removals(room, &members, epoch, &[bytes]);
        world.settle();
    }
    for device in [&world.alice, &world.bob] {
        assert_eq!(device.unreadable().len(), 5);
        let is_as_told = |told: &&str| told.contains("it is no removal");
        assert!(device.unreadable().iter().all(is_as_told));
    }
    let number = world.alice.run(|core| core.rename(room, "Lunch"));
    world.settle();
    world.alice.ended(number).unwrap();
    world.write(room, 1, 1);
    world.settle();
    assert_eq!(of_alice(&mut world.bob, room), ["1"]);
    let rooms = world.bob.run(Core::rooms);
    assert_eq!((rooms[0].epoch, rooms[0].members.len()), (epoch + 1, 2));
    assert_eq!(rooms[0].name, "Lunch");
}

/// Goal: a hub may remove whom it likes, which is all that it may, and nobody fails to hear of it: neither who goes nor who stays.
/// Method: nobody has asked for Bob's removal.
#[test]
fn removals_that_nobody_asked_for_are_told() {
    let mut world = World::new();
    let room = world.conversation();
    let bob = world.bob.member.clone();
    world.network.leaves(room, |member| *member == bob);
    world.settle();
    world.wait_for_gaps();
    world.settle();
    let gone = |event: &Event| matches!(event, Event::RoomLeft { room: of } if *of == room);
    assert!(world.bob.events.iter().any(gone));
    let told = |event: &Event| match event {
        Event::MembersChanged { removed, left, .. } => {
            removed.iter().any(|gone| gone.member == bob) && *left == [world.bob.address.clone()]
        }
        _ => false,
    };
    assert!(
        world.alice.events.iter().any(told),
        "{:?}",
        world.alice.events
    );
    let sent = world.alice.run(|core| {
        core.send(
            room,
            crate::content::Part::Text("alone".to_owned()),
            crate::message::SendOptions::default(),
        )
    });
    world.settle();
    assert!(world.bob.try_run(|core| core.message(sent)).is_err());
}
