//! `evidence`.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Subcommand;
use homeserver_api::ids::EvidenceId;

#[derive(Debug, Subcommand)]
pub(crate) enum EvidenceCommand {
    /// Who was cut off, newest first: deleted and suspended users, removed devices.
    List {
        /// Those alone for which something is still waited for.
        #[arg(long)]
        waiting: bool,
        /// How many at most.
        #[arg(long, value_name = "N", default_value = "100")]
        limit: NonZeroU32,
    },
    /// One cut, with every room that the devices were in and what has happened there.
    Show {
        /// The evidence's id.
        evidence: EvidenceId,
    },
    /// The signed document, for whoever has to be shown that somebody was cut off.
    Export {
        /// The evidence's id.
        evidence: EvidenceId,
        /// Where to write it; absent or `-`: standard output.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Hold a document against the organisation's root certificate; asks no homeserver.
    ///
    /// Give the root with --root FILE. It fails unless the organisation has signed every page, none is missing, and each word
    /// of a partner's homeserver in it is signed by that one.
    Verify {
        /// The document.
        file: PathBuf,
        /// Fail also while something is still waited for.
        #[arg(long)]
        complete: bool,
    },
}
