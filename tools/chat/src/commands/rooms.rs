//! `chat rooms`.

use entente_sdk::ids::{Address, RoomId};
use entente_sdk::{Client, Message, Room};
use serde_json::json;

use crate::cli::Common;
use crate::commands::reader;
use crate::device;
use crate::failure::Result;
use crate::show::message::Reader;
use crate::show::output::Output;
use crate::show::safe;

/// Digits of a room's id in the list.
const ID_DIGITS: usize = 8;

pub(super) async fn run(common: &Common, output: &Output) -> Result {
    let client = device::open(common).await?;
    let outcome = list(&client, output).await;
    device::close(&client, output).await;
    outcome
}

async fn list(client: &Client, output: &Output) -> Result {
    let reader = reader(client, output);
    let mut rooms = Vec::new();
    for room in client.rooms().await? {
        let history = client.history(room.room).await?;
        rooms.push((history.last().cloned(), history.len(), room));
    }
    // The one used last comes first.
    rooms
        .sort_by_key(|(last, _, _)| std::cmp::Reverse(last.as_ref().map_or(0, |last| last.number)));
    for (last, messages, room) in &rooms {
        output.object(&json!({
            "type": "room",
            "room": room.room,
            "hub": room.hub,
            "epoch": room.epoch,
            "name": room.name,
            "addresses": room.addresses,
            "roles": room.roles,
            "devices": room.members.len(),
            "messages": messages,
            "out_of_step": room.out_of_step,
            "gap": room.gap,
            "continues": room.continues,
            "continued_by": room.continued_by,
            "last": last,
        }))?;
        output.line(&line(&reader, room, last.as_ref(), output))?;
    }
    let past = client.past_rooms().await?;
    for room in &past {
        let history = client.history(room.room).await?;
        output.object(&json!({
            "type": "past-room",
            "room": room.room,
            "hub": room.hub,
            "addresses": room.addresses,
            "over": room.over,
            "messages": history.len(),
            "last": history.last(),
        }))?;
        let id: String = room.room.to_string().chars().take(ID_DIGITS).collect();
        let names = output.paint.strong(&names(&reader, &room.addresses));
        let told = match &room.over {
            Some(reason) => format!(
                "over: {}; read it: chat history {id}",
                safe::one_line(reason)
            ),
            None => format!(
                "{} messages from before this device; to go on, have somebody in it add you: chat add {id} {}",
                history.len(),
                reader.address
            ),
        };
        let told = output.paint.faint(&told);
        output.line(&format!("{id}  {names}  {told}"))?;
    }
    if rooms.is_empty() && past.is_empty() {
        output.line("No conversations yet. Begin one: chat talk ADDRESS")?;
    }
    Ok(())
}

fn line(reader: &Reader, room: &Room, last: Option<&Message>, output: &Output) -> String {
    let id: String = room.room.to_string().chars().take(ID_DIGITS).collect();
    let names = output.paint.strong(&label(reader, room));
    let hub = output.paint.faint(&format!("ordered by {}", room.hub));
    let last = last.map_or_else(
        || "no messages".to_owned(),
        |last| {
            let at_ms = last.accepted_ms.unwrap_or(last.sent_ms);
            format!("last message {}", output.clock.date_and_time(at_ms))
        },
    );
    let place = places(room).into_iter();
    let place: String = place
        .map(|told| format!("  {}", output.paint.faint(&told)))
        .collect();
    format!("{id}  {names}  {last}  {hub}{place}")
}

/// Which conversation this one continues, and which continue it.
pub(crate) fn places(room: &Room) -> Vec<String> {
    let short = |room: &RoomId| room.to_string().chars().take(ID_DIGITS).collect::<String>();
    let continues = room.continues.iter().map(|former| match &former.doubt {
        None => format!("continues {}", short(&former.room)),
        Some(doubt) => format!(
            "says that it continues {}; don't believe it: {doubt}",
            short(&former.room)
        ),
    });
    let continued = room.continued_by.iter();
    let continued = continued.map(|room| format!("goes on in {}", short(room)));
    continues.chain(continued).collect()
}

/// A room by its name, if it has one, and by the names of everybody else in it.
pub(crate) fn label(reader: &Reader, room: &Room) -> String {
    let others = names(reader, &room.addresses);
    match room.name.as_str() {
        "" => others,
        name => format!("“{}” ({others})", safe::one_line(name)),
    }
}

/// Everybody but the reader.
pub(crate) fn names(reader: &Reader, addresses: &[Address]) -> String {
    let others: Vec<String> = addresses
        .iter()
        .filter(|address| **address != reader.address)
        .map(|address| reader.name(address))
        .collect();
    if others.is_empty() {
        "only you".to_owned()
    } else {
        others.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use entente_sdk::Continues;

    use super::*;

    /// Goal: a conversation shows which one it continues and where it goes on, and what is not to be believed as such. Method:
    /// a room with each.
    #[test]
    fn where_it_goes_on() {
        let [former, here, next] = [1, 2, 3].map(|id| RoomId::from_bytes([id; 16]));
        let mut room = Room {
            room: here,
            hub: "b.example".parse().unwrap(),
            epoch: 1,
            name: String::new(),
            acting_owner: None,
            addresses: Vec::new(),
            members: Vec::new(),
            roles: BTreeMap::new(),
            out_of_step: false,
            gap: None,
            continues: None,
            continued_by: Vec::new(),
        };
        assert!(places(&room).is_empty());
        room.continues = Some(Continues {
            room: former,
            doubt: None,
        });
        room.continued_by = vec![next];
        assert_eq!(places(&room), ["continues 01010101", "goes on in 03030303"]);
        room.continues = Some(Continues {
            room: former,
            doubt: Some("nobody has signed it".to_owned()),
        });
        let told = &places(&room)[0];
        assert!(told.starts_with("says that it continues 01010101; don't believe it"));
    }
}
