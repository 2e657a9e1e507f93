//! `chat start`, and starting a conversation on the way to something else.

use entente_sdk::Client;
use entente_sdk::ids::{Address, RoomId};
use serde_json::json;

use crate::cli::{Common, Start};
use crate::commands::{in_time, with_session};
use crate::device;
use crate::failure::{Failure, Result};
use crate::place::{self, Place};
use crate::show::output::Output;

/// The other side's refusal to somebody who has not asked.
const CONSENT_REQUIRED: &str = "consent-required";

pub(super) async fn run(common: &Common, arguments: &Start, output: &Output) -> Result {
    with_session(common, output, async |client| {
        let room = conversation(common, client, &arguments.addresses).await?;
        output.object(&json!({
            "type": "started",
            "room": room,
            "addresses": arguments.addresses,
        }))?;
        output.line(&room.to_string())
    })
    .await
}

/// The room that a place names; starts the conversation if there is none yet.
pub(crate) async fn find_or_start(
    common: &Common,
    client: &Client,
    place: &Place,
    output: &Output,
) -> Result<RoomId> {
    // The other one may have begun it: that waits at the homeserver.
    device::wait_caught_up(client, device::timeout(common)).await?;
    if let Some(room) = place::find(client, place).await? {
        return Ok(room);
    }
    let Place::With(address) = place else {
        return place::require(client, place).await;
    };
    output.note(&format!("Starting a conversation with {address} …"));
    let begun = conversation(common, client, std::slice::from_ref(address)).await?;
    // Both may have begun one at the same time.
    Ok(place::find(client, place).await?.unwrap_or(begun))
}

async fn conversation(common: &Common, client: &Client, with: &[Address]) -> Result<RoomId> {
    let names: Vec<String> = with.iter().map(Address::to_string).collect();
    let what = format!("Starting a conversation with {}", names.join(", "));
    in_time(common, &what, client.start_conversation(with))
        .await
        .map_err(|failure| match with {
            [address] if failure.code == CONSENT_REQUIRED => Failure::new(
                CONSENT_REQUIRED,
                format!(
                    "{address} decides who of other organisations may start a conversation. Ask first: chat \
                     contact ask {address}"
                ),
            ),
            // The refusal names whom to ask.
            _ => failure,
        })
}
