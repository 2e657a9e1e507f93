//! Commits that the hub must not order.
//!
//! When one is ordered all the same, the suite's device goes on from there: so that one fault fails one case, as
//! far as that can be.

use super::{Proposal, Room, SECOND, STRANGER, THIRD};
use crate::cases::hub::{ACCOUNT, HANDLE, Member, ask_group_info};
use crate::cases::{Case, code};
use crate::failure::{Failure, Result};
use crate::group::{Change, Made, Role, Seat, room_extension};
use crate::mls::framed_commit;
use crate::organisation::Organisation;
use crate::report::{Finding, Level, Outcome};
use crate::{short_path, usurper};

/// A device of the person's that another organisation of the same name certifies.
const IMPOSTOR: [u8; 16] = [0x87; 16];
/// The leaf of who has created the room.
const CREATOR_LEAF: u32 = 0;
/// From the last byte of a member's commit to the last of its signature: the two tags, each behind its length.
const AFTER_SIGNATURE: usize = 2 * 33;
/// The same of a commit from outside, which has a confirmation tag alone.
const AFTER_SIGNATURE_OUTSIDE: usize = 33;

/// How a commit is made wrong.
type Alter = Box<dyn Fn(&mut Proposal, &Spares)>;

/// What takes the place of a part of a right commit, of the same epoch.
struct Spares {
    /// A commit of noise in a right frame.
    noise: Vec<u8>,
    /// A right commit, as a PrivateMessage.
    private: Vec<u8>,
    /// The group info of the epoch that a commit ends.
    old: Vec<u8>,
    /// That of the epoch that a commit begins, as another commit would.
    other: Vec<u8>,
}

impl Spares {
    fn of(room: &mut Room<'_>) -> Result<Self> {
        let epoch = room.first.epoch()?;
        let leaf = room.first.leaf()?;
        let noise = framed_commit(&room.id, epoch, leaf, &room.first.identity);
        let old = room.first.group_info()?;
        let other = room.first.commit(&Change::default())?.group_info;
        room.first.decided(false)?;
        let private = room.first.private_commit()?.commit;
        room.first.decided(false)?;
        Ok(Self {
            noise,
            private,
            old,
            other,
        })
    }
}

pub(super) async fn cases(room: &mut Room<'_>, outcomes: &mut Vec<Outcome>) -> Result {
    frames(room, outcomes).await?;
    short_path(room, outcomes).await?;
    deeds(room, outcomes).await?;
    from_outside(room, outcomes).await
}

/// Spoils the byte that stands so far before the end.
fn spoil(bytes: &mut [u8], before_end: usize) {
    if let Some(byte) = bytes.iter_mut().rev().nth(before_end) {
        *byte ^= 1;
    }
}

/// A commit of the first device that does this, made wrong in one way.
struct Wrong<'a> {
    id: &'static str,
    requirement: &'static str,
    must: &'static str,
    hint: &'static str,
    change: Change<'a>,
    alter: Alter,
    code: u16,
}

async fn try_all(
    room: &mut Room<'_>,
    wrong: Vec<Wrong<'_>>,
    outcomes: &mut Vec<Outcome>,
) -> Result {
    for wrong in wrong {
        let case = Case {
            id: wrong.id,
            requirement: wrong.requirement,
            level: Level::Must,
            must: wrong.must,
            hint: wrong.hint,
        };
        let spares = Spares::of(room)?;
        let epoch = room.first.epoch()?;
        let made = match room.first.commit(&wrong.change) {
            Ok(made) => made,
            Err(failure) => {
                outcomes.push(untried(case, failure)?);
                continue;
            }
        };
        let mut proposal = room.proposal(epoch, made);
        (wrong.alter)(&mut proposal, &spares);
        let (outcome, ordered) = room.refused(case, &proposal, wrong.code).await?;
        outcomes.push(outcome);
        room.first.decided(ordered)?;
    }
    Ok(())
}

/// A commit that can't be made any more, because the hub has ordered a wrong one before.
fn untried(case: Case, failure: Failure) -> Result<Outcome> {
    match failure {
        Failure::Mls(why) => {
            Ok(case.outcome(Finding::new(false, format!("could not be tried: {why}"))))
        }
        failure => Err(failure),
    }
}

/// What is wrong with how a commit comes: its bytes, its author, its group info.
async fn frames(room: &mut Room<'_>, outcomes: &mut Vec<Outcome>) -> Result {
    let wrong = |id, requirement, must, hint, alter: Alter| Wrong {
        id,
        requirement,
        must,
        hint,
        change: Change::default(),
        alter,
        code: code::MALFORMED,
    };
    let frame = "read the frame of the MLS message";
    let judge = "apply the commit to the group that the kept group info describes";
    let kept = "hold the group info to the state that the commit leads to";
    let mut all = vec![
        wrong(
            "hub.no-mls",
            "ROOM-022",
            "a commit that is no MLS message is refused as malformed",
            frame,
            Box::new(|proposal, _| proposal.commit = vec![0x5a; 200]),
        ),
        wrong(
            "hub.private",
            "ROOM-022",
            "a commit that is a PrivateMessage is refused as malformed",
            frame,
            Box::new(|proposal, spares| proposal.commit.clone_from(&spares.private)),
        ),
        wrong(
            "hub.noise",
            "ROOM-028",
            "a commit with noise in the frame of a PublicMessage is refused as malformed",
            judge,
            Box::new(|proposal, spares| proposal.commit.clone_from(&spares.noise)),
        ),
        wrong(
            "hub.signature",
            "ROOM-028",
            "a member's commit whose signature does not hold is refused as malformed",
            judge,
            Box::new(|proposal, _| spoil(&mut proposal.commit, AFTER_SIGNATURE)),
        ),
        wrong(
            "hub.no-group-info",
            "ROOM-050",
            "a proposed commit without a group info is refused as malformed",
            kept,
            Box::new(|proposal, _| proposal.group_info = None),
        ),
        wrong(
            "hub.old-group-info",
            "ROOM-050",
            "a proposed commit with the group info of the epoch that it ends is refused as malformed",
            kept,
            Box::new(|proposal, spares| proposal.group_info = Some(spares.old.clone())),
        ),
        wrong(
            "hub.other-group-info",
            "ROOM-057",
            "a proposed commit with the group info of another commit for the same epoch is refused as malformed",
            kept,
            Box::new(|proposal, spares| proposal.group_info = Some(spares.other.clone())),
        ),
    ];
    all.push(Wrong {
        code: code::UNKNOWN_ROOM,
        ..wrong(
            "hub.no-member",
            "ROOM-022",
            "a commit of a device that is not in the room is refused as `unknown-room`",
            "by the hub's own list",
            Box::new(|proposal, _| proposal.by = THIRD),
        )
    });
    try_all(room, all, outcomes).await
}

/// A commit whose update path has no nodes, and that is right in everything else.
async fn short_path(room: &mut Room<'_>, outcomes: &mut Vec<Outcome>) -> Result {
    let case = Case {
        id: "hub.short-path",
        requirement: "ROOM-033",
        level: Level::Must,
        must: "a commit whose update path has fewer nodes than its author's place in the tree asks for is refused as malformed",
        hint: "count them: the public half of an MLS library may take the path, and the members' libraries may stop at it",
    };
    let epoch = room.first.epoch()?;
    let before = room.first.group_info()?;
    let short = room
        .first
        .commit(&Change::default())
        .and_then(|made| short_path::of(&made, &before, &room.first.identity));
    let short = match short {
        Ok(short) => short,
        Err(failure) => {
            outcomes.push(untried(case, failure)?);
            return room.first.decided(false);
        }
    };
    let proposal = room.proposal(epoch, short);
    let (outcome, ordered) = room.refused(case, &proposal, code::MALFORMED).await?;
    outcomes.push(outcome);
    room.first.decided(ordered)
}

/// What a commit does that it may not, or other things than its payload says.
async fn deeds(room: &mut Room<'_>, outcomes: &mut Vec<Outcome>) -> Result {
    let creator = room.creator.clone();
    let stranger = (room.world.peer.name.clone(), STRANGER, THIRD);
    let (hidden, other) = ([0x85; 16], [0x86; 16]);
    let hidden_key = [room.device(&hidden)?.key_package()?];
    let other_key = [room.device(&other)?.key_package()?];
    let third = room.member(THIRD);
    let peer = &room.world.peer;
    let stranger_key = Seat::new(peer.device("stranger", &STRANGER, &THIRD)?).key_package()?;
    let impostor = Organisation::new(&peer.name)?.device(HANDLE, &ACCOUNT, &IMPOSTOR)?;
    let impostor_listed = room.member(IMPOSTOR);
    let (stranger_key, impostor_key) = ([stranger_key], [Seat::new(impostor).key_package()?]);
    let promoted = room_extension(
        &room.hub,
        &[
            (&creator.0, creator.1, Role::Owner),
            (&peer.name, ACCOUNT, Role::Owner),
        ],
        &room.first.consents()?,
    );
    let listed = |adds: &[Member], removes: &[Member]| -> Alter {
        let (adds, removes) = (adds.to_vec(), removes.to_vec());
        Box::new(move |proposal, _| {
            proposal.adds.clone_from(&adds);
            proposal.removes.clone_from(&removes);
        })
    };
    let wrong = |id, requirement, must, change, alter| Wrong {
        id,
        requirement,
        must,
        hint: "what the payload lists is what the commit does, and its author's role allows it",
        change,
        alter,
        code: code::MALFORMED,
    };
    let adds = |adds| Change {
        adds,
        ..Change::default()
    };
    let removes = Change {
        removes: &[CREATOR_LEAF],
        ..Change::default()
    };
    let room_extension = Change {
        room: Some(promoted),
        ..Change::default()
    };
    let all = vec![
        wrong(
            "hub.removes-owner",
            "E2E-056",
            "a commit by which a member removes the owner is refused as malformed",
            removes,
            listed(&[], std::slice::from_ref(&creator)),
        ),
        wrong(
            "hub.lists-removal",
            "ROOM-028",
            "a commit whose payload removes a device that the commit leaves in is refused as malformed",
            Change::default(),
            listed(&[], &[creator]),
        ),
        wrong(
            "hub.hides-addition",
            "ROOM-028",
            "a commit that adds a device of which its payload says nothing is refused as malformed",
            adds(&hidden_key),
            Box::new(|proposal, _| proposal.welcome = None),
        ),
        wrong(
            "hub.lists-other",
            "ROOM-028",
            "a commit that adds another device than its payload says is refused as malformed",
            adds(&other_key),
            listed(&[third], &[]),
        ),
        wrong(
            "hub.promotes-itself",
            "E2E-054",
            "a commit by which a member makes itself an owner is refused as malformed",
            room_extension,
            listed(&[], &[]),
        ),
        wrong(
            "hub.adds-unlisted",
            "E2E-053",
            "a commit that adds a device of an account that takes no part is refused as malformed",
            adds(&stranger_key),
            listed(&[stranger], &[]),
        ),
        wrong(
            "hub.other-root",
            "E2E-012",
            "a commit that adds a device whose certificate leads to another root than its organisation's is refused as malformed",
            adds(&impostor_key),
            listed(&[impostor_listed], &[]),
        ),
    ];
    try_all(room, all, outcomes).await
}

/// Commits from outside that the hub must not order.
async fn from_outside(room: &Room<'_>, outcomes: &mut Vec<Outcome>) -> Result {
    let epoch = room.first.epoch()?;
    let (_, info) = ask_group_info(room.world, room.id, room.first_id).await?;
    let info = info.map(|(_, info)| info).unwrap_or_default();
    let own = &room.first.identity;
    // The organisation certifies a second key for the same device.
    let again = || room.world.peer.device(HANDLE, &ACCOUNT, &room.first_id);
    let come_in = |mut seat: Seat| seat.come_in(&info).map_err(Failure::Mls);
    let unsigned = come_in(Seat::new(own.copied()?)).map(|mut made| {
        spoil(&mut made.commit, AFTER_SIGNATURE_OUTSIDE);
        made
    });
    let wrong = |id, requirement, must, made: Result<Made>, by, expected| {
        let case = Case {
            id,
            requirement,
            level: Level::Must,
            must,
            hint: "hold it against the group info that is kept of the epoch",
        };
        (case, made, by, expected)
    };
    let all = [
        wrong(
            "hub.outsider",
            "ROOM-055",
            "a commit from outside by a device that is not in the room is refused as `unknown-room`",
            come_in(room.device(&SECOND)?),
            SECOND,
            code::UNKNOWN_ROOM,
        ),
        wrong(
            "hub.outsider-for-member",
            "ROOM-055",
            "a commit from outside by another device than its payload says is refused as malformed",
            come_in(room.device(&SECOND)?),
            room.first_id,
            code::MALFORMED,
        ),
        wrong(
            "hub.no-removal",
            "ROOM-055",
            "a commit from outside that leaves the device's old leaf in is refused as malformed",
            come_in(Seat::new(again()?)),
            room.first_id,
            code::MALFORMED,
        ),
        wrong(
            "hub.bad-signature",
            "ROOM-056",
            "a commit from outside whose signature does not hold is refused as malformed",
            unsigned,
            room.first_id,
            code::MALFORMED,
        ),
        wrong(
            "hub.others-place",
            "ROOM-056",
            "a commit from outside in the place of another's leaf is refused as malformed",
            usurper::come_in(&info, &again()?, CREATOR_LEAF),
            room.first_id,
            code::MALFORMED,
        ),
        wrong(
            "hub.other-key",
            "ROOM-056",
            "a commit from outside with another key than the leaf had that it removes is refused as malformed",
            usurper::come_in(&info, &again()?, room.first.leaf()?),
            room.first_id,
            code::MALFORMED,
        ),
    ];
    for (case, made, by, expected) in all {
        outcomes.push(match made {
            Ok(made) => {
                let proposal = Proposal {
                    by,
                    ..room.proposal(epoch, made)
                };
                room.refused(case, &proposal, expected).await?.0
            }
            Err(failure) => untried(case, failure)?,
        });
    }
    Ok(())
}
