//! What each command asks of the admin API and how its answer reads; one file a noun.

mod audit;
mod backup;
mod barriers;
mod consortium;
mod document_file;
mod evidence;
mod keys;
mod keys_root;
mod outbox;
mod peer;
mod peer_amendment;
mod peering_document;
mod quarantine;
mod reports;
mod restored;
mod session;
mod status;
mod unfinished;
mod user;
mod user_type;

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::Path;

use clap::CommandFactory;
use homeserver_api::password::Password;
use zeroize::Zeroizing;

use crate::cli::{Arguments, Command, NewPasswordArguments};
use crate::connection::Admin;
use crate::failure::Failure;
use crate::output::print;

/// Largest file that a command reads.
const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Does what the command line asks.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let format = arguments.format();
    let connection = &arguments.connection;
    let admin = || Admin::open(connection);
    match arguments.command {
        Command::Login(login) => session::login(connection, &login, format).await,
        Command::Logout(logout) => session::logout(connection, &logout, format).await,
        Command::Password(password) => session::password(connection, &password, format).await,
        Command::Status => status::status(&admin()?, format).await,
        Command::User(command) => user::run(&admin()?, command, format).await,
        Command::Device(command) => user::run_device(&admin()?, command, format).await,
        Command::UserType(command) => user_type::run(&admin()?, command, format).await,
        Command::Policy(command) => barriers::run(&admin()?, command, format).await,
        Command::Peer(command) => peer::run(&admin()?, command, format).await,
        Command::Consortium(command) => consortium::run(&admin()?, command, format).await,
        Command::Keys(command) => keys::run(&admin()?, command, format).await,
        Command::Outbox(command) => outbox::run(&admin()?, command, format).await,
        Command::Reports(command) => reports::run(&admin()?, command, format).await,
        Command::Evidence(command) => evidence::run(connection, command, format).await,
        Command::DeadLetters { limit } => outbox::dead_letters(&admin()?, limit, format).await,
        Command::Backup(arguments) => backup::run(&admin()?, &arguments, format).await,
        Command::Restored(arguments) => restored::run(&admin()?, &arguments, format).await,
        Command::Audit(audit) => audit::run(connection, audit, format).await,
        Command::Completions { shell } => {
            // The generator ends the program when it can't write, so it writes into memory.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "hsctl", &mut script);
            print(String::from_utf8_lossy(&script).trim_end())
        }
    }
}

/// The text of a file, `-` for standard input.
fn read_file(file: &Path) -> Result<String, Failure> {
    let name = if file == Path::new("-") {
        "standard input".to_owned()
    } else {
        file.display().to_string()
    };
    let mut text = String::new();
    let read = if file == Path::new("-") {
        io::stdin()
            .lock()
            .take(FILE_BYTES_MAX)
            .read_to_string(&mut text)
    } else {
        std::fs::File::open(file)
            .and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::Configuration(format!("{name} can't be read: {error}")))?;
    Ok(text)
}

/// A password from a file: its first line.
fn read_password(file: &Path) -> Result<Password, Failure> {
    let text = Zeroizing::new(read_file(file)?);
    let password = text.lines().next().unwrap_or_default();
    if password.is_empty() {
        return Err(Failure::Configuration(format!(
            "{} holds no password in its first line",
            file.display()
        )));
    }
    Ok(password.into())
}

fn ask_password(prompt: &str) -> Result<Password, Failure> {
    rpassword::prompt_password(prompt)
        .map(Password::from)
        .map_err(|error| {
            Failure::Usage(format!(
                "the password can't be asked for here ({error}): use --password-file"
            ))
        })
}

/// A new password, typed twice.
fn ask_new_password() -> Result<Password, Failure> {
    let password = ask_password("New password: ")?;
    if password == ask_password("Once more: ")? {
        Ok(password)
    } else {
        Err(Failure::Usage("the two passwords differ".to_owned()))
    }
}

/// The password that the flags give, `None` when the homeserver shall make one.
fn new_password(arguments: &NewPasswordArguments) -> Result<Option<Password>, Failure> {
    if let Some(file) = &arguments.password_file {
        return read_password(file).map(Some);
    }
    if !arguments.ask_password {
        return Ok(None);
    }
    ask_new_password().map(Some)
}

/// Asks a question that must be answered with `yes`; without a terminal `flag` must have been given.
fn confirm(question: &str, flag: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(format!(
            "{question} There is no terminal to ask at: add {flag}"
        )));
    }
    // On standard error, so that standard output carries the answer alone.
    let mut terminal = io::stderr().lock();
    let asked = write!(terminal, "{question} [yes/no] ").and_then(|()| terminal.flush());
    let mut answer = String::new();
    asked
        .and_then(|()| io::stdin().lock().read_line(&mut answer).map(|_| ()))
        .map_err(|error| Failure::Other(format!("the terminal does not answer: {error}")))?;
    if answer.trim() == "yes" {
        Ok(())
    } else {
        Err(Failure::Other(
            "not confirmed; nothing was changed".to_owned(),
        ))
    }
}
