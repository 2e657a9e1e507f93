//! Why a command of ours did not succeed, in words for the person who ran it.

use std::io;
use std::path::PathBuf;

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A program could not be started.
    #[error("cannot start `{program}`: {source}")]
    Start {
        /// What was to be started.
        program: String,
        /// Why it could not be.
        source: io::Error,
    },
    /// A program ran and said no.
    #[error("`{command}` ended with {status}")]
    Ended {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The machine lacks something that the command needs.
    #[error("{0}")]
    Missing(String),
    /// Something that must hold did not.
    #[error("{0}")]
    DidNotHold(String),
    /// A program printed something that is not what it documents.
    #[error("{program} printed what was not expected: {what}")]
    Unexpected {
        /// The program.
        program: String,
        /// What was wrong with it.
        what: String,
    },
}

/// The result of a command or of a step of it.
pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

/// Names the file that an I/O error is about.
pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Failure {
    let path = path.into();
    move |source| Failure::File { path, source }
}
