//! Charters and introductions in plain language: what an administrator reads before signing.

use crate::agreement::consortium::body::Introduction;
use crate::agreement::consortium::charter::Charter;
use crate::agreement::summary::{bytes_text, date, file_line, ttl_line};
use crate::agreement::terms::{Grants, Operation, UserTypes};
use crate::fingerprint::Fingerprint;
use crate::text::Quoted;

impl Charter {
    /// What the charter says, a sentence a line.
    #[must_use]
    pub fn summary(&self) -> Vec<String> {
        let body = &self.body;
        let terms = &body.terms;
        let mut lines = vec![format!(
            "Charter {} of the consortium {}, made on {}.",
            body.serial,
            Quoted(&body.name),
            date(body.made_ms)
        )];
        lines.push(format!(
            "It makes an agreement between any two of its {} members who both sign it.",
            body.members.len()
        ));
        if body.serial > 1 {
            lines.push(
                "An agreement of two that a former charter has made goes on by this one once both have signed."
                    .to_owned(),
            );
        }
        lines.extend(grant_lines(&terms.outbound, &terms.inbound));
        lines.push(ttl_line(terms.ttl));
        lines.push(format!(
            "Up to {} of each partner may wait at each member.",
            bytes_text(terms.waiting_bytes_max)
        ));
        lines.push(file_line(terms.file_bytes_max));
        lines.push(format!("It ends on {}.", date(body.expires_ms)));
        lines
    }
}

impl Introduction {
    /// What the introduction says, a sentence a line.
    #[must_use]
    pub fn summary(&self) -> Vec<String> {
        let server = &self.server;
        let endpoints: Vec<_> = self.endpoints.iter().map(|e| e.as_str()).collect();
        let mut lines = vec![if endpoints.is_empty() {
            format!("{server} is reached where DNS says.")
        } else {
            format!("{server} is reached at {}.", endpoints.join(", "))
        }];
        if !self.contact.is_empty() {
            lines.push(format!("Contact: {}.", Quoted(&self.contact)));
        }
        lines.push(format!(
            "The fingerprint of its root: {}.",
            Fingerprint::of_root(&self.root)
        ));
        lines
    }
}

/// What people of one member may do to people of another: what each states outbound and inbound.
fn grant_lines(outbound: &Grants, inbound: &Grants) -> Vec<String> {
    let both = outbound
        .iter()
        .filter_map(|(operation, theirs)| Some((*operation, theirs, inbound.get(operation)?)));
    let mut lines: Vec<_> = both
        .map(|(operation, acting, reached)| {
            let what = match operation {
                Operation::Message => "exchange messages with people of",
                Operation::Invite => "add to rooms people of",
                Operation::Directory => "look up people of",
                Operation::Files => "send files to people of",
            };
            let acting = restriction("acting", acting);
            let reached = restriction("reached", reached);
            format!("People of each member may {what} every other{acting}{reached}.")
        })
        .collect();
    if lines.is_empty() {
        lines.push("Nothing may pass between members.".to_owned());
    }
    lines
}

fn restriction(who: &str, user_types: &UserTypes) -> String {
    match user_types {
        UserTypes::All => String::new(),
        UserTypes::Named(names) => {
            let names: Vec<_> = names.iter().map(|name| Quoted(name).to_string()).collect();
            let noun = if names.len() == 1 { "type" } else { "types" };
            format!(", {who} only the user {noun} {}", names.join(", "))
        }
    }
}
