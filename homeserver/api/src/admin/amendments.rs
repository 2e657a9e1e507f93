//! Changes to an agreement that stands.

use serde::{Deserialize, Serialize};

use super::Grant;

/// Change what this side states to a peer; what is absent stays as it is. Nothing given takes back what
/// was proposed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AmendRequest {
    /// What the stating side's people may do towards the partner's.
    pub outbound: Option<Vec<Grant>>,
    /// What the partner's people may do towards the stating side's.
    pub inbound: Option<Vec<Grant>>,
    /// Shortest time-to-live of a message.
    pub ttl_min_seconds: Option<u32>,
    /// Longest time-to-live of a message.
    pub ttl_max_seconds: Option<u32>,
    /// Most bytes that the partner may have waiting here.
    pub waiting_bytes_max: Option<u64>,
    /// Largest file, in bytes.
    pub file_bytes_max: Option<u64>,
    /// Highest classification label of a message.
    pub label_max: Option<u8>,
    /// Days from now until the agreement expires.
    pub valid_days: Option<u32>,
    /// Where the partner reaches this homeserver, `host:port` each; empty: as configured.
    pub endpoints: Option<Vec<String>>,
    /// Whom the partner's administrator turns to.
    pub contact: Option<String>,
    /// Only say what would change.
    pub dry_run: bool,
    /// `follows` of the [`Amended`] that was shown; refused when something else is in force by now.
    pub follows: Option<String>,
}

/// What an amendment does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AmendmentEffect {
    /// It only tightens: in force at once.
    InForce,
    /// It waits for the other side's consent.
    Proposed,
}

/// An amendment, made or only considered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amended {
    /// What it does.
    pub effect: AmendmentEffect,
    /// The number of the statement.
    pub serial: u64,
    /// SHA-256 of the document that it follows.
    pub follows: String,
    /// What it changes, a sentence a line.
    pub changes: Vec<String>,
    /// The amendment, armored; absent after a dry run.
    pub document: Option<String>,
    /// What whoever makes it should look at, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// An amendment that waits for a consent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Its SHA-256.
    pub amendment: String,
    /// The number of the statement.
    pub serial: u64,
    /// When it was made, milliseconds since the Unix epoch.
    pub made_ms: u64,
    /// What it changes, a sentence a line.
    pub changes: Vec<String>,
    /// The fingerprint of the new root, when it changes the root: to be compared before consenting.
    pub new_fingerprint: Option<String>,
    /// The same as words to read aloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_words: Option<String>,
}

/// Consent to what the partner proposes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentRequest {
    /// `amendment` of the [`Proposal`] that was read.
    pub amendment: String,
    /// The new root's fingerprint as the partner's administrator read it aloud; only where the root changes.
    #[serde(default)]
    pub fingerprint: Option<String>,
}

/// Refuse what the partner proposes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefuseAmendmentRequest {
    /// `amendment` of the [`Proposal`] that was read.
    pub amendment: String,
    /// Why; the partner's administrator reads it.
    #[serde(default)]
    pub reason: String,
}
