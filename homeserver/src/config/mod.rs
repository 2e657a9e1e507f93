//! The configuration, checked whole before anything starts.

mod limits;

use std::net::SocketAddr;
use std::path::PathBuf;

use federation_proto::ids::ServerName;

pub use limits::LimitsConfig;

/// Everything that an operator decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[server]`
    pub server: ServerConfig,
    /// `[listen]`
    pub listen: ListenConfig,
    /// `[federation]`
    pub federation: FederationConfig,
    /// `[limits]`
    pub limits: LimitsConfig,
}

impl Config {
    /// A configuration that states only what has no default.
    pub fn minimal(name: ServerName, data_dir: PathBuf) -> Self {
        Self {
            server: ServerConfig { name, data_dir },
            listen: ListenConfig::default(),
            federation: FederationConfig::default(),
            limits: LimitsConfig::default(),
        }
    }
}

/// `[server]`: who this homeserver is and where its data lies.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerConfig {
    /// The organisation's server name.
    pub name: ServerName,
    /// Where keys and store lie.
    pub data_dir: PathBuf,
}

/// `[listen]`: where it listens.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenConfig {
    /// Clients, and administrators over the network.
    pub client: SocketAddr,
    /// Peers.
    pub federation: SocketAddr,
    /// Administrators on this machine.
    pub admin_socket: PathBuf,
    /// Metrics and health, without authentication: loopback only.
    pub metrics: Option<SocketAddr>,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            client: SocketAddr::from(([0, 0, 0, 0], 8443)),
            federation: SocketAddr::from(([0, 0, 0, 0], 8448)),
            admin_socket: PathBuf::from("/run/entente/admin.sock"),
            metrics: None,
        }
    }
}

/// `[federation]`: how peers reach this homeserver.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FederationConfig {
    /// `host:port` each, as stated in offers and acceptances.
    pub endpoints: Vec<String>,
}
