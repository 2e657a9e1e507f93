//! What came back with a backup, and that an administrator has looked at it.

pub(super) mod confirm;
pub(super) mod show;

use super::error::AdminError;
use crate::node::Node;
use crate::store::restored::{self, RestoredRecord};

/// The record of the restore.
async fn record(node: &Node) -> Result<RestoredRecord, AdminError> {
    let record = restored::get(&node.store).await?;
    record.ok_or_else(|| {
        AdminError::NotFound(
            "this homeserver was never restored from a backup: there is nothing to confirm"
                .to_owned(),
        )
    })
}
