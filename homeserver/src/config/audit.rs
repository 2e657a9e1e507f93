//! `[audit.syslog]`: a log server that gets the audit log.

use std::path::PathBuf;

use super::server::absolute_path;
use super::settings::Section;

/// What is about the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditConfig {
    /// `[audit.syslog]`; absent: the log stays here.
    pub syslog: Option<SyslogConfig>,
}

/// `[audit.syslog]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyslogConfig {
    /// The log server's name or IP address,
    pub host: String,
    /// and its port for syslog over TLS.
    pub port: u16,
    /// The name that its certificate must have.
    pub server_name: String,
    /// Root certificates (PEM) under which that must stand; no other root is trusted.
    pub root_certificates: PathBuf,
}

impl AuditConfig {
    /// All keys are read, for mistakes are told even where one is missing.
    pub(super) fn read_syslog(section: &mut Section<'_>) -> Self {
        let address = section.optional("address", address);
        let server_name = section.optional("server_name", server_name);
        let root_certificates = section.optional("root_certificates", root_certificates);
        let keys = ["address", "root_certificates"];
        let is_used = keys.iter().any(|key| section.is_set(key)) || section.is_set("server_name");
        if !is_used {
            return Self::default();
        }
        for key in keys {
            if !section.is_set(key) {
                section.blame_missing(key);
            }
        }
        let (Some((host, port)), Some(root_certificates)) = (address, root_certificates) else {
            return Self::default();
        };
        let server_name = server_name.unwrap_or_else(|| host.clone());
        Self {
            syslog: Some(SyslogConfig {
                host,
                port,
                server_name,
                root_certificates,
            }),
        }
    }
}

fn address(text: &str) -> Result<(String, u16), String> {
    let wrong = || {
        format!(
            "`{text}` is no log server: use a name or IP address with a port, such as log.a.example:6514 or [::1]:6514"
        )
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(wrong)?,
        None if host.contains(':') => return Err(wrong()),
        None => host,
    };
    if port == 0 || !is_name(bare) {
        return Err(wrong());
    }
    Ok((bare.to_owned(), port))
}

fn server_name(text: &str) -> Result<String, String> {
    if is_name(text) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{text}` is no name that a certificate could have: use a DNS name or an IP address"
        ))
    }
}

/// Whether TLS can ask for it.
fn is_name(text: &str) -> bool {
    rustls_pki_types::ServerName::try_from(text).is_ok()
}

fn root_certificates(text: &str) -> Result<PathBuf, String> {
    let path = absolute_path(text)?;
    match std::fs::read_to_string(&path) {
        Ok(text) if text.contains("BEGIN CERTIFICATE") => Ok(path),
        Ok(_) => Err(format!("{} holds no certificate (PEM)", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
