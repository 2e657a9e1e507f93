//! What a statement grants to user types that are not here.

use std::collections::BTreeSet;

use homeserver_api::admin::Grant;

use super::super::error::AdminError;
use crate::identity::user_types;
use crate::node::Node;

/// A warning for each user type that is named and is not here: most likely misspelt. It may be made later, so that nothing
/// is refused for it.
pub(super) async fn unknown_user_types(
    node: &Node,
    grants: &[&Grant],
) -> Result<Vec<String>, AdminError> {
    let user_types = grants.iter().flat_map(|grant| &grant.user_types);
    let named: BTreeSet<&String> = user_types.collect();
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let known = user_types::list(node).await?;
    let unknown = named
        .into_iter()
        .filter(|name| known.iter().all(|user_type| user_type.name != **name));
    Ok(unknown
        .map(|name| {
            format!(
                "There is no user type {name:?} here: what is granted to it is granted to nobody until there is one. \
                 `hsctl user-type list` shows those that there are."
            )
        })
        .collect())
}
