//! `[server]`: who this homeserver is and where its data lies.

use std::path::PathBuf;

use federation_proto::ids::ServerName;

use super::settings::{Section, parsed};

/// `[server]`
#[derive(Debug, Clone, PartialEq)]
pub struct ServerConfig {
    /// The organisation's server name.
    pub name: ServerName,
    /// Where keys, generations of keys and store lie.
    pub data_dir: PathBuf,
}

impl ServerConfig {
    /// Where the organisation's keys lie.
    pub fn keys_dir(&self) -> PathBuf {
        self.data_dir.join("keys")
    }

    /// Where the master key of the store lies that `homeserver init` makes.
    pub fn master_key_file(&self) -> PathBuf {
        self.keys_dir().join("store-master.key")
    }

    /// Where the store lies.
    pub fn store_dir(&self) -> PathBuf {
        self.data_dir.join("store")
    }

    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let name = section.required("name", parsed::<ServerName>);
        let data_dir = section.optional("data_dir", absolute_path);
        Some(Self {
            name: name?,
            data_dir: data_dir.unwrap_or_else(|| PathBuf::from("/var/lib/entente")),
        })
    }
}

/// A path that does not depend on where the process was started.
pub(super) fn absolute_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!("`{text}` is not an absolute path"))
    }
}
