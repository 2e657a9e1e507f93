//! Devices of people of the server under test, and the log that proves them.

use super::{Asker, CONTROL, Case, KEY_REQUEST, KEY_RESPONSE, Refusal, World, code};
use crate::arrived::Arrival;
use crate::device_log::History;
use crate::failure::Result;
use crate::people::People;
use crate::report::{Finding, Level, Outcome};
use crate::wire::{Decoder, Encoder};

/// Who asks.
const WHO: Asker = Asker {
    handle: "watcher",
    account: [0x91; 16],
    device: [0x92; 16],
};
/// What is asked for: an account's history alone.
const OF_ACCOUNT: u8 = 2;

pub(super) async fn cases(world: &World, people: &People) -> Result<Vec<Outcome>> {
    Ok(vec![
        history(world, people).await?,
        growth(world, people).await?,
        nobody(world).await?,
    ])
}

/// What a question about an account was answered.
type Answered = Option<std::result::Result<History, Refusal>>;

/// Asks for an account's history, with sizes of the log that are known.
async fn ask(world: &World, account: &[u8; 16], known: &[u64]) -> Result<Answered> {
    let (mark, request) = (world.mailbox.mark(), world.draw());
    let sizes = known
        .iter()
        .fold(Encoder::new(), |list, size| list.u64(*size));
    let payload = Encoder::new()
        .fixed(&request)
        .fixed(&WHO.account)
        .fixed(&WHO.device)
        .vector(1, WHO.handle.as_bytes())
        .u8(OF_ACCOUNT)
        .fixed(account)
        .vector(4, &sizes.finish())
        .finish();
    world.say(CONTROL, KEY_REQUEST, payload).await?;
    Ok(world.hears(mark, |arrival| read(arrival, &request)).await)
}

fn read(arrival: &Arrival, request: &[u8; 16]) -> Option<std::result::Result<History, Refusal>> {
    let mut input = Decoder::new(&arrival.payload);
    let is_answer = (arrival.kind, arrival.lane) == (KEY_RESPONSE, CONTROL)
        && input.fixed()? == *request
        && input.fixed()? == WHO.device;
    if !is_answer {
        return None;
    }
    let answer = match input.u8()? {
        1 => {
            let keys = input.vector(4)?;
            let history = History::read(&mut input)?;
            keys.is_empty().then_some(Ok(history))?
        }
        2 => Err(Refusal::read(&mut input)?),
        _ => return None,
    };
    input.is_empty().then_some(answer)
}

fn described(answer: &Answered) -> String {
    match answer {
        Some(Ok(history)) => format!(
            "{} statements in a log of {} of {}: a chain {}, in the log {}, signed {}",
            history.statements.len(),
            history.size,
            history.server,
            history.is_a_chain(),
            history.is_in_the_log(),
            history.is_signed(),
        ),
        Some(Err(refusal)) => format!("{refusal:?}"),
        None => "no answer".to_owned(),
    }
}

/// Somebody's devices.
async fn history(world: &World, people: &People) -> Result<Outcome> {
    let answer = ask(world, &people.open.account, &[]).await?;
    let case = Case {
        id: "devices.history",
        requirement: "DEV-020",
        level: Level::Must,
        must: "a question for an account's devices is answered with all statements about it, the newest one's place in \
               the log, and the head that the issuing CA has signed",
        hint: "section 15 gives the structures; the proof is RFC 9162's, section 2.1.3",
    };
    let ok = matches!(&answer, Some(Ok(history)) if history.is_a_chain()
    && history.is_in_the_log()
    && history.is_signed()
    && history.issuing == world.server_keys.issuing
    && history.server == world.target.server
    && history.statements.iter().any(|said| {
        (said.account, said.device) == (people.open.account, people.open.device)
    }));
    Ok(case.outcome(Finding::new(ok, described(&answer))))
}

/// What the log has grown from: as it was when the first of two people had come, which the proof of her place tells.
async fn growth(world: &World, people: &People) -> Result<Outcome> {
    let answers = [
        ask(world, &people.open.account, &[]).await?,
        ask(world, &people.asking.account, &[]).await?,
    ];
    let states = answers.iter().flatten().flatten();
    let was = states.filter_map(History::at_its_newest).min();
    let known = was.map(|(size, _)| size);
    let answer = ask(world, &people.asking.account, known.as_slice()).await?;
    let case = Case {
        id: "devices.growth",
        requirement: "DEV-012",
        level: Level::Must,
        must: "a log grows from what it was before: to a smaller size that is known a proof is given that it has",
        hint: "never take a statement out, never write one in another place",
    };
    let ok = matches!((was, &answer), (Some(was), Some(Ok(after)))
        if was.0 < after.size && after.has_grown_from(was));
    let got = format!("asked from a log of {known:?}: {}", described(&answer));
    Ok(case.outcome(Finding::new(ok, got)))
}

/// An account that is not there.
async fn nobody(world: &World) -> Result<Outcome> {
    let answer = ask(world, &[0x93; 16], &[]).await?;
    let case = Case {
        id: "devices.nobody",
        requirement: "DEV-020",
        level: Level::Must,
        must: "a question for an account that there is not is refused in its answer",
        hint: "refuse it as unknown-recipient",
    };
    let ok = matches!(&answer, Some(Err(refusal)) if refusal.code == code::UNKNOWN_RECIPIENT);
    Ok(case.outcome(Finding::new(ok, described(&answer))))
}
