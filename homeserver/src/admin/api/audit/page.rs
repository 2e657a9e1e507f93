//! `GET /admin/v1/audit?after=&limit=&since=&until=&action=&actor=&subject=`

use std::sync::Arc;

use axum::extract::State;
use homeserver_api::admin::AuditPage;
use serde::Deserialize;

use super::super::error::AdminError;
use super::super::extract::{Fields, Number};
use super::super::records::entries;
use crate::audit::{self, Filter};
use crate::node::Node;

/// Longest text that is looked for.
const TEXT_BYTES_MAX: usize = 512;

/// Which entries.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Page {
    after: Option<Number>,
    limit: Option<Number>,
    since: Option<Number>,
    until: Option<Number>,
    action: Option<String>,
    actor: Option<String>,
    subject: Option<String>,
}

/// `GET /admin/v1/audit?after=&limit=&since=&until=&action=&actor=&subject=`: a page of the audit log, oldest first, or of what
/// fits of it. With something to look for a page may have fewer entries, or none, and still have a next one.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Fields(page): Fields<Page>,
) -> Result<axum::Json<AuditPage>, AdminError> {
    let texts = [&page.action, &page.actor, &page.subject];
    if texts
        .into_iter()
        .flatten()
        .any(|text| text.len() > TEXT_BYTES_MAX)
    {
        return Err(AdminError::Malformed(format!(
            "the query is wrong: what is looked for has at most {TEXT_BYTES_MAX} bytes"
        )));
    }
    let number = |number: Option<Number>| number.map(|Number(number)| number);
    let filter = Filter {
        since_ms: number(page.since),
        until_ms: number(page.until),
        action: page.action,
        actor: page.actor,
        subject: page.subject,
    };
    let after = number(page.after).unwrap_or(0);
    let (store, random) = (&node.store, node.random.as_ref());
    let limit = entries(page.limit);
    Ok(axum::Json(
        audit::search(store, random, &filter, after, limit).await?,
    ))
}
