//! `homeserver init`: five questions, or flags.

use std::io::{BufRead, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use federation_proto::ids::{Handle, ServerName};
use homeserver::clock::{Clock, SystemClock};
use homeserver::organisation::init::{Answers, Made, init};
use ring::rand::SystemRandom;
use zeroize::Zeroizing;

use super::{Failure, Output, say};

/// Largest file that a secret is read from.
const SECRET_BYTES_MAX: u64 = 4096;

/// What `homeserver init` does not have to ask.
#[derive(Args)]
pub(super) struct InitArguments {
    /// The organisation's server name, such as chat.example.
    #[arg(long)]
    server_name: Option<ServerName>,
    /// Address for clients, such as 0.0.0.0:8443.
    #[arg(long, alias = "listen-client")]
    client_listen: Option<SocketAddr>,
    /// Address for peers, such as 0.0.0.0:8448.
    #[arg(long, alias = "listen-federation")]
    federation_listen: Option<SocketAddr>,
    /// Where peers reach this homeserver, host:port; may be given again.
    #[arg(long)]
    federation_endpoint: Vec<String>,
    /// Path of the admin socket.
    #[arg(long)]
    admin_socket: Option<PathBuf>,
    /// Address for metrics and health: loopback only.
    #[arg(long, alias = "listen-metrics")]
    metrics_listen: Option<SocketAddr>,
    /// Folder for keys and store.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Name of the first administrator.
    #[arg(long)]
    admin_name: Option<Handle>,
    /// A file that holds the first administrator's password.
    #[arg(long)]
    admin_password_file: Option<PathBuf>,
    /// Where the sealed root key goes: best a medium that leaves this machine.
    #[arg(long)]
    root_key: Option<PathBuf>,
    /// A file that holds the passphrase that seals the root key.
    #[arg(long, alias = "root-passphrase-file")]
    root_key_passphrase_file: Option<PathBuf>,
}

/// Makes an organisation.
pub(super) fn run(
    arguments: InitArguments,
    config: PathBuf,
    output: Output,
) -> Result<(), Failure> {
    let answers = answers(arguments, config)?;
    #[expect(clippy::disallowed_methods, reason = "the process's own randomness")]
    let random = SystemRandom::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(Failure::new)?;
    let made = runtime
        .block_on(init(&answers, SystemClock.now_ms(), &random))
        .map_err(Failure::new)?;
    match output {
        Output::Text => say(&told(&made)),
        Output::Json => say(&serde_json::to_string(&made).map_err(Failure::new)?),
    }
    Ok(())
}

/// What the flags say, and for the rest what the terminal says.
fn answers(arguments: InitArguments, config: PathBuf) -> Result<Answers, Failure> {
    let mut terminal = Terminal::default();
    let server = match arguments.server_name {
        Some(server) => server,
        None => terminal.ask("--server-name", "Server name of the organisation", None)?,
    };
    let client = match arguments.client_listen {
        Some(address) => address,
        None => terminal.ask(
            "--client-listen",
            "Address for clients",
            Some("0.0.0.0:8443"),
        )?,
    };
    let federation = match arguments.federation_listen {
        Some(address) => address,
        None => terminal.ask(
            "--federation-listen",
            "Address for peers",
            Some("0.0.0.0:8448"),
        )?,
    };
    let data_dir = match arguments.data_dir {
        Some(path) => path,
        None => terminal.ask(
            "--data-dir",
            "Folder for keys and store",
            Some("/var/lib/entente"),
        )?,
    };
    let admin_name = match arguments.admin_name {
        Some(name) => name,
        None => terminal.ask(
            "--admin-name",
            "Name of the first administrator",
            Some("admin"),
        )?,
    };
    let admin_password = match &arguments.admin_password_file {
        Some(path) => read_secret(path)?,
        None => terminal.ask_new_secret("--admin-password-file", "The administrator's password")?,
    };
    let root_key = match arguments.root_key {
        Some(path) => path,
        None => terminal.ask(
            "--root-key",
            "File for the sealed root key (best on a medium that you take away)",
            None,
        )?,
    };
    let root_passphrase = match &arguments.root_key_passphrase_file {
        Some(path) => read_secret(path)?,
        None => terminal.ask_new_secret(
            "--root-key-passphrase-file",
            "Passphrase that seals the root key",
        )?,
    };
    let mut endpoints = arguments.federation_endpoint;
    if endpoints.is_empty() {
        endpoints.push(format!("{server}:{}", federation.port()));
    }
    Ok(Answers {
        server,
        client,
        federation,
        endpoints,
        admin_socket: arguments.admin_socket,
        metrics: arguments.metrics_listen,
        data_dir,
        admin_name,
        admin_password,
        root_key,
        root_passphrase,
        config,
    })
}

fn told(made: &Made) -> String {
    format!(
        "{server} is made.\n\n\
         Fingerprint of its root, which you read to partners' administrators:\n  {fingerprint}\n\n\
         Next:\n\
         1. Move {root_key} off this machine, and keep its passphrase elsewhere. It is needed again\n   \
            only to renew the issuing CA, in less than two years.\n\
         2. Look at {config}, above all at where peers reach this homeserver.\n\
         3. Start it: homeserver run --config {config}\n\
         4. Make accounts: hsctl user create NAME; peers: hsctl peer offer SERVER\n\n\
         Back up {data_dir}: it holds every other key.",
        server = made.server,
        fingerprint = made.fingerprint,
        root_key = made.root_key.display(),
        config = made.config.display(),
        data_dir = made.data_dir.display(),
    )
}

/// A secret from a file: its text without the line end.
pub(super) fn read_secret(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let wrong =
        |problem: &dyn std::fmt::Display| Failure::new(format!("{}: {problem}", path.display()));
    let length = std::fs::metadata(path)
        .map_err(|error| wrong(&error))?
        .len();
    if length > SECRET_BYTES_MAX {
        return Err(wrong(&format!(
            "a secret has at most {SECRET_BYTES_MAX} bytes"
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let text = Zeroizing::new(text);
    Ok(Zeroizing::new(
        text.trim_end_matches(['\r', '\n']).to_owned(),
    ))
}

/// A secret from the terminal, typed once.
pub(super) fn ask_secret(question: &str) -> Result<Zeroizing<String>, Failure> {
    rpassword::prompt_password(format!("{question}: "))
        .map(Zeroizing::new)
        .map_err(Failure::new)
}

/// Asks whoever sits at the terminal.
#[derive(Default)]
struct Terminal {
    greeted: bool,
}

impl Terminal {
    /// Asks until the answer is understood.
    fn ask<T: FromStr>(
        &mut self,
        flag: &str,
        question: &str,
        default: Option<&str>,
    ) -> Result<T, Failure>
    where
        T::Err: std::fmt::Display,
    {
        self.greet(flag)?;
        loop {
            let hint = default.map_or_else(String::new, |text| format!(" [{text}]"));
            self.show(&format!("{question}{hint}: "))?;
            let mut line = String::new();
            let read = std::io::stdin().lock().read_line(&mut line);
            if read.map_err(Failure::new)? == 0 {
                return Err(Failure::new(
                    "the questions were not answered; nothing was written",
                ));
            }
            let text = match line.trim() {
                "" => default.unwrap_or_default(),
                text => text,
            };
            match text.parse() {
                Ok(answer) => return Ok(answer),
                Err(error) => self.show(&format!("  {error}\n"))?,
            }
        }
    }

    /// Asks for a secret twice, until both are the same.
    fn ask_new_secret(&mut self, flag: &str, question: &str) -> Result<Zeroizing<String>, Failure> {
        self.greet(flag)?;
        loop {
            let once = ask_secret(question)?;
            if once == ask_secret("Once more")? {
                return Ok(once);
            }
            self.show("  these were not the same\n")?;
        }
    }

    fn greet(&mut self, flag: &str) -> Result<(), Failure> {
        if !std::io::stdin().is_terminal() {
            return Err(Failure {
                code: 2,
                message: format!("{flag} is missing, and there is no terminal to ask"),
            });
        }
        if !self.greeted {
            self.greeted = true;
            self.show("This makes a new organisation; nothing that exists is overwritten.\n")?;
        }
        Ok(())
    }

    fn show(&self, text: &str) -> Result<(), Failure> {
        let mut out = std::io::stderr().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(Failure::new)
    }
}
