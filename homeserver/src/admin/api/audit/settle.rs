//! `POST /admin/v1/audit/witnesses/{server}/settle`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use federation_proto::ids::ServerName;

use super::super::error::AdminError;
use super::super::extract::Name;
use crate::audit::Actor;
use crate::delivery::audit_heads::{self, Settled};
use crate::node::Node;

/// `POST /admin/v1/audit/witnesses/{server}/settle`: an administrator has seen that an audit log is not what it was. What the
/// peer shows now counts from here on, and what it has seen of ours is no longer warned of.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Name(server): Name<ServerName>,
) -> Result<StatusCode, AdminError> {
    match audit_heads::settle(&node, &actor, &server).await? {
        Settled::Done => Ok(StatusCode::NO_CONTENT),
        Settled::Nothing => Err(AdminError::NotFound(format!(
            "nothing is known between {server} and this homeserver that an audit log contradicts"
        ))),
        Settled::Busy => Err(AdminError::Busy(
            "others are writing to the same rows: try again".to_owned(),
        )),
    }
}
