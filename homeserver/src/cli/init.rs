//! `homeserver init`: five questions, or flags.

use std::io::{BufRead, IsTerminal, Read as _, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use federation_proto::ids::{Handle, ServerName};
use homeserver::clock::{Clock, SystemClock};
use homeserver::config::socket_address;
use homeserver::identity::passwords::PASSWORD_BYTES_MIN;
use homeserver::organisation::init::{self, Answers, InitError, Made, Reached, StoreAnswers};
use homeserver::organisation::root_key::PASSPHRASE_BYTES_MIN;
use ring::rand::SystemRandom;
use zeroize::Zeroizing;

use super::{EXIT_NOT_UNDERSTOOD, Failure, Output, engines, runtime, say};

/// Largest file that a secret is read from.
const SECRET_BYTES_MAX: u64 = 4096;

/// What `homeserver init` does not have to ask.
#[derive(Args)]
pub(super) struct InitArguments {
    /// The organisation's server name, such as chat.example.
    #[arg(long)]
    server_name: Option<String>,
    /// Address for clients, such as 0.0.0.0:8443.
    #[arg(long, alias = "listen-client")]
    client_listen: Option<String>,
    /// Address for peers, such as 0.0.0.0:8448.
    #[arg(long, alias = "listen-federation")]
    federation_listen: Option<String>,
    /// Where peers reach this homeserver, host:port; may be given again.
    #[arg(long)]
    federation_endpoint: Vec<String>,
    /// Path of the admin socket.
    #[arg(long)]
    admin_socket: Option<PathBuf>,
    /// Address for metrics and health: loopback only.
    #[arg(long, alias = "listen-metrics")]
    metrics_listen: Option<String>,
    /// Folder for keys and store.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Name of the first administrator.
    #[arg(long)]
    admin_name: Option<String>,
    /// A file that holds the first administrator's password.
    #[arg(long)]
    admin_password_file: Option<PathBuf>,
    /// Where the sealed root key goes: best a medium that leaves this machine.
    #[arg(long)]
    root_key: Option<PathBuf>,
    /// A file that holds the passphrase that seals the root key.
    #[arg(long, alias = "root-passphrase-file")]
    root_key_passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArguments,
}

/// What the store stands on; nobody is asked for it.
#[derive(Args)]
struct StoreArguments {
    /// What the store stands on: fjall (the default), or postgresql with the flags below.
    #[arg(long)]
    store_engine: Option<String>,
    /// Server of the database, host:port, or the folder of its socket; may be given again.
    #[arg(long)]
    postgresql_host: Vec<String>,
    /// The database, which the role owns.
    #[arg(long)]
    postgresql_database: Option<String>,
    /// The role.
    #[arg(long)]
    postgresql_user: Option<String>,
    /// A file that holds the role's password, and stays where it is.
    #[arg(long)]
    postgresql_password_file: Option<PathBuf>,
    /// A file of the root certificates (PEM) that the server's certificate stands under.
    #[arg(long)]
    postgresql_root_certificates: Option<PathBuf>,
}

impl StoreArguments {
    fn answers(&self) -> StoreAnswers {
        StoreAnswers {
            engine: self.store_engine.clone(),
            hosts: self.postgresql_host.clone(),
            database: self.postgresql_database.clone(),
            user: self.postgresql_user.clone(),
            password_file: self.postgresql_password_file.clone(),
            root_certificates: self.postgresql_root_certificates.clone(),
        }
    }
}

/// What the flags say, understood as far as it can be.
struct Given {
    server: Option<ServerName>,
    client: Option<SocketAddr>,
    federation: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    data_dir: Option<PathBuf>,
    admin_name: Option<Handle>,
    admin_password: Option<Zeroizing<String>>,
    root_key: Option<PathBuf>,
    root_passphrase: Option<Zeroizing<String>>,
    store: StoreAnswers,
    /// What is wrong with the flags, and the flags that are missing.
    problems: Vec<String>,
    missing: Vec<&'static str>,
}

impl Given {
    fn read(arguments: &InitArguments) -> Self {
        let mut problems = Vec::new();
        let mut missing = Vec::new();
        let name = &arguments.server_name;
        let admin_name = &arguments.admin_name;
        let (client, federation) = (&arguments.client_listen, &arguments.federation_listen);
        let given = Self {
            server: understood("--server-name", name.as_deref(), parsed, &mut problems),
            client: understood(
                "--client-listen",
                client.as_deref(),
                socket_address,
                &mut problems,
            ),
            federation: understood(
                "--federation-listen",
                federation.as_deref(),
                socket_address,
                &mut problems,
            ),
            metrics: understood(
                "--metrics-listen",
                arguments.metrics_listen.as_deref(),
                socket_address,
                &mut problems,
            ),
            data_dir: arguments.data_dir.clone(),
            admin_name: understood("--admin-name", admin_name.as_deref(), parsed, &mut problems),
            admin_password: secret(arguments.admin_password_file.as_deref(), &mut problems),
            root_key: arguments.root_key.clone(),
            root_passphrase: secret(arguments.root_key_passphrase_file.as_deref(), &mut problems),
            store: arguments.store.answers(),
            problems: Vec::new(),
            missing: Vec::new(),
        };
        for (flag, is_missing) in [
            ("--server-name", name.is_none()),
            ("--client-listen", client.is_none()),
            ("--federation-listen", federation.is_none()),
            ("--data-dir", arguments.data_dir.is_none()),
            ("--admin-name", admin_name.is_none()),
            (
                "--admin-password-file",
                arguments.admin_password_file.is_none(),
            ),
            ("--root-key", arguments.root_key.is_none()),
            (
                "--root-key-passphrase-file",
                arguments.root_key_passphrase_file.is_none(),
            ),
        ] {
            if is_missing {
                missing.push(flag);
            }
        }
        Self {
            problems,
            missing,
            ..given
        }
    }

    /// What is wrong with answers that can be understood: told before anything is asked.
    fn unfit(&self, arguments: &InitArguments, config: &Path) -> Vec<String> {
        let data_dir = self.data_dir.as_deref();
        let root_key = self.root_key.as_deref();
        let mut problems = self.reached(arguments, &self.store).problems();
        problems.extend(init::occupied(config));
        problems.extend(data_dir.into_iter().flat_map(data_dir_problems));
        problems.extend(
            root_key
                .into_iter()
                .flat_map(|path| init::root_key_problems(path, data_dir)),
        );
        let password = self.admin_password.as_deref();
        problems.extend(password.and_then(|text| init::admin_password_problem(text)));
        let passphrase = self.root_passphrase.as_deref();
        problems.extend(passphrase.and_then(|text| init::root_passphrase_problem(text)));
        problems
    }

    fn reached<'a>(&self, arguments: &'a InitArguments, store: &'a StoreAnswers) -> Reached<'a> {
        Reached {
            client: self.client,
            federation: self.federation,
            endpoints: &arguments.federation_endpoint,
            admin_socket: arguments.admin_socket.as_deref(),
            metrics: self.metrics,
            store: Some(store),
        }
    }
}

fn parsed<T: FromStr>(text: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn understood<T>(
    flag: &str,
    text: Option<&str>,
    parse: impl Fn(&str) -> Result<T, String>,
    problems: &mut Vec<String>,
) -> Option<T> {
    match parse(text?) {
        Ok(value) => Some(value),
        Err(error) => {
            problems.push(format!("{flag}: {error}"));
            None
        }
    }
}

fn secret(path: Option<&Path>, problems: &mut Vec<String>) -> Option<Zeroizing<String>> {
    match read_secret(path?) {
        Ok(secret) => Some(secret),
        Err(failure) => {
            problems.push(failure.message);
            None
        }
    }
}

fn data_dir_problems(path: &Path) -> Vec<String> {
    let mut problems = init::data_dir_problems(path);
    if !path.is_absolute() {
        problems.push(format!(
            "the data folder needs an absolute path, not {}",
            path.display()
        ));
    }
    problems
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
    let made = runtime()?
        .block_on(init::init(
            &answers,
            SystemClock.now_ms(),
            &random,
            engines::open,
        ))
        .map_err(|error| match error {
            InitError::Answers(problems) => wrong_answers(&problems),
            error => Failure::new(error),
        })?;
    match output {
        Output::Text => say(&told(&made)),
        Output::Json => say(&serde_json::to_string(&made).map_err(Failure::new)?),
    }
    Ok(())
}

/// Answers that will not do end with one code, whether they came as flags or not.
fn wrong_answers(problems: &[String]) -> Failure {
    Failure {
        code: EXIT_NOT_UNDERSTOOD,
        message: format!("nothing was written:\n  {}", problems.join("\n  ")),
    }
}

/// What the flags say, and for the rest what the terminal says.
fn answers(arguments: InitArguments, config: PathBuf) -> Result<Answers, Failure> {
    let mut given = Given::read(&arguments);
    if !given.problems.is_empty() || !given.missing.is_empty() {
        let mut problems = std::mem::take(&mut given.problems);
        problems.extend(given.unfit(&arguments, &config));
        if !std::io::stdin().is_terminal() {
            problems.extend(
                given
                    .missing
                    .iter()
                    .map(|flag| format!("{flag} is missing, and there is no terminal to ask")),
            );
        }
        if !problems.is_empty() {
            return Err(wrong_answers(&problems));
        }
    }
    ask(given, arguments, config)
}

/// Asks for what is not given. What an answer has to keep to is in the question, and a wrong one is asked again.
fn ask(given: Given, arguments: InitArguments, config: PathBuf) -> Result<Answers, Failure> {
    if !given.missing.is_empty() {
        show("This makes a new organisation; nothing that exists is overwritten.\n")?;
    }
    let store = given.store.clone();
    let reached = given.reached(&arguments, &store);
    let server = match given.server {
        Some(server) => server,
        None => ask_for("Server name of the organisation", None, parsed)?,
    };
    let client = match given.client {
        Some(address) => address,
        None => ask_for("Address for clients", Some("0.0.0.0:8443"), |text| {
            let address = socket_address(text)?;
            let client = Some(address);
            fitting(address, &Reached { client, ..reached })
        })?,
    };
    let reached = Reached {
        client: Some(client),
        ..reached
    };
    let federation = match given.federation {
        Some(address) => address,
        None => ask_for("Address for peers", Some("0.0.0.0:8448"), |text| {
            let address = socket_address(text)?;
            let federation = Some(address);
            fitting(
                address,
                &Reached {
                    federation,
                    ..reached
                },
            )
        })?,
    };
    let data_dir = match given.data_dir {
        Some(path) => path,
        None => ask_path(
            "Folder for keys and store (absolute path)",
            Some("/var/lib/entente"),
            data_dir_problems,
        )?,
    };
    let admin_name = match given.admin_name {
        Some(name) => name,
        None => ask_for("Name of the first administrator", Some("admin"), parsed)?,
    };
    let admin_password = match given.admin_password {
        Some(password) => password,
        None => ask_new_secret(
            &format!("The administrator's password (at least {PASSWORD_BYTES_MIN} characters)"),
            "--admin-password-file",
            init::admin_password_problem,
        )?,
    };
    let root_key = match given.root_key {
        Some(path) => path,
        None => ask_path(
            "File for the sealed root key (absolute path, best on a medium that you take away)",
            None,
            |path| init::root_key_problems(path, Some(&data_dir)),
        )?,
    };
    let root_passphrase = match given.root_passphrase {
        Some(passphrase) => passphrase,
        None => ask_new_secret(
            &format!(
                "Passphrase that seals the root key (at least {PASSPHRASE_BYTES_MIN} characters)"
            ),
            "--root-key-passphrase-file",
            init::root_passphrase_problem,
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
        metrics: given.metrics,
        data_dir,
        store: given.store,
        admin_name,
        admin_password,
        root_key,
        root_passphrase,
        config,
    })
}

/// `answer` when it goes together with what is known.
fn fitting(answer: SocketAddr, known: &Reached<'_>) -> Result<SocketAddr, String> {
    let problems = known.problems();
    if problems.is_empty() {
        Ok(answer)
    } else {
        Err(problems.join("\n  "))
    }
}

fn told(made: &Made) -> String {
    format!(
        "{server} is made.\n\n\
         Fingerprint of its root, which you read to partners' administrators, as words or as digits:\n  {words}\n  {fingerprint}\n\n\
         Next:\n\
         1. Move {root_key} off this machine, and keep its passphrase elsewhere. It is needed again\n   \
            to renew the issuing CA, in less than two years, and to change the root.\n\
         2. Look at {config}, above all at where peers reach this homeserver.\n\
         3. Start it: homeserver run --config {config}\n\
         4. Make accounts: {hsctl} user create NAME; peers: {hsctl} peer offer SERVER\n\n\
         Back up {data_dir}: it holds every other key.",
        server = made.server,
        words = made.words,
        fingerprint = made.fingerprint,
        root_key = made.root_key.display(),
        config = made.config.display(),
        data_dir = made.data_dir.display(),
        hsctl = match &made.admin_socket {
            Some(socket) => format!("hsctl --socket {}", socket.display()),
            None => "hsctl".to_owned(),
        },
    )
}

/// A secret from a file: its text without the line end.
pub(super) fn read_secret(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let wrong =
        |problem: &dyn std::fmt::Display| Failure::new(format!("{}: {problem}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| wrong(&error))?;
    let mut text = Zeroizing::new(String::new());
    // A pipe tells no length beforehand.
    file.take(SECRET_BYTES_MAX.saturating_add(1))
        .read_to_string(&mut text)
        .map_err(|error| wrong(&error))?;
    if text.len() > usize::try_from(SECRET_BYTES_MAX).unwrap_or(usize::MAX) {
        return Err(wrong(&format!(
            "a secret has at most {SECRET_BYTES_MAX} bytes"
        )));
    }
    Ok(Zeroizing::new(
        text.trim_end_matches(['\r', '\n']).to_owned(),
    ))
}

/// A secret from the terminal, typed once; `flag` names the file that can hold it instead.
pub(super) fn ask_secret(question: &str, flag: &str) -> Result<Zeroizing<String>, Failure> {
    rpassword::prompt_password(format!("{question}: "))
        .map(Zeroizing::new)
        .map_err(|error| Failure {
            code: EXIT_NOT_UNDERSTOOD,
            message: format!(
                "there is no terminal to ask for it ({error}): name a file that holds it with {flag}"
            ),
        })
}

/// Asks until the answer is understood.
fn ask_for<T>(
    question: &str,
    default: Option<&str>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<T, Failure> {
    loop {
        match parse(&ask_line(question, default)?) {
            Ok(answer) => return Ok(answer),
            Err(error) => show(&format!("  {error}\n"))?,
        }
    }
}

/// Asks for a path until nothing is wrong with it.
fn ask_path(
    question: &str,
    default: Option<&str>,
    problems: impl Fn(&Path) -> Vec<String>,
) -> Result<PathBuf, Failure> {
    loop {
        let path = PathBuf::from(ask_line(question, default)?);
        let problems = problems(&path);
        if problems.is_empty() {
            return Ok(path);
        }
        for problem in problems {
            show(&format!("  {problem}\n"))?;
        }
    }
}

fn ask_line(question: &str, default: Option<&str>) -> Result<String, Failure> {
    let hint = default.map_or_else(String::new, |text| format!(" [{text}]"));
    show(&format!("{question}{hint}: "))?;
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    if read.map_err(Failure::new)? == 0 {
        return Err(Failure::new(
            "the questions were not answered; nothing was written",
        ));
    }
    Ok(match line.trim() {
        "" => default.unwrap_or_default().to_owned(),
        text => text.to_owned(),
    })
}

/// Asks for a secret until nothing is wrong with it and it was typed twice the same.
pub(super) fn ask_new_secret(
    question: &str,
    flag: &str,
    problem: impl Fn(&str) -> Option<String>,
) -> Result<Zeroizing<String>, Failure> {
    loop {
        let once = ask_secret(question, flag)?;
        if let Some(problem) = problem(&once) {
            show(&format!("  {problem}\n"))?;
        } else if once == ask_secret("Once more", flag)? {
            return Ok(once);
        } else {
            show("  these were not the same\n")?;
        }
    }
}

fn show(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stderr().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Failure::new)
}
