//! Two rooms made of one.

use super::*;

impl World {
    /// Alice and Bob each commit for the same epoch, and their hub shows either his own commit alone. The two.
    fn fork(&mut self, room: RoomId) -> [crate::frames::Commit; 2] {
        self.network.kept_commits = Some(Vec::new());
        for device in [&mut self.alice, &mut self.bob] {
            device.run(|core| core.refresh(room));
            device.submit(&mut self.network).unwrap();
        }
        let kept = self.network.kept_commits.take().unwrap();
        let [hers, his] = <[_; 2]>::try_from(kept).unwrap();
        self.network.show_commit(&hers, &[&self.alice.member]);
        self.network.show_commit(&his, &[&self.bob.member]);
        let both = [&self.alice.member, &self.bob.member];
        self.network.set_members(room, &both);
        self.settle();
        [hers, his]
    }

    fn numbers(&mut self, room: RoomId) -> [crate::RoomNumber; 2] {
        [&mut self.alice, &mut self.bob].map(|device| device.run(|core| core.room_number(room)))
    }
}

/// Goal: a hub that orders two commits for one epoch, each for some, can't keep that from whoever sees both, and what passes from one
/// half to the other can't be opened, which is told with what to do; the two are in the same epoch and read different numbers to each
/// other. Method: Alice and Bob are shown their own commits; then Bob is shown hers too, twice.
#[test]
fn a_forked_epoch_is_told() {
    let mut world = World::new();
    let room = world.conversation();
    let [hers, his] = world.numbers(room);
    assert_eq!(hers, his);
    assert_eq!(hers.words.len(), 24);
    let [first, _] = world.fork(room);
    let [hers, his] = world.numbers(room);
    assert_eq!(hers.epoch, his.epoch);
    assert_ne!(hers.digits, his.digits);
    world.write(room, 1, 1);
    world.settle();
    assert!(world.bob.texts(room).is_empty());
    let told = world.bob.unreadable();
    assert!(told[0].contains("chat number"), "{told:?}");
    assert!(world.bob.forks().is_empty());
    for _ in 0..2 {
        world.network.show_commit(&first, &[&world.bob.member]);
        world.settle();
    }
    assert_eq!(world.bob.forks(), [first.epoch], "told once");
    assert!(world.alice.forks().is_empty());
}

/// Goal: the same commit again, and the commit before this device came, are no fork. Method: both are delivered to Bob and to Carol, who
/// joined behind them.
#[test]
fn honest_commits_are_no_fork() {
    let mut world = World::new();
    let room = world.conversation();
    let [hers, his] = world.numbers(room);
    assert_eq!(hers, his);
    world.alice.run(|core| core.refresh(room));
    world.settle();
    let [newer, _] = world.numbers(room);
    assert_ne!(newer, hers, "another one in each epoch");
    let mut carol = world.device('a', "carol", 3);
    let with = [carol.address.clone()];
    world.alice.run(|core| core.add_members(room, &with));
    world.settle_with(&mut [&mut carol]);
    for commit in world.network.commits.clone() {
        for member in [&world.bob.member, &carol.member] {
            let body = DeliveryBody::Commit {
                room,
                epoch: commit.epoch,
                commit: commit.commit.clone(),
                accepted_ms: 1,
            };
            world.network.deliver(member, body);
        }
    }
    world.settle_with(&mut [&mut carol]);
    assert!(world.bob.forks().is_empty());
    assert!(carol.forks().is_empty());
    let [hers, his] = world.numbers(room);
    assert_eq!(hers, his);
    assert_eq!(carol.run(|core| core.room_number(room)), hers);
}
