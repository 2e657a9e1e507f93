//! This device: where its store is, what opens it, and its connection.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use entente_sdk::{Client, Event, Password, RecoveryCode, StoreKey};

use crate::cli::Common;
use crate::failure::{Failure, Result};
use crate::show::output::Output;

/// Environment variable with the store's passphrase.
const PASSPHRASE: &str = "CHAT_PASSPHRASE";
/// Environment variable with a backup's recovery code.
const RECOVERY_CODE: &str = "CHAT_RECOVERY_CODE";
/// Environment variable with the account's password.
const PASSWORD: &str = "CHAT_PASSWORD";
/// Shortest passphrase for a new store, in characters.
const PASSPHRASE_CHARACTERS_MIN: usize = 8;

/// Opens the enrolled device.
pub(crate) async fn open(common: &Common) -> Result<Client> {
    let folder = folder(common)?;
    // Before anybody is asked for a passphrase.
    if !folder.exists() {
        return Err(entente_sdk::Error::NotEnrolled(folder).into());
    }
    let key = existing_key(common)?;
    Ok(Client::open(folder, key).await?)
}

/// Opens the device's session.
///
/// # Errors
/// When the session does not stand within the time allowed.
pub(crate) async fn connect(common: &Common, client: &Client) -> Result {
    wait_connected(client, timeout(common)).await
}

/// Starts the session and waits until it stands.
pub(crate) async fn wait_connected(client: &Client, limit: Duration) -> Result {
    let mut events = client.events();
    client.connect();
    let mut reason = "it did not answer".to_owned();
    let until = tokio::time::sleep(limit);
    tokio::pin!(until);
    loop {
        tokio::select! {
            outcome = client.connected() => return Ok(outcome?),
            event = events.next() => match event {
                Some(Event::Disconnected { reason: why, .. }) => reason = why,
                Some(_) => {}
                None => return Err(entente_sdk::Error::Closed.into()),
            },
            () = &mut until => {
                return Err(Failure::not_now(
                    "unreachable",
                    format!(
                        "Your homeserver at {} can't be reached: {reason}. Try again later.",
                        client.endpoint().address()
                    ),
                ));
            }
        }
    }
}

/// Waits, in a session that stands, until what waited for this device is here.
pub(crate) async fn wait_caught_up(client: &Client, limit: Duration) -> Result {
    match tokio::time::timeout(limit, client.caught_up()).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(Failure::not_now(
            "behind",
            format!(
                "What waited for this device was still coming in after {} s. Try again, or allow more \
                 time with --timeout.",
                limit.as_secs()
            ),
        )),
    }
}

/// Ends the session in order; what could not be sent stays in the store.
pub(crate) async fn close(client: &Client, output: &Output) {
    const LIMIT: Duration = Duration::from_secs(5);
    if tokio::time::timeout(LIMIT, client.close()).await.is_err() {
        output.note("The session did not end in order; nothing is lost.");
    }
}

/// How long to wait for others.
pub(crate) const fn timeout(common: &Common) -> Duration {
    Duration::from_secs(common.timeout)
}

/// The device's folder.
pub(crate) fn folder(common: &Common) -> Result<PathBuf> {
    if let Some(dir) = &common.dir {
        return Ok(dir.clone());
    }
    let data = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".local").join("share")));
    data.map(|data| data.join("entente-chat")).ok_or_else(|| {
        Failure::new(
            "no-folder",
            "You have no home folder: say where with --dir DIR.",
        )
    })
}

/// The key of a store to be made: a passphrase typed twice, unless a file or the environment has it.
pub(crate) fn new_key(common: &Common) -> Result<StoreKey> {
    let passphrase = match given(common.passphrase_file.as_deref(), PASSPHRASE)? {
        Some(passphrase) => passphrase,
        None => {
            let first = ask("New passphrase for this device's store: ")?;
            if first != ask("Once more: ")? {
                return Err(Failure::new(
                    "passphrase",
                    "The two passphrases differ. Start again.",
                ));
            }
            first
        }
    };
    if passphrase.chars().count() < PASSPHRASE_CHARACTERS_MIN {
        return Err(Failure::new(
            "passphrase",
            format!("Choose a passphrase of at least {PASSPHRASE_CHARACTERS_MIN} characters."),
        ));
    }
    Ok(StoreKey::Passphrase(passphrase))
}

/// The account's password.
pub(crate) fn password(file: Option<&Path>, address: &str) -> Result<Password> {
    match given(file, PASSWORD)? {
        Some(password) => Ok(password.into()),
        None => ask(&format!("Password of {address}: ")).map(Password::from),
    }
}

/// The account's password from now on.
pub(crate) fn new_password(file: Option<&Path>) -> Result<Password> {
    if let Some(file) = file {
        return first_line(file).map(Password::from);
    }
    let first = Password::from(ask("New password: ")?);
    if first == Password::from(ask("Once more: ")?) {
        Ok(first)
    } else {
        Err(Failure::new(
            "password",
            "The two passwords differ. Start again.",
        ))
    }
}

/// A backup's recovery code.
pub(crate) fn recovery_code(file: Option<&Path>) -> Result<RecoveryCode> {
    let typed = match given(file, RECOVERY_CODE)? {
        Some(code) => code,
        None => rpassword::prompt_password("Recovery code of the backup: ").map_err(|error| {
            Failure::no_terminal(format!(
                "Can't ask here ({error}): use --code-file or {RECOVERY_CODE}."
            ))
        })?,
    };
    Ok(typed.parse::<RecoveryCode>()?)
}

/// What a person at the terminal answers; no without one.
pub(crate) fn says_yes(question: &str) -> Result<bool> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(false);
    }
    answers_yes(question)
}

fn answers_yes(question: &str) -> Result<bool> {
    let mut terminal = std::io::stderr().lock();
    write!(terminal, "{question} [yes/no] ")?;
    terminal.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

/// Whether a person at the terminal says yes; without one `flag` must have been given.
pub(crate) fn confirm(question: &str, flag: &str) -> Result {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::no_terminal(format!(
            "{question} Can't ask here: add {flag}."
        )));
    }
    if answers_yes(question)? {
        Ok(())
    } else {
        Err(Failure::new(
            "not-confirmed",
            "Not confirmed; nothing was changed.",
        ))
    }
}

fn existing_key(common: &Common) -> Result<StoreKey> {
    let passphrase = match given(common.passphrase_file.as_deref(), PASSPHRASE)? {
        Some(passphrase) => passphrase,
        None => ask("Passphrase of this device's store: ")?,
    };
    Ok(StoreKey::Passphrase(passphrase))
}

/// A secret from a file's first line, else from the environment.
fn given(file: Option<&Path>, variable: &str) -> Result<Option<String>> {
    let Some(file) = file else {
        return Ok(std::env::var(variable).ok());
    };
    first_line(file).map(Some)
}

fn first_line(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::new("file", format!("Can't read {}: {error}.", file.display()))
    })?;
    let first = text.lines().next().unwrap_or_default();
    if first.is_empty() {
        return Err(Failure::new(
            "file",
            format!("The first line of {} is empty.", file.display()),
        ));
    }
    Ok(first.to_owned())
}

fn ask(question: &str) -> Result<String> {
    rpassword::prompt_password(question).map_err(|error| {
        Failure::no_terminal(format!(
            "Can't ask here ({error}): use --passphrase-file, {PASSPHRASE}, --password-file or \
             {PASSWORD}."
        ))
    })
}
