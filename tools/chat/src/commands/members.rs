//! `chat add`, `chat remove`, `chat role`, `chat members`, `chat number`, `chat rename`, `chat successor` and `chat leave`.

use entente_sdk::Event;
use serde_json::json;

use crate::cli::{Common, Members, OneRoom, Rename, RoleOf};
use crate::commands::{in_time, with_session};
use crate::failure::{Failure, Result};
use crate::place;
use crate::show::event;
use crate::show::output::Output;
use crate::show::safe;

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

pub(super) async fn list(common: &Common, arguments: &OneRoom, output: &Output) -> Result {
    with_session(common, output, async |client| {
        let id = place::require(client, &arguments.room).await?;
        let rooms = client.rooms().await?;
        let room = rooms.iter().find(|room| room.room == id);
        let room = room.ok_or_else(|| {
            Failure::new(
                "unknown-room",
                "You are not in that conversation.".to_owned(),
            )
        })?;
        for address in &room.addresses {
            let devices = room
                .members
                .iter()
                .filter(|m| m.address == *address)
                .count();
            let role = room.roles.get(address);
            let acts = room.acting_owner.as_ref() == Some(address);
            output.object(&json!({
                "type": "participant",
                "room": room.room,
                "address": address,
                "role": role,
                "acting_owner": acts,
                "devices": devices,
            }))?;
            let role = role.map_or_else(String::new, |role| format!("  {role}"));
            let acts = if acts {
                ", acts as owner: none is left"
            } else {
                ""
            };
            let of = if devices == 1 { "device" } else { "devices" };
            output.line(&format!("{address}{role}{acts}  {devices} {of}"))?;
        }
        Ok(())
    })
    .await
}

/// Words or groups of a number in a line.
const IN_A_LINE: usize = 6;

pub(super) async fn number(common: &Common, arguments: &OneRoom, output: &Output) -> Result {
    with_session(common, output, async |client| {
        let room = place::require(client, &arguments.room).await?;
        let number = client.room_number(room).await?;
        output.object(&json!({
            "type": "room-number",
            "room": room,
            "epoch": number.epoch,
            "digits": number.digits,
            "words": number.words,
        }))?;
        output.line(&format!(
            "Compare this with others in the conversation by another way, such as the telephone, while both of you are \
             connected. It is of state {}: whoever is in the same state of the conversation must see the same; if it \
             differs, you are not in the same conversation.",
            number.epoch
        ))?;
        let groups: Vec<&str> = number.digits.split(' ').collect();
        for line in groups.chunks(IN_A_LINE).chain(number.words.chunks(IN_A_LINE)) {
            output.line(&format!("  {}", line.join(" ")))?;
        }
        Ok(())
    })
    .await
}

pub(super) async fn rename(common: &Common, arguments: &Rename, output: &Output) -> Result {
    with_session(common, output, async |client| {
        let room = place::require(client, &arguments.room).await?;
        let name = &arguments.name;
        in_time(common, "Renaming", client.rename(room, name)).await?;
        output.object(&json!({"type": "renamed", "room": room, "name": name}))?;
        output.line(&match name.as_str() {
            "" => "The conversation has no name now.".to_owned(),
            name => format!("The conversation is called “{}” now.", safe::one_line(name)),
        })
    })
    .await
}

pub(super) async fn succeed(common: &Common, arguments: &OneRoom, output: &Output) -> Result {
    with_session(common, output, async |client| {
        let former = place::require(client, &arguments.room).await?;
        let mut events = client.events();
        let what = "Continuing the conversation";
        let room = in_time(common, what, client.continue_elsewhere(former)).await?;
        output.object(&json!({"type": "successor", "room": room, "continues": former}))?;
        while let Some(event) = events.try_next() {
            if matches!(&event, Event::NotInvited { room: of, .. } if *of == room) {
                output.object(&event::object(&event))?;
                if let Some(news) = event::news(&event, output.clock) {
                    output.note(&news);
                }
            }
        }
        output.line(&room.to_string())
    })
    .await
}

pub(super) async fn leave(common: &Common, arguments: &OneRoom, output: &Output) -> Result {
    with_session(common, output, async |client| {
        let room = place::require(client, &arguments.room).await?;
        in_time(common, "Leaving", client.leave(room)).await?;
        output.object(&json!({"type": "left", "room": room}))?;
        output
            .line("You have left the conversation. What you have read stays here until it expires.")
    })
    .await
}
