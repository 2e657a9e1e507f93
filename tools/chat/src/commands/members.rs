//! `chat add`, `chat remove` and `chat role`.

use serde_json::json;

use crate::cli::{Common, Members, RoleOf};
use crate::commands::{in_time, with_session};
use crate::failure::Result;
use crate::place;
use crate::show::output::Output;

pub(super) async fn add(common: &Common, arguments: &Members, output: &Output) -> Result {
    with_session(common, output, async |client| {
        let room = place::require(client, &arguments.room).await?;
        let addresses = &arguments.addresses;
        in_time(common, "Adding", client.add_members(room, addresses)).await?;
        output.object(&json!({"type": "added", "room": room, "addresses": addresses}))?;
        output.line("They are in the conversation, and see what is written from now on.")
    })
    .await
}

pub(super) async fn remove(common: &Common, arguments: &Members, output: &Output) -> Result {
    with_session(common, output, async |client| {
        let room = place::require(client, &arguments.room).await?;
        let addresses = &arguments.addresses;
        in_time(common, "Removing", client.remove_members(room, addresses)).await?;
        output.object(&json!({"type": "removed", "room": room, "addresses": addresses}))?;
        output.line("They see nothing of what is written from now on.")
    })
    .await
}

pub(super) async fn role(common: &Common, arguments: &RoleOf, output: &Output) -> Result {
    with_session(common, output, async |client| {
        let room = place::require(client, &arguments.room).await?;
        let (address, role) = (&arguments.address, arguments.role);
        in_time(common, "Changing", client.set_role(room, address, role)).await?;
        output.object(&json!({"type": "role", "room": room, "address": address, "role": role}))?;
        output.line(&format!("{address} is {role} of the conversation now."))
    })
    .await
}
