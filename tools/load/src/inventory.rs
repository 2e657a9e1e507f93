//! The inventory: which homeservers and accounts a run uses.
//!
//! A JSON file, because accounts are made by whoever administers the homeservers, not here:
//!
//! ```json
//! {
//!   "from": {"endpoint": "127.0.0.1:8443", "root_sha256": "…",
//!            "accounts": [{"address": "u1@a.example", "password": "…"}]},
//!   "to":   {"endpoint": "127.0.0.1:9443", "root_sha256": "…",
//!            "accounts": [{"address": "u1@b.example", "password": "…"}]}
//! }
//! ```

use std::path::Path;

use entente_sdk::ids::Address;
use serde::Deserialize;

/// Both sides of a run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Inventory {
    /// Where senders (and idle devices) are at home.
    pub(crate) from: Side,
    /// Where receivers are at home.
    pub(crate) to: Side,
}

/// One homeserver and accounts of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Side {
    /// Where clients reach it, `host:port`.
    pub(crate) endpoint: String,
    /// SHA-256 of its organisation's root certificate, hexadecimal.
    pub(crate) root_sha256: String,
    /// Accounts, used in this order.
    pub(crate) accounts: Vec<Account>,
}

/// An account to enrol devices for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Account {
    pub(crate) address: Address,
    pub(crate) password: String,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Account({})", self.address)
    }
}

impl Inventory {
    /// Reads the file.
    ///
    /// # Errors
    /// A sentence that names the file and what is wrong with it.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("can't read the inventory {}: {error}", path.display()))?;
        serde_json::from_str(&text)
            .map_err(|error| format!("the inventory {} is not one: {error}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the documented form parses, and a misspelt key is named rather than ignored.
    #[test]
    fn documented_form() {
        let side = |key: &str| {
            format!(
                r#"{{"endpoint": "127.0.0.1:1", "root_sha256": "00",
                    "{key}": [{{"address": "u@a.example", "password": "p"}}]}}"#
            )
        };
        let (good, bad) = (side("accounts"), side("acounts"));
        let both = |to: &str| format!(r#"{{"from": {good}, "to": {to}}}"#);
        let inventory: Inventory = serde_json::from_str(&both(&good)).unwrap();
        assert_eq!(inventory.to.accounts.len(), 1);
        assert!(!format!("{inventory:?}").contains("\"p\""));
        let error = serde_json::from_str::<Inventory>(&both(&bad)).unwrap_err();
        assert!(error.to_string().contains("acounts"), "{error}");
    }
}
