//! `policy` and its flags.

use std::path::PathBuf;

use clap::Subcommand;
use homeserver_api::ids::{Address, Handle};

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// The segments and the rules between them; `--json` as a file for `policy apply`.
    Show,
    /// Who would gain and who would lose whom by a file; changes nothing.
    Diff {
        /// Segments and rules, as `policy show --json` prints them (`-`: standard input).
        file: PathBuf,
    },
    /// Put a file in the place of the segments and rules that there are, after showing what that changes.
    Apply {
        /// Segments and rules, as `policy show --json` prints them (`-`: standard input).
        file: PathBuf,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
    /// What a person here may do towards somebody, and which rules say so; a partner is asked for its half, where the
    /// agreement grants look-ups.
    Explain {
        /// The person's handle: `alice` for alice@a.example.
        from: Handle,
        /// Towards whom, here or at a partner's.
        to: Address,
        /// How many seconds to wait for the partner.
        #[arg(long, value_name = "SECONDS", default_value = "10")]
        wait: u32,
    },
}
