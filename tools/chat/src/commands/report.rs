//! `chat report`.

use entente_sdk::AbuseReport;
use entente_sdk::frames::Telling;
use serde_json::json;

use crate::cli::{Common, Report, TellWhom};
use crate::commands::with_session;
use crate::device;
use crate::failure::{Failure, Result};
use crate::place::{self, Place};
use crate::show::output::Output;

pub(super) async fn run(common: &Common, arguments: &Report, output: &Output) -> Result {
    let tell = match (arguments.to, arguments.with_my_name) {
        (TellWhom::Own, false) => Telling::OwnOnly,
        (TellWhom::Both, false) => Telling::Partner,
        (TellWhom::Both, true) => Telling::PartnerWithName,
        (TellWhom::Own, true) => {
            return Err(Failure::new(
                "invalid-argument",
                "Your own administrators see your name in any case: --with-my-name goes with --to both.",
            ));
        }
    };
    with_session(common, output, async |client| {
        // A conversation that this device was removed from is in no list any more.
        let whole = match &arguments.room {
            Place::Room(digits) => digits.parse().ok(),
            Place::With(_) => None,
        };
        let room = match whole {
            Some(room) => room,
            None => place::require(client, &arguments.room).await?,
        };
        let mut messages = Vec::with_capacity(arguments.messages.len());
        for digits in &arguments.messages {
            messages.push(place::message(client, digits).await?.id);
        }
        let report = AbuseReport {
            messages: messages.clone(),
            person: arguments.person.clone(),
            reason: arguments.reason,
            note: arguments.note.clone(),
            tell,
        };
        // It is durable on this device before it goes out, so it must not be made twice.
        let taken =
            tokio::time::timeout(device::timeout(common), client.report(room, report)).await;
        let address = taken.map_err(|_| waits(common))??;
        output.object(&json!({
            "type": "reported",
            "room": room,
            "address": address,
            "messages": messages,
            "reason": arguments.reason,
            "tell": tell,
        }))?;
        let own = client.address().server;
        let both = tell != Telling::OwnOnly && address.server != own;
        let whom = if both {
            format!("{own} and of {}", address.server)
        } else {
            own.to_string()
        };
        let disclosed = match messages.len() {
            0 => "no message".to_owned(),
            1 => "1 message".to_owned(),
            count => format!("{count} messages"),
        };
        output.line(&format!(
            "{address} is reported to the administrators of {whom}, with {disclosed} disclosed."
        ))
    })
    .await
}

fn waits(common: &Common) -> Failure {
    Failure::not_now(
        "no-answer",
        format!(
            "Your homeserver has not answered within {} s. The report is kept on this device and goes out the \
             next time chat connects: don't make it again.",
            common.timeout
        ),
    )
}
