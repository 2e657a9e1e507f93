//! A homeserver's address, in one form however it was written.

use std::fmt;

use http::Uri;

use crate::failure::Failure;

/// The port when none is written.
const HTTPS_PORT: u16 = 443;

/// `https://host:port`. Shown, it is the key of a saved session, so equal addresses must look equal: the host in
/// lower case, the port always there, no slash behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    host: String,
    port: u16,
}

impl ServerUrl {
    /// What somebody wrote, as the value of `flag`.
    pub(crate) fn parse(text: &str, flag: &str) -> Result<Self, Failure> {
        let usage = || {
            Failure::Usage(format!(
                "{flag} {text}: write https://HOST:PORT, without a path"
            ))
        };
        let uri: Uri = text.trim().parse().map_err(|_| usage())?;
        let (Some("https"), Some(authority), "" | "/", None) =
            (uri.scheme_str(), uri.authority(), uri.path(), uri.query())
        else {
            return Err(usage());
        };
        let host = authority.host();
        let (port, rest) = match (authority.port_u16(), authority.as_str().strip_prefix(host)) {
            (Some(port), Some(rest)) => (port, rest),
            (None, Some("")) => (HTTPS_PORT, ""),
            // A user before the host, or a port that is none.
            _ => return Err(usage()),
        };
        if host.is_empty() || port == 0 || rest.matches(':').count() > 1 {
            return Err(usage());
        }
        Ok(Self {
            host: host.to_ascii_lowercase(),
            port,
        })
    }

    /// The host.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// `host:port`.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: addresses that are equal look equal, and what is none is refused; by a table.
    #[test]
    fn one_form() {
        for (written, shown) in [
            ("https://a.example", "https://a.example:443"),
            ("https://a.example/", "https://a.example:443"),
            ("https://a.example:443", "https://a.example:443"),
            ("HTTPS://A.Example:0443/", "https://a.example:443"),
            ("https://127.0.0.1:8443", "https://127.0.0.1:8443"),
            ("https://[::1]:8443/", "https://[::1]:8443"),
            ("https://[::1]", "https://[::1]:443"),
        ] {
            let parsed = ServerUrl::parse(written, "--server").expect(written);
            assert_eq!(parsed.to_string(), shown, "{written}");
            assert_eq!(format!("https://{}", parsed.authority()), shown);
        }
        for wrong in [
            "",
            "a.example",
            "a.example:443",
            "http://a.example",
            "https://",
            "https://:443",
            "https://a.example/v1",
            "https://a.example/?x",
            "https://root@a.example",
            "https://a.example:",
            "https://a.example:0",
            "https://a.example:65536",
        ] {
            assert!(
                matches!(ServerUrl::parse(wrong, "--server"), Err(Failure::Usage(_))),
                "{wrong}"
            );
        }
    }
}
