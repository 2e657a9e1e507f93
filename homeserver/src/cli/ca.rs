//! `homeserver ca`: a new issuing CA, signed by the root whose key lies elsewhere.
//!
//! `request` and `install` run on the homeserver's machine, as its user, while it runs or not; `sign` runs
//! where the root key is and needs nothing else of the homeserver. `renew` is the three in one, for whoever
//! brings the root key to the homeserver's machine.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use homeserver::clock::{Clock, SystemClock};
use homeserver::organisation::KeyFolder;
use homeserver::organisation::issuing::{self, TEXT_BYTES_MAX};
use ring::rand::SystemRandom;
use zeroize::Zeroizing;

use super::{Failure, Output, load_config, open_root_key, say, wrong_config};

#[derive(Subcommand)]
pub(super) enum CaCommand {
    /// Ask for a new issuing CA: a request for the root's signature. The request's own key stays here.
    Request {
        /// Where the request goes; absent: standard output.
        #[arg(long, short)]
        output_file: Option<PathBuf>,
    },
    /// Sign a request with the root key, on any machine.
    Sign {
        /// The request.
        request: PathBuf,
        /// The root certificate: `keys/root.pem` of the homeserver.
        #[arg(long)]
        root: PathBuf,
        #[command(flatten)]
        key: RootKeyArguments,
        /// Where the certificate goes; absent: standard output.
        #[arg(long, short)]
        output_file: Option<PathBuf>,
    },
    /// Take the signed certificate: the homeserver uses it within a minute, or when it starts.
    Install {
        /// The certificate that `sign` made.
        certificate: PathBuf,
    },
    /// All of that at once, with the root key on this machine.
    Renew {
        #[command(flatten)]
        key: RootKeyArguments,
    },
}

#[derive(Args)]
pub(super) struct RootKeyArguments {
    /// The sealed root key.
    #[arg(long)]
    root_key: PathBuf,
    /// A file that holds the root key's passphrase; absent: it is asked for.
    #[arg(long)]
    passphrase_file: Option<PathBuf>,
}

/// Does what is asked.
pub(super) fn run(command: CaCommand, config: &Path, output: Output) -> Result<(), Failure> {
    let home = || -> Result<_, Failure> {
        let config = load_config(config).map_err(|mistakes| wrong_config(&mistakes))?;
        Ok((
            KeyFolder::at(config.server.keys_dir()),
            config.server.keys_dir(),
            config.server.name,
        ))
    };
    match command {
        CaCommand::Request { output_file } => {
            let (folder, _, server) = home()?;
            let request = folder.request_issuing(&server).map_err(Failure::new)?;
            put(&request, output_file.as_deref())
        }
        CaCommand::Sign {
            request,
            root,
            key,
            output_file,
        } => {
            let signed = sign(&read(&request)?, &read(&root)?, &key)?;
            put(&signed, output_file.as_deref())
        }
        CaCommand::Install { certificate } => {
            let (folder, ..) = home()?;
            install(&folder, &read(&certificate)?, output)
        }
        CaCommand::Renew { key } => {
            let (folder, path, server) = home()?;
            let request = folder.request_issuing(&server).map_err(Failure::new)?;
            let signed = sign(&request, &read(&path.join("root.pem"))?, &key)?;
            install(&folder, &signed, output)
        }
    }
}

fn sign(request: &str, root: &str, key: &RootKeyArguments) -> Result<String, Failure> {
    let root_key = key.open()?;
    #[expect(clippy::disallowed_methods, reason = "the process's own randomness")]
    let random = SystemRandom::new();
    issuing::sign(request, root, &root_key, SystemClock.now_ms(), &random).map_err(Failure::new)
}

fn install(folder: &KeyFolder, certificate: &str, output: Output) -> Result<(), Failure> {
    folder
        .install_issuing(certificate, SystemClock.now_ms())
        .map_err(Failure::new)?;
    match output {
        Output::Text => say(
            "The new issuing CA is in place: the homeserver takes it up within a minute, or when it starts. \
             Partners need not be told.\n`hsctl keys show` says until when it lasts.",
        ),
        Output::Json => say(&serde_json::json!({"installed": true}).to_string()),
    }
    Ok(())
}

impl RootKeyArguments {
    /// The root's private key (PKCS#8).
    pub(super) fn open(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        open_root_key(&self.root_key, self.passphrase_file.as_deref())
    }
}

/// The text of a file of at most the size that a request or a certificate has.
pub(super) fn read(path: &Path) -> Result<String, Failure> {
    let wrong =
        |problem: &dyn std::fmt::Display| Failure::new(format!("{}: {problem}", path.display()));
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(TEXT_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| wrong(&error))?;
    Ok(text)
}

pub(super) fn put(text: &str, path: Option<&Path>) -> Result<(), Failure> {
    match path {
        Some(path) => std::fs::write(path, text)
            .map_err(|error| Failure::new(format!("{}: {error}", path.display()))),
        None => {
            say(text.trim_end());
            Ok(())
        }
    }
}
