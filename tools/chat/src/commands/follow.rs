//! `chat follow`.

use std::collections::HashMap;
use std::time::Duration;

use entente_sdk::ids::RoomId;
use entente_sdk::{Client, Event};

use crate::cli::{Common, Follow};
use crate::commands::history::{self, is_message_of};
use crate::commands::{reader, rooms};
use crate::device;
use crate::failure::{Failure, Result};
use crate::place;
use crate::show::event;
use crate::show::output::Output;

pub(super) async fn run(common: &Common, arguments: &Follow, output: &Output) -> Result {
    let client = device::open(common).await?;
    let outcome = follow(&client, arguments, output).await;
    device::close(&client, output).await;
    outcome
}

async fn follow(client: &Client, arguments: &Follow, output: &Output) -> Result {
    let only = match &arguments.room {
        Some(place) => Some(place::require(client, place).await?),
        None => None,
    };
    let mut events = client.events();
    client.connect();
    let mut left = arguments.count;
    let mut labels = Labels::default();
    let until = end(arguments.seconds);
    tokio::pin!(until);
    while left != Some(0) {
        tokio::select! {
            event = events.next() => {
                let Some(event) = event else {
                    return Err(Failure::new("behind", "The client ended. Run chat follow again."));
                };
                show(client, &event, only, &mut labels, output).await?;
                if is_message_of(&event, only) {
                    left = left.map(|left| left - 1);
                }
            }
            () = &mut until => return Ok(()),
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
    Ok(())
}

async fn end(seconds: Option<u64>) {
    match seconds {
        Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
        None => std::future::pending().await,
    }
}

async fn show(
    client: &Client,
    event: &Event,
    only: Option<RoomId>,
    labels: &mut Labels,
    output: &Output,
) -> Result {
    if let Event::Message(message) = event {
        if !is_message_of(event, only) {
            return Ok(());
        }
        if only.is_none() && !output.json && labels.changed(message.room) {
            let label = labels.of(client, message.room, output).await?;
            output.line(&output.paint.strong(&format!("━━ {label}")))?;
        }
        return history::print(client, message, output).await;
    }
    // It may have changed what a room is called, or who is there.
    labels.known.clear();
    output.object(&event::object(event))?;
    if output.json {
        return Ok(());
    }
    match event {
        Event::Refused { message, .. } | Event::Returned { message, .. } => {
            match history::if_there(client, *message).await? {
                Some(message) => history::print(client, &message, output).await,
                None => Ok(()),
            }
        }
        event => {
            if let Some(news) = event::news(event, output.clock) {
                output.note(&news);
            }
            Ok(())
        }
    }
}

/// What each room is called, and which one was printed last.
#[derive(Default)]
struct Labels {
    last: Option<RoomId>,
    known: HashMap<RoomId, String>,
}

impl Labels {
    fn changed(&mut self, room: RoomId) -> bool {
        self.last.replace(room) != Some(room)
    }

    async fn of(&mut self, client: &Client, room: RoomId, output: &Output) -> Result<String> {
        if !self.known.contains_key(&room) {
            let reader = reader(client, output);
            for room in client.rooms().await? {
                self.known.insert(room.room, rooms::label(&reader, &room));
            }
        }
        let label = self.known.get(&room).cloned();
        Ok(label.unwrap_or_else(|| room.to_string()))
    }
}
