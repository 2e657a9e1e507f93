//! The command line: every command, its flags and its help.

mod audit;
mod backup;
mod barriers;
mod consortium;
mod evidence;
mod keys;
mod peer;
mod policy;
mod reports;
mod user_type_rules;

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use homeserver_api::ids::{DeviceId, Handle, ServerName};

pub(crate) use self::audit::{AuditArguments, AuditCommand, ExportForm, VerifyArguments};
pub(crate) use self::backup::{BackupArguments, RestoredArguments, RestoredCommand};
pub(crate) use self::barriers::PolicyCommand;
pub(crate) use self::consortium::ConsortiumCommand;
pub(crate) use self::evidence::EvidenceCommand;
pub(crate) use self::keys::{KeyKind, KeysCommand, RevokeKeyArguments, RootCommand};
pub(crate) use self::peer::{
    ConfirmArguments, DocumentOutput, PeerCommand, QuarantineCommand, StatementArguments,
};
pub(crate) use self::policy::{UserTypeCommand, UserTypeSetArguments};
pub(crate) use self::reports::ReportsCommand;
use crate::failure::EXIT_CODES;
use crate::output::Format;

/// Administer an Entente homeserver.
///
/// Without --server the homeserver on this machine is administered through its local socket, which
/// needs no sign-in: whoever may open the socket is the operator. With --server the same commands
/// go over TLS; sign in once with `hsctl login`.
#[derive(Debug, Parser)]
#[command(name = "hsctl", version, after_help = EXIT_CODES, after_long_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,
    /// How answers are printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Human, value_name = "FORMAT")]
    output: Format,
    /// The same as --output json.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// How answers are printed.
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }
}

/// Which homeserver, and how it is recognised.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArguments {
    /// The homeserver's local admin socket.
    #[arg(
        long,
        global = true,
        env = "ENTENTE_ADMIN_SOCKET",
        value_name = "PATH",
        default_value = "/run/entente/admin.sock"
    )]
    pub(crate) socket: PathBuf,
    /// Administer over TLS instead: https://HOST:PORT of the client listener.
    #[arg(
        id = "remote",
        long = "server",
        global = true,
        env = "ENTENTE_ADMIN_SERVER",
        value_name = "URL"
    )]
    pub(crate) server: Option<String>,
    /// The homeserver's server name; absent: as at the last sign-in, else the host of --server.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) server_name: Option<ServerName>,
    /// SHA-256 of the organisation's root certificate, the only one that is trusted; absent: as at
    /// the last sign-in.
    #[arg(long, global = true, value_name = "HEX", conflicts_with = "root")]
    pub(crate) root_sha256: Option<String>,
    /// The organisation's root certificate (PEM or DER) instead of its SHA-256.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) root: Option<PathBuf>,
    /// Where `hsctl login` keeps its session [default: hsctl.json in the user's configuration folder].
    #[arg(
        long,
        global = true,
        env = "ENTENTE_ADMIN_SESSION",
        value_name = "FILE"
    )]
    pub(crate) session: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sign in to a homeserver over TLS; needs --server, and --root-sha256 or --root the first time.
    Login(LoginArguments),
    /// End the session with --server, there and here.
    Logout(LogoutArguments),
    /// Change your own password, as the administrator who is signed in to --server; your other sessions end.
    Password(PasswordArguments),
    /// The homeserver at a glance.
    Status,
    /// Accounts.
    #[command(subcommand)]
    User(UserCommand),
    /// Devices of accounts.
    #[command(subcommand)]
    Device(DeviceCommand),
    /// User types: what their accounts may do.
    #[command(subcommand)]
    UserType(UserTypeCommand),
    /// Barriers between people of this organisation, and which rule says what.
    ///
    /// Segments are sets of user types and people; rules between them say who may find, invite and message whom. A denying
    /// rule beats every allowing one.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Other organisations, and the agreements with them.
    ///
    /// Two administrators make an agreement in three steps: one runs `peer offer` and sends the
    /// file; the other runs `peer accept` on it and sends the acceptance back; the first runs
    /// `peer countersign` on that. Both times the administrators compare a fingerprint over the
    /// telephone.
    #[command(subcommand)]
    Peer(PeerCommand),
    /// Many organisations at once: one charter that all sign instead of an agreement for each two.
    ///
    /// Each runs `consortium introduce`; one makes the charter of all with `consortium new`; each signs
    /// it with `consortium sign` after all have compared its fingerprint; one puts the signatures into one
    /// file with `consortium merge`; and each runs `consortium join` on that.
    #[command(subcommand)]
    Consortium(ConsortiumCommand),
    /// The organisation's keys: shown, changed by hand, revoked.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// What waits for other organisations.
    #[command(subcommand)]
    Outbox(OutboxCommand),
    /// What people report to you about others: spam, harassment and the like.
    #[command(subcommand)]
    Reports(ReportsCommand),
    /// Who was cut off, with proof for every room: deleted and suspended users, removed devices.
    #[command(subcommand)]
    Evidence(EvidenceCommand),
    /// Make an encrypted backup of all that the homeserver keeps, while it serves; `homeserver restore` makes a data folder
    /// of it.
    ///
    /// On the homeserver's own machine alone: the organisation's keys are in it.
    Backup(BackupArguments),
    /// After a restore: what came back with the backup, to compare with what has ended since; nobody is served before it is
    /// confirmed.
    Restored(RestoredArguments),
    /// What was given up, newest first; the senders were told.
    DeadLetters {
        /// How many at most.
        #[arg(long, value_name = "N", default_value = "100")]
        limit: NonZeroU32,
    },
    /// The audit log, oldest first: read, exported, and held to what was signed of it.
    Audit(AuditArguments),
    /// Print completions for a shell; for bash: `hsctl completions bash > /etc/bash_completion.d/hsctl`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct LoginArguments {
    /// The administrator's name.
    #[arg(long, value_name = "NAME", default_value = "admin")]
    pub(crate) name: Handle,
    /// Read the password from this file (`-`: standard input) instead of asking for it.
    #[arg(long, value_name = "FILE", env = "ENTENTE_ADMIN_PASSWORD_FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct LogoutArguments {
    /// Only forget the session on this machine; at the homeserver it lasts to its end.
    #[arg(long)]
    pub(crate) here_only: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PasswordArguments {
    /// Read the present password from this file (`-`: standard input) instead of asking for it.
    #[arg(long, value_name = "FILE", env = "ENTENTE_ADMIN_PASSWORD_FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Read the new password from this file instead of asking for it twice.
    #[arg(long, value_name = "FILE")]
    pub(crate) new_password_file: Option<PathBuf>,
}

/// A new password: given, or made by the homeserver.
#[derive(Debug, Args)]
pub(crate) struct NewPasswordArguments {
    /// Read the password from this file (`-`: standard input); without it the homeserver makes one.
    #[arg(long, value_name = "FILE", conflicts_with = "ask_password")]
    pub(crate) password_file: Option<PathBuf>,
    /// Ask for the password on the terminal.
    #[arg(long)]
    pub(crate) ask_password: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// All accounts.
    List,
    /// One account with its devices.
    Show {
        /// The account's handle: `alice` for alice@a.example.
        handle: Handle,
    },
    /// A new account; prints its password once.
    Create {
        /// Its handle; never one that somebody else had.
        handle: Handle,
        /// Its user type.
        #[arg(long = "type", value_name = "NAME", default_value = "standard")]
        user_type: String,
        #[command(flatten)]
        password: NewPasswordArguments,
    },
    /// Give an account another user type.
    Change {
        /// The account's handle.
        handle: Handle,
        /// Its new user type.
        #[arg(long = "type", value_name = "NAME")]
        user_type: String,
    },
    /// Suspend an account: its sessions are cut, and it sends and receives nothing.
    Suspend {
        /// The account's handle.
        handle: Handle,
    },
    /// Let a suspended account go on.
    Resume {
        /// The account's handle.
        handle: Handle,
    },
    /// Delete an account, its devices and its waiting messages; nobody else ever gets its handle.
    Delete {
        /// The account's handle.
        handle: Handle,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
    /// Give an account a new password; prints it once when the homeserver made it.
    ResetPassword {
        /// The account's handle.
        handle: Handle,
        #[command(flatten)]
        password: NewPasswordArguments,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Let whoever knows an account's password enrol a device without another one's approval, once within 24 hours.
    ///
    /// For somebody who has lost every device, where the user type does not permit it by the password alone. People who
    /// wrote with the account are asked to confirm the new device.
    AllowReset {
        /// The account's handle.
        handle: Handle,
    },
    /// Remove a device: its session is cut and its waiting messages are deleted.
    Remove {
        /// The account's handle.
        handle: Handle,
        /// The device's id, as `user show` prints it.
        device: DeviceId,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum OutboxCommand {
    /// What waits for each peer, since when, and what went wrong last.
    List,
    /// Try a peer at once.
    Retry {
        /// The peer.
        server: ServerName,
    },
    /// The last receipts of a peer, and for it; `--json` with the proof of each.
    Receipts {
        /// The peer.
        server: ServerName,
    },
    /// Number anew what waits for a peer: after a restored copy, when lanes are held because the peer is
    /// ahead. What had arrived unanswered is sent again.
    Renumber {
        /// The peer.
        server: ServerName,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    /// Goal: the definition of the command line contradicts itself nowhere.
    #[test]
    fn definition() {
        Arguments::command().debug_assert();
    }

    /// Goal: every documented command line parses; by a list of one each and more.
    #[test]
    fn good_lines() {
        for line in [
            "hsctl status",
            "hsctl --socket /tmp/s status --json",
            "hsctl user list --output json",
            "hsctl user show alice",
            "hsctl user create alice --type officer --password-file -",
            "hsctl user change alice --type guest",
            "hsctl user suspend alice",
            "hsctl user resume alice",
            "hsctl user delete alice --yes",
            "hsctl user reset-password alice --ask-password",
            "hsctl device remove alice 00112233445566778899aabbccddeeff --yes",
            "hsctl user-type list",
            "hsctl user-type show standard",
            "hsctl user-type set guest --ttl-min 1m --ttl-max 30d --ttl-default 7d --burn-max 1h --external none \
             --files no --file-max 10M --devices-max 2",
            "hsctl user-type set guest --directory listed",
            "hsctl user-type set guest --from-file policy.json",
            "hsctl user-type delete guest",
            "hsctl policy show --json",
            "hsctl policy diff segments.json",
            "hsctl policy apply segments.json --yes",
            "hsctl policy explain alice bob@b.example --json",
            "hsctl policy explain alice bob@b.example --wait 0",
            "hsctl peer list",
            "hsctl peer show b.example",
            "hsctl peer offer b.example -o offer.txt --ttl-min 1m --ttl-max 7d --outbound message:officer,guest \
             --grant message --grant files --valid-days 30 --endpoint 10.0.0.1:8448 --contact ops@a.example",
            "hsctl peer inspect offer.txt",
            "hsctl peer accept offer.txt -o acceptance.txt",
            "hsctl peer countersign acceptance.txt --fingerprint 00ff",
            "hsctl peer activate countersignature.txt",
            "hsctl peer suspend b.example --reason drill",
            "hsctl peer resume b.example",
            "hsctl peer revoke b.example --reason over --yes",
            "hsctl consortium list",
            "hsctl consortium introduce --endpoint 10.0.0.1:8448 --contact ops@a.example -o a.txt",
            "hsctl consortium new Relief --member b.txt --member c.txt --ttl-max 7d --grant message -o charter.txt",
            "hsctl consortium new --former charter.txt --member d.txt --without c.example",
            "hsctl consortium show charter.txt",
            "hsctl consortium sign charter.txt --fingerprint 00ff -o signed.txt",
            "hsctl consortium merge a.txt b.txt -o charter.txt",
            "hsctl consortium join charter.txt",
            "hsctl keys show",
            "hsctl keys rotate envelope",
            "hsctl keys rotate tls --json",
            "hsctl keys revoke envelope 0011223344556677 --since 2d --yes",
            "hsctl keys revoke tls 00ff --yes",
            "hsctl keys root show",
            "hsctl keys root announce --to b.example --to c.example",
            "hsctl keys root switch 0011 --without c.example --yes",
            "hsctl keys root cancel",
            "hsctl keys root forget --yes",
            "hsctl outbox list",
            "hsctl outbox retry b.example",
            "hsctl outbox renumber b.example --yes",
            "hsctl peer amend b.example --ttl-max 7d --yes",
            "hsctl peer consent b.example --yes",
            "hsctl peer refuse b.example --reason no --yes",
            "hsctl reports list --all --limit 5",
            "hsctl reports show 0123456789abcdef0123456789abcdef",
            "hsctl reports close 0123456789abcdef0123456789abcdef --note warned",
            "hsctl backup --to today.backup --public-key backup.pub",
            "hsctl backup --to today.backup --passphrase-file - --json",
            "hsctl restored",
            "hsctl restored confirm --yes",
            "hsctl dead-letters --limit 5",
            "hsctl audit --after 12 --follow",
            "hsctl audit head --json",
            "hsctl audit proof 12 --size 40",
            "hsctl audit growth 12",
            "hsctl audit export --file log.jsonl",
            "hsctl audit export --format ocsf",
            "hsctl audit --since 2d --until 1d --action user --actor admin:root --subject bob@a.example --json",
            "hsctl --root root.pem audit verify log.jsonl --head head.json --earlier-head a.json --earlier-head b.json",
            "hsctl audit erase zoe@b.example --yes",
            "hsctl audit witnesses",
            "hsctl audit witnesses --of b.example --json",
            "hsctl audit witnesses --by b.example --json",
            "hsctl audit settle b.example --yes",
            "hsctl --root r audit verify - --sighting s.json --witness-root b.pem",
            "hsctl completions zsh",
            "hsctl --server https://h:8443 --server-name a.example --root-sha256 00 login --name root",
            "hsctl --server https://h:8443 logout",
            "hsctl --server https://h:8443 logout --here-only",
            "hsctl --server https://h:8443 password --password-file old --new-password-file new",
        ] {
            if let Err(error) = parse(line) {
                panic!("{line}: {error}");
            }
        }
    }

    /// Goal: wrong lines are refused with exit code 2 and a message that names what is wrong.
    #[test]
    fn wrong_lines() {
        for (line, named) in [
            ("hsctl user create Alice", "Alice"),
            ("hsctl peer show 10.0.0.1", "10.0.0.1"),
            ("hsctl user-type set guest --ttl-min soon", "soon"),
            ("hsctl user-type set guest --directory all", "all"),
            (
                "hsctl user-type set guest --external B.example",
                "B.example",
            ),
            (
                "hsctl user-type set guest --from-file p --files no",
                "--from-file",
            ),
            ("hsctl peer offer b.example --outbound talk", "talk"),
            ("hsctl device remove alice 12", "12"),
            (
                "hsctl user-type set guest --from-file p --presence no",
                "--from-file",
            ),
            ("hsctl policy explain alice bob", "bob"),
            ("hsctl keys rotate root", "root"),
            ("hsctl keys revoke envelope all --since soon", "soon"),
            ("hsctl audit --limit 0", "0"),
            ("hsctl audit --after 3 head", "--after"),
            ("hsctl audit erase zoe", "zoe"),
            ("hsctl audit verify f --sighting s", "--witness-root"),
            ("hsctl backup", "--to"),
            (
                "hsctl backup --to f --public-key k --passphrase-file p",
                "--public-key",
            ),
            ("hsctl reports show 12", "12"),
            ("hsctl consortium merge", "DOCUMENTS"),
            (
                "hsctl consortium new Relief --without c.example",
                "--former",
            ),
            ("hsctl --root-sha256 00 --root f status", "--root"),
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(named), "{line}: {error}");
        }
    }

    /// Goal: --json and --output json mean the same, before and after the command.
    #[test]
    fn formats() {
        for line in [
            "hsctl --json status",
            "hsctl status --json",
            "hsctl --output json status",
            "hsctl status --output json",
        ] {
            assert_eq!(parse(line).expect(line).format(), Format::Json, "{line}");
        }
        assert_eq!(
            parse("hsctl status").expect("parses").format(),
            Format::Human
        );
    }

    /// Goal: --help documents the exit codes.
    #[test]
    fn help_names_exit_codes() {
        let help = Arguments::command().render_long_help().to_string();
        for code in ["75", "78"] {
            assert!(help.contains(code), "{help}");
        }
    }
}
