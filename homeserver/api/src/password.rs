//! Passwords on their way: wiped from memory when they are dropped, and never shown by accident.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// A password. What a request is read from and written to is not wiped, only this.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// The password itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Password {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl From<&str> for Password {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password")
    }
}

impl Serialize for Password {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// Whoever is signed in, a user or an administrator, gives the own account another password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangePasswordRequest {
    /// The password until now.
    pub old: Password,
    /// The password from now on.
    pub new: Password,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a password is written and read as it is and shown to nobody; by each way out.
    #[test]
    fn shown_to_nobody() {
        let request = ChangePasswordRequest {
            old: "correct horse".into(),
            new: "battery \"staple\"".into(),
        };
        let text = serde_json::to_string(&request).expect("it can be written");
        assert_eq!(
            text,
            r#"{"old":"correct horse","new":"battery \"staple\""}"#
        );
        let read: ChangePasswordRequest = serde_json::from_str(&text).expect("it reads");
        assert_eq!(read, request);
        assert_eq!(read.new.as_str(), "battery \"staple\"");
        assert!(!format!("{request:?}").contains("horse"));
    }
}
