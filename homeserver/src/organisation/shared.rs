//! The organisation's keys as several nodes share them: the files of the folder, sealed by the nodes' secret.

use std::sync::Arc;

use federation_proto::ids::ServerName;
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use super::files::{is_key_file, key_files_with};
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
    // They take the place of such files and of no others.
    if files.iter().any(|(name, _)| !is_key_file(name)) {
        return Err(unusable(
            "there are files among them that nodes don't share: run the same version on every node",
        ));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what comes from another node takes the place of the keys that nodes share and of nothing else, neither of the
    /// store's master key nor of a file outside of the folder. Method: files that are sealed rightly, under names of each kind.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test draws its own randomness")]
    fn nothing_else_is_taken() {
        let random = ring::rand::SystemRandom::new();
        let secret = Secret::new(b"0123456789abcdef0123456789abcdef");
        let server: ServerName = "a.example".parse().unwrap();
        let open_with = |name: &str| {
            let files: &[(&str, &str)] = &[("root.pem", "root"), (name, "text")];
            let plain = postcard::to_stdvec(files).unwrap();
            let sealed = secret.seal_keys(&server, &plain, &random).unwrap();
            open(&secret, &server, &sealed)
        };
        assert_eq!(open_with("manifest.pem").unwrap().len(), 2);
        let others = [
            "store-master.key",
            "issuing-next-key.pem",
            "../root.pem",
            ".",
            "",
        ];
        for name in others {
            let refused = open_with(name).unwrap_err().to_string();
            assert!(refused.contains("don't share"), "{name}: {refused}");
        }
    }
}
