//! Look-ups and reports about people who are there.

use super::{CONTROL, Case, Refusal, World, Worlds, code};
use crate::arrived::Arrival;
use crate::failure::Result;
use crate::people::People;
use crate::receipt::Answer;
use crate::report::{Finding, Level, Outcome};
use crate::wire::{Decoder, Encoder};

/// Kinds.
const DIRECTORY_QUERY: u8 = 9;
const DIRECTORY_ANSWER: u8 = 10;
const ABUSE_REPORT: u8 = 11;
/// Ways to look up.
const EXACT: u8 = 1;
const BEGINNING: u8 = 2;
/// The device that asks.
const DEVICE: [u8; 16] = [2; 16];
/// Look-ups of one transaction, and most of them until an answer must be that they were too many.
const LOOK_UPS: usize = 500;
const LOOK_UPS_MAX: usize = 20_000;
/// Reports that are more than any partner has to make.
const REPORTS: usize = 500;

pub(super) async fn cases(worlds: &Worlds<'_>, people: &People) -> Result<Vec<Outcome>> {
    let (world, little) = (&worlds.everything, &worlds.little);
    Ok(vec![
        whole_handle(world, people).await?,
        hidden(world, people).await?,
        beginning(world, people).await?,
        bounded(little, people).await?,
        report(little, people).await?,
        too_much(world, people).await?,
        many_reports(little, people).await?,
    ])
}

/// What a look-up was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    /// Handles, and whether there are more.
    Handles(Vec<String>, u8),
    Refused(Refusal),
}

impl Found {
    fn read(arrival: &Arrival, request: &[u8; 16]) -> Option<Self> {
        let mut input = Decoder::new(&arrival.payload);
        let is_answer = (arrival.kind, arrival.lane) == (DIRECTORY_ANSWER, CONTROL)
            && input.fixed()? == *request
            && input.fixed()? == DEVICE;
        if !is_answer {
            return None;
        }
        let found = match input.u8()? {
            1 => {
                let mut list = Decoder::new(input.vector(4)?);
                let mut handles = Vec::new();
                while !list.is_empty() {
                    handles.push(list.text(1)?);
                }
                Self::Handles(handles, input.u8()?)
            }
            2 => Self::Refused(Refusal::read(&mut input)?),
            _ => return None,
        };
        input.is_empty().then_some(found)
    }

    fn only(handle: &str) -> Self {
        Self::Handles(vec![handle.to_owned()], 0)
    }
}

fn question(request: &[u8; 16], how: u8, text: &str) -> Vec<u8> {
    Encoder::new()
        .fixed(request)
        .fixed(&[1; 16])
        .fixed(&DEVICE)
        .u8(how)
        .vector(1, text.as_bytes())
        .finish()
}

async fn look_up(world: &World, how: u8, text: &str) -> Result<Option<Found>> {
    let (mark, request) = (world.mailbox.mark(), world.draw());
    let payload = question(&request, how, text);
    let sent = world.say(CONTROL, DIRECTORY_QUERY, payload).await?;
    if sent.answers() != [Answer::Accepted] {
        return Ok(None);
    }
    let read = |arrival: &Arrival| Found::read(arrival, &request);
    Ok(world.hears(mark, read).await)
}

/// Somebody who may be found by the whole handle.
async fn whole_handle(world: &World, people: &People) -> Result<Outcome> {
    let found = look_up(world, EXACT, &people.open.handle).await?;
    let case = Case {
        id: "directory.whole-handle",
        requirement: "DIR-001",
        level: Level::Must,
        must: "a look-up by the whole handle is answered with it, to the device that asked",
        hint: "the answer repeats the query's request and device",
    };
    let ok = found == Some(Found::only(&people.open.handle));
    Ok(case.outcome(Finding::new(ok, format!("{found:?}"))))
}

/// Who is hidden and who is not there.
async fn hidden(world: &World, people: &People) -> Result<Outcome> {
    let hidden = look_up(world, EXACT, &people.hidden).await?;
    let nobody = look_up(world, EXACT, "nobody-of-that-name").await?;
    let case = Case {
        id: "directory.hidden",
        requirement: "DIR-004",
        level: Level::Must,
        must: "who does not let himself be found has the same answer as who is not there: none",
        hint: "say nothing that tells the two apart",
    };
    let ok = hidden == Some(Found::Handles(Vec::new(), 0)) && hidden == nobody;
    let got = format!("{hidden:?}; for nobody: {nobody:?}");
    Ok(case.outcome(Finding::new(ok, got)))
}

/// How several handles begin, of which one is listed.
async fn beginning(world: &World, people: &People) -> Result<Outcome> {
    let found = look_up(world, BEGINNING, &people.beginning).await?;
    let case = Case {
        id: "directory.beginning",
        requirement: "DIR-005",
        level: Level::Must,
        must: "by how a handle begins only those are found whom their organisation lists",
        hint: "everybody else is found by the whole handle, or not at all",
    };
    let ok = found == Some(Found::only(&people.listed));
    Ok(case.outcome(Finding::new(ok, format!("{found:?}"))))
}

/// Look-ups without end.
async fn bounded(little: &World, people: &People) -> Result<Outcome> {
    let (mut asked, mut last) = (0_usize, None);
    let mut accepted = true;
    let is_limit = |found: &Option<Found>| matches!(found, Some(Found::Refused(refusal)) if refusal.code == code::RATE_LIMITED);
    while asked < LOOK_UPS_MAX && accepted && !is_limit(&last) {
        let mark = little.mailbox.mark();
        let requests: Vec<[u8; 16]> = (0..LOOK_UPS).map(|_| little.draw()).collect();
        let payloads = requests
            .iter()
            .map(|request| question(request, BEGINNING, &people.beginning));
        let sent = little
            .say_all(CONTROL, DIRECTORY_QUERY, payloads.collect())
            .await?;
        accepted = sent.answers() == vec![Answer::Accepted; LOOK_UPS];
        let newest = requests.last().copied().unwrap_or_default();
        last = little
            .hears(mark, |arrival| Found::read(arrival, &newest))
            .await;
        accepted &= last.is_some();
        asked = asked.saturating_add(LOOK_UPS);
    }
    let case = Case {
        id: "directory.bounded",
        requirement: "DIR-006",
        level: Level::Must,
        must: "what one partner is told within a time is bounded: in the end the answer is `rate-limited`, and the \
               envelope is taken all the same",
        hint: "a deferred envelope would hold up the lane",
    };
    let got = format!("after {asked} look-ups {last:?}, all accepted: {accepted}");
    Ok(case.outcome(Finding::new(is_limit(&last) && accepted, got)))
}

fn report_about(world: &World, account: &[u8; 16], messages: usize) -> Vec<u8> {
    let message = Encoder::new()
        .fixed(&[5; 16])
        .u64(1)
        .fixed(&[6; 32])
        .vector(4, b"a line")
        .finish();
    Encoder::new()
        .fixed(&world.draw())
        .fixed(account)
        .fixed(&[7; 16])
        .u8(1)
        .vector(2, b"a note")
        .u8(0)
        .u64(1)
        .vector(4, &message.repeat(messages))
        .finish()
}

/// A report about somebody, where nothing of the kind is granted.
async fn report(little: &World, people: &People) -> Result<Outcome> {
    let payload = report_about(little, &people.open.account, 20);
    let sent = little.say(CONTROL, ABUSE_REPORT, payload).await?;
    let case = Case {
        id: "abuse.taken",
        requirement: "ABUSE-001",
        level: Level::Must,
        must: "a report about one of the receiver's people is taken, whatever operations are granted",
        hint: "an agreement in force is enough",
    };
    let ok = sent.answers() == [Answer::Accepted];
    Ok(case.outcome(Finding::new(ok, sent.describe())))
}

/// A report with more messages than a report has.
async fn too_much(world: &World, people: &People) -> Result<Outcome> {
    let payload = report_about(world, &people.open.account, 21);
    let sent = world.say(CONTROL, ABUSE_REPORT, payload).await?;
    let case = Case {
        id: "abuse.too-many-messages",
        requirement: "ENV-033",
        level: Level::Must,
        must: "a report with 21 messages is refused as malformed, alone",
        hint: "a report has 20 messages at most",
    };
    let ok =
        matches!(sent.answers(), [Answer::Refused { code: why, .. }] if *why == code::MALFORMED);
    Ok(case.outcome(Finding::new(ok, sent.describe())))
}

/// Reports without end.
async fn many_reports(little: &World, people: &People) -> Result<Outcome> {
    let payloads = (0..REPORTS).map(|_| report_about(little, &people.open.account, 0));
    let sent = little
        .say_all(CONTROL, ABUSE_REPORT, payloads.collect())
        .await?;
    let is_over = |answer: &&Answer| matches!(answer, Answer::Refused { code: why, .. } if *why == code::QUOTA);
    let over = sent.answers().iter().filter(is_over).count();
    let case = Case {
        id: "abuse.bounded",
        requirement: "ABUSE-006",
        level: Level::Should,
        must: "one partner's reports are bounded within a time, and refused beyond as `quota`",
        hint: "a partner must not fill the administrators' list",
    };
    let ok = over > 0 && sent.answers().len() == REPORTS;
    let got = format!("of {REPORTS} reports {over} were refused for their number");
    Ok(case.outcome(Finding::new(ok, got)))
}
