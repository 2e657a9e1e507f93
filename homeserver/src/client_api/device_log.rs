//! The organisation's device log, for its devices to hold it to.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use federation_proto::codec::{EncodeError, Wire};
use federation_proto::ids::AccountId;
use federation_proto::limits::LOG_SIZES_KNOWN_MAX;
use homeserver_api::Base64;
use homeserver_api::client::{AccountHistory, LOG_STATEMENTS_MAX, LogHead, LogStatements};
use homeserver_api::problem::Problem;

use super::error::ApiError;
use super::extract::Path;
use crate::identity::device_log::Reader;
use crate::node::Node;
use crate::store::{StoreError, device_log};

/// `GET /v1/device-log/head/{from}`
pub(super) async fn head(
    State(node): State<Arc<Node>>,
    Path(from): Path<u64>,
) -> Result<Json<LogHead>, ApiError> {
    let (head, growth) = node.device_log.head(&node, Reader::Own, from).await?;
    Ok(Json(LogHead {
        head: bytes(head.to_bytes())?,
        growth: growth.map(|growth| bytes(growth.to_bytes())).transpose()?,
    }))
}

/// `GET /v1/device-log/accounts/{account}/{known}`: the sizes of the log that are known are joined by commas.
pub(super) async fn account(
    State(node): State<Arc<Node>>,
    Path((account, known)): Path<(AccountId, String)>,
) -> Result<Json<AccountHistory>, ApiError> {
    let sizes: Result<Vec<u64>, _> = known.split(',').map(str::parse).collect();
    let sizes = sizes
        .ok()
        .filter(|sizes| sizes.len() <= LOG_SIZES_KNOWN_MAX);
    let sizes = sizes.ok_or_else(|| {
        ApiError::problem(Problem::new(
            400,
            "bad-path",
            "the path is not well formed",
            format!("name up to {LOG_SIZES_KNOWN_MAX} sizes of the log, joined by commas"),
        ))
    })?;
    let log = &node.device_log;
    let found = log.history(&node, Reader::Own, account, &sizes).await?;
    let history = found.ok_or_else(|| {
        ApiError::problem(Problem::new(
            404,
            "unknown-account",
            "unknown account",
            "the device log has nothing about this account: check its id",
        ))
    })?;
    Ok(Json(AccountHistory {
        history: bytes(history.to_bytes())?,
    }))
}

/// `GET /v1/device-log/statements/{after}`
pub(super) async fn statements(
    State(node): State<Arc<Node>>,
    Path(after): Path<u64>,
) -> Result<Json<LogStatements>, ApiError> {
    let found = device_log::read(&node.store, after, LOG_STATEMENTS_MAX).await?;
    let statements: Result<Vec<Base64>, ApiError> = found
        .iter()
        .map(|statement| bytes(statement.to_bytes()))
        .collect();
    Ok(Json(LogStatements {
        statements: statements?,
    }))
}

fn bytes(encoded: Result<bytes::Bytes, EncodeError>) -> Result<Base64, ApiError> {
    match encoded {
        Ok(bytes) => Ok(bytes.to_vec().into()),
        Err(_) => Err(StoreError::Corrupt {
            family: "device log",
        }
        .into()),
    }
}
