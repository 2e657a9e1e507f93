//! `[listen]`: where the homeserver listens.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::server::absolute_path;
use super::settings::Section;

/// Longest path that a Unix socket can be bound to.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// `[listen]`
#[derive(Debug, Clone, PartialEq)]
pub struct ListenConfig {
    /// Clients, and administrators over the network.
    pub client: SocketAddr,
    /// Peers.
    pub federation: SocketAddr,
    /// Administrators on this machine.
    pub admin_socket: PathBuf,
    /// Strangers who drop offers; none: nobody can.
    pub offers: Option<SocketAddr>,
    /// Metrics and health, without authentication: loopback only.
    pub metrics: Option<SocketAddr>,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            client: SocketAddr::from(([0, 0, 0, 0], 8443)),
            federation: SocketAddr::from(([0, 0, 0, 0], 8448)),
            admin_socket: PathBuf::from("/run/entente/admin.sock"),
            offers: None,
            metrics: None,
        }
    }
}

impl ListenConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        let config = Self {
            client: section
                .optional("client", socket_address)
                .unwrap_or(default.client),
            federation: section
                .optional("federation", socket_address)
                .unwrap_or(default.federation),
            admin_socket: section
                .optional("admin_socket", socket_path)
                .unwrap_or(default.admin_socket),
            offers: section.optional("offers", socket_address),
            metrics: section.optional("metrics", loopback_address),
        };
        if clash(config.client, config.federation) {
            let problem = format!(
                "the client listener ({}) and the federation listener ({}) have one address: give each its own",
                config.client, config.federation
            );
            section.blame(&["federation", "client"], problem);
        }
        let taken = [config.client, config.federation];
        let is_taken = |address| taken.iter().any(|other| clash(address, *other));
        if config.metrics.is_some_and(is_taken) {
            section.blame(
                &["metrics"],
                "another listener has this address already".to_owned(),
            );
        }
        let by_metrics = |address| config.metrics.is_some_and(|other| clash(address, other));
        if config
            .offers
            .is_some_and(|offers| is_taken(offers) || by_metrics(offers))
        {
            section.blame(
                &["offers"],
                "another listener has this address already".to_owned(),
            );
        }
        config
    }
}

/// Whether only one of two listeners could have its address: they are the same, or one is every address of the machine.
const fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let same = match (one.ip(), other.ip()) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            one.to_bits() == other.to_bits() || one.is_unspecified() || other.is_unspecified()
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            one.to_bits() == other.to_bits() || one.is_unspecified() || other.is_unspecified()
        }
        // `[::]` takes IPv4 as well.
        (IpAddr::V6(six), IpAddr::V4(_)) | (IpAddr::V4(_), IpAddr::V6(six)) => six.is_unspecified(),
    };
    same && one.port() != 0 && one.port() == other.port()
}

/// An address to listen on.
///
/// # Errors
/// When it is none: what to write.
pub fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "`{text}` is not an address to listen on: use an IP address with a port, such as \
             0.0.0.0:8443 or [::]:8443"
        )
    })
}

fn loopback_address(text: &str) -> Result<SocketAddr, String> {
    let address = socket_address(text)?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(format!(
            "`{text}` is reachable from outside, but metrics need no sign-in: use a loopback \
             address such as 127.0.0.1:9464"
        ))
    }
}

fn socket_path(text: &str) -> Result<PathBuf, String> {
    let path = absolute_path(text)?;
    if text.len() > SOCKET_PATH_BYTES_MAX {
        return Err(format!(
            "a socket's path has at most {SOCKET_PATH_BYTES_MAX} bytes, this one has {}",
            text.len()
        ));
    }
    Ok(path)
}
