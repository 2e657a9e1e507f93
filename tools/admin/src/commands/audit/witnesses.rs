//! `audit witnesses` and `settle`: what partners and we have seen of each other's audit logs.

use homeserver_api::admin::{AuditWitness, AuditWitnesses};
use homeserver_api::ids::ServerName;

use super::PATH;
use crate::connection::Admin;
use crate::failure::Failure;
use crate::output::{Format, facts, list};
use crate::values::{harmless, instant};

/// `GET /admin/v1/audit/witnesses`.
pub(super) async fn show(
    admin: &Admin,
    of: Option<&ServerName>,
    by: Option<&ServerName>,
    format: Format,
) -> Result<(), Failure> {
    let found: AuditWitnesses = admin.get(&format!("{PATH}/witnesses")).await?;
    let one = |server: &ServerName| {
        let mut all = found.witnesses.iter();
        all.find(|witness| witness.server == *server)
    };
    if let Some(server) = of {
        let head = one(server).and_then(|witness| witness.theirs.as_ref());
        let head = head.ok_or_else(|| {
            Failure::Other(format!("nothing is known of the audit log of {server} yet"))
        })?;
        return format.show(head, |head| {
            facts(vec![
                ("server", head.server.to_string()),
                ("entries", head.size.to_string()),
                ("root", harmless(&head.root)),
                ("signed", instant(head.at_ms)),
            ])
        });
    }
    if let Some(server) = by {
        let seen = one(server).and_then(|witness| witness.seen.as_ref());
        let seen = seen.ok_or_else(|| {
            Failure::Other(format!("{server} has seen nothing of the audit log yet"))
        })?;
        return format.show(seen, |seen| {
            facts(vec![
                ("witness", seen.witness.to_string()),
                ("entries", seen.size.to_string()),
                ("root", harmless(&seen.root)),
                ("seen", instant(seen.seen_ms)),
            ])
        });
    }
    format.show(&found, |found| table(&found.witnesses))
}

fn table(witnesses: &[AuditWitness]) -> String {
    let rows = witnesses.iter().map(row).collect();
    list(
        &["partner", "told", "has seen", "when", "its log", "state"],
        rows,
        "There is no partner yet who could have seen the log.",
    )
}

fn row(witness: &AuditWitness) -> Vec<String> {
    let none = || "-".to_owned();
    let told = match witness.told_ms {
        0 => none(),
        _ => witness.told_size.to_string(),
    };
    let seen = witness.seen.as_ref();
    let state = match (&witness.contradiction, &witness.fault) {
        (None, None) => "as it was",
        (Some(_), None) => "it has seen another log of ours",
        (None, Some(_)) => "its log is not what it was",
        (Some(_), Some(_)) => "neither log is what it was",
    };
    let theirs = witness.theirs.as_ref();
    vec![
        witness.server.to_string(),
        told,
        seen.map_or_else(none, |seen| seen.size.to_string()),
        seen.map_or_else(none, |seen| instant(seen.seen_ms)),
        theirs.map_or_else(none, |head| head.size.to_string()),
        state.to_owned(),
    ]
}

/// `POST /admin/v1/audit/witnesses/{server}/settle`.
pub(super) async fn settle(
    admin: &Admin,
    server: &ServerName,
    format: Format,
) -> Result<(), Failure> {
    let path = format!("{PATH}/witnesses/{server}/settle");
    admin.post_nothing(&path).await?;
    format.done(&format!(
        "Settled: what {server} shows of its log from here on is held to what it shows now."
    ))
}
