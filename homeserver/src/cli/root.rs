//! `homeserver root`: another root for the organisation, made where both root keys are.
//!
//! `request` and `install` run on the homeserver's machine, as its user, while it runs or not; `sign` runs where the
//! root key is, makes the new one, and needs nothing else of the homeserver. `renew` is the three in one, for whoever
//! brings the root key to the homeserver's machine. What follows is said to the running homeserver: `hsctl keys root`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use homeserver::clock::{Clock, SystemClock};
use homeserver::organisation::root_change::{self, NewRoot};
use homeserver::organisation::{KeyFolder, init, root_key};
use ring::rand::SystemRandom;
use zeroize::Zeroizing;

use super::ca::{RootKeyArguments, put, read};
use super::init::{ask_new_secret, read_secret};
use super::{Failure, Output, load_config, say, wrong_config};

#[derive(Subcommand)]
pub(super) enum RootCommand {
    /// Ask for another root: a request for the signatures of both roots. The request's own key stays here.
    Request {
        /// Where the request goes; absent: standard output.
        #[arg(long, short)]
        output_file: Option<PathBuf>,
    },
    /// Make the new root, and sign a request with it and with the present one, on any machine.
    Sign {
        /// The request.
        request: PathBuf,
        /// The present root certificate: `keys/root.pem` of the homeserver.
        #[arg(long)]
        root: PathBuf,
        #[command(flatten)]
        key: RootKeyArguments,
        #[command(flatten)]
        new: NewRootKeyArguments,
        /// Where the certificates go.
        #[arg(long, short)]
        output_file: PathBuf,
    },
    /// Take what both roots have signed: the homeserver takes it up within a minute, or when it starts. Nobody goes by
    /// the new root before `hsctl keys root` says so.
    Install {
        /// The certificates that `sign` made.
        certificates: PathBuf,
    },
    /// All of that at once, with the present root key on this machine.
    Renew {
        #[command(flatten)]
        key: RootKeyArguments,
        #[command(flatten)]
        new: NewRootKeyArguments,
    },
}

#[derive(Args)]
pub(super) struct NewRootKeyArguments {
    /// Where the new root key goes, sealed: a file that is not there yet, and outside of the data folder. Take it off
    /// this machine as soon as it is written.
    #[arg(long)]
    new_root_key: PathBuf,
    /// A file that holds the passphrase that seals the new root key; absent: it is asked for.
    #[arg(long)]
    new_passphrase_file: Option<PathBuf>,
}

/// Does what is asked.
pub(super) fn run(command: RootCommand, config: &Path, output: Output) -> Result<(), Failure> {
    let home = || -> Result<_, Failure> {
        let config = load_config(config).map_err(|mistakes| wrong_config(&mistakes))?;
        Ok((KeyFolder::at(config.server.keys_dir()), config.server))
    };
    match command {
        RootCommand::Request { output_file } => {
            let (folder, server) = home()?;
            let request = folder.request_root(&server.name).map_err(Failure::new)?;
            put(&request, output_file.as_deref())
        }
        RootCommand::Sign {
            request,
            root,
            key,
            new,
            output_file,
        } => {
            let made = sign(&read(&request)?, &read(&root)?, &key, &new, None)?;
            put(&made.signed, Some(&output_file))?;
            told_of_key(&made, &new, output);
            Ok(())
        }
        RootCommand::Install { certificates } => {
            let (folder, server) = home()?;
            install(&folder, &server, &read(&certificates)?, output)
        }
        RootCommand::Renew { key, new } => {
            let (folder, server) = home()?;
            let request = folder.request_root(&server.name).map_err(Failure::new)?;
            let root = read(&server.keys_dir().join("root.pem"))?;
            let data_dir = Some(server.data_dir.as_path());
            let made = sign(&request, &root, &key, &new, data_dir)?;
            if let Output::Text = output {
                told_of_key(&made, &new, output);
            }
            install(&folder, &server, &made.signed, output)
        }
    }
}

/// The new key is on the disk, sealed, before anything is signed with it that is used.
fn sign(
    request: &str,
    root: &str,
    key: &RootKeyArguments,
    new: &NewRootKeyArguments,
    data_dir: Option<&Path>,
) -> Result<NewRoot, Failure> {
    let path = std::path::absolute(&new.new_root_key).map_err(Failure::new)?;
    let problems = init::root_key_problems(&path, data_dir);
    if !problems.is_empty() {
        return Err(Failure::new(problems.join("\n")));
    }
    let root_key = key.open()?;
    let passphrase = new_passphrase(new)?;
    #[expect(clippy::disallowed_methods, reason = "the process's own randomness")]
    let random = SystemRandom::new();
    let made = root_change::sign(request, root, &root_key, SystemClock.now_ms(), &random)
        .map_err(Failure::new)?;
    let sealed = root_key::seal(&made.root_key, &passphrase, &random).map_err(Failure::new)?;
    init::write_root_key(&path, &sealed).map_err(Failure::new)?;
    Ok(made)
}

fn new_passphrase(new: &NewRootKeyArguments) -> Result<Zeroizing<String>, Failure> {
    let given = match &new.new_passphrase_file {
        Some(path) => read_secret(path)?,
        None => ask_new_secret(
            "Passphrase that seals the new root key",
            "--new-passphrase-file",
            init::root_passphrase_problem,
        )?,
    };
    match init::root_passphrase_problem(&given) {
        Some(problem) => Err(Failure::new(problem)),
        None => Ok(given),
    }
}

fn told_of_key(made: &NewRoot, new: &NewRootKeyArguments, output: Output) {
    match output {
        Output::Text => say(&format!(
            "The new root's fingerprint is\n\n  {}\n  {}\n\n\
             Write it down: partners and `hsctl keys root switch` ask for it. Take {} off this machine, and keep its \
             passphrase elsewhere. Keep the former root key until its end is told.",
            made.fingerprint,
            made.fingerprint.words().join(" "),
            new.new_root_key.display()
        )),
        Output::Json => {
            let fingerprint = made.fingerprint.to_string();
            say(&serde_json::json!({"fingerprint": fingerprint}).to_string());
        }
    }
}

fn install(
    folder: &KeyFolder,
    server: &homeserver::config::ServerConfig,
    signed: &str,
    output: Output,
) -> Result<(), Failure> {
    let fingerprint = folder
        .install_root(&server.name, signed, SystemClock.now_ms())
        .map_err(Failure::new)?;
    match output {
        Output::Text => say(
            "The new root is in place beside the present one: the homeserver takes it up within a minute, or when it \
             starts.\nThen announce it to partners: `hsctl keys root announce`.",
        ),
        Output::Json => {
            let answer =
                serde_json::json!({"installed": true, "fingerprint": fingerprint.to_string()});
            say(&answer.to_string());
        }
    }
    Ok(())
}
