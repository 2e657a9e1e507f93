//! `chat history` and `chat message`.

use std::time::Duration;

use entente_sdk::ids::RoomId;
use entente_sdk::{Client, Error, Event, Gap, Message, MessageId};

use crate::cli::{Common, History, OneMessage};
use crate::commands::{reader, rooms};
use crate::device;
use crate::failure::Result;
use crate::place;
use crate::show::clock::heading;
use crate::show::event;
use crate::show::message::MessageObject;
use crate::show::output::Output;
use crate::show::safe;

/// When nothing has come for this long, everything that waited has come.
const QUIET: Duration = Duration::from_millis(400);
/// Longest wait for the homeserver: the history itself needs none.
const FETCH_MAX: Duration = Duration::from_secs(5);

pub(super) async fn run(common: &Common, arguments: &History, output: &Output) -> Result {
    let client = device::open(common).await?;
    let outcome = async {
        if !arguments.offline {
            fetch(&client, device::timeout(common).min(FETCH_MAX), output).await;
        }
        show(&client, arguments, output).await
    }
    .await;
    device::close(&client, output).await;
    outcome
}

pub(super) async fn one(common: &Common, arguments: &OneMessage, output: &Output) -> Result {
    let client = device::open(common).await?;
    let outcome = async {
        let message = place::message(&client, &arguments.message).await?;
        print(&client, &message, output).await
    }
    .await;
    device::close(&client, output).await;
    outcome
}

/// Lets what waits at the homeserver come in.
async fn fetch(client: &Client, limit: Duration, output: &Output) {
    let mut events = client.events();
    if let Err(failure) = device::wait_connected(client, limit).await {
        output.note(&format!(
            "{} This is what is on this device.",
            failure.sentence
        ));
        return;
    }
    let until = tokio::time::sleep(limit);
    tokio::pin!(until);
    // What waited comes without a pause, and not all of it is told: a history of another device is, at its end.
    tokio::select! {
        _ = client.caught_up() => {}
        () = &mut until => return,
    }
    loop {
        tokio::select! {
            event = events.next() => if event.is_none() { return },
            () = tokio::time::sleep(QUIET) => return,
            () = &mut until => return,
        }
    }
}

async fn show(client: &Client, arguments: &History, output: &Output) -> Result {
    let only = match &arguments.place {
        Some(place) => Some(place::to_read(client, place).await?),
        None => None,
    };
    let is_meant = |room| only.as_ref().is_none_or(|only| only.contains(&room));
    let reader = reader(client, output);
    for past in client.past_rooms().await? {
        if is_meant(past.room) {
            let label = rooms::names(&reader, &past.addresses);
            let (since, told) = match &past.over {
                Some(reason) => ("over", Some(reason)),
                None => ("before this device", None),
            };
            let heading = format!("━━ {label} ({}), {since}", past.room);
            output.line(&output.paint.strong(&heading))?;
            messages(client, past.room, None, arguments.limit, output).await?;
            if let Some(reason) = told {
                let told = format!("The conversation is over: {}.", safe::one_line(reason));
                output.line(&output.paint.faint(&told))?;
            }
        }
    }
    for room in client.rooms().await? {
        if !is_meant(room.room) {
            continue;
        }
        if only.as_ref().is_none_or(|only| only.len() > 1) {
            let label = rooms::label(&reader, &room);
            output.line(&output.paint.strong(&format!("━━ {label} ({})", room.room)))?;
        }
        let (continues, continued): (Vec<_>, Vec<_>) = rooms::places(&room)
            .into_iter()
            .enumerate()
            .partition(|(at, _)| *at == 0 && room.continues.is_some());
        for (_, told) in continues {
            output.line(&output.paint.faint(&format!("This conversation {told}.")))?;
        }
        messages(client, room.room, room.gap, arguments.limit, output).await?;
        for (_, told) in continued {
            output.line(&output.paint.faint(&format!("This conversation {told}.")))?;
        }
        if room.out_of_step {
            let told = "This device has fallen out of step here and is coming back by itself.";
            output.line(&output.paint.faint(told))?;
        }
    }
    Ok(())
}

/// A conversation's messages, day by day, and where some are missing.
async fn messages(
    client: &Client,
    room: RoomId,
    mut gap: Option<Gap>,
    limit: Option<usize>,
    output: &Output,
) -> Result {
    let history = client.history(room).await?;
    let skipped = limit.map_or(0, |limit| history.len().saturating_sub(limit));
    let mut day = None;
    for message in history.iter().skip(skipped) {
        let at_ms = message.accepted_ms.unwrap_or(message.sent_ms);
        if let Some(told) = gap.filter(|gap| gap.until_ms < at_ms) {
            gap = None;
            output.line(&gap_line(told, output))?;
        }
        let today = output.clock.day(at_ms);
        if let Some(today) = today.filter(|_| today != day) {
            output.line(&output.paint.faint(&format!("── {}", heading(today))))?;
        }
        day = today;
        print(client, message, output).await?;
    }
    match gap {
        Some(told) => output.line(&gap_line(told, output)),
        None => Ok(()),
    }
}

fn gap_line(gap: Gap, output: &Output) -> String {
    let Gap { from_ms, until_ms } = gap;
    output
        .paint
        .faint(&event::gap(from_ms, until_ms, output.clock))
}

/// Notes that a message is about to be shown; whether it is still there to be shown.
pub(crate) async fn is_shown(client: &Client, message: &Message) -> Result<bool> {
    match client.mark_shown(message.id).await {
        Ok(()) => Ok(true),
        Err(Error::UnknownMessage(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// One message, unless it has expired or burnt meanwhile.
pub(crate) async fn if_there(client: &Client, message: MessageId) -> Result<Option<Message>> {
    match client.message(message).await {
        Ok(message) => Ok(Some(message)),
        Err(Error::UnknownMessage(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Prints one message, unless it has expired or burnt meanwhile, and notes that it was shown.
pub(crate) async fn print(client: &Client, message: &Message, output: &Output) -> Result {
    if !is_shown(client, message).await? {
        return Ok(());
    }
    output.object(&MessageObject::from(message))?;
    for line in reader(client, output).lines(message) {
        output.line(&line)?;
    }
    Ok(())
}

/// Whether an event is a message of `room`, or of any room when there is none.
pub(crate) fn is_message_of(event: &Event, room: Option<RoomId>) -> bool {
    matches!(event, Event::Message(message) if room.is_none_or(|room| room == message.room))
}
