//! Federation: agreements with peers, what comes in from them and what goes out to them.

pub mod files;
pub mod inbound;
pub mod outbound;
pub mod paths;
pub mod peers;

use std::sync::Arc;

use crate::node::Node;
use crate::store::StoreError;

/// Everything of federation that goes on in the background: what waits is sent, files that are asked
/// for are fetched, agreements expire. Runs until it is dropped, or the store fails.
pub async fn run(node: Arc<Node>, network: Arc<dyn outbound::Network>) -> Result<(), StoreError> {
    tokio::select! {
        ended = outbound::run(Arc::clone(&node), Arc::clone(&network)) => ended,
        () = files::run(node, network) => Ok(()),
    }
}
