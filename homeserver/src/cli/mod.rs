//! The command line: what can be asked of `homeserver`, and how it answers.
//!
//! Exit codes: 0 done, 1 failed, 2 not understood, 78 wrong configuration or keys.

mod ca;
mod init;
mod restore;
mod root;
mod store;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use homeserver::clock::{Clock as _, SystemClock};
use homeserver::config::{Config, Mistake, exposed};
use homeserver::server::{self, engines, store_keys};
use homeserver::telemetry;
use ring::rand::SystemRandom;
use zeroize::Zeroizing;

const EXIT_FAILURE: u8 = 1;
/// As clap's own, for arguments and answers that will not do.
const EXIT_NOT_UNDERSTOOD: u8 = 2;
/// As `EX_CONFIG` of sysexits.h.
const EXIT_CONFIG: u8 = 78;

/// A federated homeserver for one organisation.
#[derive(Parser)]
#[command(name = "homeserver", version, propagate_version = true)]
struct Arguments {
    /// The configuration file.
    #[arg(long, global = true, env = "ENTENTE_CONFIG", default_value = homeserver::config::DEFAULT_PATH)]
    config: PathBuf,
    /// How answers look.
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For reading.
    Text,
    /// One JSON object.
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Make an organisation: its keys, its store and a configuration. Asks for what no flag says.
    Init(Box<init::InitArguments>),
    /// Look at the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Look at the sealed root key.
    RootKey {
        #[command(subcommand)]
        command: RootKeyCommand,
    },
    /// Renew the issuing CA, with the root key that lies off this machine.
    #[command(subcommand)]
    Ca(ca::CaCommand),
    /// Prepare another root, with the present root key that lies off this machine. The running homeserver then lets
    /// partners and devices go over to it: `hsctl keys root`.
    #[command(subcommand)]
    Root(root::RootCommand),
    /// Look through the store, move it, or change the key above its keys, while no homeserver uses it.
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Make a data folder of a backup that `hsctl backup` has made; all of it is checked before anything is in its place.
    Restore(restore::RestoreArguments),
    /// Make a key that backups are sealed for, so that whoever makes them can't read them.
    BackupKey(restore::BackupKeyArguments),
    /// Serve, until a signal ends it.
    Run,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Tell every mistake in the configuration, and in the keys and the folder that it names.
    Check,
}

#[derive(Subcommand)]
enum RootKeyCommand {
    /// Tell whether a passphrase opens a sealed root key.
    Check {
        /// The sealed root key.
        file: PathBuf,
        /// A file that holds the passphrase; absent: it is asked for.
        #[arg(long)]
        passphrase_file: Option<PathBuf>,
    },
}

/// What went wrong, and the exit code that says so.
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn new(message: impl ToString) -> Self {
        Self {
            code: EXIT_FAILURE,
            message: message.to_string(),
        }
    }
}

/// Runs the command that the arguments name.
pub(crate) fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let output = arguments.output;
    let done = match arguments.command {
        Command::Init(answers) => init::run(*answers, arguments.config, output),
        Command::Config {
            command: ConfigCommand::Check,
        } => check_config(&arguments.config, output),
        Command::RootKey {
            command:
                RootKeyCommand::Check {
                    file,
                    passphrase_file,
                },
        } => check_root_key(&file, passphrase_file.as_deref(), output),
        Command::Ca(command) => ca::run(command, &arguments.config, output),
        Command::Root(command) => root::run(command, &arguments.config, output),
        Command::Store(command) => store::run(command, &arguments.config, output),
        Command::Restore(arguments) => restore::run(&arguments, output),
        Command::BackupKey(arguments) => restore::make_key(&arguments, output),
        Command::Run => serve(&arguments.config),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                complain(output, &failure.message);
            }
            ExitCode::from(failure.code)
        }
    }
}

#[expect(clippy::print_stderr, reason = "a command's own complaint")]
fn complain(output: Output, message: &str) {
    match output {
        Output::Text => eprintln!("homeserver: {message}"),
        Output::Json => eprintln!("{}", serde_json::json!({ "error": message })),
    }
}

/// How far something is that takes long: beside the answer, not in it.
#[expect(clippy::print_stderr, reason = "progress is no part of the answer")]
fn report(line: &str) {
    eprintln!("{line}");
}

/// Whoever closed standard output wants no answer: that is no failure of the command.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn load_config(path: &std::path::Path) -> Result<Config, Vec<Mistake>> {
    // Names and values that are not UTF-8 can't be ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Config::load(path, environment)
}

/// The configuration, with the folder that it names looked into: what `config check` and `run` both begin with.
fn load_whole(path: &std::path::Path) -> Result<Config, Vec<Mistake>> {
    let config = load_config(path)?;
    #[expect(clippy::disallowed_methods, reason = "the process's own randomness")]
    let random = SystemRandom::new();
    let mistakes = homeserver::organisation::look(&config, SystemClock.now_ms(), &random);
    if mistakes.is_empty() {
        return Ok(config);
    }
    let mistake = |(at, problem)| Mistake {
        at,
        key: None,
        problem,
    };
    Err(mistakes.into_iter().map(mistake).collect())
}

fn check_config(path: &std::path::Path, output: Output) -> Result<(), Failure> {
    let loaded = load_whole(path).and_then(|config| {
        let mistake = |key: &str, problem: String| Mistake {
            at: path.display().to_string(),
            key: Some(key.to_owned()),
            problem,
        };
        let runtime = runtime().map_err(|failure| vec![mistake("store", failure.message)])?;
        let looked = [
            ("store.engine", runtime.block_on(engines::look(&config))),
            ("store_keys", runtime.block_on(store_keys::look(&config))),
        ];
        let mistakes = looked.into_iter();
        let mistakes = mistakes.filter_map(|(key, looked)| Some((key, looked.err()?)));
        let mistakes: Vec<_> = mistakes
            .map(|(key, error)| mistake(key, error.to_string()))
            .collect();
        if mistakes.is_empty() {
            Ok(config)
        } else {
            Err(mistakes)
        }
    });
    let warnings = loaded
        .as_ref()
        .map_or_else(|_| Vec::new(), |config| exposed(path, config));
    let mistakes = loaded.err().unwrap_or_default();
    match output {
        Output::Text if mistakes.is_empty() => {
            for warning in &warnings {
                say(&format!("warning: {warning}"));
            }
            say(&format!("{}: right", path.display()));
        }
        Output::Text => return Err(wrong_config(&mistakes)),
        Output::Json => {
            let list: Vec<_> = mistakes
                .iter()
                .map(|m| serde_json::json!({"at": m.at, "key": m.key, "problem": m.problem}))
                .collect();
            let answer = serde_json::json!({
                "ok": list.is_empty(), "mistakes": list, "warnings": warnings,
            });
            say(&answer.to_string());
        }
    }
    if mistakes.is_empty() {
        Ok(())
    } else {
        Err(Failure {
            code: EXIT_CONFIG,
            message: String::new(),
        })
    }
}

fn wrong_config(mistakes: &[Mistake]) -> Failure {
    let lines: Vec<_> = mistakes.iter().map(|m| format!("  {m}")).collect();
    Failure {
        code: EXIT_CONFIG,
        message: format!(
            "the configuration, or what it names, is wrong:\n{}",
            lines.join("\n")
        ),
    }
}

fn check_root_key(
    file: &std::path::Path,
    passphrase_file: Option<&std::path::Path>,
    output: Output,
) -> Result<(), Failure> {
    open_root_key(file, passphrase_file)?;
    match output {
        Output::Text => say("the passphrase opens it"),
        Output::Json => say(&serde_json::json!({ "ok": true }).to_string()),
    }
    Ok(())
}

/// The root's private key (PKCS#8) out of its sealed file.
fn open_root_key(
    file: &std::path::Path,
    passphrase_file: Option<&std::path::Path>,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
    let passphrase = match passphrase_file {
        Some(path) => init::read_secret(path)?,
        None => init::ask_secret("Passphrase of the root key", "--passphrase-file")?,
    };
    homeserver::organisation::root_key::open(&text, &passphrase).map_err(Failure::new)
}

/// What a command that does one thing waits with.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::new)
}

fn serve(path: &std::path::Path) -> Result<(), Failure> {
    let config = load_whole(path).map_err(|mistakes| wrong_config(&mistakes))?;
    telemetry::start_logging(&config.telemetry);
    for warning in exposed(path, &config) {
        tracing::warn!("{warning}");
    }
    let mut runtime = match config.runtime.workers {
        1 => tokio::runtime::Builder::new_current_thread(),
        workers => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(workers);
            builder
        }
    };
    let runtime = runtime.enable_all().build().map_err(Failure::new)?;
    let result = runtime.block_on(server::run(config));
    // What is still hashing a password is not waited for.
    runtime.shutdown_background();
    result.map_err(|error| {
        tracing::error!(%error, "ended by a failure");
        Failure {
            code: EXIT_FAILURE,
            message: String::new(),
        }
    })
}
