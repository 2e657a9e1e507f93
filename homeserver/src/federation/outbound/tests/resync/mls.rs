//! MLS clients to whom nothing is forbidden: what holds them back is the servers.

use mls_rs::client_builder::{BaseConfig, WithCryptoProvider, WithIdentityProvider, WithMlsRules};
use mls_rs::group::{GroupContext, Roster};
use mls_rs::identity::SigningIdentity;
use mls_rs::mls_rules::{
    CommitDirection, CommitOptions, CommitSource, EncryptionOptions, ProposalBundle,
};
use mls_rs::time::MlsTime;
use mls_rs::{CipherSuite, ExtensionList, IdentityProvider, MlsRules};
use mls_rs_core::crypto::{SignaturePublicKey, SignatureSecretKey};
use mls_rs_core::error::IntoAnyError;
use mls_rs_core::identity::{
    CertificateChain, CredentialType, DerCertificate, MemberValidationContext,
};
use mls_rs_crypto_rustcrypto::RustCryptoProvider;

const SUITE: CipherSuite = CipherSuite::CURVE25519_AES128;

/// No credential is judged.
#[derive(Debug, Clone)]
pub(super) struct Anyone;

#[derive(Debug)]
pub(super) struct Never;

impl IntoAnyError for Never {}

impl IdentityProvider for Anyone {
    type Error = Never;

    fn validate_member(
        &self,
        _: &SigningIdentity,
        _: Option<MlsTime>,
        _: MemberValidationContext<'_>,
    ) -> Result<(), Never> {
        Ok(())
    }

    fn validate_external_sender(
        &self,
        _: &SigningIdentity,
        _: Option<MlsTime>,
        _: Option<&ExtensionList>,
    ) -> Result<(), Never> {
        Ok(())
    }

    fn identity(&self, who: &SigningIdentity, _: &ExtensionList) -> Result<Vec<u8>, Never> {
        Ok(who.signature_key.as_ref().to_vec())
    }

    fn valid_successor(
        &self,
        _: &SigningIdentity,
        _: &SigningIdentity,
        _: &ExtensionList,
    ) -> Result<bool, Never> {
        Ok(true)
    }

    fn supported_types(&self) -> Vec<CredentialType> {
        vec![CredentialType::X509]
    }
}

/// Everything may be committed, and every commit has a group info.
#[derive(Debug, Clone)]
pub(super) struct Lawless;

impl MlsRules for Lawless {
    type Error = Never;

    fn filter_proposals(
        &self,
        _: CommitDirection,
        _: CommitSource,
        _: &Roster<'_>,
        _: &GroupContext,
        proposals: ProposalBundle,
    ) -> Result<ProposalBundle, Never> {
        Ok(proposals)
    }

    fn commit_options(
        &self,
        _: &Roster<'_>,
        _: &GroupContext,
        _: &ProposalBundle,
    ) -> Result<CommitOptions, Never> {
        Ok(CommitOptions::new()
            .with_path_required(true)
            .with_allow_external_commit(true))
    }

    fn encryption_options(
        &self,
        _: &Roster<'_>,
        _: &GroupContext,
    ) -> Result<EncryptionOptions, Never> {
        Ok(EncryptionOptions::default())
    }
}

type Config = WithMlsRules<
    Lawless,
    WithIdentityProvider<Anyone, WithCryptoProvider<RustCryptoProvider, BaseConfig>>,
>;
pub(super) type Client = mls_rs::Client<Config>;
pub(super) type Group = mls_rs::Group<Config>;

pub(super) fn client(key: &rcgen::KeyPair, chain: &[Vec<u8>]) -> Client {
    let public = key.public_key_raw().to_vec();
    // PKCS#8: the seed follows 16 bytes of structure.
    let secret = [&key.serialize_der()[16..48], &public].concat();
    let chain: Vec<_> = chain.iter().cloned().map(DerCertificate::from).collect();
    let identity = SigningIdentity::new(
        CertificateChain::from(chain).into_credential(),
        SignaturePublicKey::new(public),
    );
    mls_rs::Client::builder()
        .crypto_provider(RustCryptoProvider::with_enabled_cipher_suites(vec![SUITE]))
        .identity_provider(Anyone)
        .mls_rules(Lawless)
        .signing_identity(identity, SignatureSecretKey::new(secret), SUITE)
        .build()
}

pub(super) fn new_key() -> rcgen::KeyPair {
    rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap()
}
