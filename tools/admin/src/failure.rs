//! What can go wrong, in a sentence, with the exit code that a script acts on.

use std::io::{self, Write};
use std::process::ExitCode;

use homeserver_api::problem::Problem;

use crate::output::Format;

/// The exit codes, as `--help` tells them.
pub(crate) const EXIT_CODES: &str = "Exit codes:\n  \
     0   done\n  \
     1   failed; the message says what happened and what to do\n  \
     2   the command line is wrong\n  \
     75  not now: the homeserver does not answer or asks to wait; the same command may work later\n  \
     78  a file or setting that this command reads is missing, can't be read, or is wrong";

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The homeserver said no.
    #[error("{}", sentence(.0))]
    Refused(Problem),
    /// The homeserver could not be reached, or stopped answering.
    #[error("no answer from {endpoint}: {reason}")]
    Unreachable {
        /// Where it was looked for.
        endpoint: String,
        /// What happened and what to do.
        reason: String,
    },
    /// The command line asks for something that can't be.
    #[error("{0}")]
    Usage(String),
    /// A file or setting that the command reads is wrong.
    #[error("{0}")]
    Configuration(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// A problem as people read it: what happened, what to do, and the stable code to look up.
fn sentence(problem: &Problem) -> String {
    let said = if problem.detail.is_empty() {
        &problem.title
    } else {
        &problem.detail
    };
    // The password was wrong just now: to sign in is what failed.
    if problem.status == 401 && problem.code() != "sign-in-failed" {
        let said = said.trim_end_matches('.');
        format!("{said}; sign in with `hsctl login` [{}]", problem.code())
    } else {
        format!("{said} [{}]", problem.code())
    }
}

impl Failure {
    fn number(&self) -> u8 {
        match self {
            Self::Refused(problem) => match problem.status {
                408 | 429 | 502 | 503 | 504 => 75,
                _ => 1,
            },
            Self::Unreachable { .. } => 75,
            Self::Usage(_) => 2,
            Self::Configuration(_) => 78,
            Self::Other(_) => 1,
        }
    }

    /// The exit code: see [`EXIT_CODES`].
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.number())
    }

    /// Tells it on standard error: a sentence, or the problem as JSON.
    pub(crate) fn print(&self, format: Format) {
        let text = match format {
            Format::Human => format!("error: {self}"),
            Format::Json => serde_json::to_string(&self.as_problem())
                .unwrap_or_else(|error| format!("error: {self} ({error})")),
        };
        // Standard error may be closed; the exit code still tells.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    fn as_problem(&self) -> Problem {
        let (code, title) = match self {
            Self::Refused(problem) => return problem.clone(),
            Self::Unreachable { .. } => ("unreachable", "the homeserver does not answer"),
            Self::Usage(_) => ("usage", "the command line is wrong"),
            Self::Configuration(_) => ("configuration", "a file or setting is wrong"),
            Self::Other(_) => ("failed", "the command failed"),
        };
        Problem::new(0, code, title, self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: scripts can tell "wait" from "no"; by a table of answers and their exit codes.
    #[test]
    fn exit_codes() {
        let refused = |status| Failure::Refused(Problem::new(status, "x", "title", "detail"));
        for (failure, code) in [
            (refused(404), 1),
            (refused(409), 1),
            (refused(429), 75),
            (refused(503), 75),
            (Failure::Usage(String::new()), 2),
            (Failure::Configuration(String::new()), 78),
            (Failure::Other(String::new()), 1),
        ] {
            assert_eq!(failure.number(), code, "{failure:?}");
        }
    }

    /// Goal: a problem reads as a sentence with its code, and a missing sign-in names the remedy.
    #[test]
    fn sentences() {
        let problem = Problem::new(
            404,
            "unknown-user",
            "unknown user",
            "There is no zoe@a.example.",
        );
        assert_eq!(
            Failure::Refused(problem).to_string(),
            "There is no zoe@a.example. [unknown-user]"
        );
        let problem = Problem::new(401, "token-unknown", "who are you?", "The token has ended.");
        assert_eq!(
            Failure::Refused(problem).to_string(),
            "The token has ended; sign in with `hsctl login` [token-unknown]"
        );
    }
}
