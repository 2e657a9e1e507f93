//! `GET /admin/v1/dead-letters?limit=`

use std::sync::Arc;

use axum::extract::State;
use federation_proto::refusal::Refusal;
use homeserver_api::admin::{DeadCount, DeadLetter, DeadLetters};
use serde::Deserialize;

use super::super::error::AdminError;
use super::super::extract::{Fields, Number};
use super::entries;
use crate::node::Node;
use crate::store::dead_letters;

/// How many.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Page {
    limit: Option<Number>,
}

/// `GET /admin/v1/dead-letters?limit=`: what was given up, newest first.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Fields(page): Fields<Page>,
) -> Result<axum::Json<DeadLetters>, AdminError> {
    let limit = entries(page.limit);
    let records = dead_letters::newest(&node.store, limit).await?;
    let counts = dead_letters::counts(&node.store, limit).await?;
    let dead_letters = records
        .into_iter()
        .map(|record| DeadLetter {
            at_ms: record.at_ms,
            refusal: Refusal::new(record.refusal_code(), record.reason),
            server: record.server,
            room: record.room,
            device: record.device,
        })
        .collect();
    let counted = counts.into_iter().map(|counted| DeadCount {
        day_ms: counted.day_ms,
        server: counted.server,
        code: counted.code,
        count: counted.count,
    });
    Ok(axum::Json(DeadLetters {
        dead_letters,
        counted: counted.collect(),
    }))
}
