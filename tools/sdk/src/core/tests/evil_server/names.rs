//! People whom a device knows, certified for addresses that it does not know them by.

use homeserver_api::ids::Address;

use super::super::devices::know_own;
use super::*;

/// Alice in a room with Carol and Peter, both of one organisation, whose homeserver certifies what it likes.
struct Cast {
    world: World,
    carol: TestDevice,
    peter: TestDevice,
    room: RoomId,
}

impl Cast {
    fn of(own: char) -> Self {
        let mut world = World::new();
        let mut carol = world.device(own, "carol", 5);
        let mut peter = world.device(own, "peter", 6);
        let with = [carol.address.clone(), peter.address.clone()];
        let number = world.alice.run(|core| core.start_conversation(&with));
        world.settle_with(&mut [&mut carol, &mut peter]);
        let room = world.alice.ended(number).unwrap();
        know_own(&mut world.network, &mut world.alice);
        Self {
            world,
            carol,
            peter,
            room,
        }
    }

    fn settle(&mut self) {
        self.world
            .settle_with(&mut [&mut self.carol, &mut self.peter]);
    }

    /// Carol's device is certified for an address, which it shows in its rooms and in its key packages from now on.
    fn certify(&mut self, address: &Address) {
        Self::certify_device(&mut self.world, &mut self.carol, address);
    }

    fn certify_device(world: &mut World, carol: &mut TestDevice, address: &Address) {
        // No two certificates begin at once.
        world.clock.advance(1_000);
        let now_ms = crate::clock::Clock::now_ms(&world.clock);
        let own = match carol.member.server == world.a.server {
            true => &world.a,
            false => &world.b,
        };
        let key = carol.public_key();
        let chain = own.issue(&carol.member, address, &key, now_ms);
        carol.run(|core| core.renewed(chain));
        let packages = carol.run(|core| core.make_key_packages(5, false));
        world.network.withdraw_key_packages(&carol.member);
        world
            .network
            .put_key_packages(&carol.member, packages, None);
    }

    /// Whoever claims keys for this address gets Carol's.
    fn hand_out_carols(&mut self, address: &Address) {
        let carol = self.carol.address.clone();
        self.world
            .network
            .swap_claims
            .insert(address.clone(), carol);
    }

    /// Alice begins a room with an address; how that ended.
    fn starts_with(&mut self, address: &Address) -> Result<RoomId, Error> {
        let with = [address.clone()];
        let World { network, alice, .. } = &mut self.world;
        let number = alice.run(|core| core.start_conversation(&with));
        settle(network, &mut [&mut *alice]);
        alice.ended(number)
    }

    /// What Alice was told of addresses.
    fn told(&self) -> Vec<(Address, Address, bool)> {
        let told = |event: &Event| match event {
            Event::AddressChanged {
                address,
                certified,
                taken,
            } => Some((address.clone(), certified.clone(), *taken)),
            _ => None,
        };
        self.world.alice.events.iter().filter_map(told).collect()
    }
}

/// Goal: a homeserver that certifies somebody's device for a colleague's address, and hands its keys out for that, gets it into no room
/// with who knows both: it is refused and told, no confirmation changes that, and the safety number with the colleague stays. Method: Carol's
/// device is certified for Peter's address, by a partner's homeserver and by the own one; afterwards the homeserver is honest again.
#[test]
fn a_known_account_under_a_colleagues_address() {
    for own in ['a', 'b'] {
        let mut cast = Cast::of(own);
        let (carol, peter) = (cast.carol.address.clone(), cast.peter.address.clone());
        let number = cast.world.alice.run(|core| core.safety(&peter));
        cast.certify(&peter);
        cast.hand_out_carols(&peter);
        let commits = cast.world.network.commits.len();
        let refused = cast.starts_with(&peter);
        assert!(
            matches!(refused, Err(Error::Renamed { taken: true, .. })),
            "{refused:?}"
        );
        assert_eq!(cast.told(), [(carol.clone(), peter.clone(), true)]);
        let confirmed = cast.world.alice.try_run(|core| core.confirm(&carol));
        assert!(
            matches!(confirmed, Err(Error::Renamed { .. })),
            "{confirmed:?}"
        );
        cast.world.alice.run(|core| core.confirm(&peter));
        assert!(cast.starts_with(&peter).is_err());
        assert_eq!(cast.world.network.commits.len(), commits);
        assert_eq!(cast.told().len(), 1, "told once");
        assert_eq!(cast.world.alice.run(|core| core.safety(&peter)), number);

        cast.world.network.swap_claims.clear();
        let room = cast.starts_with(&peter).unwrap();
        let rooms = cast.world.alice.run(Core::rooms);
        let begun = rooms.iter().find(|begun| begun.room == room).unwrap();
        let is_peters = |member: &crate::message::RoomMember| member.member == cast.peter.member;
        assert!(begun.members.iter().any(is_peters));
    }
}

/// Goal: a certificate for a colleague's address that comes into a room by its device's own commit makes nobody that colleague: it is
/// told, what the device writes is shown under the address that its account is known by, and nothing is sent to the room until the
/// device has its own again. Method: Carol's device is certified for Peter's address, by a partner's homeserver and by the own one, and renews
/// its leaf.
#[test]
fn a_known_account_is_certified_anew_in_a_room() {
    for own in ['a', 'b'] {
        let mut cast = Cast::of(own);
        let (carol, peter, room) = (
            cast.carol.address.clone(),
            cast.peter.address.clone(),
            cast.room,
        );
        cast.certify(&peter);
        cast.settle();
        assert_eq!(cast.told(), [(carol.clone(), peter.clone(), true)]);
        cast.carol.send(room, "this is Peter");
        cast.settle();
        assert_eq!(cast.world.alice.texts(room), ["carol: this is Peter"]);
        assert_eq!(cast.peter.texts(room), ["carol: this is Peter"]);
        let sent = cast.world.network.messages.len();
        cast.world.alice.send(room, "a secret");
        cast.settle();
        assert_eq!(cast.world.network.messages.len(), sent, "it is held");
        let held = cast.world.alice.held();
        assert!(held[0].contains("don't believe it"), "{held:?}");
        let rooms = cast.world.alice.run(Core::rooms);
        let of_carol = |member: &&crate::message::RoomMember| member.member == cast.carol.member;
        let shown = rooms[0].members.iter().find(of_carol).unwrap();
        assert_eq!(shown.address, carol);

        cast.certify(&carol);
        cast.settle();
        assert_eq!(
            cast.peter.texts(room),
            ["carol: this is Peter", "alice: a secret"]
        );
        assert_eq!(cast.told().len(), 1, "told once");
    }
}

/// Goal: whoever has another address than before, which nobody else has, is told, shown under the old one and held until a person
/// confirms it, over a restart; then he is shown under the new one, and a certificate for the old one holds nothing any more. Method:
/// Carol's handle changes, at a partner's homeserver and at the own one.
#[test]
fn a_changed_address_is_confirmed() {
    for own in ['a', 'b'] {
        let mut cast = Cast::of(own);
        let (carol, room) = (cast.carol.address.clone(), cast.room);
        let new: Address = format!("caroline@{}", carol.server).parse().unwrap();
        cast.certify(&new);
        cast.hand_out_carols(&new);
        let refused = cast.starts_with(&new);
        assert!(
            matches!(refused, Err(Error::Renamed { taken: false, .. })),
            "{refused:?}"
        );
        cast.settle();
        assert_eq!(cast.told(), [(carol.clone(), new.clone(), false)]);
        cast.carol.send(room, "still me");
        cast.settle();
        assert_eq!(cast.world.alice.texts(room), ["carol: still me"]);
        cast.world.alice.send(room, "to Carol");
        cast.settle();
        assert_eq!(cast.carol.texts(room), ["carol: still me"]);

        cast.world.alice.restart();
        cast.world.alice.run(|core| core.confirm(&carol));
        cast.settle();
        assert_eq!(
            cast.carol.texts(room),
            ["carol: still me", "alice: to Carol"]
        );
        cast.carol.send(room, "thanks");
        cast.settle();
        let texts = cast.world.alice.texts(room);
        assert_eq!(texts.last().unwrap(), "caroline: thanks");
        cast.starts_with(&new).unwrap();
        cast.settle();
        cast.certify(&carol);
        cast.settle();
        cast.world.alice.send(room, "once more");
        cast.settle();
        let texts = cast.carol.texts(room);
        assert_eq!(texts.last().unwrap(), "alice: once more");
        assert_eq!(cast.told().len(), 1, "told once");
    }
}

/// Goal: an older certificate for another address, which one device of an account has while a newer one of another device has the right
/// address, is told once; a confirmation lets messages pass to both and leaves the account its address. Method: Carol's first device is
/// certified for another handle, and her second one then for hers, at a partner's homeserver and at the own one.
#[test]
fn an_older_certificate_is_told_once() {
    for own in ['a', 'b'] {
        let mut world = World::new();
        let mut carol = world.device(own, "carol", 5);
        let mut second = world.device(own, "carol", 7);
        let with = [carol.address.clone()];
        let number = world.alice.run(|core| core.start_conversation(&with));
        world.settle_with(&mut [&mut carol, &mut second]);
        let room = world.alice.ended(number).unwrap();
        know_own(&mut world.network, &mut world.alice);
        let mut cast = Cast {
            world,
            carol,
            peter: second,
            room,
        };
        let address = cast.carol.address.clone();
        let new: Address = format!("caroline@{}", address.server).parse().unwrap();
        cast.certify(&new);
        cast.settle();
        Cast::certify_device(&mut cast.world, &mut cast.peter, &address);
        cast.settle();
        for name in ["one", "two"] {
            cast.world.alice.run(|core| core.rename(room, name));
            cast.settle();
        }
        assert_eq!(cast.told(), [(address.clone(), new, false)]);
        cast.world.alice.send(room, "to both");
        cast.settle();
        assert!(cast.peter.texts(room).is_empty(), "it is held");
        cast.world.alice.run(|core| core.confirm(&address));
        cast.settle();
        for device in [&mut cast.carol, &mut cast.peter] {
            assert_eq!(device.texts(room), ["alice: to both"]);
        }
        cast.carol.send(room, "from the first");
        cast.settle();
        let texts = cast.world.alice.texts(room);
        assert_eq!(texts.last().unwrap(), "carol: from the first");
    }
}
