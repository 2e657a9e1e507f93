//! Commits from outside that openmls refuses to make: it removes the leaf with the committer's own key, or none.
//! Those that remove another leaf come from mls-rs, which takes anybody for anybody here.

use std::convert::Infallible;

use mls_rs::identity::SigningIdentity;
use mls_rs::mls_rules::{CommitOptions, DefaultMlsRules, EncryptionOptions};
use mls_rs::time::MlsTime;
use mls_rs::{CipherSuite, ExtensionList, IdentityProvider, MlsMessage};
use mls_rs_core::crypto::{SignaturePublicKey, SignatureSecretKey};
use mls_rs_core::extension::ExtensionType;
use mls_rs_core::identity::{
    CertificateChain, CredentialType, DerCertificate, MemberValidationContext,
};
use mls_rs_crypto_rustcrypto::RustCryptoProvider;
use ring::signature::KeyPair as _;

use crate::failure::{Failure, Result};
use crate::group::Made;
use crate::mls::ROOM_EXTENSION;
use crate::organisation::DeviceIdentity;

pub(crate) const SUITE: CipherSuite = CipherSuite::CURVE25519_AES128;

/// Takes every certificate, and each for somebody else's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Anybody;

impl IdentityProvider for Anybody {
    type Error = Infallible;

    fn validate_member(
        &self,
        _: &SigningIdentity,
        _: Option<MlsTime>,
        _: MemberValidationContext<'_>,
    ) -> std::result::Result<(), Infallible> {
        Ok(())
    }

    fn validate_external_sender(
        &self,
        _: &SigningIdentity,
        _: Option<MlsTime>,
        _: Option<&ExtensionList>,
    ) -> std::result::Result<(), Infallible> {
        Ok(())
    }

    fn identity(
        &self,
        identity: &SigningIdentity,
        _: &ExtensionList,
    ) -> std::result::Result<Vec<u8>, Infallible> {
        Ok(identity.signature_key.as_ref().to_vec())
    }

    fn valid_successor(
        &self,
        _: &SigningIdentity,
        _: &SigningIdentity,
        _: &ExtensionList,
    ) -> std::result::Result<bool, Infallible> {
        Ok(true)
    }

    fn supported_types(&self) -> Vec<CredentialType> {
        vec![CredentialType::X509]
    }
}

/// A commit from outside into the room of this group info, in the place of this leaf.
pub(crate) fn come_in(group_info: &[u8], identity: &DeviceIdentity, leaf: u32) -> Result<Made> {
    let chain: Vec<_> = identity
        .chain
        .iter()
        .map(|der| DerCertificate::new(der.clone()))
        .collect();
    let public = identity.key.public_key().as_ref();
    let signing = SigningIdentity::new(
        CertificateChain::from(chain).into_credential(),
        SignaturePublicKey::new(public.to_vec()),
    );
    let secret = SignatureSecretKey::new([&identity.seed[..], public].concat());
    let options = CommitOptions::new()
        .with_path_required(true)
        .with_allow_external_commit(true);
    let rules = DefaultMlsRules::new()
        .with_commit_options(options)
        .with_encryption_options(EncryptionOptions::default());
    let client = mls_rs::Client::builder()
        .crypto_provider(RustCryptoProvider::with_enabled_cipher_suites(vec![SUITE]))
        .identity_provider(Anybody)
        .mls_rules(rules)
        .extension_type(ExtensionType::new(ROOM_EXTENSION))
        .signing_identity(signing, secret, SUITE)
        .build();
    let group_info = MlsMessage::from_bytes(group_info).map_err(Failure::mls)?;
    let (group, commit) = client
        .external_commit_builder()
        .and_then(|builder| builder.with_removal(leaf).build(group_info))
        .map_err(Failure::mls)?;
    let group_info = group
        .group_info_message_allowing_ext_commit(true)
        .and_then(|info| info.to_bytes())
        .map_err(Failure::mls)?;
    Ok(Made {
        commit: commit.to_bytes().map_err(Failure::mls)?,
        welcome: None,
        group_info,
    })
}
