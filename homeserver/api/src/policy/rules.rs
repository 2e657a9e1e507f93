//! What a user type rules beyond lifetimes and files. Each part has a default, which is what holds when nothing is said
//! of it.

use std::fmt;
use std::str::FromStr;

use federation_proto::ids::Handle;
use serde::{Deserialize, Serialize};

use super::ExternalScope;
use crate::admin::Operation;

/// Which way an operation goes, seen from this homeserver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Our people towards theirs.
    Outbound,
    /// Their people towards ours.
    Inbound,
}

/// A narrower scope for one operation in one direction. It takes away from the scope that holds for all, and adds nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalRule {
    /// Which way.
    pub direction: Direction,
    /// What.
    pub operation: Operation,
    /// With whom.
    pub scope: ExternalScope,
}

/// Classification labels of messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// The lowest that a message of the account may have.
    pub min: u8,
    /// The highest that a message of the account, or one to it, may have.
    pub max: u8,
    /// What a message has when its writer chooses none.
    pub default: u8,
    /// What the labels are called, from 0 on.
    #[serde(default)]
    pub names: Vec<String>,
}

impl Default for Labels {
    fn default() -> Self {
        Self {
            min: 0,
            max: u8::MAX,
            default: 0,
            names: Vec::new(),
        }
    }
}

impl Labels {
    /// Whether a message of the account may have this label.
    #[must_use]
    pub const fn contains(&self, label: u8) -> bool {
        self.min <= label && label <= self.max
    }

    /// Whether they are in order: min ≤ default ≤ max.
    #[must_use]
    pub const fn in_order(&self) -> bool {
        self.min <= self.default && self.default <= self.max
    }
}

/// Which files may go with a message from a label on. No server sees a file's name or content: clients keep to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileTypes {
    /// From this label on, up to the next rule's.
    pub label: u8,
    /// Endings of names, in lower case and without the dot.
    pub endings: Vec<String>,
}

/// What happens after failed sign-ins of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignInRules {
    /// Failures that cost nothing.
    pub free_failures: u32,
    /// The wait after the next one; it doubles with each,
    pub delay_seconds_min: u32,
    /// up to this.
    pub delay_seconds_max: u32,
    /// Failures after which nobody may try for a longer time, not even who knows the password; 0: never. Whoever knows a
    /// handle can lock its owner out with it.
    pub lockout_failures: u32,
    /// That time.
    pub lockout_seconds: u32,
}

impl Default for SignInRules {
    fn default() -> Self {
        Self {
            free_failures: 4,
            delay_seconds_min: 1,
            delay_seconds_max: 30,
            lockout_failures: 0,
            lockout_seconds: 15 * 60,
        }
    }
}

/// What a password that a person chooses must be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasswordRules {
    /// Fewest characters.
    pub characters_min: u32,
    /// Of lower-case letters, upper-case letters, digits and everything else: how many kinds at least.
    pub kinds_min: u8,
    /// Whether the handle may not be in it.
    pub without_handle: bool,
}

impl Default for PasswordRules {
    fn default() -> Self {
        Self {
            characters_min: 8,
            kinds_min: 1,
            without_handle: false,
        }
    }
}

impl PasswordRules {
    /// What is wrong with a password, if anything is.
    #[must_use]
    pub fn problem(&self, handle: &Handle, password: &str) -> Option<String> {
        let characters = u32::try_from(password.chars().count()).unwrap_or(u32::MAX);
        if characters < self.characters_min {
            return Some(format!(
                "a password has at least {} characters here: choose a longer one",
                self.characters_min
            ));
        }
        let has = |kind: fn(char) -> bool| u8::from(password.chars().any(kind));
        let kinds = has(char::is_lowercase)
            + has(char::is_uppercase)
            + has(char::is_numeric)
            + has(|c| !c.is_lowercase() && !c.is_uppercase() && !c.is_numeric());
        if kinds < self.kinds_min {
            return Some(format!(
                "a password has at least {} of these here: small letters, capital letters, digits, other characters",
                self.kinds_min
            ));
        }
        if self.without_handle && password.to_lowercase().contains(handle.as_str()) {
            return Some("a password does not contain its owner's handle here".to_owned());
        }
        None
    }
}

/// How long a device stays signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRules {
    /// How long after its user has typed the password; then it is typed again. Absent: without end.
    #[serde(default)]
    pub sign_in_seconds_max: Option<u32>,
}

/// What may be downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DownloadRules {
    /// The largest file, as it is encrypted; absent: any.
    #[serde(default)]
    pub file_bytes_max: Option<u64>,
    /// All files of a day together; absent: any number.
    #[serde(default)]
    pub day_bytes_max: Option<u64>,
}

/// Something that a client does, or leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// Never.
    Off,
    /// As its user chooses.
    #[default]
    Free,
    /// Always.
    Always,
}

/// What a notification shows of a message, to whoever sees the screen.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Preview {
    /// That there is one.
    Nothing,
    /// Whose it is.
    Sender,
    /// What it says.
    #[default]
    Full,
}

/// What clients are held to. The homeserver holds them to the version and the banner; to the rest only they can keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientRules {
    /// The oldest version that gets a session, by what the client says of itself.
    #[serde(default)]
    pub version_min: Option<ClientVersion>,
    /// What every device's user agrees to before the device gets a session, again when the text changes.
    #[serde(default)]
    pub banner: Option<String>,
    /// What a notification shows at most.
    #[serde(default)]
    pub preview: Preview,
    /// Receipts of reading.
    #[serde(default)]
    pub receipts: Choice,
    /// Whether a message may be passed on to another room.
    pub forwarding: bool,
    /// Whether others are shown that somebody is there.
    pub presence: bool,
}

impl Default for ClientRules {
    fn default() -> Self {
        Self {
            version_min: None,
            banner: None,
            preview: Preview::Full,
            receipts: Choice::Free,
            forwarding: true,
            presence: true,
        }
    }
}

/// A client's version: `1.2.3`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct ClientVersion {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
    /// The third.
    pub patch: u32,
}

/// The text is no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a version is three numbers with points between them, such as 1.2.3")]
pub struct VersionError;

impl FromStr for ClientVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let mut numbers = text.split('.').map(|number| {
            let digits = number.bytes().all(|byte| byte.is_ascii_digit());
            number
                .parse::<u32>()
                .ok()
                .filter(|_| digits)
                .ok_or(VersionError)
        });
        let mut next = || numbers.next().unwrap_or(Err(VersionError));
        let version = Self {
            major: next()?,
            minor: next()?,
            patch: next()?,
        };
        match numbers.next() {
            None => Ok(version),
            Some(_) => Err(VersionError),
        }
    }
}

impl TryFrom<String> for ClientVersion {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<ClientVersion> for String {
    fn from(version: ClientVersion) -> Self {
        version.to_string()
    }
}

impl fmt::Display for ClientVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: versions are ordered as numbers are, and nothing else is a version. Method: tables of both.
    #[test]
    fn versions() {
        let version = |text: &str| text.parse::<ClientVersion>().expect(text);
        assert!(version("0.9.0") < version("0.10.0"));
        assert!(version("1.0.0") > version("0.99.99"));
        assert_eq!(version("1.2.3").to_string(), "1.2.3");
        for wrong in [
            "",
            "1",
            "1.2",
            "1.2.3.4",
            "1.2.x",
            "+1.2.3",
            "1..3",
            "99999999999.0.0",
        ] {
            assert_eq!(wrong.parse::<ClientVersion>(), Err(VersionError), "{wrong}");
        }
    }

    /// Goal: each rule of passwords refuses what it is for, and says what to do. Method: one password for each rule.
    #[test]
    fn passwords() {
        let rules = PasswordRules {
            characters_min: 10,
            kinds_min: 3,
            without_handle: true,
        };
        let handle: Handle = "alice".parse().expect("a handle");
        for (password, problem) in [
            ("Horse-2026!", None),
            ("Horse-26", Some("at least 10 characters")),
            ("horsestaple", Some("at least 3 of these")),
            ("Alice-2026!", Some("handle")),
        ] {
            match (rules.problem(&handle, password), problem) {
                (None, None) => {}
                (Some(said), Some(part)) => assert!(said.contains(part), "{said}"),
                (said, _) => panic!("{password}: {said:?}"),
            }
        }
        assert_eq!(
            PasswordRules::default().problem(&handle, "alicealice"),
            None
        );
    }
}
