//! What an amendment changes, in plain language: what an administrator reads before consenting.

use std::fmt;

use crate::agreement::documents::Statement;
use crate::agreement::summary::{
    bytes_text, contact_line, date, endpoints_line, file_line, grant_line, labels_line, ttl_line,
};
use crate::agreement::terms::{Grants, Operation, UserTypes};
use crate::fingerprint::Fingerprint;
use crate::ids::ServerName;
use crate::manifest;

/// What a change does to what may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tendency {
    /// Less than before.
    Tightens,
    /// More than before, or something else than before: it needs the partner's consent.
    Widens,
    /// Nothing.
    Neutral,
}

impl Tendency {
    const fn of(within: bool) -> Self {
        if within { Self::Tightens } else { Self::Widens }
    }
}

/// One thing that an amendment changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What was stated; none: nothing.
    pub before: Option<String>,
    /// What is stated now; none: nothing.
    pub after: Option<String>,
    /// What that does to what may pass.
    pub tendency: Tendency,
}

/// As in `tightens: "Files of up to 1 GiB." becomes "No files."`
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.tendency {
            Tendency::Tightens => "tightens: ",
            Tendency::Widens => "widens: ",
            Tendency::Neutral => "changes: ",
        })?;
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => {
                write!(f, "\u{ab}{before}\u{bb} becomes \u{ab}{after}\u{bb}")
            }
            (Some(before), None) => write!(f, "no longer \u{ab}{before}\u{bb}"),
            (None, Some(after)) => write!(f, "now also \u{ab}{after}\u{bb}"),
            (None, None) => Ok(()),
        }
    }
}

impl Statement {
    /// What `next`, a later statement of the same maker, changes; empty: nothing that matters.
    #[must_use]
    pub fn changes_to(&self, next: &Self) -> Vec<Change> {
        let (from, to) = (&self.from, &self.to);
        let mut changes = Vec::new();
        grant_changes(
            &mut changes,
            (from, to),
            from,
            &self.terms.outbound,
            &next.terms.outbound,
        );
        grant_changes(
            &mut changes,
            (to, from),
            from,
            &self.terms.inbound,
            &next.terms.inbound,
        );
        let mut note = |before: String, after: String, tendency| {
            if before != after {
                changes.push(Change {
                    before: Some(before),
                    after: Some(after),
                    tendency,
                });
            }
        };
        note(
            ttl_line(self.terms.ttl),
            ttl_line(next.terms.ttl),
            Tendency::of(next.terms.ttl.is_within(self.terms.ttl)),
        );
        let waiting = |most| {
            format!(
                "Up to {} for people of {from} may wait there.",
                bytes_text(most)
            )
        };
        note(
            waiting(self.terms.waiting_bytes_max),
            waiting(next.terms.waiting_bytes_max),
            Tendency::of(next.terms.waiting_bytes_max <= self.terms.waiting_bytes_max),
        );
        note(
            file_line(self.terms.file_bytes_max),
            file_line(next.terms.file_bytes_max),
            Tendency::of(next.terms.file_bytes_max <= self.terms.file_bytes_max),
        );
        note(
            labels_line(self.terms.label_max),
            labels_line(next.terms.label_max),
            Tendency::of(next.terms.label_max <= self.terms.label_max),
        );
        // To the millisecond: two times may be of the same minute.
        let end = |at_ms| format!("It ends on {} ({at_ms} ms).", date(at_ms));
        note(
            end(self.expires_ms),
            end(next.expires_ms),
            Tendency::of(next.expires_ms <= self.expires_ms),
        );
        let root = |statement: &Self| {
            format!(
                "The root of {from} is {}.",
                Fingerprint::of_root(&statement.root)
            )
        };
        note(root(self), root(next), Tendency::Widens);
        note(endpoints_line(self), endpoints_line(next), Tendency::Widens);
        for line in [keys_line, contact_line, versions_line] {
            note(line(self), line(next), Tendency::Neutral);
        }
        changes
    }
}

fn keys_line(statement: &Statement) -> String {
    let from = &statement.from;
    match manifest::decode(statement.manifest.clone()) {
        Ok(manifest) => format!(
            "The keys of {from} are those of its manifest {}.",
            manifest.serial()
        ),
        Err(_) => format!("The key manifest of {from} can't be read."),
    }
}

fn versions_line(statement: &Statement) -> String {
    format!(
        "{} speaks protocol version {}.",
        statement.from, statement.versions
    )
}

fn grant_changes(
    changes: &mut Vec<Change>,
    (actor, target): (&ServerName, &ServerName),
    stating: &ServerName,
    before: &Grants,
    after: &Grants,
) {
    for operation in Operation::ALL {
        let (old, new) = (before.get(&operation), after.get(&operation));
        if old == new {
            continue;
        }
        let line = |types: &UserTypes| grant_line(actor, target, operation, types, stating);
        let tightens = match (old, new) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(old), Some(new)) => new.is_within(old),
        };
        changes.push(Change {
            before: old.map(line),
            after: new.map(line),
            tendency: Tendency::of(tightens),
        });
    }
}
