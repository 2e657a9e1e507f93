//! The inventory: which homeservers and accounts a run uses. A JSON file:
//!
//! ```json
//! {"organisations": [{"endpoint": "127.0.0.1:8443", "root_sha256": "…",
//!                     "accounts": [{"address": "u1@a.example", "password": "…"}]}]}
//! ```
//!
//! The first one's homeserver is the room's hub; the last one is cut off.

use std::path::Path;

use entente_sdk::ids::Address;
use serde::Deserialize;

/// All organisations of a run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Inventory {
    pub(crate) organisations: Vec<Organisation>,
}

/// One homeserver and accounts of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Organisation {
    /// Where clients reach it, `host:port`.
    pub(crate) endpoint: String,
    /// SHA-256 of its organisation's root certificate, hexadecimal.
    pub(crate) root_sha256: String,
    pub(crate) accounts: Vec<Account>,
}

/// An account to enrol a device for.
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

    fn parse(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the documented form parses, a misspelt key is named rather than ignored, and no password is printed. Method: one of
    /// each.
    #[test]
    fn documented_form() {
        let of = |key: &str| {
            format!(
                r#"{{"organisations": [{{"endpoint": "127.0.0.1:1", "root_sha256": "00",
                    "{key}": [{{"address": "u@a.example", "password": "p"}}]}}]}}"#
            )
        };
        let inventory = Inventory::parse(&of("accounts")).unwrap();
        assert_eq!(inventory.organisations[0].accounts.len(), 1);
        assert!(!format!("{inventory:?}").contains("\"p\""));
        let error = Inventory::parse(&of("acounts")).unwrap_err();
        assert!(error.to_string().contains("acounts"), "{error}");
    }

    proptest::proptest! {
        /// Goal: any text is an inventory or an error. Method: any text.
        #[test]
        fn any_text(text: String) {
            let _ = Inventory::parse(&text);
        }
    }
}
