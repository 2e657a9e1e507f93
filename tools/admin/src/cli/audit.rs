//! `audit`.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use homeserver_api::ids::{Address, ServerName};

use crate::values::parse_seconds;

// Without a command the log is read. (No documentation: it would be shown instead of the command's.)
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct AuditArguments {
    #[command(subcommand)]
    pub(crate) command: Option<AuditCommand>,
    /// Only entries after this number.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) after: Option<u64>,
    /// How many at most; absent: all.
    #[arg(long, value_name = "N", conflicts_with = "follow")]
    pub(crate) limit: Option<NonZeroU32>,
    /// Only what has happened within so long, such as 2d.
    #[arg(long, value_name = "DURATION", value_parser = parse_seconds)]
    pub(crate) since: Option<u32>,
    /// Only what has happened before that, such as 1d.
    #[arg(long, value_name = "DURATION", value_parser = parse_seconds)]
    pub(crate) until: Option<u32>,
    /// Only this action, or all that begin with it up to a dot: `user`, `user.created`.
    #[arg(long, value_name = "ACTION")]
    pub(crate) action: Option<String>,
    /// Only what this one did, as the log names him: `admin:root`, `peer:b.example`.
    #[arg(long, value_name = "ACTOR")]
    pub(crate) actor: Option<String>,
    /// Only what is about this: a person's address, a server, a room.
    #[arg(long, value_name = "SUBJECT")]
    pub(crate) subject: Option<String>,
    /// Go on with new entries as they are written, until Ctrl-C.
    #[arg(long)]
    pub(crate) follow: bool,
}

/// The form of an exported log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ExportForm {
    /// As the homeserver keeps it, with its signed head.
    Log,
    /// Events of the Open Cybersecurity Schema Framework (OCSF) 1.3.0.
    Ocsf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// How long the log is and the root over it, signed; keep it (`--json`) to hold a later export to it.
    Head,
    /// One entry, and what shows that it is in the log; checked here before it is printed.
    Proof {
        /// The entry's number.
        number: u64,
        /// In the log as it was with so many entries; absent: as it is.
        #[arg(long, value_name = "ENTRIES")]
        size: Option<u64>,
    },
    /// What shows that the log has only grown since it had so many entries.
    Growth {
        /// How many entries it had.
        from: u64,
    },
    /// The whole log with its signed head: JSON, an entry a line.
    Export {
        /// Where to write it, a file that is not there yet; absent: standard output.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// In which form; only the log's own can be verified.
        #[arg(long, value_enum, default_value_t = ExportForm::Log)]
        format: ExportForm,
    },
    /// Hold an exported log to what was signed of it; asks no homeserver.
    ///
    /// Give the organisation's root certificate with --root FILE. It fails unless every entry is the one that the
    /// organisation has signed, in its place, and none is missing or more; with --earlier-head also unless the log
    /// has grown from what was signed then.
    Verify(VerifyArguments),
    /// What each partner has seen of the log, and what is known of theirs.
    Witnesses {
        /// Only the newest head of this partner's own log; its auditors hold its export to it (`--json`).
        #[arg(long, value_name = "SERVER", conflicts_with = "by")]
        of: Option<ServerName>,
        /// Only what this partner has seen of our log, with its signature (`--json`).
        #[arg(long, value_name = "SERVER")]
        by: Option<ServerName>,
    },
    /// End the warning that an audit log is not what was seen of it, once you have found out why.
    Settle {
        /// The partner.
        server: ServerName,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
    /// Forget for whom a pseudonym stands, for good: the entries stay, and nobody can tell any more whom they are about.
    ///
    /// Of your own people only those whose accounts are deleted.
    Erase {
        /// The address.
        address: Address,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// The exported log; `-`: standard input.
    pub(crate) file: PathBuf,
    /// A head that you got by another way: the log has to be the one that it is of, instead of the head in the file.
    #[arg(long, value_name = "FILE")]
    pub(crate) head: Option<PathBuf>,
    /// A head, or an export, of before: the log has to have grown from it. May be repeated.
    #[arg(long, value_name = "FILE")]
    pub(crate) earlier_head: Vec<PathBuf>,
    /// What a partner has seen (`audit witnesses --by`): the log has to have been that, or to have grown from it. May be
    /// repeated; needs the partner's root with --witness-root.
    #[arg(long, value_name = "FILE", requires = "witness_root")]
    pub(crate) sighting: Vec<PathBuf>,
    /// The root certificate of a partner who has seen the log. May be repeated.
    #[arg(long, value_name = "FILE")]
    pub(crate) witness_root: Vec<PathBuf>,
    /// The root certificate of then, when the organisation has changed its root since an earlier head.
    #[arg(long, value_name = "FILE")]
    pub(crate) earlier_root: Option<PathBuf>,
}
