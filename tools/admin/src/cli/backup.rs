//! `hsctl backup` and `hsctl restored`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct BackupArguments {
    /// Where the backup goes: a file that is not there yet.
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
    /// Seal it for the holder of this backup key, the public half of which `homeserver backup-key` has made.
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    pub(crate) public_key: Option<PathBuf>,
    /// Seal it by the passphrase in the first line of this file (`-`: standard input), 12 to 1,024 bytes. With neither, a
    /// passphrase is asked for.
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RestoredArguments {
    #[command(subcommand)]
    pub(crate) command: Option<RestoredCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RestoredCommand {
    /// Let people and partners in: every device, user and agreement that has ended since the backup has been ended again.
    Confirm {
        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
}
