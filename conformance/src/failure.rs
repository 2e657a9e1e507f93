//! Why the suite itself could not go on; a requirement that is not met is no failure but a result.

use std::io;

/// Why the suite could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The fake peer's certificates could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(String),
    /// The machine gave no randomness.
    #[error("no randomness")]
    Randomness,
    /// The suite's own MLS stacks made nothing of what is right.
    #[error("the suite's own MLS: {0}")]
    Mls(String),
    /// The server under test can't be reached at all.
    #[error("cannot reach {address}: {problem}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why not.
        problem: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The operator's part did not succeed.
    #[error("the operator's part: {0}")]
    Operator(String),
    /// The server's document is not what the protocol says.
    #[error("the server's {document} can't be read: {problem}")]
    Document {
        /// Which.
        document: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
}

impl Failure {
    pub(crate) fn certificate(error: impl std::fmt::Display) -> Self {
        Self::Certificate(error.to_string())
    }

    pub(crate) fn mls(error: impl std::fmt::Display) -> Self {
        Self::Mls(error.to_string())
    }
}

/// The result of a part of the suite's own work.
pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;
