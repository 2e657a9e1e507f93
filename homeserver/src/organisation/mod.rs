//! The organisation's keys and certificates: made once by `homeserver init`, loaded at every start.
//!
//! An offline root signs the issuing CA; the issuing CA signs TLS leafs, device certificates, the key
//! manifest and peering documents; an Ed25519 envelope key signs what goes to peers. Of TLS and envelope keys
//! there are always two: the one in use, and the one that takes over, which peers know beforehand. The
//! root's private key is written once, encrypted, and never read by the running homeserver. Another root takes over
//! while everything runs, by way of a time in which there are two: [`root_change`].

mod certificates;
mod create;
mod files;
pub mod init;
pub mod issuing;
mod keeper;
mod keys;
#[doc(hidden)]
pub mod pem;
mod renewal;
pub mod root_change;
pub mod root_key;
mod shared;
mod show;
mod signing;
#[cfg(test)]
mod tests;

pub use certificates::{DeviceCertificate, DeviceRequest};
pub use create::{NewOrganisation, create};
pub use files::{KeyFolder, key_files};
pub(crate) use files::{sync_folder, write_private};
pub use keeper::{Act, Keeper, KeeperError};
pub use keys::{Keys, TlsIdentity};
pub use renewal::{Asked, Renewal};

use ring::rand::SecureRandom;

use crate::config::{Config, StoreConfig};

/// Why keys or certificates could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum OrganisationError {
    /// A device asked for a certificate with a request that does not stand. The device is at fault.
    #[error("the certificate request is not acceptable: {0}")]
    Request(String),
    /// A key or certificate of the organisation can't be used. The operator has to mend it.
    #[error("{what}: {problem}")]
    Unusable {
        /// Which one.
        what: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// A key is named that is none of the organisation's.
    #[error("no key {0} is listed: `hsctl keys show` lists them")]
    UnknownKey(String),
    /// What is asked for can't be done.
    #[error("{0}")]
    Asked(String),
    /// The cryptographic library refused to work.
    #[error("making a key or certificate failed: {0}")]
    Crypto(String),
}

/// What is wrong with the folder that a configuration names, as place and problem: its keys, and whether it has a
/// store. Nothing is touched, so it may be asked while a homeserver runs.
pub fn look(config: &Config, now_ms: u64, random: &dyn SecureRandom) -> Vec<(String, String)> {
    let server = &config.server;
    let keys = KeyFolder::at(server.keys_dir()).look(&server.name, now_ms, random);
    let mut problems: Vec<_> = keys
        .into_iter()
        .map(|error| match error {
            OrganisationError::Unusable { what, problem } => (what, problem),
            other => (server.keys_dir().display().to_string(), other.to_string()),
        })
        .collect();
    if matches!(config.store, StoreConfig::Postgresql(_)) {
        return problems;
    }
    let store = server.store_dir();
    if let Err(error) = std::fs::read_dir(&store) {
        let missing = "there is no store here: put it back from the same backup as the keys, or make an \
                       organisation with `homeserver init`";
        problems.push((
            store.display().to_string(),
            files::unreadable(&error, missing),
        ));
    }
    problems
}

/// The key that a device asks a certificate for.
///
/// # Errors
/// When the request does not stand.
pub fn device_key(csr: &[u8]) -> Result<[u8; 32], OrganisationError> {
    certificates::read_request(csr).map(|(_, key)| key)
}

/// The key in a certificate request of anybody's making, for tests with any bytes.
#[doc(hidden)]
pub fn request_key(csr: &[u8]) -> Option<[u8; 32]> {
    certificates::read_request(csr).map(|(_, key)| key).ok()
}

impl From<rcgen::Error> for OrganisationError {
    fn from(error: rcgen::Error) -> Self {
        Self::Crypto(error.to_string())
    }
}
