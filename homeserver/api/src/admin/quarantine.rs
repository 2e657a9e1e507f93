//! Documents that strangers have dropped.

use serde::{Deserialize, Serialize};

use super::DocumentSummary;

/// What waits in the quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// Oldest first.
    pub documents: Vec<Quarantined>,
}

/// A document that somebody has dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The SHA-256 of its text.
    pub document: String,
    /// `offer` or `acceptance`.
    pub kind: String,
    /// When it came, milliseconds since the Unix epoch.
    pub received_ms: u64,
    /// The network from which it came.
    pub network: String,
}

/// One of them in plain language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantinedDetail {
    /// What the list shows.
    #[serde(flatten)]
    pub entry: Quarantined,
    /// What it states. That it is from whom it says, only the fingerprint shows.
    pub summary: DocumentSummary,
}
