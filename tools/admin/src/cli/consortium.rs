//! `consortium` and its flags.

use std::path::PathBuf;

use clap::Subcommand;
use homeserver_api::ids::ServerName;

use super::peer::{DocumentOutput, StatementArguments};

#[derive(Debug, Subcommand)]
pub(crate) enum ConsortiumCommand {
    /// The consortia whose charters this homeserver has signed.
    List,
    /// Step 1, at each organisation: an introduction, to send to whoever makes the charter.
    Introduce {
        /// Where the others reach this homeserver, HOST:PORT; may be repeated [default: as configured].
        #[arg(long = "endpoint", value_name = "HOST:PORT")]
        endpoints: Vec<String>,
        /// Whom the others' administrators turn to.
        #[arg(long, value_name = "TEXT", default_value = "")]
        contact: String,
        #[command(flatten)]
        output: DocumentOutput,
    },
    /// Step 2, at one of them: make the charter of all, to send to each. This homeserver is a member.
    New {
        /// What the consortium is called; may be left out with --former.
        name: Option<String>,
        /// A member's introduction; may be repeated.
        #[arg(long = "member", value_name = "FILE")]
        members: Vec<PathBuf>,
        /// The charter that this one follows: its members and terms, but for what is given here.
        #[arg(long, value_name = "FILE")]
        former: Option<PathBuf>,
        /// Leave a member of the former charter out; may be repeated.
        #[arg(long = "without", value_name = "SERVER", requires = "former")]
        without: Vec<ServerName>,
        #[command(flatten)]
        statement: Box<StatementArguments>,
        #[command(flatten)]
        output: DocumentOutput,
    },
    /// Say in plain language what a charter states and who has signed it; changes nothing.
    Show {
        /// The charter (`-`: standard input).
        document: PathBuf,
    },
    /// Step 3, at each: sign the charter, and send it back.
    ///
    /// All administrators compare the charter's fingerprint first, best in one call: each must hear it
    /// from every other member.
    Sign {
        /// The charter (`-`: standard input).
        document: PathBuf,
        /// The fingerprint that all have read to each other, as words or digits; without it hsctl shows
        /// the charter's own and asks on the terminal whether it is the same.
        #[arg(long, value_name = "TEXT")]
        fingerprint: Option<String>,
        #[command(flatten)]
        output: DocumentOutput,
    },
    /// Step 4, at one of them: put the signatures of all files into one, to send to each.
    Merge {
        /// The charter as the members have signed it.
        #[arg(required = true)]
        documents: Vec<PathBuf>,
        #[command(flatten)]
        output: DocumentOutput,
    },
    /// Step 5, at each: make a peer of every member who has signed, and let the agreements that a former charter has
    /// made go on by this one. May be repeated as signatures come.
    Join {
        /// The charter with the signatures (`-`: standard input).
        document: PathBuf,
    },
}
