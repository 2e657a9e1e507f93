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
        Self::parse(&text)
            .map_err(|error| format!("the inventory {} is not one: {error}", path.display()))
    }

    /// Reads a file's text.
    pub(crate) fn parse(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

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
        let inventory = Inventory::parse(&both(&good)).unwrap();
        assert_eq!(inventory.to.accounts.len(), 1);
        assert!(!format!("{inventory:?}").contains("\"p\""));
        let error = Inventory::parse(&both(&bad)).unwrap_err();
        assert!(error.to_string().contains("acounts"), "{error}");
    }

    fn side() -> impl Strategy<Value = serde_json::Value> {
        let account = ("[a-z]{1,10}", any::<String>()).prop_map(
            |(name, password)| json!({"address": format!("{name}@a.example"), "password": password}),
        );
        let accounts = prop::collection::vec(account, 0..4);
        (any::<String>(), any::<String>(), accounts).prop_map(|(endpoint, root, accounts)| {
            json!({"endpoint": endpoint, "root_sha256": root, "accounts": accounts})
        })
    }

    fn shown(side: &Side) -> serde_json::Value {
        let accounts = side.accounts.iter().map(
            |account| json!({"address": account.address.to_string(), "password": account.password}),
        );
        json!({
            "endpoint": side.endpoint, "root_sha256": side.root_sha256,
            "accounts": accounts.collect::<Vec<_>>(),
        })
    }

    proptest! {
        /// Goal: an inventory says what its file says, and half a file is none. Method: any accounts, cut anywhere.
        #[test]
        fn nothing_is_lost(from in side(), to in side(), cut in any::<prop::sample::Index>()) {
            let text = json!({"from": from, "to": to}).to_string();
            let inventory = Inventory::parse(&text).unwrap();
            prop_assert_eq!(shown(&inventory.from), from);
            prop_assert_eq!(shown(&inventory.to), to);
            let cut = cut.index(text.len());
            if let Some(half) = text.get(..cut) {
                prop_assert!(Inventory::parse(half).is_err());
            }
        }

        /// Goal: any text is an inventory or an error. Method: any text, and a true one with something in its midst.
        #[test]
        fn any_text(from in side(), text: String, at in any::<prop::sample::Index>()) {
            let _ = Inventory::parse(&text);
            let good = json!({"from": from, "to": from}).to_string();
            if let Some((before, after)) = good.split_at_checked(at.index(good.len())) {
                let _ = Inventory::parse(&format!("{before}{text}{after}"));
            }
        }
    }
}
