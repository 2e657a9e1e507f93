//! `GET /admin/v1/outbox/{server}/receipts`

use std::sync::Arc;

use axum::extract::State;
use federation_proto::codec::Wire;
use federation_proto::exchange::ExchangeProof;
use federation_proto::ids::ServerName;
use federation_proto::receipt::{self, ItemResult};
use homeserver_api::Base64;
use homeserver_api::admin::{ReceiptDirection, ReceiptState, Receipts};

use super::super::error::AdminError;
use super::super::extract::Name;
use crate::node::Node;
use crate::store::StoreError;
use crate::store::exchange::{self, Direction, ExchangeRecord};

/// `GET /admin/v1/outbox/{server}/receipts`: the last receipts that the peer gave and was given, newest
/// first, each with what proves it to a stranger.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Name(server): Name<ServerName>,
) -> Result<axum::Json<Receipts>, AdminError> {
    if node.peers.get(&server).is_none() {
        return Err(AdminError::NotFound(format!(
            "there is no peer {server}: `hsctl peer list` (`GET /admin/v1/peers`) shows those that there are"
        )));
    }
    let mut receipts = Vec::new();
    for (direction, shown) in [
        (Direction::Outbound, ReceiptDirection::Given),
        (Direction::Inbound, ReceiptDirection::Signed),
    ] {
        for record in exchange::all(&node.store, direction, &server).await? {
            receipts.push(state(record, shown)?);
        }
    }
    receipts.sort_by_key(|receipt| std::cmp::Reverse(receipt.at_ms));
    receipts.truncate(SHOWN_MAX);
    Ok(axum::Json(Receipts { receipts }))
}

/// Receipts in one answer.
const SHOWN_MAX: usize = 32;

fn state(record: ExchangeRecord, direction: ReceiptDirection) -> Result<ReceiptState, StoreError> {
    let corrupt = || StoreError::Corrupt { family: "exchange" };
    let proof = ExchangeProof::from_bytes(record.proof.clone()).map_err(|_| corrupt())?;
    let receipt = receipt::decode(proof.receipt).map_err(|_| corrupt())?;
    let body = receipt.claims();
    let count = |of: fn(&ItemResult) -> bool| {
        let found = body.results.iter().filter(|result| of(result)).count();
        u64::try_from(found).unwrap_or(u64::MAX)
    };
    Ok(ReceiptState {
        direction,
        at_ms: body.at_ms,
        link_epoch: body.link.link_epoch,
        transaction: body.root.to_string(),
        taken: count(|result| matches!(result, ItemResult::Accepted | ItemResult::Duplicate)),
        refused: count(|result| matches!(result, ItemResult::Refused(_))),
        deferred: count(|result| matches!(result, ItemResult::Deferred { .. })),
        lanes: u64::try_from(body.lanes.len()).unwrap_or(u64::MAX),
        proof: Base64(record.proof.to_vec()),
    })
}
