//! `[store]` and `[postgresql]`: what the store stands on.

use std::path::{Path, PathBuf};

use super::server::absolute_path;
use super::settings::{Section, number, parsed};

/// Where PostgreSQL listens unless stated otherwise.
const POSTGRESQL_PORT: u16 = 5432;
/// Connections for reads, unless the configuration says otherwise.
const CONNECTIONS_MAX: u64 = 16;
/// Most that it may say: a server has 100 by default.
const CONNECTIONS_LIMIT: u64 = 1000;
/// Keys of `[postgresql]` that have no default.
const NEEDED: [&str; 3] = ["hosts", "database", "user"];

/// `[store]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreConfig {
    /// fjall, in the data folder: one process on one machine.
    Fjall {
        /// Whether commits go to a log first and to fjall later. May be changed between two starts.
        commit_log: bool,
    },
    /// sled, in the data folder; only in a homeserver that was built with it.
    Sled,
    /// A PostgreSQL database, as `[postgresql]` says.
    Postgresql(PostgresqlConfig),
}

/// `[postgresql]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresqlConfig {
    /// Servers, or the folders of their sockets on this machine; of several, the one that takes writes is used.
    pub hosts: Vec<PostgresqlHost>,
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
    /// The file that holds its password; none: it signs in without.
    pub password_file: Option<PathBuf>,
    /// The file of root certificates under which the servers' have to stand; none only for sockets.
    pub root_certificates: Option<PathBuf>,
    /// Most connections for reads.
    pub connections_max: usize,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresqlHost {
    /// Its name or address, or the absolute path of its socket's folder.
    pub name: String,
    /// Its port, which is part of a socket's name too.
    pub port: u16,
}

impl PostgresqlHost {
    /// Whether it is reached by a socket of this machine.
    pub fn is_socket(&self) -> bool {
        self.name.starts_with('/')
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self::Fjall { commit_log: true }
    }
}

impl StoreConfig {
    /// Reads `[store]` and then `[postgresql]`, which it may name: the engine, and whether it has a commit log.
    pub(super) fn read_engine(section: &mut Section<'_>) -> (Option<Engine>, bool) {
        let engine = section.optional("engine", engine);
        let commit_log = section.optional("commit_log", parsed);
        if commit_log.is_some() && matches!(engine, Some(Engine::Sled | Engine::Postgresql)) {
            section.blame(
                &["commit_log"],
                "only fjall has one beside it: leave this out".to_owned(),
            );
        }
        (engine, commit_log.unwrap_or(true))
    }

    pub(super) fn read(
        (engine, commit_log): (Option<Engine>, bool),
        section: &mut Section<'_>,
    ) -> Self {
        let postgresql = PostgresqlConfig::read(section, engine == Some(Engine::Postgresql));
        match engine {
            None | Some(Engine::Fjall) => Self::Fjall { commit_log },
            Some(Engine::Sled) => Self::Sled,
            // Without what it needs there are mistakes, and no configuration comes of this.
            Some(Engine::Postgresql) => postgresql.map_or_else(Self::default, Self::Postgresql),
        }
    }
}

/// The name of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    Fjall,
    Sled,
    Postgresql,
}

impl PostgresqlConfig {
    /// All keys are read, for mistakes are told even where the section is not used.
    fn read(section: &mut Section<'_>, is_used: bool) -> Option<Self> {
        let hosts = section.list("hosts", host);
        let database = section.optional("database", name);
        let user = section.optional("user", name);
        let password_file = section.optional("password_file", readable_file);
        let root_certificates = section.optional("root_certificates", readable_file);
        let connections_max = section
            .optional("connections_max", number(1, CONNECTIONS_LIMIT))
            .unwrap_or(CONNECTIONS_MAX);
        if !is_used {
            return None;
        }
        for key in NEEDED {
            if !section.is_set(key) {
                section.blame_missing(key);
            }
        }
        let config = Self {
            hosts: hosts?,
            database: database?,
            user: user?,
            password_file,
            root_certificates,
            connections_max: usize::try_from(connections_max).unwrap_or(usize::MAX),
        };
        if config.hosts.is_empty() {
            section.blame(&["hosts"], "name at least one server".to_owned());
        }
        let sockets = config.hosts.iter().filter(|host| host.is_socket()).count();
        if sockets > 0 && sockets < config.hosts.len() {
            section.blame(
                &["hosts"],
                "name either servers of the network or sockets of this machine, not both"
                    .to_owned(),
            );
        }
        if sockets == 0 && !section.is_set("root_certificates") {
            section.blame(
                &["root_certificates"],
                "it is missing: over the network the server has to prove who it is; name the file of the \
                 root certificates (PEM) that its certificate stands under"
                    .to_owned(),
            );
        }
        Some(config)
    }
}

fn engine(text: &str) -> Result<Engine, String> {
    match text {
        "fjall" => Ok(Engine::Fjall),
        "postgresql" => Ok(Engine::Postgresql),
        "sled" if cfg!(feature = "sled") => Ok(Engine::Sled),
        "sled" => Err(
            "this homeserver was built without it: build it with `--features sled`, or use fjall or \
             postgresql"
                .to_owned(),
        ),
        _ => Err(format!("`{text}` is no engine: use fjall or postgresql")),
    }
}

fn host(text: &str) -> Result<PostgresqlHost, String> {
    let wrong = || {
        format!(
            "`{text}` is no server: use a name or address, with a port if it is not {POSTGRESQL_PORT}, such as \
             db.example:5433 or [::1]:5433, or the folder of a socket, such as /run/postgresql"
        )
    };
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
            (name, port.parse().map_err(|_| wrong())?)
        }
        _ => (text, POSTGRESQL_PORT),
    };
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    let is_address = bare.parse::<std::net::IpAddr>().is_ok();
    let is_name = !bare.is_empty()
        && bare
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    if port == 0 || !(is_address || is_name || Path::new(bare).is_absolute()) {
        return Err(wrong());
    }
    Ok(PostgresqlHost {
        name: bare.to_owned(),
        port,
    })
}

/// What the server takes for a name; it has bytes of it to end with.
fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains('\0') {
        return Err("it can't be empty".to_owned());
    }
    Ok(text.to_owned())
}

fn readable_file(text: &str) -> Result<PathBuf, String> {
    let path = absolute_path(text)?;
    match std::fs::File::open(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
