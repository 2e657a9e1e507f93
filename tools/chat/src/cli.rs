//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use entente_sdk::frames::AbuseReason;
use entente_sdk::ids::{Address, DeviceId};
use entente_sdk::{MessageId, Role, SendOptions};

use crate::place::Place;
use crate::show::duration::parse_seconds;

const AFTER_HELP: &str = "\
Exit status: 0 done · 1 not done, the message says why · 2 wrong usage · 75 not now, try later.

A first conversation:
  chat enrol alice@a.example --server 127.0.0.1:8443 --root-sha256 HEX
  chat talk bob@b.example";

/// End-to-end encrypted messages between organisations, in the terminal.
#[derive(Parser)]
#[command(name = "chat", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Args)]
pub(crate) struct Common {
    /// Folder of this device's encrypted store [default: ~/.local/share/entente-chat].
    #[arg(long, global = true, env = "CHAT_DIR", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
    /// File whose first line is the store's passphrase; else CHAT_PASSPHRASE, else you are asked.
    #[arg(long, global = true, env = "CHAT_PASSPHRASE_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Print one JSON object per line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Seconds to wait for the homeserver or for the other side's.
    #[arg(long, global = true, default_value_t = 30, value_name = "SECONDS")]
    pub(crate) timeout: u64,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make this computer a device of your account.
    Enrol(Enrol),
    /// Look people up, in your organisation or at a partner's.
    Find(Find),
    /// Start a conversation and print its room.
    Start(Start),
    /// List the conversations.
    Rooms,
    /// Send a text.
    Send(Send),
    /// Send a file.
    SendFile(SendFile),
    /// Save a file that somebody sent.
    SaveFile(SaveFile),
    /// Show a conversation so far.
    History(History),
    /// Print messages as they come, until you press Ctrl-C.
    Follow(Follow),
    /// Talk with somebody: type to send, see what comes.
    Talk(Talk),
    /// Show one message and how far it has come.
    Message(OneMessage),
    /// Add people to a conversation.
    Add(Members),
    /// Remove people from a conversation.
    Remove(Members),
    /// Say what somebody may do in a conversation.
    ///
    /// Owners may do everything. Moderators add and remove people, but for owners. Members write.
    Role(RoleOf),
    /// Show who takes part in a conversation, with which role and how many devices.
    Members(OneRoom),
    /// Show the number to compare with others in a conversation, to be sure that all of you are in the same one.
    Number(OneRoom),
    /// Give a conversation a name, or none.
    Rename(Rename),
    /// Continue a conversation in a new one that your own homeserver orders.
    ///
    /// For when the homeserver that orders it is gone for good. Owners and moderators may. Its people are added to the new
    /// conversation, but for those of the organisation whose homeserver is gone, and those who don't let you: they can be
    /// added later. The old conversation stays as it is, and both show where the other one is.
    Successor(OneRoom),
    /// Leave a conversation with all of your devices. What you have read stays until it expires.
    Leave(OneRoom),
    /// Report somebody of a conversation to the administrators.
    ///
    /// The texts of the messages that you name are disclosed to the administrators of your organisation, with your
    /// name; with --to both to those of the reported person's organisation too, without your name unless you say so.
    /// Nothing else of the conversation is disclosed. Homeservers can't read messages, so nothing proves to the
    /// administrators that the messages said what you disclose.
    Report(Report),
    /// Decide who of other organisations may start conversations with you, and ask others.
    #[command(subcommand)]
    Contact(Contact),
    /// Show your account and what its policy allows.
    Account,
    /// Show your account's devices and those that wait; approve, decline or remove one.
    Devices(Devices),
    /// Take somebody's new devices, and another address, for his own, after you have asked him by another way.
    Confirm(Who),
    /// Show the number to compare with somebody, to be sure that nobody stands between you.
    Safety(Who),
    /// Write the messages of this device, and whom you have confirmed, to a file that a recovery code opens.
    ///
    /// Messages keep their time of expiry; those that burn after reading are left out, and so are all keys. The code
    /// is shown once and kept nowhere: write it down, apart from the file.
    Backup(Backup),
    /// Take in a backup of your account. What has expired stays out; nothing comes twice.
    Restore(Restore),
    /// Change your account's password.
    Password(Password),
    /// Read your organisation's notice and agree to it, where it has one: until then this device may do nothing else.
    Agree(Agree),
    /// Type your password again, where your organisation asks for it after a time: until then this device may do nothing
    /// else.
    SignIn(SignIn),
    /// Set what you want tighter than your organisation does; what you leave out is as your organisation has it.
    Rules(Rules),
    /// Sign this device out: it is removed from your account, and its messages and keys are deleted here.
    SignOut(SignOut),
    /// Print a shell's completions.
    Completions(Completions),
}

#[derive(Args)]
pub(crate) struct Enrol {
    /// Your address, such as alice@a.example.
    pub(crate) address: Address,
    /// Your homeserver, host:port.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) server: String,
    /// Fingerprint of your organisation's root, as your administrator gave it to you.
    #[arg(long, value_name = "HEX")]
    pub(crate) root_sha256: String,
    /// File whose first line is your account's password; else CHAT_PASSWORD, else you are asked.
    #[arg(long, env = "CHAT_PASSWORD_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) password_file: Option<PathBuf>,
    /// What you call this device.
    #[arg(long, default_value = "terminal", value_name = "NAME")]
    pub(crate) device_name: String,
    /// Come without the approval of another device of yours: for when you have none any more. Your administrators see
    /// it, and people who write with you are asked to confirm this device.
    #[arg(long)]
    pub(crate) reset: bool,
}

#[derive(Args)]
pub(crate) struct Devices {
    #[command(subcommand)]
    pub(crate) what: Option<DevicesCommand>,
}

#[derive(Subcommand)]
pub(crate) enum DevicesCommand {
    /// Approve the new device that shows this code: it becomes one of your devices.
    Approve {
        /// The code, as the new device shows it.
        code: String,
        /// Send it the messages that this device has, and whom you have confirmed; don't ask.
        #[arg(long, conflicts_with = "no_history")]
        history: bool,
        /// Don't send it anything; don't ask.
        #[arg(long)]
        no_history: bool,
    },
    /// Send another device of yours the messages that this one has, and whom you have confirmed. What it has is passed
    /// over.
    SendHistory {
        /// The device's id, as `chat devices` shows it.
        device: DeviceId,
    },
    /// Turn away a device that waits.
    Decline {
        /// Its id, as `chat devices` shows it, or the code that it shows itself.
        which: String,
    },
    /// Sign one of your devices out, wherever it is.
    Remove {
        /// The device's id, as `chat devices` shows it.
        device: DeviceId,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Args)]
pub(crate) struct Backup {
    /// The file; must not exist yet.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) path: PathBuf,
}

#[derive(Args)]
pub(crate) struct Restore {
    /// The file.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) path: PathBuf,
    /// File whose first line is the recovery code; else CHAT_RECOVERY_CODE, else you are asked.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) code_file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Who {
    /// Whom, such as bob@b.example.
    pub(crate) address: Address,
}

#[derive(Args)]
pub(crate) struct Password {
    /// File whose first line is the present password; else CHAT_PASSWORD, else you are asked.
    #[arg(long, env = "CHAT_PASSWORD_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) password_file: Option<PathBuf>,
    /// File whose first line is the new password; else you are asked twice.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) new_password_file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Agree {
    /// Don't ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Args)]
pub(crate) struct SignIn {
    /// File whose first line is the password; else CHAT_PASSWORD, else you are asked.
    #[arg(long, env = "CHAT_PASSWORD_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Rules {
    /// The longest that your messages live, such as 1d.
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    pub(crate) ttl_max: Option<u32>,
    /// The shortest burn-on-read time of your messages, such as 1h: none goes out that does not burn.
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    pub(crate) burn_min: Option<u32>,
    /// Nobody finds you by looking you up.
    #[arg(long)]
    pub(crate) hidden: bool,
    /// People of other organisations start conversations with you when you consent.
    #[arg(long)]
    pub(crate) ask: bool,
    /// A device comes to your account without another one's approval only with an administrator's leave.
    #[arg(long)]
    pub(crate) no_reset: bool,
}

#[derive(Args)]
pub(crate) struct SignOut {
    /// Don't ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Args)]
pub(crate) struct Find {
    /// Whom: an address, such as bob@b.example. Who is hidden from you is as if not there.
    pub(crate) address: Address,
    /// Everybody whose handle begins like this (3 characters at least) and who lets himself be listed.
    #[arg(long)]
    pub(crate) prefix: bool,
}

#[derive(Args)]
pub(crate) struct Start {
    /// With whom, such as bob@b.example.
    #[arg(required = true)]
    pub(crate) addresses: Vec<Address>,
}

/// How a message is sent.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// Delete it everywhere this long after it was sent, such as 1d or 12h [default: your policy's].
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    pub(crate) ttl: Option<u32>,
    /// Delete it from a device this long after it was shown there, such as 30s; 0 for never.
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    pub(crate) burn: Option<u32>,
    /// Classification label, a number; 0 or none: your policy's default.
    #[arg(
        long,
        value_name = "LABEL",
        default_value = "0",
        hide_default_value = true
    )]
    pub(crate) label: u8,
}

impl Options {
    pub(crate) const fn send_options(&self) -> SendOptions {
        SendOptions {
            ttl_seconds: self.ttl,
            burn_seconds: self.burn,
            label: self.label,
        }
    }
}

#[derive(Args)]
pub(crate) struct Send {
    /// A room (the first digits are enough) or an address; a new conversation if there is none.
    #[arg(value_name = "ROOM|ADDRESS")]
    pub(crate) to: Place,
    /// The text; `-` reads it from standard input.
    pub(crate) text: String,
    #[command(flatten)]
    pub(crate) options: Options,
    /// Wait for as long as it takes until your homeserver has it, not only for --timeout.
    #[arg(long)]
    pub(crate) wait: bool,
}

#[derive(Args)]
pub(crate) struct SendFile {
    /// A room (the first digits are enough) or an address; a new conversation if there is none.
    #[arg(value_name = "ROOM|ADDRESS")]
    pub(crate) to: Place,
    /// The file.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) path: PathBuf,
    #[command(flatten)]
    pub(crate) options: Options,
    /// Wait for as long as it takes until your homeserver has it, not only for --timeout.
    #[arg(long)]
    pub(crate) wait: bool,
}

#[derive(Args)]
pub(crate) struct SaveFile {
    /// The message's id; the first digits are enough.
    #[arg(value_name = "MESSAGE")]
    pub(crate) message: String,
    /// Where to [default: its own name, in this folder]; must not exist yet.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) path: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct History {
    /// A room (the first digits are enough) or an address [default: all].
    #[arg(value_name = "ROOM|ADDRESS")]
    pub(crate) place: Option<Place>,
    /// Only the last so many messages.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Don't ask the homeserver for what is new.
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Args)]
pub(crate) struct Follow {
    /// Only this room or the conversation with this address [default: all].
    #[arg(long, value_name = "ROOM|ADDRESS")]
    pub(crate) room: Option<Place>,
    /// End after so many messages.
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// End after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) seconds: Option<u64>,
}

#[derive(Args)]
pub(crate) struct Talk {
    /// An address, or a room (the first digits are enough).
    #[arg(value_name = "ADDRESS|ROOM")]
    pub(crate) with: Place,
    #[command(flatten)]
    pub(crate) options: Options,
}

#[derive(Args)]
pub(crate) struct OneMessage {
    /// The message's id; the first digits are enough.
    #[arg(value_name = "MESSAGE")]
    pub(crate) message: String,
}

#[derive(Args)]
pub(crate) struct Members {
    /// A room (the first digits are enough), or an address of a conversation of two.
    #[arg(value_name = "ROOM|ADDRESS")]
    pub(crate) room: Place,
    /// Whom.
    #[arg(required = true)]
    pub(crate) addresses: Vec<Address>,
}

#[derive(Args)]
pub(crate) struct OneRoom {
    /// A room (the first digits are enough), or an address of a conversation of two.
    #[arg(value_name = "ROOM|ADDRESS")]
    pub(crate) room: Place,
}

#[derive(Args)]
pub(crate) struct Rename {
    /// A room (the first digits are enough), or an address of a conversation of two.
    #[arg(value_name = "ROOM|ADDRESS")]
    pub(crate) room: Place,
    /// What everybody in it will see; "" for no name.
    pub(crate) name: String,
}

#[derive(Subcommand)]
pub(crate) enum Contact {
    /// Ask somebody of another organisation to let you start conversations; he may contact you meanwhile.
    Ask {
        /// Whom, such as bob@b.example.
        address: Address,
        /// A line that he reads before he decides.
        #[arg(long, value_name = "TEXT")]
        text: Option<String>,
    },
    /// List whom you have asked, allowed or blocked, and who asks you.
    List,
    /// Let somebody start conversations with you.
    Allow {
        /// Whom.
        address: Address,
    },
    /// Keep somebody from starting conversations with you, and from asking; conversations that you share go on.
    Block {
        /// Whom.
        address: Address,
    },
    /// Take back what you have asked or decided about somebody, or decline what he asks.
    Remove {
        /// Whom.
        address: Address,
    },
}

#[derive(Args)]
pub(crate) struct RoleOf {
    /// A room (the first digits are enough), or an address of a conversation of two.
    #[arg(value_name = "ROOM|ADDRESS")]
    pub(crate) room: Place,
    /// Whose role.
    pub(crate) address: Address,
    /// `owner`, `moderator` or `member`.
    pub(crate) role: Role,
}

#[derive(Args)]
pub(crate) struct Report {
    /// A room (the first digits are enough), or an address of a conversation of two.
    #[arg(value_name = "ROOM|ADDRESS")]
    pub(crate) room: Place,
    /// Messages of one person that you disclose; the first digits of their ids are enough.
    #[arg(value_name = "MESSAGE")]
    pub(crate) messages: Vec<String>,
    /// Whom you report; needed when you disclose no message.
    #[arg(long, value_name = "ADDRESS", required_unless_present = "messages")]
    pub(crate) person: Option<Address>,
    /// Why.
    #[arg(long, value_name = "spam|harassment|illegal|impersonation|other", value_parser = parse_reason)]
    pub(crate) reason: AbuseReason,
    /// In your words, for the administrators.
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) note: String,
    /// Who is told: your organisation, or the reported person's too.
    #[arg(long, value_enum, default_value_t = TellWhom::Own)]
    pub(crate) to: TellWhom,
    /// Tell the reported person's organisation your name too; yours sees it in any case.
    #[arg(long)]
    pub(crate) with_my_name: bool,
}

/// Who is told of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TellWhom {
    /// Your own organisation's administrators.
    Own,
    /// Those of the reported person's organisation too.
    Both,
}

fn parse_reason(text: &str) -> Result<AbuseReason, String> {
    AbuseReason::ALL
        .into_iter()
        .find(|reason| reason.as_str() == text)
        .ok_or_else(|| {
            let names = AbuseReason::ALL.map(AbuseReason::as_str);
            format!("write one of {}", names.join(", "))
        })
}

#[derive(Args)]
pub(crate) struct Completions {
    /// For which shell.
    pub(crate) shell: Shell,
}

/// A message's id or its first digits.
pub(crate) fn is_message_prefix(text: &str) -> bool {
    text.parse::<MessageId>().is_ok()
        || (text.len() >= 4 && text.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// Goal: the command line is consistent; by clap's own check of every command.
    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Goal: options stand before or after the command, and times are read; by one command line.
    #[test]
    fn reads_a_command_line() {
        let line = "chat send bob@b.example hello --ttl 1d --burn 30s --json --dir /x";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        assert!(cli.common.json);
        let Command::Send(send) = cli.command else {
            panic!("another command")
        };
        let options = send.options.send_options();
        assert_eq!(options.ttl_seconds, Some(86_400));
        assert_eq!(options.burn_seconds, Some(30));
    }
}
