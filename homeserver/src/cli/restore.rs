//! `homeserver restore` and `homeserver backup-key`: a data folder made of a backup, and the key that backups are sealed for.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use federation_proto::fingerprint::Fingerprint;
use homeserver::backup::{self, Asked, KeyPair, RestoreError, Restored, Secret};
use homeserver::clock::{Clock as _, SystemClock, as_text};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::init::{ask_secret, read_secret};
use super::{EXIT_NOT_UNDERSTOOD, Failure, Output, report, runtime, say};

/// Progress is told each time that so many more entries were read.
const TOLD_EVERY: u64 = 100_000;

#[derive(Args)]
pub(super) struct RestoreArguments {
    /// The backup that `hsctl backup` has made.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The data folder that is made of it: one that is not there yet, or has neither keys nor a store.
    #[arg(
        long,
        value_name = "FOLDER",
        required_unless_present = "check",
        conflicts_with = "check"
    )]
    data_dir: Option<PathBuf>,
    /// Read the backup from its beginning to its end, and write nothing.
    #[arg(long)]
    check: bool,
    /// The private half of the backup key that it is sealed for.
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    key: Option<PathBuf>,
    /// A file that holds the passphrase that it is sealed by, in its first line. With neither, the passphrase is asked for.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// The fingerprint of the organisation that it has to be of, as words or as digits: nothing in a backup proves who has made
    /// it.
    #[arg(long, value_name = "FINGERPRINT")]
    fingerprint: Option<Fingerprint>,
}

#[derive(Args)]
pub(super) struct BackupKeyArguments {
    /// Where the private half goes: a file that is not there yet. It opens every backup: take it off this machine.
    #[arg(long, value_name = "FILE")]
    private: PathBuf,
    /// Where the public half goes, for `hsctl backup --public-key`.
    #[arg(long, value_name = "FILE")]
    public: PathBuf,
}

/// Makes a data folder of a backup, or reads the backup alone.
pub(super) fn run(arguments: &RestoreArguments, output: Output) -> Result<(), Failure> {
    let secret = secret(arguments)?;
    let asked = Asked {
        file: &arguments.from,
        secret: &secret,
        fingerprint: arguments.fingerprint,
    };
    #[expect(clippy::disallowed_methods, reason = "the process's own randomness")]
    let random = SystemRandom::new();
    let random: &dyn SecureRandom = &random;
    let now = (SystemClock.now_ms(), random);
    let mut told = 0;
    let mut tell = |entries: u64| {
        if entries >= told + TOLD_EVERY && output == Output::Text {
            told = entries;
            report(&format!("{entries} entries read"));
        }
    };
    let Some(data_dir) = &arguments.data_dir else {
        let verified = backup::verify(asked, now, tell);
        let verified = verified.map_err(|error| failed(&arguments.from, &error))?;
        tell_verified(&verified, output);
        return Ok(());
    };
    if !data_dir.is_absolute() {
        return Err(Failure {
            code: EXIT_NOT_UNDERSTOOD,
            message: format!("--data-dir: {} is not an absolute path", data_dir.display()),
        });
    }
    let restoring = backup::restore(asked, data_dir, now, &mut tell);
    let restored = runtime()?
        .block_on(restoring)
        .map_err(|error| failed(&arguments.from, &error))?;
    tell_restored(&restored, data_dir, output);
    Ok(())
}

/// What opens the backup.
fn secret(arguments: &RestoreArguments) -> Result<Secret, Failure> {
    if let Some(file) = &arguments.key {
        let text = read_secret(file)?;
        let key = backup::private_key(&text)
            .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
        return Ok(Secret::Key(key));
    }
    let passphrase = match &arguments.passphrase_file {
        Some(file) => first_line(file)?,
        None => ask_secret("Passphrase of the backup", "--passphrase-file")?,
    };
    Ok(Secret::Passphrase(passphrase))
}

/// The first line of a file, as `hsctl backup` reads it.
fn first_line(file: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = read_secret(file)?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        let problem = "it holds no passphrase in its first line";
        return Err(Failure::new(format!("{}: {problem}", file.display())));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

fn failed(file: &Path, error: &RestoreError) -> Failure {
    match error {
        RestoreError::Read(error) => Failure::new(format!("{}: {error}", file.display())),
        error => Failure::new(error),
    }
}

fn tell_verified(verified: &Restored, output: Output) {
    match output {
        Output::Json => say(&json(verified).to_string()),
        Output::Text => say(&format!(
            "a whole backup of {} as of {}: {} entries, {} bytes\n\
             fingerprint of its root: {}",
            verified.server,
            as_text(verified.made_ms),
            verified.entries,
            verified.bytes,
            verified.fingerprint
        )),
    }
}

fn tell_restored(restored: &Restored, data_dir: &Path, output: Output) {
    match output {
        Output::Json => say(&json(restored).to_string()),
        Output::Text => say(&format!(
            "{} is restored as of {}: {} entries, {} bytes, and its keys.\n\
             Fingerprint of its root, which partners know: {}\n\n\
             What was answered after that time is lost. Next:\n\
             1. See to it that the former homeserver never starts again.\n\
             2. Write a configuration with `data_dir = \"{}\"` under [server], and the engine fjall.\n\
             3. The store has a new master key, keys/store-master.key below that: to keep it elsewhere, go over to another one \
             (`homeserver store master-key`).\n\
             4. Start the homeserver: it answers `hsctl` on its own machine alone.\n\
             5. What has ended since has come back: `hsctl restored` shows what there is. Remove devices, suspend users and \
             suspend or revoke agreements again; then `hsctl restored confirm` lets people and partners in. With partners it \
             goes on by itself from there.",
            restored.server,
            as_text(restored.made_ms),
            restored.entries,
            restored.bytes,
            restored.fingerprint,
            data_dir.display()
        )),
    }
}

fn json(restored: &Restored) -> serde_json::Value {
    serde_json::json!({
        "server": restored.server,
        "fingerprint": restored.fingerprint,
        "made_ms": restored.made_ms,
        "entries": restored.entries,
        "bytes": restored.bytes,
    })
}

/// Makes a backup key.
pub(super) fn make_key(arguments: &BackupKeyArguments, output: Output) -> Result<(), Failure> {
    #[expect(clippy::disallowed_methods, reason = "the process's own randomness")]
    let random = SystemRandom::new();
    let pair = KeyPair::draw(&random).map_err(Failure::new)?;
    write(&arguments.private, &pair.private, 0o600)?;
    write(&arguments.public, &pair.public, 0o644)?;
    let (private, public) = (arguments.private.display(), arguments.public.display());
    match output {
        Output::Json => {
            let answer = serde_json::json!({
                "private": private.to_string(), "public": public.to_string(),
            });
            say(&answer.to_string());
        }
        Output::Text => say(&format!(
            "Take {private} off this machine and keep it as you keep the root key: it opens every backup that is made with \
             {public}, and nothing else does."
        )),
    }
    Ok(())
}

/// Writes a new file, durably.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
    written.map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}
