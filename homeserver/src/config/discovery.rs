//! `[discovery]`: how peers are found.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::server::absolute_path;
use super::settings::{Section, parsed};

/// Where DNS servers listen unless stated otherwise.
const DNS_PORT: u16 = 53;

/// What DNSSEC decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dnssec {
    /// Answers are not validated.
    Off,
    /// Validated and shown; only bogus answers are refused.
    Report,
    /// Only secure answers are used.
    Require,
}

/// `[discovery]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveryConfig {
    /// DNS servers to ask; none: those of the machine.
    pub servers: Vec<SocketAddr>,
    /// What DNSSEC decides.
    pub dnssec: Dnssec,
    /// A file of DNSKEY records that are trusted instead of the root zone's.
    pub trust_anchors: Option<PathBuf>,
    /// Whether names may lead to private networks.
    pub private_addresses: bool,
    /// Whether names may lead to this machine.
    pub loopback_addresses: bool,
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            dnssec: Dnssec::Off,
            trust_anchors: None,
            private_addresses: true,
            loopback_addresses: false,
        }
    }
}

impl DiscoveryConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        let config = Self {
            servers: section.list("servers", dns_server).unwrap_or_default(),
            dnssec: section.optional("dnssec", dnssec).unwrap_or(default.dnssec),
            trust_anchors: section.optional("trust_anchors", anchors_file),
            private_addresses: section
                .optional("private_addresses", parsed)
                .unwrap_or(default.private_addresses),
            loopback_addresses: section
                .optional("loopback_addresses", parsed)
                .unwrap_or(default.loopback_addresses),
        };
        if config.trust_anchors.is_some() && config.dnssec == Dnssec::Off {
            section.blame(
                &["trust_anchors"],
                "nothing is validated with dnssec = \"off\": use report or require".to_owned(),
            );
        }
        config
    }
}

fn dns_server(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .or_else(|_| {
            text.parse::<IpAddr>()
                .map(|ip| SocketAddr::new(ip, DNS_PORT))
        })
        .map_err(|_| {
            format!(
                "`{text}` is not a DNS server: use an IP address, such as 9.9.9.9, or one with a \
                 port, such as 127.0.0.1:5353"
            )
        })
}

fn dnssec(text: &str) -> Result<Dnssec, String> {
    match text {
        "off" => Ok(Dnssec::Off),
        "report" => Ok(Dnssec::Report),
        "require" => Ok(Dnssec::Require),
        _ => Err(format!("`{text}` is not off, report or require")),
    }
}

fn anchors_file(text: &str) -> Result<PathBuf, String> {
    let path = absolute_path(text)?;
    match std::fs::read_to_string(&path) {
        Ok(text) if text.contains("DNSKEY") => Ok(path),
        Ok(_) => Err(format!("{} holds no DNSKEY record", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
