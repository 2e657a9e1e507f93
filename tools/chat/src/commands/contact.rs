//! `chat contact`: who of other organisations may start conversations with this account.

use entente_sdk::ids::Address;
use entente_sdk::{Client, ContactInfo, ContactStanding};
use serde_json::json;

use crate::cli::{Common, Contact};
use crate::commands::{in_time, with_session};
use crate::failure::Result;
use crate::show::output::Output;
use crate::show::safe;

const ASKING: &str = "Asking your homeserver";

pub(super) async fn run(common: &Common, what: &Contact, output: &Output) -> Result {
    with_session(common, output, async |client| match what {
        Contact::List => list(common, client, output).await,
        Contact::Ask { address, text } => {
            let text = text.as_deref().unwrap_or_default();
            let asked = in_time(common, ASKING, client.ask_contact(address, text)).await?;
            told(&asked, output)
        }
        Contact::Allow { address } => {
            let allowed = in_time(common, ASKING, client.allow_contact(address)).await?;
            told(&allowed, output)
        }
        Contact::Block { address } => {
            let blocked = in_time(common, ASKING, client.block_contact(address)).await?;
            told(&blocked, output)
        }
        Contact::Remove { address } => {
            in_time(common, ASKING, client.remove_contact(address)).await?;
            output.object(&json!({"type": "contact-removed", "address": address}))?;
            output.line(&removed(address))
        }
    })
    .await
}

async fn list(common: &Common, client: &Client, output: &Output) -> Result {
    let contacts = in_time(common, ASKING, client.contacts()).await?;
    for contact in &contacts {
        output.object(&json!({"type": "contact", "contact": contact}))?;
        let since = output.clock.date_and_time(contact.since_ms);
        let until = contact
            .expires_ms
            .map(|ms| format!(", until {}", output.clock.date_and_time(ms)))
            .unwrap_or_default();
        output.line(&format!(
            "{}  {}  since {since}{until}{}",
            output.paint.strong(&contact.address.to_string()),
            standing(contact),
            quoted(&contact.text),
        ))?;
    }
    if contacts.is_empty() {
        output.note("Nobody yet.");
    }
    Ok(())
}

fn told(contact: &ContactInfo, output: &Output) -> Result {
    output.object(&json!({"type": "contact", "contact": contact}))?;
    output.line(&sentence(contact))
}

/// How they stand, in a list.
const fn standing(contact: &ContactInfo) -> &'static str {
    match (contact.standing, contact.allows_you) {
        (ContactStanding::AsksYou, _) => "asks you",
        (ContactStanding::Asked, _) => "asked by you",
        (ContactStanding::Allowed, true) => "allowed, allows you",
        (ContactStanding::Allowed, false) => "allowed",
        (ContactStanding::Blocked, _) => "blocked",
    }
}

/// How they stand, and what may come next.
fn sentence(contact: &ContactInfo) -> String {
    let address = &contact.address;
    match (contact.standing, contact.allows_you) {
        (ContactStanding::AsksYou, _) => format!("{address} asks you."),
        (ContactStanding::Asked, _) => format!(
            "{address} is asked, and may contact you. `chat follow` shows the answer; there may be none."
        ),
        (ContactStanding::Allowed, true) => format!(
            "{address} may start conversations with you, and you with him: chat start {address}"
        ),
        (ContactStanding::Allowed, false) => {
            format!("{address} may start conversations with you.")
        }
        (ContactStanding::Blocked, _) => format!(
            "{address} is blocked: no new conversations and no asking. Those that you share go on; leave one \
             by having a member remove you."
        ),
    }
}

fn removed(address: &Address) -> String {
    format!("Nothing is asked or decided about {address} any more.")
}

fn quoted(text: &str) -> String {
    match text {
        "" => String::new(),
        text => format!("  “{}”", safe::one_line(text)),
    }
}
