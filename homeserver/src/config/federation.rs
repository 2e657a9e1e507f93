//! `[federation]`: how peers reach this homeserver.

use super::settings::Section;

/// `[federation]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FederationConfig {
    /// `host:port` each, as stated in offers and acceptances.
    pub endpoints: Vec<String>,
}

impl FederationConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            endpoints: section.list("endpoints", endpoint).unwrap_or_default(),
        }
    }
}

pub(crate) fn endpoint(text: &str) -> Result<String, String> {
    let wrong = || format!("`{text}` is not an endpoint: use host:port, such as chat.example:8448");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port_ok = port.parse::<u16>().is_ok_and(|port| port != 0);
    let name_ok = !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    let v6_ok = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    if port_ok && (name_ok || v6_ok) {
        Ok(text.to_owned())
    } else {
        Err(wrong())
    }
}
