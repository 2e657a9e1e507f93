//! `[federation]`: how peers reach this homeserver.

use std::time::Duration;

use federation_proto::limits::{BODY_BYTES_PER_SECOND_MIN, BODY_TIME_MS_MIN};

use super::settings::{Section, number};

/// Unless the configuration says otherwise.
const RECEIPT_DELAY_MAX: Duration = Duration::from_millis(5);
/// Largest that it may say: peers wait for receipts before they send more.
const RECEIPT_DELAY_MS_LIMIT: u64 = 1000;

/// How long bodies may take on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// However short they are.
    pub least: Duration,
    /// At which rate the rest arrives.
    pub bytes_per_second_min: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            least: Duration::from_millis(BODY_TIME_MS_MIN),
            bytes_per_second_min: BODY_BYTES_PER_SECOND_MIN,
        }
    }
}

impl Patience {
    /// With a body of so many bytes.
    pub fn with(self, bytes: u64) -> Duration {
        let more_ms = bytes.saturating_mul(1000) / self.bytes_per_second_min.max(1);
        self.least.saturating_add(Duration::from_millis(more_ms))
    }
}

/// `[federation]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederationConfig {
    /// `host:port` each, as stated in offers and acceptances.
    pub endpoints: Vec<String>,
    /// A receipt is held back for a random time of at most this: how long the work behind it took is
    /// nobody's business.
    pub receipt_delay_max: Duration,
    /// Not to be configured: peers count on it (NET-033). Tests have less.
    pub patience: Patience,
}

impl Default for FederationConfig {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            receipt_delay_max: RECEIPT_DELAY_MAX,
            patience: Patience::default(),
        }
    }
}

impl FederationConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            endpoints: section.list("endpoints", endpoint).unwrap_or_default(),
            receipt_delay_max: section
                .optional("receipt_delay_ms_max", number(0, RECEIPT_DELAY_MS_LIMIT))
                .map_or(RECEIPT_DELAY_MAX, Duration::from_millis),
            patience: Patience::default(),
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
