//! `audit`.

use std::time::Duration;

use homeserver_api::admin::{AuditEntry, AuditPage, PAGE_ENTRIES_MAX};

use crate::cli::AuditArguments;
use crate::connection::Admin;
use crate::failure::Failure;
use crate::output::{Format, print};
use crate::values::instant;

/// How long `--follow` waits before it asks again.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

/// `GET /admin/v1/audit`, page by page; entries are printed one a line as they come.
pub(super) async fn run(
    admin: &Admin,
    arguments: AuditArguments,
    format: Format,
) -> Result<(), Failure> {
    let mut after = arguments.after;
    let mut left = arguments.limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit.get()).unwrap_or(usize::MAX)
    });
    loop {
        let limit = left.min(PAGE_ENTRIES_MAX);
        let from = after.map_or_else(String::new, |after| format!("&after={after}"));
        let page: AuditPage = admin
            .get(&format!("/admin/v1/audit?limit={limit}{from}"))
            .await?;
        for entry in &page.entries {
            match format {
                Format::Human => print(&line(entry))?,
                Format::Json => format.show(entry, line)?,
            }
            after = Some(entry.number);
        }
        left = left.saturating_sub(page.entries.len());
        let more = page.next_after.is_some() && !page.entries.is_empty();
        if left == 0 || (!more && !arguments.follow) {
            return Ok(());
        }
        if !more {
            tokio::time::sleep(FOLLOW_INTERVAL).await;
        }
    }
}

fn line(entry: &AuditEntry) -> String {
    let mut text = format!(
        "{:>6}  {}  {}  {}  {}",
        entry.number,
        instant(entry.at_ms),
        entry.actor,
        entry.action,
        entry.subject
    );
    if !entry.detail.is_empty() {
        text.push_str("  ");
        text.push_str(&entry.detail);
    }
    text
}
