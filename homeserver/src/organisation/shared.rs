//! The organisation's keys as several nodes share them: the files of the folder, sealed by the nodes' secret.

use std::sync::Arc;

use federation_proto::ids::ServerName;
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use super::files::key_files_with;
use super::keys::State;
use super::{Keys, OrganisationError};
use crate::cluster::{SealError, Secret};
use crate::store::shared_keys::SharedKeys;

/// The keys as they are in this state, sealed.
pub(super) fn seal(
    secret: &Secret,
    keys: &Keys,
    state: &Arc<State>,
    random: &dyn SecureRandom,
) -> Result<SharedKeys, OrganisationError> {
    let files = key_files_with(keys, state);
    let texts: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    let plain = postcard::to_stdvec(&texts)
        .map(Zeroizing::new)
        .map_err(|error| OrganisationError::Crypto(error.to_string()))?;
    let sealed = secret
        .seal_keys(keys.server(), &plain, random)
        .map_err(|error| OrganisationError::Crypto(error.to_string()))?;
    Ok(SharedKeys {
        manifest_serial: state.manifest.serial(),
        sealed,
    })
}

/// The files in what another node has sealed.
pub(super) fn open(
    secret: &Secret,
    server: &ServerName,
    sealed: &[u8],
) -> Result<Vec<(String, Zeroizing<String>)>, OrganisationError> {
    let plain = secret.open_keys(server, sealed).map_err(|SealError| {
        unusable(
            "they were sealed with another secret: every node has the same file (cluster.key_file)",
        )
    })?;
    let files: Vec<(String, String)> = postcard::from_bytes(&plain)
        .map_err(|_| unusable("they can't be read: run the same version on every node"))?;
    let files: Vec<_> = files
        .into_iter()
        .map(|(name, text)| (name, Zeroizing::new(text)))
        .collect();
    // They become files of the folder and of no other.
    if files.iter().any(|(name, _)| name.contains(['/', '\0'])) {
        return Err(unusable("they name files outside of the keys folder"));
    }
    Ok(files)
}

/// The first of several things that are wrong with keys.
pub(super) fn first(errors: Vec<OrganisationError>) -> OrganisationError {
    let first = errors.into_iter().next();
    first.unwrap_or_else(|| unusable("they can't be used"))
}

fn unusable(problem: &str) -> OrganisationError {
    OrganisationError::Unusable {
        what: "the keys that the nodes share".to_owned(),
        problem: problem.to_owned(),
    }
}
