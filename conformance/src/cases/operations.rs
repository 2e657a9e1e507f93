//! What a partner's people may ask of others: look-ups and reports.

use super::lane::refused_alone;
use super::{Case, World};
use crate::failure::Result;
use crate::receipt::Answer;
use crate::report::{Finding, Level, Outcome};
use crate::transaction::Envelope;
use crate::wire::Encoder;

/// Kinds.
const DIRECTORY_QUERY: u8 = 9;
const DIRECTORY_ANSWER: u8 = 10;
const ABUSE_REPORT: u8 = 11;
/// Refusal codes.
const UNKNOWN_RECIPIENT: u16 = 12;
const MALFORMED: u16 = 18;

pub(super) async fn cases(world: &World) -> Result<Vec<Outcome>> {
    Ok(vec![
        query(world).await?,
        short_beginning(world).await?,
        answer_to_nothing(world).await?,
        report_about_nobody(world).await?,
    ])
}

/// An envelope of the control lane with another payload than a request for key packages.
fn envelope(world: &World, kind: u8, payload: Encoder) -> Envelope {
    Envelope {
        kind,
        payload: payload.finish(),
        ..world.envelope()
    }
}

/// A question for whoever has this handle, or one that begins like this (2).
fn question(world: &World, how: u8, text: &[u8]) -> Envelope {
    let payload = Encoder::new()
        .fixed(&[7; 16])
        .fixed(&[1; 16])
        .fixed(&[2; 16])
        .u8(how)
        .vector(1, text);
    envelope(world, DIRECTORY_QUERY, payload)
}

/// A look-up is taken whoever is found: what comes of it comes as an answer.
async fn query(world: &World) -> Result<Outcome> {
    let sent = world
        .send(
            world
                .sign(&[question(world, 1, b"nobody-of-that-name")])
                .bytes,
        )
        .await?;
    let taken = sent.answers() == [Answer::Accepted];
    if taken {
        world.moved_on();
    }
    let case = Case {
        id: "directory.query",
        requirement: "DIR-001",
        level: Level::Must,
        must: "a look-up of somebody who is not there is accepted",
        hint: "say whom it finds in a DirectoryAnswer, not in the receipt",
    };
    Ok(case.outcome(Finding::new(taken, sent.describe())))
}

/// Nobody pages through a directory letter by letter.
async fn short_beginning(world: &World) -> Result<Outcome> {
    let case = Case {
        id: "directory.short-beginning",
        requirement: "ENV-033",
        level: Level::Must,
        must: "a look-up by two letters is refused as malformed, alone",
        hint: "the beginning of a handle has three characters at least",
    };
    let short = question(world, 2, b"bo");
    Ok(case.outcome(refused_alone(world, short, MALFORMED).await?))
}

/// An answer that nobody waits for.
async fn answer_to_nothing(world: &World) -> Result<Outcome> {
    let payload = Encoder::new()
        .fixed(&[7; 16])
        .fixed(&[2; 16])
        .u8(1)
        .vector(4, &Encoder::new().vector(1, b"mallory").finish())
        .u8(0);
    let case = Case {
        id: "directory.unsolicited",
        requirement: "DIR-003",
        level: Level::Must,
        must: "an answer to no open look-up is refused as malformed, alone",
        hint: "remember which device asked which server for whom",
    };
    let answer = envelope(world, DIRECTORY_ANSWER, payload);
    Ok(case.outcome(refused_alone(world, answer, MALFORMED).await?))
}

/// A report about an account that is not there.
async fn report_about_nobody(world: &World) -> Result<Outcome> {
    let payload = Encoder::new()
        .fixed(&[7; 16])
        .fixed(&[9; 16])
        .fixed(&[5; 16])
        .u8(1)
        .vector(2, b"")
        .u8(0)
        .u64(0)
        .vector(4, b"");
    let case = Case {
        id: "abuse.about-nobody",
        requirement: "ABUSE-004",
        level: Level::Must,
        must: "a report about an account that does not exist is refused, alone",
        hint: "the reported account is one of the receiver's",
    };
    let report = envelope(world, ABUSE_REPORT, payload);
    Ok(case.outcome(refused_alone(world, report, UNKNOWN_RECIPIENT).await?))
}
