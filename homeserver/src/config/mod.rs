//! The configuration, checked whole before anything starts.
//!
//! One TOML file, the files of `conf.d/` beside it in the order of their names, then the environment
//! (`ENTENTE_SECTION__KEY`): the later wins, key by key. Every mistake is reported at once, with file,
//! line and key. A section is a file of this folder.

mod audit;
mod cluster;
mod discovery;
mod exposed;
mod federation;
mod limits;
mod listen;
mod runtime;
mod server;
mod settings;
mod store;
mod store_keys;
mod telemetry;

use std::path::{Path, PathBuf};

use federation_proto::ids::ServerName;

pub use audit::{AuditConfig, SyslogConfig};
pub use cluster::ClusterConfig;
pub use discovery::{DiscoveryConfig, Dnssec};
pub use exposed::exposed;
pub use federation::{FederationConfig, Patience};
pub use limits::{INBOX_BYTES_LEAST, LimitsConfig};
pub use listen::{ListenConfig, socket_address};
pub use runtime::RuntimeConfig;
pub use server::ServerConfig;
pub use settings::Mistake;
use settings::Settings;
pub use store::{PostgresqlConfig, PostgresqlHost, StoreConfig};
pub use store_keys::{MasterKeyConfig, StoreKeysConfig};
pub use telemetry::{LogFormat, TelemetryConfig};

/// Where the configuration lies unless `--config` or `ENTENTE_CONFIG` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/entente/entente.toml";

/// Everything that an operator decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[server]`
    pub server: ServerConfig,
    /// `[store]` and `[postgresql]`
    pub store: StoreConfig,
    /// `[cluster]`; `None`: this process is the organisation's only one.
    pub cluster: Option<ClusterConfig>,
    /// `[store_keys]`
    pub store_keys: StoreKeysConfig,
    /// `[listen]`
    pub listen: ListenConfig,
    /// `[federation]`
    pub federation: FederationConfig,
    /// `[discovery]`
    pub discovery: DiscoveryConfig,
    /// `[limits]`
    pub limits: LimitsConfig,
    /// `[audit.syslog]`
    pub audit: AuditConfig,
    /// `[telemetry]`
    pub telemetry: TelemetryConfig,
    /// `[runtime]`
    pub runtime: RuntimeConfig,
}

impl Config {
    /// A configuration that states only what has no default.
    pub fn minimal(name: ServerName, data_dir: PathBuf) -> Self {
        Self {
            server: ServerConfig { name, data_dir },
            store: StoreConfig::default(),
            cluster: None,
            store_keys: StoreKeysConfig::default(),
            listen: ListenConfig::default(),
            federation: FederationConfig::default(),
            discovery: DiscoveryConfig::default(),
            limits: LimitsConfig::default(),
            audit: AuditConfig::default(),
            telemetry: TelemetryConfig::default(),
            runtime: RuntimeConfig::default(),
        }
    }

    /// The folder of generation keys.
    pub fn generations_dir(&self) -> PathBuf {
        let folder = self.store_keys.folder.clone();
        folder.unwrap_or_else(|| self.server.data_dir.join("generations"))
    }

    /// Reads and checks the file at `path`, its `conf.d/` and `environment`.
    pub fn load(
        path: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<Mistake>> {
        let mut settings = Settings::default();
        settings.read_file(path);
        settings.read_folder(&path.with_file_name("conf.d"));
        settings.read_environment(environment);
        Self::read(settings)
    }

    /// Reads and checks a configuration's text as it would be read from the file `name`.
    pub fn read_text(name: &str, text: &str) -> Result<Self, Vec<Mistake>> {
        let mut settings = Settings::default();
        settings.read_text(name, text);
        Self::read(settings)
    }

    fn read(mut settings: Settings) -> Result<Self, Vec<Mistake>> {
        // Every section is read, whatever the others hold: all mistakes at once.
        let server = ServerConfig::read(&mut settings.section("server"));
        let engine = StoreConfig::read_engine(&mut settings.section("store"));
        let store = StoreConfig::read(engine, &mut settings.section("postgresql"));
        let has_database = engine.0 == Some(store::Engine::Postgresql);
        let cluster = ClusterConfig::read(&mut settings.section("cluster"), has_database);
        let is_shared = cluster.is_some();
        let store_keys = StoreKeysConfig::read(&mut settings.section("store_keys"), is_shared);
        let listen = ListenConfig::read(&mut settings.section("listen"));
        let federation = FederationConfig::read(&mut settings.section("federation"));
        let discovery = DiscoveryConfig::read(&mut settings.section("discovery"));
        let limits = LimitsConfig::read(&mut settings.section("limits"));
        let audit = AuditConfig::read_syslog(&mut settings.section("audit.syslog"));
        let telemetry = TelemetryConfig::read(&mut settings.section("telemetry"));
        let runtime = RuntimeConfig::read(&mut settings.section("runtime"));
        let mistakes = settings.into_mistakes();
        match server {
            Some(server) if mistakes.is_empty() => Ok(Self {
                server,
                store,
                cluster,
                store_keys,
                listen,
                federation,
                discovery,
                limits,
                audit,
                telemetry,
                runtime,
            }),
            _ => Err(mistakes),
        }
    }
}

#[cfg(test)]
mod tests;
