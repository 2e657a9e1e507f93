//! How fast a room may change. Each commit ends an epoch, and what others have made for it comes too late: by valid
//! commits without end one member could keep everybody else from theirs, also those who would remove him.
//!
//! A device's commits in a room fill a bucket, which empties with time; and so do those of an organisation's members in
//! it together, and those of its moderators, however many devices they have. Owners, and who acts as one, have their
//! device's bucket alone: each of them could end the room by a single commit. Ways back from outside are of no organisation's bucket, for after
//! a partition all of its devices come at once; where they go on and on, members have the say alone every now and then.
//!
//! What counts is what is taken: by a hub the commits that it orders, by a follower those that it passes on, lost ones
//! too. In memory: a restart forgets it, which harms nothing.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use federation_proto::ids::{Member, RoomId, ServerName};
use federation_proto::refusal::RefusalCode;
use room_rules::settings::Role;

use super::{RoomCommit, mls_framing};
use crate::delivery::NotTaken;
use crate::delivery::batch::Batch;

/// Commits of one device in one room that are taken however fast they come,
pub const DEVICE_COMMITS_AT_ONCE: u64 = 16;
/// and then one in this time: long enough for another member to hear of it and commit himself.
pub const DEVICE_COMMIT_EVERY_MS: u64 = 5_000;
/// The same of an organisation's members in one room together, and of its moderators: fewer than the epochs that rooms
/// keep, so that what others are sending just then can be read,
pub const TOGETHER_COMMITS_AT_ONCE: u64 = 24;
/// and then one in this time.
pub const TOGETHER_COMMIT_EVERY_MS: u64 = 4_000;
/// When so many have come back into a room from outside,
const WAYS_BACK_AT_ONCE: u64 = 8;
/// and others still do so long after the first of them,
pub const WAYS_BACK_MS: u64 = 25_000;
/// nobody does for this long: members have the say alone. After that it begins anew.
pub const MEMBERS_ALONE_MS: u64 = 5_000;
/// Most buckets, and rooms that somebody comes back into, in memory; beyond it all are counted afresh. Each of them
/// stands for a commit of the last minutes.
const COUNTED_MAX: usize = 65_536;

const _: () = assert!(DEVICE_COMMITS_AT_ONCE < TOGETHER_COMMITS_AT_ONCE);

/// What a commit in a room counts among.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Turn {
    room: RoomId,
    whose: Whose,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Whose {
    Device(Member),
    Moderators(ServerName),
    Members(ServerName),
    /// Of everybody who comes back from outside.
    WayBack,
}

/// How many are taken at once, and in what time one more.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    at_once: u64,
    every_ms: u64,
}

impl Bucket {
    /// When a bucket that is empty again at `empty_ms` is so after so many more; and how long after now there is room for
    /// the last of them.
    fn after(self, empty_ms: u64, more: u64, now_ms: u64) -> (u64, u64) {
        let latest_ms = now_ms.saturating_add(self.at_once.saturating_mul(self.every_ms));
        // A clock that was set back has nobody wait for longer than a full bucket does.
        let empty_ms = empty_ms.clamp(now_ms, latest_ms);
        let empty_ms = empty_ms.saturating_add(more.saturating_mul(self.every_ms));
        (empty_ms, empty_ms.saturating_sub(latest_ms))
    }
}

/// Ways back into one room.
#[derive(Debug, Clone, Copy)]
struct WaysBack {
    since_ms: u64,
    count: u64,
}

impl WaysBack {
    fn is_over(self, now_ms: u64) -> bool {
        let ends_ms = self
            .since_ms
            .saturating_add(WAYS_BACK_MS + MEMBERS_ALONE_MS);
        !(self.since_ms..ends_ms).contains(&now_ms)
    }

    fn wait_ms(self, before: u64, now_ms: u64) -> u64 {
        let elapsed_ms = now_ms.saturating_sub(self.since_ms);
        let many = self.count.saturating_add(before) >= WAYS_BACK_AT_ONCE;
        match many && elapsed_ms >= WAYS_BACK_MS {
            true => (WAYS_BACK_MS + MEMBERS_ALONE_MS).saturating_sub(elapsed_ms),
            false => 0,
        }
    }
}

/// What was taken lately.
#[derive(Debug, Default)]
pub struct Paces(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// When each bucket is empty again.
    buckets: HashMap<Turn, u64>,
    ways_back: HashMap<RoomId, WaysBack>,
}

impl Counts {
    fn empty_ms(&self, turn: &Turn) -> u64 {
        self.buckets.get(turn).copied().unwrap_or_default()
    }

    /// Those into a room as far as they count together.
    fn ways_back(&self, room: RoomId, now_ms: u64) -> WaysBack {
        let known = self.ways_back.get(&room).copied();
        known
            .filter(|known| !known.is_over(now_ms))
            .unwrap_or(WaysBack {
                since_ms: now_ms,
                count: 0,
            })
    }

    fn make_room(&mut self, now_ms: u64) {
        if self.buckets.len() >= COUNTED_MAX {
            self.buckets.retain(|_, empty_ms| *empty_ms > now_ms);
        }
        if self.buckets.len() >= COUNTED_MAX {
            self.buckets.clear();
        }
        if self.ways_back.len() >= COUNTED_MAX {
            self.ways_back.retain(|_, ways| !ways.is_over(now_ms));
        }
        if self.ways_back.len() >= COUNTED_MAX {
            self.ways_back.clear();
        }
    }
}

impl Paces {
    /// How long a turn has to wait, behind so many of the same that are not durable yet.
    pub fn wait_ms(&self, turn: &Turn, before: usize, now_ms: u64) -> u64 {
        let before = u64::try_from(before).unwrap_or(u64::MAX);
        let counts = self.lock();
        match turn.bucket() {
            Some(bucket) => {
                let more = before.saturating_add(1);
                bucket.after(counts.empty_ms(turn), more, now_ms).1
            }
            None => counts.ways_back(turn.room, now_ms).wait_ms(before, now_ms),
        }
    }

    /// A turn was taken.
    pub fn take(&self, turn: Turn, now_ms: u64) {
        let mut counts = self.lock();
        counts.make_room(now_ms);
        match turn.bucket() {
            Some(bucket) => {
                let (empty_ms, _) = bucket.after(counts.empty_ms(&turn), 1, now_ms);
                counts.buckets.insert(turn, empty_ms);
            }
            None => {
                let mut ways_back = counts.ways_back(turn.room, now_ms);
                ways_back.count = ways_back.count.saturating_add(1);
                counts.ways_back.insert(turn.room, ways_back);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    const fn bucket(&self) -> Option<Bucket> {
        match self.whose {
            Whose::Device(_) => Some(Bucket {
                at_once: DEVICE_COMMITS_AT_ONCE,
                every_ms: DEVICE_COMMIT_EVERY_MS,
            }),
            Whose::Moderators(_) | Whose::Members(_) => Some(Bucket {
                at_once: TOGETHER_COMMITS_AT_ONCE,
                every_ms: TOGETHER_COMMIT_EVERY_MS,
            }),
            Whose::WayBack => None,
        }
    }

    fn refusal(&self, wait_ms: u64) -> NotTaken {
        let why = match &self.whose {
            Whose::Device(_) => "this device changes the room too often".to_owned(),
            Whose::Moderators(server) => {
                format!("the moderators of {server} change the room too often together")
            }
            Whose::Members(server) => {
                format!("the members of {server} change the room too often together")
            }
            Whose::WayBack => {
                "so many come back into the room that its members have the say alone for a moment"
                    .to_owned()
            }
        };
        let seconds = wait_ms.div_ceil(1000);
        NotTaken::refused(
            RefusalCode::RateLimited,
            format!("{why}: commit again in {seconds} seconds"),
        )
    }
}

/// Counts a commit for its device, or refuses it. What is refused afterwards all the same is taken back with it.
pub(super) fn of_device(batch: &mut Batch<'_>, commit: &RoomCommit) -> Result<(), NotTaken> {
    take(batch, commit.room, Whose::Device(commit.sender.clone()))
}

/// The hub's part: counts a commit with those that are counted together, or refuses it.
pub(super) fn together(
    batch: &mut Batch<'_>,
    commit: &RoomCommit,
    role: Option<Role>,
) -> Result<(), NotTaken> {
    let server = || commit.sender.server.clone();
    let whose = if mls_framing::comes_from_outside(commit.commit.bytes()) {
        Whose::WayBack
    } else {
        match role {
            Some(Role::Owner) => return Ok(()),
            Some(Role::Moderator) => Whose::Moderators(server()),
            Some(Role::Member) | None => Whose::Members(server()),
        }
    };
    take(batch, commit.room, whose)
}

fn take(batch: &mut Batch<'_>, room: RoomId, whose: Whose) -> Result<(), NotTaken> {
    #[cfg(feature = "faults")]
    if crate::faults::is_on("unbounded-commits") {
        return Ok(());
    }
    let turn = Turn { room, whose };
    match batch.turn_waits_ms(&turn) {
        0 => {
            batch.take_turn(turn);
            Ok(())
        }
        wait_ms => Err(turn.refusal(wait_ms)),
    }
}

#[cfg(test)]
mod tests {
    use federation_proto::ids::{AccountId, DeviceId};

    use super::*;
    use crate::rooms::MEMBERS_MAX;

    const ROOM: RoomId = RoomId::from_bytes([5; 16]);

    fn turn(whose: Whose) -> Turn {
        Turn { room: ROOM, whose }
    }

    fn device(server: &str, number: usize) -> Whose {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&u64::try_from(number).unwrap().to_be_bytes());
        Whose::Device(Member {
            server: server.parse().unwrap(),
            account: AccountId::from_bytes(id),
            device: DeviceId::from_bytes(id),
        })
    }

    fn members(server: &str) -> Whose {
        Whose::Members(server.parse().unwrap())
    }

    /// Takes a turn if there is one.
    fn tried(paces: &Paces, whose: Whose, now_ms: u64) -> bool {
        let turn = turn(whose);
        let free = paces.wait_ms(&turn, 0, now_ms) == 0;
        if free {
            paces.take(turn, now_ms);
        }
        free
    }

    /// Goal: a bucket takes so many at once, what one batch takes counted in, and one more each time that the clock has gone on; others are
    /// not touched, and a clock that is set back locks nobody out. Method: a device that commits as often as it can.
    #[test]
    fn buckets_empty_with_time() {
        let (paces, at_once) = (Paces::default(), DEVICE_COMMITS_AT_ONCE);
        let one = turn(device("b.example", 1));
        let before = usize::try_from(at_once).unwrap();
        assert_eq!(paces.wait_ms(&one, before - 1, 7), 0);
        assert_eq!(paces.wait_ms(&one, before, 7), DEVICE_COMMIT_EVERY_MS);
        for _ in 0..at_once {
            assert!(tried(&paces, device("b.example", 1), 7));
        }
        assert_eq!(paces.wait_ms(&one, 0, 7), DEVICE_COMMIT_EVERY_MS);
        for other in [device("b.example", 2), device("c.example", 1)] {
            assert_eq!(paces.wait_ms(&turn(other), 0, 7), 0);
        }
        let elsewhere = Turn {
            room: RoomId::from_bytes([6; 16]),
            ..one.clone()
        };
        assert_eq!(paces.wait_ms(&elsewhere, 0, 7), 0);
        let next = 7 + DEVICE_COMMIT_EVERY_MS;
        assert_eq!(paces.wait_ms(&one, 0, next - 1), 1);
        assert!(tried(&paces, device("b.example", 1), next));
        assert!(!tried(&paces, device("b.example", 1), next));
        assert_eq!(paces.wait_ms(&one, 0, 0), DEVICE_COMMIT_EVERY_MS);
        let long_after = next + (at_once + 9) * DEVICE_COMMIT_EVERY_MS;
        let taken = (0..2 * at_once).filter(|_| tried(&paces, device("b.example", 1), long_after));
        assert_eq!(u64::try_from(taken.count()).unwrap(), at_once);
    }

    /// Goal: many devices of one organisation come to no more together than its bucket takes, and another one's are not touched.
    /// Method: a hundred devices, of which each alone stays within its own.
    #[test]
    fn many_devices_share_one_bucket() {
        let paces = Paces::default();
        let mut taken = 0;
        for number in 0..100 {
            assert!(tried(&paces, device("b.example", number), 0));
            taken += u64::from(tried(&paces, members("b.example"), 0));
        }
        assert_eq!(taken, TOGETHER_COMMITS_AT_ONCE);
        assert!(tried(&paces, members("c.example"), 0));
        let moderators = Whose::Moderators("b.example".parse().unwrap());
        assert!(tried(&paces, moderators, 0));
        assert!(tried(
            &paces,
            members("b.example"),
            TOGETHER_COMMIT_EVERY_MS
        ));
    }

    /// Goal: a room's worth of devices that fell out of step together come back without a wait; where it goes on and on, members have the say
    /// alone, for a moment each time; a few that come back never wait. Method: as many ways back as there may be devices, and later ones.
    #[test]
    fn ways_back_are_let_in() {
        let paces = Paces::default();
        for number in 0..MEMBERS_MAX {
            assert!(tried(&paces, device("b.example", number), 0));
            assert!(tried(&paces, Whose::WayBack, 0));
        }
        for round in 0..3 {
            let began = round * (WAYS_BACK_MS + MEMBERS_ALONE_MS);
            for _ in 0..WAYS_BACK_AT_ONCE {
                assert!(tried(&paces, Whose::WayBack, began));
            }
            assert!(tried(&paces, Whose::WayBack, began + WAYS_BACK_MS - 1));
            let alone = began + WAYS_BACK_MS;
            let wait_ms = |now_ms| paces.wait_ms(&turn(Whose::WayBack), 0, now_ms);
            assert_eq!(wait_ms(alone), MEMBERS_ALONE_MS);
            assert_eq!(wait_ms(alone + MEMBERS_ALONE_MS - 1), 1);
        }
        let few = Paces::default();
        for n in 0..100 {
            assert!(tried(&few, Whose::WayBack, n * 4_000));
        }
    }

    /// Goal: a crowd that means well is not held: a hundred commits by an owner and two organisations' moderators in turn, as fast as a
    /// round of a large room goes. Method: three devices and a clock.
    #[test]
    fn a_crowd_is_not_held() {
        let paces = Paces::default();
        let heads = ["a.example", "b.example", "c.example"];
        for (head, round) in heads.into_iter().cycle().zip(0..100) {
            let now_ms = round * 2_000;
            assert!(tried(&paces, device(head, 0), now_ms), "{round}");
            if head != "a.example" {
                let moderators = Whose::Moderators(head.parse().unwrap());
                assert!(tried(&paces, moderators, now_ms), "{round}");
            }
        }
    }

    /// Goal: what is kept is bounded. Method: one device in more rooms than are counted, at one moment and long after.
    #[test]
    fn no_more_is_kept() {
        let paces = Paces::default();
        for now_ms in [0, 1_000_000] {
            for number in 0..=COUNTED_MAX {
                let room = u128::try_from(number).unwrap().to_be_bytes();
                for whose in [device("b.example", 1), Whose::WayBack] {
                    let room = RoomId::from_bytes(room);
                    paces.take(Turn { room, whose }, now_ms);
                }
            }
            let counts = paces.lock();
            assert!(counts.buckets.len() <= COUNTED_MAX);
            assert!(counts.ways_back.len() <= COUNTED_MAX);
        }
    }
}
