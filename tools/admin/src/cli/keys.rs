//! `keys`.

use clap::{Args, Subcommand, ValueEnum};
use homeserver_api::ids::ServerName;

/// A kind of key that there are always two of: the one in use, and the one that takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyKind {
    /// Signs what goes to partners.
    Envelope,
    /// Proves to partners and clients who this homeserver is.
    Tls,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Every key that partners may meet, and until when.
    Show,
    /// Let the next key take over now; nothing is lost, and nobody has to do anything. The homeserver does it
    /// by itself in good time.
    Rotate {
        /// Which.
        kind: KeyKind,
    },
    /// Tell partners to take nothing more that is made with a key, because somebody else may have it.
    ///
    /// Where it is in use, the next one takes over first. What partners accepted before stays.
    Revoke(RevokeKeyArguments),
    /// Go over to another root that `homeserver root` has prepared.
    #[command(subcommand)]
    Root(RootCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum RootCommand {
    /// The root in use, the one beside it, and which partner goes by which.
    Show,
    /// Bring partners an amendment that announces the new root. Each consents for itself, once its administrator has
    /// compared the fingerprint; mail goes on before, between and after.
    Announce {
        /// Only to this partner; may be repeated. Absent: to all.
        #[arg(long = "to", value_name = "SERVER")]
        partners: Vec<ServerName>,
    },
    /// Let the new root take over, once every partner has consented.
    Switch {
        /// The new root's fingerprint, as `homeserver root sign` printed it: digits or words.
        fingerprint: String,
        /// Don't wait for this partner; may be repeated. Its people can't check new device certificates of yours until
        /// it consents, and after 30 days it is unreachable until then.
        #[arg(long, value_name = "SERVER")]
        without: Vec<ServerName>,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
    /// Give the new root up, as long as no partner has consented to it.
    Cancel,
    /// Forget the former root before its time: partners that have not consented, and devices that have not been here
    /// since, are shut out.
    Forget {
        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RevokeKeyArguments {
    /// Which.
    pub(crate) kind: KeyKind,
    /// The key, as `keys show` prints it; for envelope keys also `all`.
    pub(crate) key: String,
    /// How long ago the key may have been stolen, such as 90m or 2d; absent: since now. Envelope keys only.
    #[arg(long, value_name = "DURATION", value_parser = crate::values::parse_seconds)]
    pub(crate) since: Option<u32>,
    /// Don't ask.
    #[arg(long)]
    pub(crate) yes: bool,
}
