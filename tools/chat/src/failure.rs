//! Why a command did not do what was asked, for people, programs and the shell.

use std::io;
use std::process::ExitCode;

use entente_sdk::Error;

/// Not now: the same command may work later (`EX_TEMPFAIL` of sysexits.h).
const NOT_NOW: u8 = 75;

/// The command line lacks what can't be asked for.
const WRONG_USAGE: u8 = 2;

/// A stable code, a sentence that says what to do, and how the shell hears of it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) sentence: String,
    exit: u8,
}

/// What a command or a part of it comes to.
pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

impl Failure {
    /// It did not work, and won't by itself.
    pub(crate) fn new(code: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            sentence: sentence.into(),
            exit: 1,
        }
    }

    /// It does not work now.
    pub(crate) fn not_now(code: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self {
            exit: NOT_NOW,
            ..Self::new(code, sentence)
        }
    }

    /// There is no terminal to ask at, and no flag that answers.
    pub(crate) fn no_terminal(sentence: impl Into<String>) -> Self {
        Self {
            exit: WRONG_USAGE,
            ..Self::new("no-terminal", sentence)
        }
    }

    /// Whoever read our output stopped reading: no failure worth a word.
    pub(crate) const fn is_silent(&self) -> bool {
        self.exit == 0
    }

    /// What a program gets.
    pub(crate) fn object(&self) -> serde_json::Value {
        serde_json::json!({"type": "error", "code": self.code, "message": self.sentence})
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = error.code().to_owned();
        let advice = match &error {
            Error::Problem(problem) if problem.code() == "banner-needed" => "Run `chat agree`.",
            Error::Problem(problem) if problem.code() == "sign-in-needed" => "Run `chat sign-in`.",
            Error::Problem(problem) if problem.code() == "client-too-old" => {
                "Ask your administrator for a newer chat."
            }
            Error::Unreachable { .. } => "Check the network and try again.",
            Error::Untrusted(_) => {
                "Don't go on: ask your administrator for the root's fingerprint, over another \
                 channel, and compare."
            }
            Error::WrongKey => "Check --passphrase-file, CHAT_PASSPHRASE or what you typed.",
            Error::NotEnrolled(_) => "Run `chat enrol` first, or name another folder with --dir.",
            Error::AlreadyEnrolled(_) => "Name another folder with --dir.",
            Error::InUse(_) => {
                "End the other one (chat follow or chat talk, perhaps), or enrol a second device \
                 in another folder with --dir."
            }
            Error::UnknownRoom(_) => "See `chat rooms`.",
            Error::UnknownMessage(_) => "See `chat history`.",
            Error::SessionLost(_) => "Run the command again: what was taken in goes out by itself.",
            Error::Protocol(_) => {
                "Check that chat is as new as your homeserver, and tell your administrator."
            }
            Error::Certificate(_) | Error::UnknownOrganisation(_) | Error::UnknownRoot(_) => {
                "Ask your administrator whether the agreement with that organisation stands."
            }
            Error::Mls(_) => "Tell your administrator; a new conversation may work.",
            Error::Store(_) => {
                "Check the disk's space and health; if it goes on, enrol a new device."
            }
            Error::File { .. } => "Check the path, and that you may read or write there.",
            Error::Closed => "Run the command again.",
            // Their own words say what to do.
            _ => "",
        };
        let sentence = sentence(&error.to_string(), advice);
        match &error {
            Error::Unreachable { .. } => Self::not_now(code, sentence),
            Error::Problem(problem) if problem.status >= 500 || problem.status == 429 => {
                Self::not_now(code, sentence)
            }
            _ => Self::new(code, sentence),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let mut failure = Self::new("output", format!("can't print: {error}"));
        if error.kind() == io::ErrorKind::BrokenPipe {
            failure.exit = 0;
        }
        failure
    }
}

/// Two sentences in one, with exactly one full stop between them.
fn sentence(what: &str, advice: &str) -> String {
    let what = what.trim_end_matches('.');
    if advice.is_empty() {
        format!("{what}.")
    } else {
        format!("{what}. {advice}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what may work later, and what the command line lacks, has its own exit status, the rest does not; by one of each.
    #[test]
    fn exit_status_tells_later_from_never() {
        let unreachable = Error::Unreachable {
            endpoint: "127.0.0.1:1".to_owned(),
            reason: "refused".to_owned(),
        };
        assert_eq!(Failure::from(unreachable).exit, NOT_NOW);
        assert_eq!(Failure::from(Error::WrongKey).exit, 1);
        assert_eq!(Failure::no_terminal("Add --yes.").exit, WRONG_USAGE);
        let pipe = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(Failure::from(pipe).is_silent());
    }

    /// Goal: a path that is wrong is not blamed on the disk. Method: a file that does not exist.
    #[test]
    fn advice_for_a_file() {
        let failure = Failure::from(Error::File {
            path: "/nonexistent".into(),
            reason: "No such file or directory".to_owned(),
        });
        assert!(failure.sentence.contains("Check the path"));
        assert!(!failure.sentence.contains("disk"), "{}", failure.sentence);
    }
}
