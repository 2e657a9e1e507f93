//! Where a homeserver is reached, as its documents say.

use std::fmt;
use std::str::FromStr;

use crate::ids::is_label;
use crate::limits::{ENDPOINT_BYTES_MAX, QUOTED_CHARACTERS_MAX};

/// Where a homeserver is reached: `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint(String);

/// The text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an endpoint: use host:port, such as chat.example:8448, 192.0.2.1:8448 or \
     [2001:db8::1]:8448, in lower case"
)]
pub struct EndpointError(String);

impl Endpoint {
    /// The endpoint as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let error = || EndpointError(text.chars().take(QUOTED_CHARACTERS_MAX).collect());
        let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
        let port_ok = port
            .parse::<u16>()
            .is_ok_and(|number| number > 0 && number.to_string() == port);
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host_ok = match bracketed {
            Some(address) => address
                .parse::<std::net::Ipv6Addr>()
                .is_ok_and(|parsed| parsed.to_string() == address),
            None => is_host(host),
        };
        if port_ok && host_ok && text.len() <= ENDPOINT_BYTES_MAX {
            Ok(Self(text.to_owned()))
        } else {
            Err(error())
        }
    }
}

/// A DNS name of one label or more, or an IPv4 address.
fn is_host(host: &str) -> bool {
    let top_is_number = host
        .rsplit('.')
        .next()
        .is_some_and(|top| top.bytes().all(|b| b.is_ascii_digit()));
    if top_is_number {
        host.parse::<std::net::Ipv4Addr>().is_ok()
    } else {
        host.split('.').all(is_label)
    }
}
