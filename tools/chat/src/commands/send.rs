//! `chat send`, and waiting for a message to be taken.

use std::io::Read as _;

use entente_sdk::{Client, Error, MessageId};

use crate::cli::{Common, Send};
use crate::commands::{start, with_session};
use crate::device;
use crate::failure::{Failure, Result};
use crate::place;
use crate::show::message::{MessageObject, failure_of, short_id};
use crate::show::output::Output;

pub(super) async fn run(common: &Common, arguments: &Send, output: &Output) -> Result {
    let text = text(&arguments.text)?;
    if text.trim().is_empty() {
        return Err(Failure::new(
            "empty",
            "There is nothing to send: the text is empty. Write it as the last argument, or `-` and pipe it in.",
        ));
    }
    // An existing conversation takes the message in without a homeserver; a new one needs it.
    let client = device::open(common).await?;
    let outcome = async {
        let known = match place::find(&client, &arguments.to).await {
            // It may have come to this device's inbox and not to the device yet.
            Err(failure) if failure.code == "unknown-room" => None,
            known => known?,
        };
        let room = match known {
            Some(room) => {
                client.connect();
                room
            }
            None => {
                device::wait_connected(&client, device::timeout(common)).await?;
                start::find_or_start(common, &client, &arguments.to, output).await?
            }
        };
        let options = arguments.options.send_options();
        let message = client.send_text(room, &text, options).await?;
        accepted(common, &client, message, arguments.wait, output).await
    }
    .await;
    device::close(&client, output).await;
    outcome
}

/// Waits until the own homeserver has taken a message, and says so.
pub(super) async fn accepted(
    common: &Common,
    client: &Client,
    message: MessageId,
    for_ever: bool,
    output: &Output,
) -> Result {
    let room = client.message(message).await?.room;
    if let Some(reason) = client.held(room).await?.first() {
        output.object(&MessageObject::from(&client.message(message).await?))?;
        return Err(Failure::not_now(
            "held",
            format!("The message waits on this device: {reason}. Don't send it again."),
        ));
    }
    // A device that the homeserver refuses would wait in vain.
    let acceptance = async {
        tokio::select! {
            outcome = client.wait_accepted(message) => outcome,
            error = refused(client) => Err(error),
        }
    };
    let outcome = if for_ever {
        acceptance.await
    } else {
        match tokio::time::timeout(device::timeout(common), acceptance).await {
            Ok(outcome) => outcome,
            Err(_) => {
                output.object(&MessageObject::from(&client.message(message).await?))?;
                return Err(Failure::not_now(
                    "waiting",
                    format!(
                        "Your homeserver did not take the message within {} s. It is kept on this \
                         device and goes out the next time chat connects; don't send it again.",
                        common.timeout
                    ),
                ));
            }
        }
    };
    let message = client.message(message).await;
    if let Ok(message) = &message {
        output.object(&MessageObject::from(message))?;
    }
    outcome?;
    let message = message?;
    if let Some(sentence) = failure_of(&message.progress) {
        return Err(Failure::new("returned", sentence));
    }
    let expires = message.expires_ms.map_or_else(String::new, |expires_ms| {
        format!(" · expires {}", output.clock.date_and_time(expires_ms))
    });
    output.line(&format!("accepted · {}{expires}", short_id(&message)))
}

/// Why the homeserver refuses this device, once it does; a session that stands is no answer.
async fn refused(client: &Client) -> Error {
    match client.connected().await {
        Err(error) => error,
        Ok(()) => std::future::pending().await,
    }
}

fn text(argument: &str) -> Result<String> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| {
            Failure::new("input", format!("Standard input is not a text: {error}."))
        })?;
    Ok(text.trim_end_matches('\n').to_owned())
}

/// Sends a file; the upload needs the homeserver.
pub(super) async fn file(
    common: &Common,
    arguments: &crate::cli::SendFile,
    output: &Output,
) -> Result {
    with_session(common, output, async |client| {
        client.check_file(&arguments.path).await?;
        let room = start::find_or_start(common, client, &arguments.to, output).await?;
        output.note(&format!(
            "Encrypting and sending {} …",
            arguments.path.display()
        ));
        let options = arguments.options.send_options();
        let message = client.send_file(room, &arguments.path, options).await?;
        accepted(common, client, message, arguments.wait, output).await
    })
    .await
}
