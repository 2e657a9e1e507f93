//! Events as objects for programs, and those that are news for people as lines.

use entente_sdk::Event;
use serde_json::{Value, json};

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
        Event::MembersChanged {
            room,
            added,
            removed,
        } => json!({"type": "members-changed", "room": room, "added": added, "removed": removed}),
        Event::RoomLeft { room } => json!({"type": "room-left", "room": room}),
        Event::Deleted { room, message } => {
            json!({"type": "deleted", "room": room, "message": message})
        }
        Event::Unreadable { room, reason } => {
            json!({"type": "unreadable", "room": room, "reason": reason})
        }
        other => json!({"type": "other", "detail": format!("{other:?}")}),
    }
}

/// What a person should hear of beside messages and their state.
pub(crate) fn news(event: &Event) -> Option<String> {
    match event {
        Event::Disconnected { reason, retry_in } => Some(format!(
            "Not connected: {}. Trying again in {} s.",
            safe::one_line(reason),
            retry_in.as_secs().max(1)
        )),
        Event::RoomJoined { .. } => Some("You are in a new conversation.".to_owned()),
        Event::RoomLeft { .. } => Some("You were removed from the conversation.".to_owned()),
        Event::MembersChanged { added, removed, .. } => {
            let mut changes: Vec<String> = Vec::new();
            changes.extend(added.iter().map(|who| format!("{} joined", who.address)));
            changes.extend(removed.iter().map(|who| format!("{} left", who.address)));
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
        _ => None,
    }
}
