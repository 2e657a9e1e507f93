//! Events as objects for programs, and those that are news for people as lines.

use entente_sdk::ids::{Address, DeviceId};
use entente_sdk::{ContactChange, Event};
use serde_json::{Value, json};

use crate::show::clock::LocalClock;
use crate::show::message::MessageObject;
use crate::show::safe;

/// An event for programs; `type` says which.
pub(crate) fn object(event: &Event) -> Value {
    match event {
        Event::Connected => json!({"type": "connected"}),
        Event::Disconnected { reason, retry_in } => json!({
            "type": "disconnected",
            "reason": reason,
            "retry_in_ms": u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX),
        }),
        Event::Message(message) => {
            serde_json::to_value(MessageObject::from(message)).unwrap_or(Value::Null)
        }
        Event::Accepted {
            message,
            accepted_ms,
        } => json!({"type": "accepted", "message": message, "accepted_ms": accepted_ms}),
        Event::Refused { message, refusal } => {
            json!({"type": "refused", "message": message, "refusal": refusal})
        }
        Event::Returned {
            message,
            server,
            refusal,
        } => json!({"type": "returned", "message": message, "server": server, "refusal": refusal}),
        Event::ReportReturned {
            room,
            server,
            refusal,
        } => json!({"type": "report-returned", "room": room, "server": server, "refusal": refusal}),
        Event::RoomJoined { room } => json!({"type": "room-joined", "room": room}),
        Event::RoomContinues { room, continues } => {
            json!({"type": "room-continues", "room": room, "continues": continues.room, "doubt": continues.doubt})
        }
        Event::NotInvited {
            room,
            address,
            reason,
        } => json!({"type": "not-invited", "room": room, "address": address, "reason": reason}),
        Event::MembersChanged {
            room,
            added,
            removed,
            left,
        } => json!({
            "type": "members-changed", "room": room, "added": added, "removed": removed, "left": left,
        }),
        Event::RoomRenamed { room, name } => {
            json!({"type": "room-renamed", "room": room, "name": name})
        }
        Event::RoomLeft { room } => json!({"type": "room-left", "room": room}),
        Event::RoomOver { room, reason } => {
            json!({"type": "room-over", "room": room, "reason": reason})
        }
        Event::Deleted { room, message } => {
            json!({"type": "deleted", "room": room, "message": message})
        }
        Event::Unreadable { room, reason } => {
            json!({"type": "unreadable", "room": room, "reason": reason})
        }
        Event::MessagesMissing {
            room,
            sender,
            device,
            count,
            expired,
        } => json!({
            "type": "messages-missing",
            "room": room,
            "sender": sender,
            "device": device,
            "count": count,
            "expired": expired,
        }),
        Event::OutOfOrder {
            room,
            message,
            sender,
        } => {
            json!({"type": "out-of-order", "room": room, "message": message, "sender": sender})
        }
        Event::RoomForked { room, epoch } => {
            json!({"type": "room-forked", "room": room, "epoch": epoch})
        }
        Event::RoomOutOfStep { room, reason, by } => {
            json!({"type": "room-out-of-step", "room": room, "reason": reason, "by": by})
        }
        Event::RoomResynced {
            room,
            from_ms,
            until_ms,
        } => {
            json!({"type": "room-resynced", "room": room, "from_ms": from_ms, "until_ms": until_ms})
        }
        Event::Contact {
            address,
            change,
            text,
        } => {
            json!({"type": "contact-changed", "address": address, "change": change, "text": text})
        }
        Event::DevicesChanged {
            address,
            added,
            removed,
            unconfirmed,
        } => json!({
            "type": "devices-changed",
            "address": address,
            "added": added,
            "removed": removed,
            "unconfirmed": unconfirmed,
        }),
        Event::AddressChanged {
            address,
            certified,
            taken,
        } => json!({
            "type": "address-changed", "address": address, "certified": certified, "taken": taken,
        }),
        Event::DevicesRefused {
            server,
            address,
            reason,
        } => json!({
            "type": "devices-refused", "server": server, "address": address, "reason": reason,
        }),
        Event::Held {
            room,
            address,
            reason,
        } => json!({"type": "held", "room": room, "address": address, "reason": reason}),
        Event::HistorySent {
            device,
            messages,
            left_out,
        } => json!({
            "type": "history-sent", "device": device, "messages": messages, "left_out": left_out,
        }),
        Event::HistoryRefused { device, refusal } => {
            json!({"type": "history-refused", "device": device, "refusal": refusal})
        }
        Event::HistoryReceived {
            device,
            messages,
            complete,
        } => json!({
            "type": "history-received",
            "device": device,
            "messages": messages,
            "complete": complete,
        }),
        other => json!({"type": "other", "detail": format!("{other:?}")}),
    }
}

/// What a person should hear of beside messages and their state.
pub(crate) fn news(event: &Event, clock: LocalClock) -> Option<String> {
    match event {
        Event::Disconnected { reason, retry_in } => Some(format!(
            "Not connected: {}. Trying again in {} s.",
            safe::one_line(reason),
            retry_in.as_secs().max(1)
        )),
        Event::RoomJoined { .. } => Some("You are in a new conversation.".to_owned()),
        Event::RoomContinues { continues, .. } => Some(match &continues.doubt {
            None => format!("It continues conversation {}.", continues.room),
            Some(doubt) => format!(
                "It says that it continues conversation {}. Don't believe it: {doubt}.",
                continues.room
            ),
        }),
        Event::NotInvited {
            address, reason, ..
        } => Some(format!(
            "{address} could not be brought over: {}",
            safe::one_line(reason)
        )),
        Event::RoomLeft { .. } => Some("You are out of the conversation.".to_owned()),
        Event::RoomOver { reason, .. } => Some(format!(
            "The conversation is over for this device: {}. What you have read stays here until it expires.",
            safe::one_line(reason)
        )),
        Event::MembersChanged {
            added,
            removed,
            left,
            ..
        } => {
            let mut changes: Vec<String> = Vec::new();
            changes.extend(added.iter().map(|who| format!("{} joined", who.address)));
            changes.extend(left.iter().map(|address| format!("{address} left")));
            let others = removed.iter().filter(|who| !left.contains(&who.address));
            changes.extend(others.map(|who| format!("a device of {} was removed", who.address)));
            changes.dedup();
            (!changes.is_empty()).then(|| format!("{}.", changes.join(", ")))
        }
        Event::ReportReturned {
            server, refusal, ..
        } => Some(format!(
            "{server} did not take your report: {}. Your own administrators have it.",
            safe::one_line(&refusal.reason)
        )),
        Event::Unreadable { reason, .. } => Some(format!(
            "A message could not be read and was put aside: {}.",
            safe::one_line(reason)
        )),
        Event::MessagesMissing {
            sender,
            count,
            expired,
            ..
        } => Some(missing(sender, *count, *expired)),
        Event::OutOfOrder { sender, .. } => Some(format!(
            "The last message of {sender} came after later ones of the same device."
        )),
        Event::RoomForked { room, .. } => Some(format!(
            "There are two conversations of this name: the homeserver that orders it shows one to some of you and another one to the \
             others. Compare with each other, by another way: chat number {room}"
        )),
        Event::RoomRenamed { name, .. } if name.is_empty() => {
            Some("The conversation has no name any more.".to_owned())
        }
        Event::RoomRenamed { name, .. } => Some(format!(
            "The conversation is called “{}” now.",
            safe::one_line(name)
        )),
        Event::RoomOutOfStep { reason, by, .. } => {
            let by = by.as_ref().map_or_else(String::new, |by| {
                format!(
                    " The change that can't be taken in was made by {by}: when that happens again, an owner can \
                     remove him."
                )
            });
            Some(format!(
                "This device has fallen out of step with the conversation ({}). It comes back by itself; \
                 what you write waits.{by}",
                safe::one_line(reason)
            ))
        }
        Event::RoomResynced {
            from_ms, until_ms, ..
        } if from_ms == until_ms => {
            Some("This device is back in step; nothing of this conversation is missing.".to_owned())
        }
        Event::RoomResynced {
            from_ms, until_ms, ..
        } => Some(format!(
            "This device is back in step. {}",
            gap(*from_ms, *until_ms, clock)
        )),
        Event::Contact {
            address,
            change,
            text,
        } => Some(contact(address, *change, &safe::one_line(text))),
        Event::DevicesChanged {
            address,
            added,
            removed,
            unconfirmed,
        } => Some(devices(address, added, removed, unconfirmed)),
        Event::AddressChanged {
            address,
            certified,
            taken,
        } => Some(renamed(address, certified, *taken)),
        Event::DevicesRefused { server, reason, .. } => Some(format!(
            "What {server} says of devices is not believed: {}. Nothing of it is used; ask your administrator.",
            safe::one_line(reason)
        )),
        Event::HistoryRefused { device, refusal } => Some(format!(
            "Your messages did not all go to your device {device}: {}. To send them again: chat devices send-history \
             {device}",
            safe::one_line(&refusal.reason)
        )),
        Event::HistoryReceived {
            device,
            messages,
            complete,
        } => Some(history(device, *messages, *complete)),
        Event::Held { reason, .. } => {
            Some(format!("What you write waits: {}.", safe::one_line(reason)))
        }
        _ => None,
    }
}

/// What another device of the account has sent.
fn history(device: &DeviceId, messages: u64, complete: bool) -> String {
    let mut told = format!(
        "Your device {device} has sent the messages that it had: {messages} are new here. chat history shows them."
    );
    if !complete {
        told.push_str(
            " Some are missing: there, send them again (chat devices send-history, with the id that chat devices shows here)",
        );
    }
    told
}

/// Devices in a sentence.
fn names(devices: &[DeviceId]) -> String {
    let names: Vec<String> = devices.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// Which devices came and went.
fn devices(
    address: &Address,
    added: &[DeviceId],
    removed: &[DeviceId],
    unconfirmed: &[DeviceId],
) -> String {
    let mut told = Vec::new();
    if !added.is_empty() {
        told.push(format!("{address} has a new device: {}", names(added)));
    }
    if !removed.is_empty() {
        told.push(format!(
            "{address} has no longer the device {}",
            names(removed)
        ));
    }
    if told.is_empty() {
        // One that came and went while this device was away.
        told.push(format!("{address}'s devices have changed"));
    }
    let mut told = format!("{}. Your safety number has changed.", told.join("; "));
    if !unconfirmed.is_empty() {
        told.push_str(&format!(
            " No other device of the account has approved it: ask them by another way, then chat confirm {address}"
        ));
    }
    told
}

/// What to do about somebody whose homeserver says that he has another address.
fn renamed(address: &Address, certified: &Address, taken: bool) -> String {
    let then = match taken {
        true => {
            "which is somebody else whom you know: don't believe it, and tell your administrator"
                .to_owned()
        }
        false => format!("ask them by another way, then chat confirm {address}"),
    };
    format!(
        "The homeserver of {address} says that they are {certified} now: {then}. They are shown as {address}, and what you \
         write to conversations with them waits."
    )
}

/// Messages that did not come, though later ones did.
fn missing(sender: &Address, count: u64, expired: bool) -> String {
    let (what, is, has) = match count {
        1 => ("A message".to_owned(), "is", "has"),
        count => (format!("{count} messages"), "are", "have"),
    };
    if expired {
        let they = if count == 1 { "it" } else { "they" };
        format!("{what} of {sender} {has} expired before {they} could be shown here.")
    } else {
        format!(
            "{what} of {sender} {is} missing here, though later ones came: kept back or lost on the way. Ask {sender} by another way."
        )
    }
}

/// A time of which messages may be missing.
pub(crate) fn gap(from_ms: u64, until_ms: u64, clock: LocalClock) -> String {
    format!(
        "Some messages of this conversation could not be read between {} and {}.",
        clock.date_and_time(from_ms),
        clock.date_and_time(until_ms)
    )
}

/// What has changed between this account and somebody of another organisation.
fn contact(address: &Address, change: ContactChange, text: &str) -> String {
    match change {
        ContactChange::AsksYou => {
            let words = match text {
                "" => String::new(),
                text => format!(" “{text}”"),
            };
            format!(
                "{address} asks to start conversations with you.{words} Decide with: chat contact allow {address}, \
                 chat contact remove {address}, or chat contact block {address}"
            )
        }
        ContactChange::AllowsYou => {
            format!("{address} lets you start conversations: chat start {address}")
        }
        ContactChange::Withdrawn => format!("{address} does not ask any more."),
        ContactChange::Revoked => {
            format!("{address} does not let you start conversations. Those that you share go on.")
        }
        ContactChange::Asked => format!("Another of your devices has asked {address}."),
        ContactChange::Allowed => format!("Another of your devices has allowed {address}."),
        ContactChange::Blocked => format!("Another of your devices has blocked {address}."),
        ContactChange::Removed => format!(
            "Another of your devices has taken back what was asked or decided about {address}."
        ),
        ContactChange::Undelivered => {
            format!("What you let {address} know could not be delivered: {text}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: whoever was out of step is told between when messages may be missing, programs in numbers. Method:
    /// the event of a day in November.
    #[test]
    fn a_gap_is_told() {
        let event = Event::RoomResynced {
            room: entente_sdk::ids::RoomId::from_bytes([1; 16]),
            from_ms: 1_795_000_000_000,
            until_ms: 1_795_000_600_000,
        };
        let told = news(&event, LocalClock::utc()).unwrap();
        assert!(
            told.contains("could not be read between 18 Nov 2026 11:06 and 18 Nov 2026 11:16"),
            "{told}"
        );
        assert_eq!(object(&event)["until_ms"], 1_795_000_600_000_u64);
    }

    /// Goal: who left is told apart from whose device was removed, and a commit that can't be taken in names its author; by
    /// the news of each.
    #[test]
    fn news_of_members() {
        let room = entente_sdk::ids::RoomId::from_bytes([1; 16]);
        let who = |handle: &str| entente_sdk::RoomMember {
            member: entente_sdk::ids::Member {
                server: "b.example".parse().unwrap(),
                account: entente_sdk::ids::AccountId::from_bytes([1; 16]),
                device: entente_sdk::ids::DeviceId::from_bytes([2; 16]),
            },
            address: format!("{handle}@b.example").parse().unwrap(),
        };
        let changed = Event::MembersChanged {
            room,
            added: vec![],
            removed: vec![who("bob"), who("bob"), who("carol")],
            left: vec![who("bob").address],
        };
        let told = news(&changed, LocalClock::utc()).unwrap();
        assert_eq!(
            told,
            "bob@b.example left, a device of carol@b.example was removed."
        );
        assert_eq!(object(&changed)["left"][0], "bob@b.example");
        let broken = Event::RoomOutOfStep {
            room,
            reason: "it is wrong".to_owned(),
            by: Some(who("mallory").address),
        };
        let told = news(&broken, LocalClock::utc()).unwrap();
        assert!(told.contains("made by mallory@b.example"), "{told}");
        assert_eq!(object(&broken)["by"], "mallory@b.example");
    }

    /// Goal: who misses messages is told whose and how many, and what has only expired is told apart; whoever is in a forked room reads
    /// what to type. Method: the news and the objects of each.
    #[test]
    fn news_of_what_is_missing() {
        let room = entente_sdk::ids::RoomId::from_bytes([1; 16]);
        let missing = |count, expired| Event::MessagesMissing {
            room,
            sender: "bob@b.example".parse().unwrap(),
            device: entente_sdk::ids::Member {
                server: "b.example".parse().unwrap(),
                account: entente_sdk::ids::AccountId::from_bytes([1; 16]),
                device: entente_sdk::ids::DeviceId::from_bytes([2; 16]),
            },
            count,
            expired,
        };
        let told = |event: &Event| news(event, LocalClock::utc()).unwrap();
        let one = told(&missing(1, false));
        assert!(
            one.starts_with("A message of bob@b.example is missing"),
            "{one}"
        );
        let over = told(&missing(3, true));
        assert_eq!(
            over,
            "3 messages of bob@b.example have expired before they could be shown here."
        );
        assert_eq!(object(&missing(3, true))["count"], 3);
        let forked = Event::RoomForked { room, epoch: 4 };
        assert!(told(&forked).contains(&format!("chat number {room}")));
        assert_eq!(object(&forked)["epoch"], 4);
        let late = Event::OutOfOrder {
            room,
            message: entente_sdk::MessageId::from_bytes([3; 16]),
            sender: "bob@b.example".parse().unwrap(),
        };
        assert!(told(&late).contains("after later ones"));
        assert_eq!(object(&late)["type"], "out-of-order");
    }

    /// Goal: whoever's address has changed is shown under the one that the reader knows, who reads what to type, and nothing to type when
    /// the new one is somebody else's. Method: the news and the object of each.
    #[test]
    fn news_of_addresses() {
        let event = |taken| Event::AddressChanged {
            address: "carol@b.example".parse().unwrap(),
            certified: "bob@b.example".parse().unwrap(),
            taken,
        };
        let told = |taken| news(&event(taken), LocalClock::utc()).unwrap();
        assert!(told(false).contains("chat confirm carol@b.example"));
        assert!(told(true).contains("don't believe it"));
        assert!(!told(true).contains("chat confirm"));
        assert!(told(true).contains("shown as carol@b.example"));
        assert_eq!(
            object(&event(true)),
            json!({
                "type": "address-changed", "address": "carol@b.example", "certified": "bob@b.example", "taken": true,
            })
        );
    }

    /// Goal: whoever is asked reads what to type, and words of the other side can't break out of their line; by the
    /// news of an ask and of consent.
    #[test]
    fn news_of_contacts() {
        let event = |change, text: &str| Event::Contact {
            address: "bob@b.example".parse().unwrap(),
            change,
            text: text.to_owned(),
        };
        let asks = event(ContactChange::AsksYou, "We met\n\u{202e}at the fair");
        let asks = news(&asks, LocalClock::utc()).unwrap();
        assert!(asks.contains("chat contact allow bob@b.example"), "{asks}");
        assert!(
            asks.contains("We met") && !asks.contains(['\n', '\u{202e}']),
            "{asks:?}"
        );
        let allows = event(ContactChange::AllowsYou, "");
        assert!(
            news(&allows, LocalClock::utc())
                .unwrap()
                .contains("chat start bob@b.example")
        );
        assert_eq!(
            object(&allows),
            json!({
                "type": "contact-changed", "address": "bob@b.example", "change": "allows-you", "text": "",
            })
        );
    }
}
