//! People of the server under test, whom its operator has made for the suite.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Deserializer, de};

use crate::failure::{Failure, Result};
use crate::room::Device;

/// A person with one device.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Person {
    pub(crate) handle: String,
    #[serde(deserialize_with = "id")]
    pub(crate) account: [u8; 16],
    #[serde(deserialize_with = "id")]
    pub(crate) device: [u8; 16],
}

impl Person {
    pub(crate) const fn device(&self) -> Device {
        Device {
            account: self.account,
            device: self.device,
        }
    }
}

/// Everybody. All handles begin in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct People {
    /// How all handles begin, at least 3 characters; nobody else's does.
    pub(crate) beginning: String,
    /// Found by the whole handle; may be started conversations with by whomever agreements let through.
    pub(crate) open: Person,
    /// Decides herself who of other organisations starts conversations with her.
    pub(crate) asking: Person,
    /// Handle of who is found by its beginning too.
    pub(crate) listed: String,
    /// Handle of who is not found at all.
    pub(crate) hidden: String,
}

impl People {
    /// What a file says of them.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|source| Failure::File {
            path: path.display().to_string(),
            source,
        })?;
        serde_json::from_str(&text)
            .map_err(|error| Failure::Operator(format!("{}: {error}", path.display())))
    }
}

fn id<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<[u8; 16], D::Error> {
    let text = String::deserialize(deserializer)?;
    let mut bytes = [0; 16];
    hex::decode_to_slice(&text, &mut bytes)
        .map_err(|_| de::Error::custom(format!("`{text}` is not an id: 32 hexadecimal digits")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(account: &str) -> String {
        let person = serde_json::json!({
            "handle": "conform-open", "account": account, "device": "02".repeat(16),
        });
        let people = serde_json::json!({
            "beginning": "conform", "open": person, "asking": person,
            "listed": "conform-listed", "hidden": "conform-hidden",
        });
        people.to_string()
    }

    proptest! {
        /// Goal: a person's identifiers are taken as they are written, and nothing else passes for one. Method: any identifier,
        /// any text in its place.
        #[test]
        fn identifiers_are_whole(account: [u8; 16], text: String) {
            let read: People = serde_json::from_str(&written(&hex::encode(account))).unwrap();
            prop_assert_eq!(read.open.account, account);
            prop_assert_eq!(read.asking.device, [2; 16]);
            let other = serde_json::from_str::<People>(&written(&text));
            prop_assert_eq!(other.is_ok(), text.len() == 32 && hex::decode(&text).is_ok());
        }
    }
}
