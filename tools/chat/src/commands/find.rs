//! `chat find`.

use entente_sdk::frames::Sought;
use entente_sdk::ids::HandlePrefix;
use serde_json::json;

use crate::cli::{Common, Find};
use crate::commands::{in_time, with_session};
use crate::failure::{Failure, Result};
use crate::show::output::Output;

pub(super) async fn run(common: &Common, arguments: &Find, output: &Output) -> Result {
    let address = &arguments.address;
    let sought = if arguments.prefix {
        let beginning = HandlePrefix::new(address.handle.clone());
        Sought::Prefix(
            beginning.map_err(|error| Failure::new("invalid-argument", error.to_string()))?,
        )
    } else {
        Sought::Handle(address.handle.clone())
    };
    with_session(common, output, async |client| {
        let found = in_time(
            common,
            "Looking up",
            client.look_up(&address.server, sought),
        )
        .await?;
        if found.addresses.is_empty() {
            return Err(nobody(arguments));
        }
        output.object(&json!({
            "type": "found",
            "addresses": found.addresses,
            "more": found.more,
        }))?;
        for address in &found.addresses {
            output.line(&address.to_string())?;
        }
        if found.more {
            output.note("There are more: type more of the handle.");
        }
        Ok(())
    })
    .await
}

fn nobody(arguments: &Find) -> Failure {
    let Find { address, prefix } = arguments;
    let sentence = if *prefix {
        format!(
            "Nobody at {} whose handle begins with {} is listed for you. Who is there may still be found by \
             the whole address: chat find {address}",
            address.server, address.handle
        )
    } else {
        format!(
            "There is no {address}, or none that you may find. Ask for the address by another way; an \
             invitation may still reach it: chat start {address}"
        )
    };
    Failure::new("nobody-found", sentence)
}
