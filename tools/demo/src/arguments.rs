//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Fewer messages than this prove too little.
const MESSAGES_MIN: u64 = 2_000;

/// Three organisations on this machine exchange end-to-end encrypted messages by agreement, or don't.
///
/// Exit code 0: everything held (at least 2,000 messages, none lost, none shown twice; at least 4
/// kills; all four refusals). Exit code 1: something did not, and the message says what.
#[derive(Debug, Parser)]
#[command(name = "demo", version)]
pub(crate) struct Arguments {
    /// Print the result as one JSON object, the last line of standard output.
    #[arg(long)]
    pub(crate) json: bool,
    /// Leave the homeservers up after the show, and say how to chat by hand, until Ctrl-C.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Where `homeserver`, `hsctl` and `chat` lie [default: this program's own folder].
    #[arg(long, value_name = "FOLDER")]
    pub(crate) bin_dir: Option<PathBuf>,
    /// How many messages to send at least.
    #[arg(long, value_name = "N", default_value = "3400", value_parser = clap::value_parser!(u64).range(MESSAGES_MIN..=1_000_000))]
    pub(crate) messages: u64,
}
