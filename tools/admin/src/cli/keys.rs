//! `keys`.

use clap::{Args, Subcommand, ValueEnum};

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
