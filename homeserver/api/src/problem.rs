//! The body of every HTTP error: `application/problem+json` (RFC 9457).

use federation_proto::refusal::Refusal;
use serde::{Deserialize, Serialize};

/// Media type of [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";
/// What every problem's `type` starts with; the rest is a stable code.
pub const PROBLEM_TYPE_PREFIX: &str = "urn:entente:problem:";

/// An error as an HTTP client gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{title}: {detail}")]
pub struct Problem {
    /// Stable: [`PROBLEM_TYPE_PREFIX`] and a code such as `no-agreement` or `sign-in-failed`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A short name of the kind of problem.
    pub title: String,
    /// The HTTP status code.
    pub status: u16,
    /// What happened this time and what to do about it.
    pub detail: String,
}

impl Problem {
    /// The stable code without its prefix.
    #[must_use]
    pub fn code(&self) -> &str {
        self.kind
            .strip_prefix(PROBLEM_TYPE_PREFIX)
            .unwrap_or(&self.kind)
    }

    /// A problem with this code; `title` names the kind, `detail` this case and its remedy.
    pub fn new(
        status: u16,
        code: &str,
        title: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            kind: format!("{PROBLEM_TYPE_PREFIX}{code}"),
            title: title.into(),
            status,
            detail: detail.into(),
        }
    }

    /// A refusal by policy, agreement or protocol.
    #[must_use]
    pub fn from_refusal(status: u16, refusal: &Refusal) -> Self {
        Self::new(
            status,
            refusal.code.as_str(),
            refusal.code.as_str().replace('-', " "),
            refusal.reason.clone(),
        )
    }
}
