//! `POST /admin/v1/audit/erasures`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use homeserver_api::admin::EraseRequest;

use super::super::error::AdminError;
use super::super::extract::Json;
use crate::audit::{self, Actor, Erased, Event};
use crate::identity::{IdentityError, accounts};
use crate::node::Node;

/// `POST /admin/v1/audit/erasures`: forgets for whom a pseudonym in the audit log stands. The entries stay. Somebody who
/// still has an account here would get another pseudonym with his next entry: his account is deleted first.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Json(EraseRequest { address }): Json<EraseRequest>,
) -> Result<StatusCode, AdminError> {
    if address.server == node.server {
        match accounts::get(&node, &address.handle).await {
            Ok(_) => {
                return Err(AdminError::Conflict(
                    "user-exists",
                    format!("{address} has an account: delete it first (`hsctl user delete`)"),
                ));
            }
            Err(IdentityError::UnknownUser(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let event = |pseudonym| Event {
        at_ms: node.clock.now_ms(),
        actor: actor.clone(),
        action: "person.erased",
        subject: pseudonym,
        detail: String::new(),
    };
    let (store, random) = (&node.store, node.random.as_ref());
    match audit::erase(store, random, &address, event).await? {
        Erased::Forgotten => Ok(StatusCode::NO_CONTENT),
        Erased::Unknown => Err(AdminError::NotFound(format!(
            "the audit log has no pseudonym of {address}: it was never in it, or is forgotten already"
        ))),
        Erased::Busy => Err(AdminError::Busy(
            "others are writing to the same rows: try again".to_owned(),
        )),
    }
}
