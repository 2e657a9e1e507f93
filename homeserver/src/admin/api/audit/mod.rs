//! The audit log: read, proved, and people forgotten in it.

pub(super) mod erase;
pub(super) mod growth;
pub(super) mod head;
pub(super) mod page;
pub(super) mod proof;
pub(super) mod settle;
pub(super) mod witnesses;

use federation_proto::audit_log::SignedAuditHead;
use federation_proto::hash::Digest;
use homeserver_api::admin::AuditHead;

use super::error::AdminError;
use crate::delivery::audit_heads;
use crate::identity::device_log::Reader;
use crate::node::Node;

/// The log's head as of now, for administrators.
async fn head_now(node: &Node) -> Result<SignedAuditHead, AdminError> {
    Ok(audit_heads::head(node, Reader::Own).await?)
}

fn shown(head: &SignedAuditHead) -> Result<AuditHead, AdminError> {
    AuditHead::of(head).map_err(|error| AdminError::Internal(error.to_string()))
}

fn hexadecimal(path: &[Digest]) -> Vec<String> {
    path.iter().map(ToString::to_string).collect()
}
