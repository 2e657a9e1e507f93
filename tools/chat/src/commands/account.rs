//! `chat account`.

use entente_sdk::{Bounds, Choice, OutsideContacts, Preview, UserTypePolicy};
use serde_json::json;

use crate::cli::Common;
use crate::commands::{in_time, with_session};
use crate::failure::Result;
use crate::show::duration::describe_seconds;
use crate::show::message::describe_bytes;
use crate::show::output::Output;

pub(super) async fn account(common: &Common, output: &Output) -> Result {
    with_session(common, output, async |client| {
        let account = in_time(common, "Asking your homeserver", client.account()).await?;
        output.object(&json!({"type": "account", "account": account}))?;
        let policy = &account.policy;
        let length = |seconds: u32| describe_seconds(u64::from(seconds));
        let ttl = &policy.ttl;
        let burn = &policy.burn;
        let lines = [
            format!("{} ({})", account.address, account.user_type),
            format!("Homeserver: {}", client.endpoint().address()),
            format!(
                "Devices: {} of at most {}",
                account.devices.len(),
                policy.devices_max
            ),
            format!(
                "Messages expire after {} to {}, {} unless you choose (--ttl).",
                length(ttl.min_seconds),
                length(ttl.max_seconds),
                length(ttl.default_seconds),
            ),
            burning(burn),
            format!("Other organisations: {}", external(policy)),
            match policy.outside_contacts {
                OutsideContacts::Open => {
                    "Their people may start conversations with you; keep one away with chat contact block."
                }
                OutsideContacts::Ask => {
                    "Their people start conversations with you when you consent: see chat contact list."
                }
            }
            .to_owned(),
            if policy.files {
                format!("Files: up to {}.", describe_bytes(policy.file_bytes_max))
            } else {
                "Files: not allowed.".to_owned()
            },
        ];
        lines.iter().try_for_each(|line| output.line(line))?;
        managed(policy)
            .iter()
            .try_for_each(|line| output.line(line))
    })
    .await
}

/// What else the organisation rules, as far as it does.
fn managed(policy: &UserTypePolicy) -> Vec<String> {
    let mut lines = Vec::new();
    let labels = &policy.labels;
    if (labels.min, labels.max) != (0, u8::MAX) {
        lines.push(format!(
            "Labels (--label): {} to {}, {} unless you choose.",
            labels.min, labels.max, labels.default
        ));
    }
    for rule in &policy.file_types {
        lines.push(format!(
            "Files from label {} on: {}.",
            rule.label,
            rule.endings.join(", ")
        ));
    }
    if let Some(most) = policy.downloads.day_bytes_max {
        lines.push(format!("Downloads: {} a day.", describe_bytes(most)));
    }
    if let Some(seconds) = policy.sessions.sign_in_seconds_max {
        lines.push(format!(
            "Your password is asked for again after {} (chat sign-in).",
            describe_seconds(u64::from(seconds))
        ));
    }
    if !policy.clients.forwarding {
        lines.push("Messages may not be passed on to other rooms.".to_owned());
    }
    match policy.clients.receipts {
        Choice::Free => {}
        Choice::Off => lines.push("No receipts of reading are sent.".to_owned()),
        Choice::Always => lines.push("Receipts of reading are always sent.".to_owned()),
    }
    if !policy.clients.presence {
        lines.push("Nobody is shown that you are there.".to_owned());
    }
    match policy.clients.preview {
        Preview::Full => {}
        Preview::Sender => lines.push("Notifications show whose a message is.".to_owned()),
        Preview::Nothing => lines.push("Notifications show that there is a message.".to_owned()),
    }
    if policy.clients.banner.is_some() {
        lines.push("Your organisation has a notice: chat agree.".to_owned());
    }
    lines
}

/// What burn times may be chosen; 0 is none, and stands at the end of most bounds.
fn burning(burn: &Bounds) -> String {
    let length = |seconds: u32| describe_seconds(u64::from(seconds));
    if burn.max_seconds == 0 {
        return "Burning (--burn): not allowed.".to_owned();
    }
    let least = match burn.min_seconds {
        0 => "not at all, or up to".to_owned(),
        seconds => format!("{} to", length(seconds)),
    };
    let default = match burn.default_seconds {
        0 => "off unless you choose".to_owned(),
        seconds => format!("{} unless you choose", length(seconds)),
    };
    format!(
        "Burning (--burn): {least} {} after reading, {default}.",
        length(burn.max_seconds)
    )
}

/// Which other organisations, by the policy's own form: the type is the homeserver's, not the
/// library's.
fn external(policy: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(policy).unwrap_or_default();
    match value.get("external") {
        Some(serde_json::Value::Object(scope)) => scope
            .get("peers")
            .and_then(|peers| peers.as_array())
            .map(|peers| peers.iter().filter_map(|peer| peer.as_str()).collect())
            .filter(|peers: &Vec<&str>| !peers.is_empty())
            .map_or_else(
                || "none.".to_owned(),
                |peers| format!("{}.", peers.join(", ")),
            ),
        Some(serde_json::Value::String(scope)) if scope == "all-peers" => {
            "every one that your organisation has an agreement with.".to_owned()
        }
        _ => "none.".to_owned(),
    }
}
