//! `homeserver init`: makes an organisation, once.
//!
//! Refuses to overwrite anything, and makes all or nothing: what was written is removed when a later step fails. The
//! sealed root key is written first, for without it the rest is worth nothing and can't be made again; the
//! configuration, which `homeserver run` looks for, after the keys. The store is filled last: it may be a database,
//! where nothing is undone, and without it nothing runs either.

mod store_answers;

use std::fmt::Write as _;
use std::fs::DirBuilder;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use federation_proto::fingerprint::Fingerprint;
use federation_proto::ids::{Handle, ServerName};
use homeserver_api::policy::UserTypePolicy;
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use super::{KeyFolder, OrganisationError, create, root_key, sync_folder, write_private};
use crate::audit::{self, Actor, Event};
use crate::config::{Config, StoreConfig};
use crate::identity::{IdentityError, passwords};
use crate::store::administrators::{self, Administrator};
use crate::store::sealed::generations::{Generation, GenerationFolder};
use crate::store::sealed::{self, MasterKey};
use crate::store::{
    Engine, Part, PartOutcome, Precondition, Store, StoreError, everything, schema, user_type,
};

pub use store_answers::StoreAnswers;

/// The user type that an account gets unless its administrator says otherwise.
pub const DEFAULT_USER_TYPE: &str = "standard";

/// What `homeserver init` has to know.
pub struct Answers {
    /// The organisation's server name.
    pub server: ServerName,
    /// Where clients connect.
    pub client: SocketAddr,
    /// Where peers connect.
    pub federation: SocketAddr,
    /// Where peers are told to connect, `host:port` each.
    pub endpoints: Vec<String>,
    /// The admin socket; `None`: the default.
    pub admin_socket: Option<PathBuf>,
    /// Metrics and health; `None`: not served.
    pub metrics: Option<SocketAddr>,
    /// Where keys and store lie.
    pub data_dir: PathBuf,
    /// What the store stands on.
    pub store: StoreAnswers,
    /// The first administrator.
    pub admin_name: Handle,
    /// The first administrator's password.
    pub admin_password: Zeroizing<String>,
    /// Where the sealed root key goes.
    pub root_key: PathBuf,
    /// What seals it.
    pub root_passphrase: Zeroizing<String>,
    /// Where the configuration goes.
    pub config: PathBuf,
}

/// Why no organisation was made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Something is there already, or an answer will not do; nothing was written.
    #[error("{}", .0.join("\n"))]
    Answers(Vec<String>),
    /// A step failed after others were done; they were undone, as far as it says.
    #[error("{error}\n{undone}")]
    Undone {
        /// The step's own error.
        error: Box<InitError>,
        /// What was removed, and what could not be.
        undone: String,
    },
    /// A file could not be written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// Keys could not be made.
    #[error(transparent)]
    Organisation(#[from] OrganisationError),
    /// The store could not be made.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The administrator's password could not be hashed.
    #[error(transparent)]
    Password(#[from] IdentityError),
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Made {
    /// The organisation's server name.
    pub server: ServerName,
    /// What administrators of partners compare over the telephone.
    pub fingerprint: String,
    /// The same as words to read aloud.
    pub words: String,
    /// SHA-256 of the root certificate, lower-case hexadecimal: what clients pin.
    pub root_sha256: String,
    /// The configuration.
    pub config: PathBuf,
    /// Keys and store.
    pub data_dir: PathBuf,
    /// The sealed root key, to be moved off this machine.
    pub root_key: PathBuf,
    /// The admin socket, when it is not where `hsctl` looks by itself.
    pub admin_socket: Option<PathBuf>,
}

/// Makes an organisation and writes everything that `homeserver run` needs. `open` opens the store's engine as
/// `homeserver run` does.
pub async fn init(
    answers: &Answers,
    now_ms: u64,
    random: &(dyn SecureRandom + Send + Sync),
    open: impl AsyncFnOnce(&Config) -> Result<Arc<dyn Engine>, StoreError>,
) -> Result<Made, InitError> {
    let configuration = configuration(answers);
    let config = check(answers, &configuration)?;
    let organisation = create(&answers.server, now_ms, random)?;
    let sealed = root_key::seal(&organisation.root_key, &answers.root_passphrase, random)?;
    let password_hash = passwords::SignInGuard::default()
        .hash(&answers.admin_password, random)
        .await?;

    let server = &config.server;
    let mut traces = Traces::default();
    let written = async {
        traces.file(&answers.root_key, &sealed)?;
        traces.folder(&server.data_dir)?;
        traces.whole(&server.keys_dir());
        KeyFolder::at(server.keys_dir())
            .create(&organisation.keys)
            .map_err(at(&server.keys_dir()))?;
        let generation = make_store_keys(&config, &mut traces, now_ms, random)?;
        if !matches!(config.store, StoreConfig::Postgresql(_)) {
            traces.whole(&server.store_dir());
            DirBuilder::new()
                .mode(0o700)
                .create(server.store_dir())
                .map_err(at(&server.store_dir()))?;
        }
        traces.folder(folder_of(&answers.config))?;
        traces.file(&answers.config, &configuration)?;
        let engine = open(&config).await?;
        fill_store(answers, engine, (password_hash, generation), now_ms).await
    };
    if let Err(error) = written.await {
        return Err(traces.undo(error));
    }
    let fingerprint = Fingerprint::of_root(&organisation.keys.root());
    Ok(Made {
        server: answers.server.clone(),
        fingerprint: fingerprint.to_string(),
        words: fingerprint.words().join(" "),
        root_sha256: hex::encode(organisation.keys.root_sha256()),
        config: answers.config.clone(),
        data_dir: answers.data_dir.clone(),
        root_key: answers.root_key.clone(),
        admin_socket: answers.admin_socket.clone(),
    })
}

/// Writes a sealed root key, durably; refuses a file that exists. What is left of one that could not be written whole is
/// removed.
pub fn write_root_key(path: &Path, sealed: &str) -> Result<(), InitError> {
    let mut traces = Traces::default();
    let written = traces.file(path, sealed);
    if written.is_err() {
        traces.remove();
    }
    written
}

/// Everything that stands in the way, at once; or what the configuration comes to.
fn check(answers: &Answers, configuration: &str) -> Result<Config, InitError> {
    // What `homeserver run` would not take is not written.
    let config = Config::read_text("", configuration);
    let mut problems = mistakes(configuration, |_| true);
    problems.extend(answers.admin_socket.as_deref().and_then(not_text));
    problems.extend(occupied(&answers.config));
    problems.extend(data_dir_problems(&answers.data_dir));
    problems.extend(root_key_problems(
        &answers.root_key,
        Some(&answers.data_dir),
    ));
    problems.extend(admin_password_problem(&answers.admin_password));
    problems.extend(root_passphrase_problem(&answers.root_passphrase));
    match config {
        Ok(config) if problems.is_empty() => Ok(config),
        _ => Err(InitError::Answers(problems)),
    }
}

/// What is wrong with the answers that only go into the configuration, as far as they are known by now.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reached<'a> {
    /// Where clients connect.
    pub client: Option<SocketAddr>,
    /// Where peers connect.
    pub federation: Option<SocketAddr>,
    /// Where peers are told to connect.
    pub endpoints: &'a [String],
    /// The admin socket.
    pub admin_socket: Option<&'a Path>,
    /// Metrics and health.
    pub metrics: Option<SocketAddr>,
    /// What the store stands on.
    pub store: Option<&'a StoreAnswers>,
}

impl Reached<'_> {
    /// What `homeserver run` would not take of it.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = mistakes(&self.sections(), |key| !key.starts_with("server."));
        problems.extend(self.admin_socket.and_then(not_text));
        problems
    }

    /// `[listen]`, `[federation]` and what the store stands on.
    fn sections(&self) -> String {
        // An address that is not known yet is nobody else's.
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "[listen]\nclient = {}\nfederation = {}",
            value(&self.client.unwrap_or(unknown).to_string()),
            value(&self.federation.unwrap_or(unknown).to_string()),
        );
        if let Some(socket) = self.admin_socket {
            let _ = writeln!(text, "admin_socket = {}", path_value(socket));
        }
        if let Some(metrics) = &self.metrics {
            let _ = writeln!(text, "metrics = {}", value(&metrics.to_string()));
        }
        let endpoints: Vec<_> = self.endpoints.iter().map(|text| value(text)).collect();
        let _ = writeln!(
            text,
            "\n[federation]\n# Where peers reach this homeserver, as stated in offers and acceptances.\n\
             endpoints = [{}]",
            endpoints.join(", ")
        );
        text + &self.store.map(StoreAnswers::sections).unwrap_or_default()
    }
}

/// What a configuration that is about to be written has wrong, of the keys that are `asked` about.
fn mistakes(configuration: &str, asked: impl Fn(&str) -> bool) -> Vec<String> {
    let mistakes = Config::read_text("", configuration)
        .err()
        .unwrap_or_default();
    mistakes
        .into_iter()
        .filter(|mistake| mistake.key.as_deref().is_none_or(&asked))
        .map(|mistake| match mistake.key {
            Some(key) => format!("{key}: {}", mistake.problem),
            None => mistake.problem,
        })
        .collect()
}

/// What stands in the way of a file or folder that has to be made; also what can't be looked at may be there.
pub fn occupied(path: &Path) -> Option<String> {
    if let Some(file) = path.parent().and_then(file_among) {
        return Some(format!(
            "{} can't be made: {} is a file, not a folder; choose another place",
            path.display(),
            file.display()
        ));
    }
    match path.try_exists() {
        Ok(false) => None,
        Ok(true) => Some(format!(
            "{} exists already: nothing is overwritten; move it away, or choose another place",
            path.display()
        )),
        Err(error) => Some(format!("{} can't be looked at: {error}", path.display())),
    }
}

/// The file among a path and the folders above it, where only folders would do.
fn file_among(path: &Path) -> Option<&Path> {
    let there = path
        .ancestors()
        .find_map(|part| Some((part, part.metadata().ok()?)));
    there
        .filter(|(_, metadata)| !metadata.is_dir())
        .map(|(part, _)| part)
}

/// What is wrong with a data folder. That it is absolute is the configuration's rule.
pub fn data_dir_problems(path: &Path) -> Vec<String> {
    if let Some(file) = file_among(path) {
        return vec![format!(
            "{} can't be the data folder: {} is a file, not a folder; choose another place",
            path.display(),
            file.display()
        )];
    }
    let places = ["keys", "generations", "store"].map(|name| path.join(name));
    not_text(path)
        .into_iter()
        .chain(places.iter().filter_map(|path| occupied(path)))
        .collect()
}

/// What is wrong with the place of the sealed root key, as far as the data folder is known. Its folder is not made: where
/// one is missing, a medium is most likely not mounted, and the key would stay on this machine.
pub fn root_key_problems(path: &Path, data_dir: Option<&Path>) -> Vec<String> {
    let mut problems = Vec::from_iter(occupied(path));
    let folder = folder_of(path);
    if path.is_absolute() && !folder.is_dir() && file_among(folder).is_none() {
        problems.push(format!(
            "the root key's folder {} is not there: mount the medium, or make the folder first",
            folder.display()
        ));
    }
    if !path.is_absolute() {
        problems.push(format!(
            "the root key file needs an absolute path, not {}",
            path.display()
        ));
    }
    if data_dir.is_some_and(|folder| path.starts_with(folder)) {
        problems.push(format!(
            "{} lies in the data folder, but the root key has to leave this machine: put it on a \
             medium that you can take away",
            path.display()
        ));
    }
    problems
}

/// What is wrong with the first administrator's password.
pub fn admin_password_problem(password: &str) -> Option<String> {
    (password.len() < passwords::PASSWORD_BYTES_MIN).then(|| {
        format!(
            "the administrator's password needs at least {} characters",
            passwords::PASSWORD_BYTES_MIN
        )
    })
}

/// What is wrong with the passphrase of the root key.
pub fn root_passphrase_problem(passphrase: &str) -> Option<String> {
    (passphrase.len() < root_key::PASSPHRASE_BYTES_MIN).then(|| {
        format!(
            "the root key's passphrase needs at least {} characters",
            root_key::PASSPHRASE_BYTES_MIN
        )
    })
}

fn not_text(path: &Path) -> Option<String> {
    path.to_str().is_none().then(|| {
        format!(
            "{} can't be written into the configuration: choose a path that is UTF-8",
            path.display()
        )
    })
}

/// Makes the master key of the store, and the first generation that it opens.
fn make_store_keys(
    config: &Config,
    traces: &mut Traces,
    now_ms: u64,
    random: &dyn SecureRandom,
) -> Result<Generation, InitError> {
    let master = MasterKey::draw(random)?;
    KeyFolder::at(config.server.keys_dir())
        .add_master_key(&master.text())
        .map_err(at(&config.server.master_key_file()))?;
    let folder = config.generations_dir();
    traces.whole(&folder);
    Ok(GenerationFolder::at(folder, master).create(now_ms, random)?)
}

async fn fill_store(
    answers: &Answers,
    engine: Arc<dyn Engine>,
    (password_hash, generation): (String, Generation),
    now_ms: u64,
) -> Result<(), InitError> {
    // Nothing that people have written is in it.
    let store = Store::new(engine)?;
    // A database may have what a move that was cut off has left in it, which the new organisation's would be mixed with.
    if store.get(&schema::key()).await?.is_none() && !everything::is_empty(&store).await? {
        let found = "it is not empty, and holds no whole organisation: finish moving that one, or give the new one a database \
                     of its own";
        return Err(StoreError::Engine(found.to_owned()).into());
    }
    let mut part = Part::default();
    schema::put(&mut part);
    sealed::put_first(&mut part, &generation);
    user_type::put(&mut part, DEFAULT_USER_TYPE, &UserTypePolicy::default())?;
    let administrator = Administrator {
        password_hash,
        created_ms: now_ms,
    };
    administrators::create(&mut part, &answers.admin_name, &administrator)?;
    let event = Event {
        at_ms: now_ms,
        actor: Actor::System,
        action: "organisation.created",
        subject: answers.server.to_string(),
        detail: format!("first administrator: {}", answers.admin_name),
    };
    audit::record(&mut part, &event);
    part.require(Precondition::Absent(schema::key()));
    match store.commit(part).await? {
        PartOutcome::Committed => Ok(()),
        PartOutcome::Conflict => Err(StoreError::Engine(
            "it holds an organisation already: give the new one a database of its own".to_owned(),
        )
        .into()),
    }
}

fn configuration(answers: &Answers) -> String {
    let mut text = String::from(
        "# Written by `homeserver init`. `homeserver config check` tells whether it is right.\n\
         # Files in conf.d/ beside it, and ENTENTE_SECTION__KEY variables, override it.\n\n",
    );
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "[server]\nname = {}\ndata_dir = {}\n",
        value(answers.server.as_str()),
        path_value(&answers.data_dir),
    );
    let reached = Reached {
        client: Some(answers.client),
        federation: Some(answers.federation),
        endpoints: &answers.endpoints,
        admin_socket: answers.admin_socket.as_deref(),
        metrics: answers.metrics,
        store: Some(&answers.store),
    };
    text + &reached.sections()
}

fn value(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn path_value(path: &Path) -> String {
    value(&path.display().to_string())
}

/// What was made so far, to be removed when a later step fails. Nothing that was there before is in it.
#[derive(Default)]
struct Traces(Vec<Trace>);

enum Trace {
    File(PathBuf),
    /// A folder that others may have put something into: removed when it is empty.
    Folder(PathBuf),
    /// A folder that is ours with all that is in it.
    Whole(PathBuf),
}

impl Traces {
    /// Writes a new file, durably.
    fn file(&mut self, path: &Path, text: &str) -> Result<(), InitError> {
        let written = write_private(path, text.as_bytes());
        // A file that was there is somebody else's; any other error may have left a part of ours.
        if !matches!(&written, Err(error) if error.kind() == io::ErrorKind::AlreadyExists) {
            self.0.push(Trace::File(path.to_owned()));
        }
        written.map_err(at(path))?;
        let folder = folder_of(path);
        sync_folder(folder).map_err(at(folder))
    }

    /// Makes a folder and those above it that are missing.
    fn folder(&mut self, path: &Path) -> Result<(), InitError> {
        let missing: Vec<&Path> = path
            .ancestors()
            .take_while(|folder| !folder.as_os_str().is_empty() && !folder.is_dir())
            .collect();
        for folder in missing.into_iter().rev() {
            DirBuilder::new()
                .mode(0o700)
                .create(folder)
                .map_err(at(folder))?;
            self.0.push(Trace::Folder(folder.to_owned()));
        }
        Ok(())
    }

    /// A folder is about to be made that is not there yet.
    fn whole(&mut self, path: &Path) {
        if !path.exists() {
            self.0.push(Trace::Whole(path.to_owned()));
        }
    }

    /// Removes what was made, the newest first; what could not be removed, and why.
    fn remove(self) -> Vec<String> {
        let mut left = Vec::new();
        for trace in self.0.into_iter().rev() {
            let (path, removed) = match trace {
                Trace::File(path) => (path.clone(), std::fs::remove_file(path)),
                Trace::Folder(path) => (path.clone(), std::fs::remove_dir(path)),
                Trace::Whole(path) => (path.clone(), std::fs::remove_dir_all(path)),
            };
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    left.push(format!("  {}: {error}", path.display()));
                }
                _ => {}
            }
        }
        left
    }

    /// Removes what was made, and says so beside the error.
    fn undo(self, error: InitError) -> InitError {
        let left = self.remove();
        let undone = if left.is_empty() {
            "no organisation was made, and nothing of it is left: mend that and begin again"
                .to_owned()
        } else {
            format!(
                "no organisation was made; remove by hand what could not be removed, then begin again:\n{}",
                left.join("\n")
            )
        };
        InitError::Undone {
            error: Box::new(error),
            undone,
        }
    }
}

/// The folder that `path` lies in; a bare name lies in the working folder.
fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> InitError {
    let path = path.to_owned();
    move |error| InitError::File { path, error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::engine::memory::MemoryEngine;
    use crate::store::{Key, Value};

    fn answers() -> Answers {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        Answers {
            server: "a.example".parse().unwrap(),
            client: address,
            federation: address,
            endpoints: Vec::new(),
            admin_socket: None,
            metrics: None,
            data_dir: "/nonexistent".into(),
            store: StoreAnswers::default(),
            admin_name: "admin".parse().unwrap(),
            admin_password: Zeroizing::new(String::new()),
            root_key: "/nonexistent".into(),
            root_passphrase: Zeroizing::new(String::new()),
            config: "/nonexistent".into(),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a test draws its own randomness")]
    fn random() -> ring::rand::SystemRandom {
        ring::rand::SystemRandom::new()
    }

    /// Goal: no organisation is made in a store that holds something of another one, whole or not. Method: an entry without the mark
    /// of a store, as a move that was cut off leaves it; then an empty store, twice.
    #[tokio::test]
    async fn a_store_with_something_in_it_is_refused() {
        let fill = async |engine: &Arc<dyn Engine>| {
            let generation = Generation::draw(1, 5, &random()).unwrap();
            let keys = ("hash".to_owned(), generation);
            fill_store(&answers(), Arc::clone(engine), keys, 5).await
        };
        let half: Arc<dyn Engine> = Arc::new(MemoryEngine::default());
        let mut part = Part::default();
        part.put(Key::from_static(b"Aone"), Value::from_static(b"1"));
        half.apply(&[part]).await.unwrap();
        let refused = fill(&half).await.unwrap_err().to_string();
        assert!(refused.contains("not empty"), "{refused}");
        assert_eq!(half.get(&schema::key()).await.unwrap(), None);

        let empty: Arc<dyn Engine> = Arc::new(MemoryEngine::default());
        fill(&empty).await.unwrap();
        let again = fill(&empty).await.unwrap_err().to_string();
        assert!(again.contains("holds an organisation already"), "{again}");
    }
}
