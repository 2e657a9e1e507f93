//! `homeserver store`: the store is looked through, moved to another engine, or goes over to another master key, while no
//! homeserver uses it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use homeserver::audit;
use homeserver::clock::{Clock as _, SystemClock};
use homeserver::config::{Config, StoreConfig};
use homeserver::server::{engines, store_keys};
use homeserver::store::everything::Sum;
use homeserver::store::moving::{Step, move_all};
use homeserver::store::sealed::MasterKey;
use homeserver::store::sealed::generations::GenerationFolder;
use homeserver::store::{Store, StoreError, check};
use ring::rand::SystemRandom;

use super::init::read_secret;
use super::{Failure, Output, load_config, report, runtime, say, wrong_config};

/// Progress is told each time that so many hundredths more are done.
const TOLD_EVERY: u64 = 5;

#[derive(Subcommand)]
pub(super) enum StoreCommand {
    /// Read everything, open what is sealed, and follow the chain of the audit log.
    Check,
    /// Take everything to another store, which must be empty: another engine, another folder or another database. The
    /// store here stays as it is. Says at the end what to change in the configuration.
    Move {
        /// A configuration that names the other store by `[server]`, `[store]` and `[postgresql]`. This file alone is
        /// read: no conf.d/, no environment.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Go over to the master key that the configuration names now.
    MasterKey {
        /// A file that holds the former master key.
        #[arg(long)]
        former_file: PathBuf,
    },
}

/// Does what is asked.
pub(super) fn run(command: StoreCommand, config: &Path, output: Output) -> Result<(), Failure> {
    let loaded = load_config(config).map_err(|mistakes| wrong_config(&mistakes))?;
    match command {
        StoreCommand::Check => check_store(&loaded, output),
        StoreCommand::Move { to } => {
            let target = read_target(&to, &loaded)?;
            let moved = move_store(&loaded, &target, output)?;
            tell_moved(moved, (config, &loaded), (&to, &target), output);
            Ok(())
        }
        StoreCommand::MasterKey { former_file } => change_master_key(&loaded, &former_file, output),
    }
}

/// The store that the configuration names, with its keys.
async fn open(config: &Config) -> Result<Store, StoreError> {
    #[expect(clippy::disallowed_methods, reason = "the process's own randomness")]
    let random = Arc::new(SystemRandom::new());
    let generations = store_keys::open(config).await?;
    Store::sealed(engines::open(config).await?, generations, random).await
}

fn check_store(config: &Config, output: Output) -> Result<(), Failure> {
    let (contents, audited) = runtime()?
        .block_on(async {
            let store = open(config).await?;
            Ok((check::check(&store).await?, audit::check(&store).await?))
        })
        .map_err(|error: StoreError| Failure::new(error))?;
    let sha256 = hex::encode(contents.sum.sha256);
    match output {
        Output::Text => {
            for (family, (entries, bytes)) in &contents.families {
                say(&format!("{family}: {entries} entries, {bytes} bytes"));
            }
            say(&format!("audit log: {audited} entries, chain unbroken"));
            say(&format!("all entries: SHA-256 {sha256}"));
        }
        Output::Json => {
            let families: serde_json::Map<_, _> = contents
                .families
                .iter()
                .map(|(family, (entries, bytes))| {
                    let figures = serde_json::json!({"entries": entries, "bytes": bytes});
                    ((*family).to_owned(), figures)
                })
                .collect();
            let answer = serde_json::json!({
                "families": families, "audit_entries": audited, "sha256": sha256,
            });
            say(&answer.to_string());
        }
    }
    Ok(())
}

/// Wraps the generations under the master key that the configuration names.
fn change_master_key(config: &Config, former_file: &Path, output: Output) -> Result<(), Failure> {
    let former = MasterKey::parse(&read_secret(former_file)?)
        .ok_or_else(|| Failure::new(format!("{}: it is no master key", former_file.display())))?;
    #[expect(clippy::disallowed_methods, reason = "the process's own randomness")]
    let random = SystemRandom::new();
    let new = runtime()?.block_on(async {
        store_keys::nobody_uses(config).await?;
        store_keys::master_key(config).await
    });
    let new = new.map_err(Failure::new)?;
    GenerationFolder::at(config.generations_dir(), former)
        .change_master(&new, SystemClock.now_ms(), &random)
        .map_err(Failure::new)?;
    match output {
        Output::Text => say("the store goes by the master key that the configuration names"),
        Output::Json => say(&serde_json::json!({ "ok": true }).to_string()),
    }
    Ok(())
}

/// The configuration of the store that everything is moved to.
fn read_target(path: &Path, source: &Config) -> Result<Config, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    let target = Config::read_text(&path.display().to_string(), &text)
        .map_err(|mistakes| wrong_config(&mistakes))?;
    if target.server.name != source.server.name {
        return Err(Failure::new(format!(
            "{} is of {}, but the store is of {}: name the same server in both",
            path.display(),
            target.server.name,
            source.server.name
        )));
    }
    if let (Some(from), Some(to)) = (folder(source), folder(&target)) {
        if !from.is_dir() {
            return Err(Failure::new(format!(
                "{}: there is no store here",
                from.display()
            )));
        }
        if place(&from) == place(&to) {
            return Err(Failure::new(format!(
                "both stores would lie in {}: name another data_dir in {}",
                from.display(),
                path.display()
            )));
        }
    }
    Ok(target)
}

/// Where a store lies on this machine.
fn folder(config: &Config) -> Option<PathBuf> {
    match config.store {
        StoreConfig::Postgresql(_) => None,
        StoreConfig::Fjall { .. } | StoreConfig::Sled => Some(config.server.store_dir()),
    }
}

/// A folder by its one true name; one that is not there yet has no other.
fn place(folder: &Path) -> PathBuf {
    std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned())
}

fn move_store(source: &Config, target: &Config, output: Output) -> Result<Sum, Failure> {
    let moved = runtime()?.block_on(async {
        // With its keys: what can't be opened is told before anything is written.
        let source = open(source).await?;
        engines::make_folder(target)?;
        // What is sealed arrives as it is, so the target needs none to be written.
        let target = Store::new(engines::open(target).await?)?;
        let mut progress = Progress::new(output);
        let told = |step, done, of| progress.tell(step, done, of);
        move_all(&source, &target, told).await
    });
    moved.map_err(Failure::new)
}

/// What was told last.
struct Progress {
    output: Output,
    told: Option<(Step, u64)>,
}

impl Progress {
    fn new(output: Output) -> Self {
        Self { output, told: None }
    }

    fn tell(&mut self, step: Step, done: u64, of: u64) {
        let percent = done.saturating_mul(100).checked_div(of).unwrap_or(0);
        let percent = percent / TOLD_EVERY * TOLD_EVERY;
        let is_new = self.told != Some((step, percent));
        self.told = Some((step, percent));
        if is_new && self.output == Output::Text {
            report(&match step {
                Step::Checking => "reading the store".to_owned(),
                Step::Copying => format!("copying: {percent} % of {of} entries"),
                Step::Comparing => format!("reading what was copied: {percent} % of {of} entries"),
                Step::CheckingAgain => "reading the store again".to_owned(),
            });
        }
    }
}

fn tell_moved(
    moved: Sum,
    (path, source): (&Path, &Config),
    (target_path, target): (&Path, &Config),
    output: Output,
) {
    let sha256 = hex::encode(moved.sha256);
    let changes = changes(path, source, target_path, target);
    match output {
        Output::Json => {
            let answer = serde_json::json!({
                "entries": moved.entries, "bytes": moved.bytes, "sha256": sha256, "next": changes,
            });
            say(&answer.to_string());
        }
        Output::Text => {
            say(&format!(
                "moved {} entries, {} bytes; both stores were read and hold the same (SHA-256 {sha256})",
                moved.entries, moved.bytes
            ));
            for (number, change) in (1..).zip(changes) {
                say(&format!("{number}. {change}"));
            }
        }
    }
}

/// What is left to do.
fn changes(path: &Path, source: &Config, target_path: &Path, target: &Config) -> Vec<String> {
    let (path, target_path) = (path.display(), target_path.display());
    let mut changes = Vec::new();
    if source.store != target.store {
        let lines = match &target.store {
            StoreConfig::Fjall { commit_log } => {
                format!("`engine = \"fjall\"` and `commit_log = {commit_log}` under [store]")
            }
            StoreConfig::Sled => {
                "`engine = \"sled\"` under [store], and no commit_log there".to_owned()
            }
            StoreConfig::Postgresql(_) => format!(
                "`engine = \"postgresql\"` under [store], no commit_log there, and [postgresql] as in {target_path}"
            ),
        };
        changes.push(format!("Write into {path}: {lines}."));
    }
    if folder(target).is_some() && source.server.data_dir != target.server.data_dir {
        changes.push(format!(
            "Move {} to {}, and write `data_dir = \"{}\"` under [server] into {path}.",
            source.server.keys_dir().display(),
            target.server.keys_dir().display(),
            target.server.data_dir.display()
        ));
        if source.store_keys.folder.is_none() {
            changes.push(format!(
                "Move {} to {}: what waits is sealed under the keys in it.",
                source.generations_dir().display(),
                target.generations_dir().display()
            ));
        }
    }
    changes.push("Start the homeserver.".to_owned());
    changes.push(
        "Once it runs, remove the former store: a homeserver that is started on it again goes back in time, and destroys the \
         keys of what waits in the new one."
            .to_owned(),
    );
    changes
}
