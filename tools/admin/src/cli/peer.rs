//! `peer` and its flags.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use homeserver_api::admin::{AmendRequest, Grant, Operation, Terms};
use homeserver_api::ids::ServerName;

use crate::values::{parse_bytes, parse_seconds};

#[derive(Debug, Subcommand)]
pub(crate) enum PeerCommand {
    /// All peers.
    List,
    /// One peer: where its agreement stands and what it allows.
    Show {
        /// The peer.
        server: ServerName,
    },
    /// Step 1: make an offer to another organisation, to send to its administrator.
    Offer {
        /// The other organisation's server name.
        server: ServerName,
        /// Drop the offer there too: https://HOST:PORT of the other homeserver's listener for strangers.
        #[arg(long, value_name = "URL", requires = "deliver_root")]
        deliver: Option<String>,
        /// SHA-256 of the other organisation's root certificate, as its administrator has told it.
        #[arg(long, value_name = "HEX", requires = "deliver")]
        deliver_root: Option<String>,
        #[command(flatten)]
        statement: StatementArguments,
        #[command(flatten)]
        output: DocumentOutput,
    },
    /// Say in plain language what a document states; changes nothing.
    Inspect {
        /// The document (`-`: standard input).
        document: PathBuf,
    },
    /// Step 2, at the other organisation: accept an offer; makes the acceptance to send back.
    Accept {
        /// The offer (`-`: standard input).
        document: PathBuf,
        /// Drop the acceptance there too: https://HOST:PORT of the other homeserver's listener for
        /// strangers.
        #[arg(long, value_name = "URL")]
        deliver: Option<String>,
        #[command(flatten)]
        confirm: ConfirmArguments,
        #[command(flatten)]
        statement: StatementArguments,
        #[command(flatten)]
        output: DocumentOutput,
    },
    /// Step 3, at the first organisation: countersign the acceptance; the agreement is made.
    ///
    /// The countersignature is delivered to the other homeserver online. It is printed as well, for
    /// `peer take` there in case it can't be.
    Countersign {
        /// The acceptance (`-`: standard input).
        document: PathBuf,
        #[command(flatten)]
        confirm: ConfirmArguments,
        #[command(flatten)]
        output: DocumentOutput,
    },
    /// Take a document that the partner could not deliver online: a countersignature, an amendment, a
    /// consent or a declaration.
    #[command(name = "take", visible_alias = "activate")]
    Activate {
        /// The document (`-`: standard input).
        document: PathBuf,
    },
    /// Change what this side states in an agreement that stands.
    ///
    /// What is not named stays as it is; the keys of today are stated anew. What only tightens is in force
    /// at once, anything else when the partner consents. The partner is told online.
    Amend {
        /// The peer.
        server: ServerName,
        #[command(flatten)]
        change: ChangeArguments,
        /// Only show what would change.
        #[arg(long)]
        dry_run: bool,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        output: DocumentOutput,
    },
    /// Consent to what the partner proposes, after reading what it changes.
    Consent {
        /// The peer.
        server: ServerName,
        /// Consent to this proposal only: its SHA-256, as `peer show` says it.
        #[arg(long, value_name = "SHA-256")]
        amendment: Option<String>,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        confirm: ConfirmArguments,
        #[command(flatten)]
        output: DocumentOutput,
    },
    /// Refuse what the partner proposes.
    Refuse {
        /// The peer.
        server: ServerName,
        /// Why; the partner's administrator reads it.
        #[arg(long, default_value = "")]
        reason: String,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
    /// What strangers have dropped here.
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// Pause an agreement: new messages are refused, what waits goes on waiting.
    Suspend {
        /// The peer.
        server: ServerName,
        /// Why; goes into the audit log, and the partner's administrator reads it.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// End a pause that this side made.
    Resume {
        /// The peer.
        server: ServerName,
    },
    /// End an agreement for good: connections are cut, and what waits returns to its senders.
    Revoke {
        /// The peer.
        server: ServerName,
        /// Why; goes into the audit log, and the partner's administrator reads it.
        #[arg(long, default_value = "")]
        reason: String,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// All documents, oldest first.
    List,
    /// One document in plain language; changes nothing.
    Show {
        /// The document, as `list` names it.
        document: String,
    },
    /// Take a document out, to go on with it as with one from the mail.
    Take {
        /// The document, as `list` names it.
        document: String,
        #[command(flatten)]
        output: DocumentOutput,
    },
    /// Throw a document away.
    Drop {
        /// The document, as `list` names it.
        document: String,
    },
}

/// Where a document goes.
#[derive(Debug, Args)]
pub(crate) struct DocumentOutput {
    /// Write the document to this file, `-` for standard output. It must be possible to write it, else nothing is
    /// signed.
    #[arg(short = 'o', long = "out", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// How it is known that the document is the partner's.
#[derive(Debug, Args)]
pub(crate) struct ConfirmArguments {
    /// The fingerprint that the partner's administrator read aloud, its 24 words or its digits; without it hsctl
    /// shows the document's own and asks on the terminal whether it is the same.
    #[arg(long, value_name = "WORDS")]
    pub(crate) fingerprint: Option<String>,
}

/// The bounds that a statement may name. What a flag does not name stays as it is.
#[derive(Debug, Args)]
struct TermsFlags {
    /// What our people may do towards theirs, all of it: `message`, `invite`, `directory`, `files`, `none`,
    /// each perhaps for some of our user types only: `message:officer,guest`. May be repeated.
    #[arg(long, value_name = "WHAT[:TYPES]", value_parser = GrantFlag::from_str)]
    outbound: Vec<GrantFlag>,
    /// What their people may do towards ours, all of it; written like --outbound, with our user types.
    #[arg(long = "grant", visible_alias = "inbound", value_name = "WHAT[:TYPES]", value_parser = GrantFlag::from_str)]
    inbound: Vec<GrantFlag>,
    /// Shortest time-to-live of a message, such as 1m.
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    ttl_min: Option<u32>,
    /// Longest time-to-live of a message, such as 30d.
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    ttl_max: Option<u32>,
    /// Most that the partner may have waiting here, such as 1GiB.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    waiting_max: Option<u64>,
    /// Largest file, such as 100MiB.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    file_max: Option<u64>,
    /// Highest label of a message, 0 to 255.
    #[arg(long, value_name = "LABEL")]
    label_max: Option<u8>,
}

/// What changes of this side's statement.
#[derive(Debug, Args)]
#[command(next_help_heading = "What changes (nothing: take back what was proposed)")]
pub(crate) struct ChangeArguments {
    #[command(flatten)]
    terms: TermsFlags,
    /// Days from now until the agreement expires.
    #[arg(long, value_name = "DAYS")]
    valid_days: Option<u32>,
    /// Where the partner reaches this homeserver, HOST:PORT; may be repeated.
    #[arg(long = "endpoint", value_name = "HOST:PORT")]
    endpoints: Vec<String>,
    /// Whom the partner's administrator turns to.
    #[arg(long, value_name = "TEXT")]
    contact: Option<String>,
}

impl ChangeArguments {
    /// What to ask for.
    pub(crate) fn request(&self) -> AmendRequest {
        let named = |flags: &[GrantFlag]| (!flags.is_empty()).then(|| grants(flags));
        AmendRequest {
            outbound: named(&self.terms.outbound),
            inbound: named(&self.terms.inbound),
            ttl_min_seconds: self.terms.ttl_min,
            ttl_max_seconds: self.terms.ttl_max,
            waiting_bytes_max: self.terms.waiting_max,
            file_bytes_max: self.terms.file_max,
            label_max: self.terms.label_max,
            valid_days: self.valid_days,
            endpoints: (!self.endpoints.is_empty()).then(|| self.endpoints.clone()),
            contact: self.contact.clone(),
            dry_run: false,
            follows: None,
        }
    }
}

/// What this side states. Both sides' statements together decide: only what both allow is allowed.
#[derive(Debug, Args)]
#[command(next_help_heading = "What this side states (default: everything, for a year)")]
pub(crate) struct StatementArguments {
    /// Start from a JSON file (`-`: standard input) instead of from everything.
    #[arg(long, value_name = "FILE")]
    pub(crate) terms: Option<PathBuf>,
    #[command(flatten)]
    flags: TermsFlags,
    /// Days until the agreement expires.
    #[arg(long, value_name = "DAYS")]
    valid_days: Option<u32>,
    /// Where the partner reaches this homeserver, HOST:PORT; may be repeated [default: as configured].
    #[arg(long = "endpoint", value_name = "HOST:PORT")]
    pub(crate) endpoints: Vec<String>,
    /// Whom the partner's administrator turns to.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) contact: String,
}

impl StatementArguments {
    /// The terms that these flags make of `former`.
    pub(crate) fn apply(&self, mut terms: Terms) -> Terms {
        if !self.flags.outbound.is_empty() {
            terms.outbound = grants(&self.flags.outbound);
        }
        if !self.flags.inbound.is_empty() {
            terms.inbound = grants(&self.flags.inbound);
        }
        let ttl = &mut terms.ttl;
        ttl.min_seconds = self.flags.ttl_min.unwrap_or(ttl.min_seconds);
        ttl.max_seconds = self.flags.ttl_max.unwrap_or(ttl.max_seconds);
        // Not used on a link, but kept in order for whoever checks that bounds are.
        ttl.default_seconds = ttl
            .default_seconds
            .min(ttl.max_seconds)
            .max(ttl.min_seconds);
        terms.waiting_bytes_max = self.flags.waiting_max.unwrap_or(terms.waiting_bytes_max);
        terms.file_bytes_max = self.flags.file_max.unwrap_or(terms.file_bytes_max);
        terms.label_max = self.flags.label_max.unwrap_or(terms.label_max);
        terms.valid_days = self.valid_days.unwrap_or(terms.valid_days);
        terms
    }
}

/// One `--outbound` or `--grant`; `None` stands for `none`.
#[derive(Debug, Clone)]
struct GrantFlag(Option<Grant>);

impl FromStr for GrantFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (operation, user_types) = match text.split_once(':') {
            Some((operation, user_types)) => (operation, user_types.split(',').collect()),
            None => (text, Vec::new()),
        };
        if user_types.iter().any(|name| name.is_empty()) {
            return Err(format!("`{text}` names a user type without a name"));
        }
        let operation = match operation {
            "none" if user_types.is_empty() => return Ok(Self(None)),
            "message" => Operation::Message,
            "invite" => Operation::Invite,
            "directory" => Operation::Directory,
            "files" => Operation::Files,
            _ => {
                return Err(format!(
                    "`{text}` is nothing to grant: write message, invite, directory, files or none"
                ));
            }
        };
        Ok(Self(Some(Grant {
            operation,
            user_types: user_types.into_iter().map(str::to_owned).collect(),
        })))
    }
}

fn grants(flags: &[GrantFlag]) -> Vec<Grant> {
    flags.iter().filter_map(|flag| flag.0.clone()).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Arguments, Command};

    fn offer(flags: &str) -> StatementArguments {
        let line = format!("hsctl peer offer b.example {flags}");
        let arguments = Arguments::try_parse_from(line.split_whitespace()).expect("parses");
        match arguments.command {
            Command::Peer(PeerCommand::Offer { statement, .. }) => statement,
            other => panic!("{other:?}"),
        }
    }

    /// Goal: terms flags state what they name, `none` grants nothing, and the rest stays.
    #[test]
    fn statements() {
        let terms = offer("--outbound message:officer,guest --outbound invite --grant none --ttl-min 1m --ttl-max 1h")
            .apply(Terms::default());
        assert_eq!(
            terms.outbound,
            [
                Grant {
                    operation: Operation::Message,
                    user_types: vec!["officer".to_owned(), "guest".to_owned()],
                },
                Grant {
                    operation: Operation::Invite,
                    user_types: Vec::new(),
                },
            ]
        );
        assert_eq!(terms.inbound, []);
        assert_eq!((terms.ttl.min_seconds, terms.ttl.max_seconds), (60, 3600));
        assert!(terms.ttl.in_order());
        assert_eq!(offer("").apply(Terms::default()), Terms::default());
        assert!("message:".parse::<GrantFlag>().is_err());
        assert!("none:guest".parse::<GrantFlag>().is_err());
    }
}
