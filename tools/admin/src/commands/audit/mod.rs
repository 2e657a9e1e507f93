//! `audit`.

mod export;
mod prove;
mod verify;
mod witnesses;

use std::time::Duration;

use homeserver_api::admin::{AuditEntry, AuditPage, EraseRequest, PAGE_ENTRIES_MAX};

use super::confirm;
use crate::cli::{AuditArguments, AuditCommand, ConnectionArguments};
use crate::connection::{Admin, segment};
use crate::failure::Failure;
use crate::output::{Format, print};
use crate::values::{harmless, instant, now_ms};

const PATH: &str = "/admin/v1/audit";
/// How long `--follow` waits before it asks again.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

/// `audit …`.
pub(super) async fn run(
    connection: &ConnectionArguments,
    mut arguments: AuditArguments,
    format: Format,
) -> Result<(), Failure> {
    let admin = || Admin::open(connection);
    match arguments.command.take() {
        None => read(&admin()?, arguments, format).await,
        Some(AuditCommand::Head) => prove::head(&admin()?, format).await,
        Some(AuditCommand::Proof { number, size }) => {
            prove::entry(&admin()?, number, size, format).await
        }
        Some(AuditCommand::Growth { from }) => prove::growth(&admin()?, from, format).await,
        Some(AuditCommand::Export { file, format: form }) => {
            export::run(&admin()?, file.as_deref(), form, format).await
        }
        Some(AuditCommand::Verify(arguments)) => verify::run(connection, &arguments, format),
        Some(AuditCommand::Witnesses { of, by }) => {
            witnesses::show(&admin()?, of.as_ref(), by.as_ref(), format).await
        }
        Some(AuditCommand::Settle { server, yes }) => {
            if !yes {
                let question = format!(
                    "What {server} shows of its audit log now will count, though it contradicts what was seen before. Settle it?"
                );
                confirm(&question, "--yes")?;
            }
            witnesses::settle(&admin()?, &server, format).await
        }
        Some(AuditCommand::Erase { address, yes }) => {
            if !yes {
                let question = format!(
                    "Nobody will be able to tell any more which entries are about {address}. Forget it?"
                );
                confirm(&question, "--yes")?;
            }
            let sentence = format!("Forgotten: the audit log no longer tells who {address} was.");
            let request = EraseRequest { address };
            let path = format!("{PATH}/erasures");
            admin()?.post_without_answer(&path, &request).await?;
            format.done(&sentence)
        }
    }
}

/// `GET /admin/v1/audit`, page by page; entries are printed one a line as they come.
async fn read(admin: &Admin, arguments: AuditArguments, format: Format) -> Result<(), Failure> {
    let mut after = arguments.after;
    let mut left = arguments.limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit.get()).unwrap_or(usize::MAX)
    });
    let sought = sought(&arguments, now_ms());
    loop {
        let limit = left.min(PAGE_ENTRIES_MAX);
        let from = after.map_or_else(String::new, |after| format!("&after={after}"));
        let page: AuditPage = admin
            .get(&format!("{PATH}?limit={limit}{from}{sought}"))
            .await?;
        let before = after;
        for entry in &page.entries {
            match format {
                Format::Human => print(&line(&page, entry))?,
                Format::Json => format.show(entry, |_| String::new())?,
            }
            after = Some(entry.number);
        }
        left = left.saturating_sub(page.entries.len());
        // With something to look for a page may have none and still not be the last.
        let more = page
            .next_after
            .is_some_and(|next| before.is_none_or(|before| next > before));
        after = page.next_after.or(after);
        if left == 0 || (!more && !arguments.follow) {
            return Ok(());
        }
        if !more {
            tokio::time::sleep(FOLLOW_INTERVAL).await;
        }
    }
}

/// What is looked for, as a part of the query.
fn sought(arguments: &AuditArguments, now_ms: u64) -> String {
    let ago = |seconds: u32| now_ms.saturating_sub(u64::from(seconds).saturating_mul(1000));
    let since = arguments.since.map(|seconds| ago(seconds).to_string());
    let until = arguments.until.map(|seconds| ago(seconds).to_string());
    [
        ("since", since.as_ref()),
        ("until", until.as_ref()),
        ("action", arguments.action.as_ref()),
        ("actor", arguments.actor.as_ref()),
        ("subject", arguments.subject.as_ref()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some(format!("&{name}={}", segment(value?))))
    .collect()
}

/// An entry for people: with addresses where pseudonyms stand.
fn line(page: &AuditPage, entry: &AuditEntry) -> String {
    let mut text = format!(
        "{:>6}  {}  {}  {}  {}",
        entry.number,
        instant(entry.at_ms),
        entry.actor,
        entry.action,
        page.named(&entry.subject)
    );
    if !entry.detail.is_empty() {
        text.push_str("  ");
        text.push_str(&page.named(&entry.detail));
    }
    harmless(&text)
}
