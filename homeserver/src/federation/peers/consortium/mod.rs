//! Consortia: one charter instead of a ceremony for each pair.
//!
//! What is stored of a consortium is the newest charter that was signed here. The peers that follow
//! from it are ordinary ones, each written in a part of its own: what was interrupted is made up for
//! by joining again. Agreements that stand go on by the next charter (`renew`).

mod charter;
mod join;
mod prospect;
mod renew;
mod show;
mod sign;
#[cfg(test)]
mod tests;

pub use charter::{charter, introduce, merge};
pub use join::join;
pub(super) use prospect::{lines, prospect};
pub use renew::catch_up;
pub(super) use renew::settle;
pub use show::{consortia, inspect};
pub use sign::sign;

use bytes::Bytes;
use federation_proto::agreement::{Charter, ConsortiumError};
use federation_proto::ids::ConsortiumId;

use super::error::PeeringError;
use crate::node::Node;
use crate::store::consortium::{self, ConsortiumRecord};
use crate::store::{StoreError, Value};

impl From<ConsortiumError> for PeeringError {
    fn from(error: ConsortiumError) -> Self {
        match error {
            ConsortiumError::Document(error) => error.into(),
            ConsortiumError::Agreement(error) => error.into(),
            ConsortiumError::Terms(_)
            | ConsortiumError::Name
            | ConsortiumError::TooFew
            | ConsortiumError::TooMany
            | ConsortiumError::Twice(_) => Self::Statement(error.to_string()),
            ConsortiumError::NoIntroduction(_)
            | ConsortiumError::OtherIntroduction(_)
            | ConsortiumError::Keys { .. }
            | ConsortiumError::BadSignature(_)
            | ConsortiumError::OtherCharter => Self::Document(error.to_string()),
            // The charter is in order, but does not fit what was confirmed, or how things stand.
            _ => Self::State(error.to_string()),
        }
    }
}

/// A consortium whose charter was signed here.
struct Known {
    record: ConsortiumRecord,
    charter: Charter,
    read: Value,
}

/// The consortium as it is stored.
async fn known(node: &Node, id: ConsortiumId) -> Result<Option<Known>, StoreError> {
    let Some((record, read)) = consortium::get(&node.store, id).await? else {
        return Ok(None);
    };
    Ok(Some(Known {
        charter: restored(&record)?,
        record,
        read,
    }))
}

/// The charter of a record, its signatures checked again.
fn restored(record: &ConsortiumRecord) -> Result<Charter, StoreError> {
    Charter::open(record.charter.clone(), record.signed_ms).map_err(|_| StoreError::Corrupt {
        family: "consortium",
    })
}

fn own_root(node: &Node) -> Bytes {
    node.keys.root().to_vec().into()
}

/// For the audit log.
fn named(charter: &Charter) -> String {
    let body = charter.body();
    format!(
        "charter {} of {:?}, fingerprint {}",
        body.serial,
        body.name,
        charter.fingerprint()
    )
}
