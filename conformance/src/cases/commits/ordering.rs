//! Commits in their order: right ones, and those that come too late.

use super::{Ordered, Proposal, Room, SECOND, STRANGER, THIRD, is_accepted, ordered};
use crate::cases::hub::{ACCOUNT, HANDLE, ask_group_info, welcome};
use crate::cases::{Case, START_PATIENCE, code};
use crate::failure::Result;
use crate::group::{Change, Role, Seat, room_extension};
use crate::receipt::Answer;
use crate::report::{Finding, Level, Outcome};
use crate::room::HANDSHAKE;

/// Commits without a pause: more than the epochs that a room keeps.
const FLOOD: usize = 40;

/// Right commits, one after the other, and those that come too late.
pub(super) async fn cases(mut room: Room<'_>, outcomes: &mut Vec<Outcome>) -> Result {
    let mut second = room.device(&SECOND)?;
    let (outcome, is_in) = added(&mut room, &mut second).await?;
    outcomes.push(outcome);
    if !is_in {
        return Ok(());
    }
    outcomes.push(for_another(&mut room).await?);
    let Some(late) = two_at_once(&mut room, &mut second, outcomes).await? else {
        return Ok(());
    };
    too_late(&room, late, outcomes).await?;
    back_in(&mut room, &mut second, outcomes).await?;
    removed(&mut room, second, outcomes).await?;
    let (role, goes_on) = promoted(&mut room).await?;
    outcomes.extend(role);
    if goes_on {
        // Nothing of this device is ordered for a while after it.
        outcomes.push(flooded(&mut room).await?);
    }
    Ok(())
}

/// The first device adds the second: the control of all commits that are refused.
async fn added(room: &mut Room<'_>, second: &mut Seat) -> Result<(Outcome, bool)> {
    let epoch = room.first.epoch()?;
    let made = room.first.commit(&Change {
        adds: &[second.key_package()?],
        ..Change::default()
    })?;
    let proposal = Proposal {
        adds: vec![room.member(SECOND)],
        ..room.proposal(epoch, made)
    };
    let mark = room.world.mailbox.mark();
    let sent = room.propose(&proposal).await?;
    room.first.decided(is_accepted(&sent))?;
    let came = room.world.hears(mark, ordered).await;
    let welcomed = room.world.hears(mark, welcome).await;
    let expected = Ordered {
        room: room.id,
        hub: room.hub.clone(),
        epoch,
        sender: room.member(room.first_id),
        commit: proposal.commit,
        adds: proposal.adds,
        removes: Vec::new(),
        alone: true,
    };
    let joined = match &welcomed {
        Some(welcomed) => second.join(&welcomed.welcome),
        None => Err("no welcome came".to_owned()),
    };
    let same = joined.is_ok() && second.authenticator()? == room.first.authenticator()?;
    let is_ordered = came == Some(expected);
    let case = Case {
        id: "hub.adds",
        requirement: "ROOM-028",
        level: Level::Must,
        must: "a member's commit that adds a device of its own account is ordered as it is, and the device joins by the \
               welcome that comes",
        hint: "the control of the commits that are refused",
    };
    let got = format!(
        "{}; ordered: {is_ordered}; joined: {joined:?}, in the same epoch: {same}",
        sent.describe()
    );
    let ok = is_accepted(&sent) && is_ordered && same;
    Ok((case.outcome(Finding::new(ok, got)), same))
}

/// A commit of the first device in the name of the second, which is in the room too.
async fn for_another(room: &mut Room<'_>) -> Result<Outcome> {
    let epoch = room.first.epoch()?;
    let made = room.first.commit(&Change::default())?;
    let proposal = Proposal {
        by: SECOND,
        ..room.proposal(epoch, made)
    };
    let case = Case {
        id: "hub.for-another",
        requirement: "ROOM-028",
        level: Level::Must,
        must: "a commit of one member in the name of another is refused as malformed",
        hint: "the payload's sender is the commit's author",
    };
    let (outcome, ordered) = room.refused(case, &proposal, code::MALFORMED).await?;
    room.first.decided(ordered)?;
    Ok(outcome)
}

/// Two devices commit for one epoch, side by side in one transaction. The commit that was not ordered, if all went well.
async fn two_at_once(
    room: &mut Room<'_>,
    second: &mut Seat,
    outcomes: &mut Vec<Outcome>,
) -> Result<Option<Proposal>> {
    let epoch = room.first.epoch()?;
    let made = room.first.commit(&Change::default())?;
    let proposals = [
        room.proposal(epoch, made),
        Proposal {
            by: SECOND,
            ..room.proposal(epoch, second.commit(&Change::default())?)
        },
    ];
    let payloads = proposals.iter().map(|proposal| room.payload(proposal));
    let mark = room.world.mailbox.mark();
    let sent = room
        .world
        .say_all(room.id, HANDSHAKE, payloads.collect())
        .await?;
    let refused = |answer: &Answer| matches!(answer, Answer::Refused { code, .. } if *code == code::WRONG_EPOCH);
    let first_won = match sent.answers() {
        [Answer::Accepted, second] if refused(second) => Some(true),
        [first, Answer::Accepted] if refused(first) => Some(false),
        _ => None,
    };
    let came = room.world.hears(mark, ordered).await;
    let [by_first, by_second] = proposals;
    let (won, late, ahead, behind) = match first_won {
        Some(false) => (by_second, by_first, second, &mut room.first),
        _ => (by_first, by_second, &mut room.first, second),
    };
    ahead.decided(first_won.is_some())?;
    behind.decided(false)?;
    let is_ordered = came.is_some_and(|came| came.commit == won.commit);
    // Whoever lost goes on by what was ordered.
    let applied = behind.apply(&won.commit);
    let same = applied.is_ok() && ahead.authenticator()? == behind.authenticator()?;
    let case = Case {
        id: "hub.two-at-once",
        requirement: "ROOM-021",
        level: Level::Must,
        must: "of two valid commits for one epoch, side by side, exactly one is ordered, and the other is refused as `wrong-epoch`",
        hint: "compare and swap",
    };
    let got = format!(
        "{}; ordered: {is_ordered}; the other device goes on: {applied:?}, in the same epoch: {same}",
        sent.describe()
    );
    let ok = first_won.is_some() && is_ordered && same;
    outcomes.push(case.outcome(Finding::new(ok, got)));
    Ok(ok.then_some(late))
}

/// A commit for an epoch that is over, as it is and in the present one's name.
async fn too_late(room: &Room<'_>, late: Proposal, outcomes: &mut Vec<Outcome>) -> Result {
    let case = |id, requirement, must| Case {
        id,
        requirement,
        level: Level::Must,
        must,
        hint: "the commit's epoch is its payload's, and the room's",
    };
    let relabelled = Proposal {
        epoch: room.first.epoch()?,
        ..late.clone()
    };
    let former = case(
        "hub.former-epoch",
        "ROOM-021",
        "a commit for a former epoch is refused as `wrong-epoch`",
    );
    let other = case(
        "hub.other-epoch",
        "ROOM-022",
        "a commit for a former epoch whose payload names the present one is refused as malformed",
    );
    let former = room.refused(former, &late, code::WRONG_EPOCH).await?;
    let other = room.refused(other, &relabelled, code::MALFORMED).await?;
    outcomes.extend([former.0, other.0]);
    Ok(())
}

/// The first device comes back by the room's group info, and the second follows.
async fn back_in(room: &mut Room<'_>, second: &mut Seat, outcomes: &mut Vec<Outcome>) -> Result {
    let epoch = second.epoch()?;
    let (_, info) = ask_group_info(room.world, room.id, room.first_id).await?;
    let made = match &info {
        Some((_, info)) => room.first.come_in(info),
        None => Err("no group info came".to_owned()),
    };
    let case = Case {
        id: "hub.member",
        requirement: "ROOM-025",
        level: Level::Must,
        must: "a member's way back in is ordered, and comes back to its server without its group info; the others follow",
        hint: "an ordered commit goes to every server that was in the room, the committer's too",
    };
    let made = match made {
        Ok(made) => made,
        Err(why) => {
            outcomes.push(case.outcome(Finding::new(false, why)));
            return Ok(());
        }
    };
    let proposal = room.proposal(epoch, made);
    let mark = room.world.mailbox.mark();
    let sent = room.propose(&proposal).await?;
    let came = room.world.hears(mark, ordered).await;
    let returned = came.is_some_and(|came| {
        (came.epoch, &came.commit, came.alone) == (epoch, &proposal.commit, true)
    });
    let applied = second.apply(&proposal.commit);
    let same = applied.is_ok() && second.authenticator()? == room.first.authenticator()?;
    let ok = is_accepted(&sent) && returned && same;
    let got = format!(
        "{}; ordered: {returned}; the others follow: {applied:?}, in the same epoch: {same}",
        sent.describe()
    );
    outcomes.push(case.outcome(Finding::new(ok, got)));

    let case = Case {
        id: "hub.second",
        requirement: "ROOM-021",
        level: Level::Must,
        must: "a commit that was ordered is refused as `wrong-epoch` when it comes again",
        hint: "compare and swap",
    };
    let again = room.refused(case, &proposal, code::WRONG_EPOCH).await?;
    outcomes.push(again.0);
    Ok(())
}

/// The first device removes the second, which then can't commit any more.
async fn removed(room: &mut Room<'_>, mut second: Seat, outcomes: &mut Vec<Outcome>) -> Result {
    let epoch = room.first.epoch()?;
    let made = room.first.commit(&Change {
        removes: &[second.leaf()?],
        ..Change::default()
    })?;
    let proposal = Proposal {
        removes: vec![room.member(SECOND)],
        ..room.proposal(epoch, made)
    };
    let mark = room.world.mailbox.mark();
    let sent = room.propose(&proposal).await?;
    room.first.decided(is_accepted(&sent))?;
    let came = room.world.hears(mark, ordered).await;
    let is_ordered = came.is_some_and(|came| {
        (came.commit, came.removes) == (proposal.commit.clone(), proposal.removes.clone())
    });
    let case = Case {
        id: "hub.removes-own",
        requirement: "E2E-056",
        level: Level::Must,
        must: "a commit by which a member removes a device of its own account is ordered",
        hint: "the control of the removals that are refused",
    };
    let got = format!("{}; ordered: {is_ordered}", sent.describe());
    let ok = is_accepted(&sent) && is_ordered;
    outcomes.push(case.outcome(Finding::new(ok, got)));

    let late = room.proposal(epoch, second.commit(&Change::default())?);
    let proposal = Proposal { by: SECOND, ..late };
    let case = Case {
        id: "hub.removed",
        requirement: "ROOM-022",
        level: Level::Must,
        must: "a commit of a device that was removed is refused as `unknown-room`",
        hint: "by the hub's own list",
    };
    let outcome = room.refused(case, &proposal, code::UNKNOWN_ROOM).await?;
    outcomes.push(outcome.0);
    Ok(())
}

/// The creator makes the person a moderator, who then lets somebody else in; and whether the device is in step after it.
async fn promoted(room: &mut Room<'_>) -> Result<(Vec<Outcome>, bool)> {
    let mailbox = &room.world.mailbox;
    let mark = mailbox.mark();
    let address = format!("{HANDLE}@{}", room.world.peer.name);
    let promoting = room.operator.promote(&hex::encode(room.id), &address);
    let came = mailbox.wait_for(mark, START_PATIENCE, ordered).await;
    let applied = match (promoting.await, &came) {
        (Ok(Err(failure)), _) => Err(failure.to_string()),
        (_, Some(came)) => room.first.apply(&came.commit),
        (_, None) => Err("no commit came".to_owned()),
    };
    let case = Case {
        id: "hub.role",
        requirement: "ROOM-025",
        level: Level::Must,
        must: "a commit by which the creator gives a role goes to every server in the room, and another MLS stack applies it",
        hint: "the client has applied the other stack's commits before it",
    };
    let mut participants = vec![
        (&*room.creator.0, room.creator.1, Role::Owner),
        (&*room.world.peer.name, ACCOUNT, Role::Moderator),
    ];
    let consents = room.first.consents()?;
    let expected = room_extension(&room.hub, &participants, &consents);
    let is_role = room.first.context()?.1 == Some(expected);
    let got = format!("{applied:?}; the role is given: {is_role}");
    let outcome = case.outcome(Finding::new(applied.is_ok() && is_role, got));
    if applied.is_err() {
        return Ok((vec![outcome], false));
    }

    participants.push((&*room.world.peer.name, STRANGER, Role::Member));
    let extension = room_extension(&room.hub, &participants, &consents);
    let stranger = room.world.peer.device("stranger", &STRANGER, &THIRD)?;
    let epoch = room.first.epoch()?;
    let made = room.first.commit(&Change {
        adds: &[Seat::new(stranger).key_package()?],
        room: Some(extension),
        ..Change::default()
    })?;
    let proposal = Proposal {
        adds: vec![(room.world.peer.name.clone(), STRANGER, THIRD)],
        ..room.proposal(epoch, made)
    };
    let sent = room.propose(&proposal).await?;
    room.first.decided(is_accepted(&sent))?;
    let case = Case {
        id: "hub.moderator-adds",
        requirement: "E2E-054",
        level: Level::Must,
        must: "a commit by which a moderator lets a person take part, and adds her device, is ordered",
        hint: "the control of the commits that are refused for want of a role",
    };
    let finding = Finding::new(is_accepted(&sent), sent.describe());
    Ok((vec![outcome, case.outcome(finding)], is_accepted(&sent)))
}

/// The device commits for one epoch after the other, all side by side: each of them is valid.
async fn flooded(room: &mut Room<'_>) -> Result<Outcome> {
    let mut payloads = Vec::with_capacity(FLOOD);
    for _ in 0..FLOOD {
        let epoch = room.first.epoch()?;
        let made = room.first.commit(&Change::default())?;
        room.first.decided(true)?;
        payloads.push(room.payload(&room.proposal(epoch, made)));
    }
    let sent = room.world.say_all(room.id, HANDSHAKE, payloads).await?;
    let is_held = |answer: &Answer| matches!(answer, Answer::Refused { code, .. } if *code == code::RATE_LIMITED);
    let ordered = sent.answers().iter();
    let ordered = ordered.filter(|answer| **answer == Answer::Accepted);
    let (ordered, held) = (ordered.count(), sent.answers().iter().any(is_held));
    let case = Case {
        id: "hub.flood",
        requirement: "ROOM-034",
        level: Level::Should,
        must: "of valid commits of one device for one epoch after the other, without a pause, the first are ordered, and soon one is \
               refused as `rate-limited`",
        hint: "a bucket for each device in a room: the others never come to commit",
    };
    let got = format!("{ordered} of {FLOOD} ordered; one refused as `rate-limited`: {held}");
    Ok(case.outcome(Finding::new(ordered > 0 && held, got)))
}
