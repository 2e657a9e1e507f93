//! MLS as this client uses it: RFC 9420 by mls-rs, one cipher suite, X.509 credentials, own rules.

mod storage;

use std::time::Duration;

use mls_rs::MlsMessage;
use mls_rs::client_builder::{
    BaseConfig, WithCryptoProvider, WithGroupStateStorage, WithIdentityProvider,
    WithKeyPackageRepo, WithMlsRules,
};
use mls_rs::error::IntoAnyError;
use mls_rs::identity::SigningIdentity;
use mls_rs::time::MlsTime;
use mls_rs_core::crypto::{SignaturePublicKey, SignatureSecretKey};
use mls_rs_core::identity::{CertificateChain, DerCertificate};
use mls_rs_crypto_rustcrypto::RustCryptoProvider;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use room_rules::settings::ROOM_EXTENSION;
pub(crate) use room_rules::{CIPHER_SUITE, Identities, guarded};
use room_rules::{Imports, Rules};
pub(crate) use storage::MlsStorage;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use storage::read_any;

use crate::error::Error;

/// How every refusal by a room's rules begins.
const REFUSED: &str = "the commit is refused";

impl IntoAnyError for Error {
    fn into_dyn_error(self) -> Result<Box<dyn std::error::Error + Send + Sync>, Self> {
        Ok(self.into())
    }
}

pub(crate) type Config = WithMlsRules<
    Rules,
    WithIdentityProvider<
        Identities,
        WithGroupStateStorage<
            MlsStorage,
            WithKeyPackageRepo<MlsStorage, WithCryptoProvider<RustCryptoProvider, BaseConfig>>,
        >,
    >,
>;
pub(crate) type MlsClient = mls_rs::Client<Config>;
pub(crate) type Group = mls_rs::Group<Config>;

/// A device's Ed25519 key: certified by the organisation, and its MLS signature key.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(crate) struct DeviceKey {
    seed: [u8; 32],
}

impl std::fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeviceKey")
    }
}

impl DeviceKey {
    /// A new key.
    pub(crate) fn generate() -> Result<Self, Error> {
        let mut seed = [0; 32];
        SystemRandom::new()
            .fill(&mut seed)
            .map_err(|_| Error::Store("no random bytes".to_owned()))?;
        Ok(Self { seed })
    }

    fn pair(&self) -> Result<Ed25519KeyPair, Error> {
        Ed25519KeyPair::from_seed_unchecked(&self.seed)
            .map_err(|_| Error::Store("the device's key is damaged".to_owned()))
    }

    /// Its public half.
    pub(crate) fn public(&self) -> Result<Vec<u8>, Error> {
        Ok(self.pair()?.public_key().as_ref().to_vec())
    }

    /// A request for a certificate (PKCS#10, DER): proof of possession of the key. The names in
    /// the certificate are the homeserver's to choose.
    pub(crate) fn certificate_request(&self, name: &str) -> Result<Vec<u8>, Error> {
        let signer = RequestSigner {
            public: self.public()?,
            pair: self.pair()?,
        };
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params
            .serialize_request(&signer)
            .map(|request| request.der().to_vec())
            .map_err(|e| Error::Certificate(e.to_string()))
    }

    /// Its signature over these bytes, which begin with a label of their own.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Result<[u8; 64], Error> {
        self.pair()?
            .sign(bytes)
            .as_ref()
            .try_into()
            .map_err(|_| Error::Store("the device's key is damaged".to_owned()))
    }

    /// As mls-rs keeps it: the seed, then the public key.
    fn for_mls(&self) -> Result<SignatureSecretKey, Error> {
        let mut bytes = self.seed.to_vec();
        bytes.extend(self.public()?);
        Ok(SignatureSecretKey::new(bytes))
    }
}

struct RequestSigner {
    public: Vec<u8>,
    pair: Ed25519KeyPair,
}

impl rcgen::PublicKeyData for RequestSigner {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl rcgen::SigningKey for RequestSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.pair.sign(message).as_ref().to_vec())
    }
}

/// The credential of a chain.
pub(crate) fn signing_identity(
    chain: &[Vec<u8>],
    key: &DeviceKey,
) -> Result<SigningIdentity, Error> {
    let chain: Vec<_> = chain
        .iter()
        .map(|der| DerCertificate::new(der.clone()))
        .collect();
    Ok(SigningIdentity::new(
        CertificateChain::from(chain).into_credential(),
        SignaturePublicKey::new(key.public()?),
    ))
}

/// The key as mls-rs signs with it.
pub(crate) fn signer(key: &DeviceKey) -> Result<SignatureSecretKey, Error> {
    key.for_mls()
}

/// The MLS client of a device. Key packages made with it are valid as long as its certificate.
pub(crate) fn client(
    key: &DeviceKey,
    chain: &[Vec<u8>],
    storage: &MlsStorage,
    identities: &Identities,
    key_package_lifetime: Duration,
) -> Result<MlsClient, Error> {
    let crypto = RustCryptoProvider::with_enabled_cipher_suites(vec![CIPHER_SUITE]);
    Ok(mls_rs::Client::builder()
        .crypto_provider(crypto)
        .key_package_repo(storage.clone())
        .group_state_storage(storage.clone())
        .identity_provider(identities.clone())
        .mls_rules(identities.rules().clone())
        .extension_type(ROOM_EXTENSION)
        .key_package_lifetime(key_package_lifetime)
        .signing_identity(signing_identity(chain, key)?, key.for_mls()?, CIPHER_SUITE)
        .build())
}

/// The identities that this client trusts.
pub(crate) fn identities(anchors: crate::certificate::AnchorSet) -> Identities {
    Identities::new(anchors, Imports::Verified)
}

/// Reads exactly one MLS message.
pub(crate) fn parse(bytes: &[u8]) -> Result<MlsMessage, Error> {
    Ok(room_rules::parse(bytes)?)
}

/// Whether an MLS error says that a room's rules refuse a commit.
pub(crate) fn is_refusal(reason: &str) -> bool {
    reason.starts_with(REFUSED)
}

/// mls-rs's time of a moment in milliseconds.
pub(crate) fn time(ms: u64) -> MlsTime {
    MlsTime::from_duration_since_epoch(Duration::from_millis(ms))
}

/// This library's error for one of mls-rs.
pub(crate) fn error(error: mls_rs::error::MlsError) -> Error {
    use mls_rs::error::MlsError;
    let inner = match &error {
        MlsError::GroupStorageError(inner) | MlsError::KeyPackageRepoError(inner) => {
            inner.inner_dyn_error().downcast_ref::<Error>()
        }
        _ => None,
    };
    inner
        .cloned()
        .unwrap_or_else(|| room_rules::Error::from(error).into())
}

#[cfg(test)]
mod tests;
