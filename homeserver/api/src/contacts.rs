//! Whom of other organisations a person lets start conversations with him.
//!
//! | method and path | request | answer |
//! |---|---|---|
//! | `GET /v1/contacts` | – | [`Contacts`] |
//! | `PUT /v1/contacts/{address}` | [`ContactRequest`] | [`ContactInfo`] |
//! | `DELETE /v1/contacts/{address}` | – | 204; consent, block or ask are no more |

use federation_proto::ids::{AccountId, Address};
use serde::{Deserialize, Serialize};

/// What a person does about somebody of another organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContactAct {
    /// Asks for his consent, and so gives the own.
    Ask,
    /// Lets him start conversations.
    Allow,
    /// Is not to be found by him any more.
    Block,
}

/// The body of `PUT /v1/contacts/{address}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContactRequest {
    /// What is done.
    pub act: ContactAct,
    /// What he reads before he decides; with an ask only.
    #[serde(default)]
    pub text: Option<String>,
    /// His account, where the client knows it from a room that both are in: a block then holds for what he
    /// prepared before, too.
    #[serde(default)]
    pub account: Option<AccountId>,
}

/// How a person stands with somebody of another organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContactStanding {
    /// He has asked, and waits for a decision.
    AsksYou,
    /// The person has asked him, and waits for his.
    Asked,
    /// He may start conversations.
    Allowed,
    /// He may not, and is not told.
    Blocked,
}

/// Somebody of another organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactInfo {
    /// His address.
    pub address: Address,
    /// How the person stands with him.
    pub standing: ContactStanding,
    /// Whether he has said that he may be contacted.
    pub allows_you: bool,
    /// What he wrote with his ask.
    pub text: String,
    /// Since when, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// When an ask ends without a decision, milliseconds since the Unix epoch.
    pub expires_ms: Option<u64>,
}

/// Everybody of other organisations with whom something was asked or decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contacts {
    /// By address.
    pub contacts: Vec<ContactInfo>,
}

/// What has changed, as every device of the account learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContactChange {
    /// He asks to be let in.
    AsksYou,
    /// He lets the person start conversations with him.
    AllowsYou,
    /// He does not ask any more.
    Withdrawn,
    /// He does not let the person start conversations with him, or not any more.
    Revoked,
    /// Another device of the account has asked him.
    Asked,
    /// Another device of the account lets him in.
    Allowed,
    /// Another device of the account has blocked him.
    Blocked,
    /// Another device of the account has taken back what was asked or decided.
    Removed,
    /// What was asked or granted could not be delivered to his homeserver: the text says why.
    Undelivered,
}
