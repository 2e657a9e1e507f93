//! Heads of the audit log, as they are shown to administrators and to peers.

use federation_proto::audit_log::SignedAuditHead;

use crate::audit::{self, Signer};
use crate::identity::device_log::Reader;
use crate::node::Node;
use crate::store::StoreError;

/// Our log's head as of now, signed so that it holds for `reader`.
pub async fn head(node: &Node, reader: Reader<'_>) -> Result<SignedAuditHead, StoreError> {
    let (issuing, key) = (reader.issuing(node), node.keys.issuing_key());
    let signer = Signer {
        server: &node.server,
        issuing: &issuing,
        key: &key,
    };
    let (store, random) = (&node.store, node.random.as_ref());
    audit::signed_head(store, random, signer, node.clock.now_ms()).await
}
