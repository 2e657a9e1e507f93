//! MLS clients to whom nothing is forbidden: what holds them back is whoever judges their commits.

use bytes::Bytes;
use federation_proto::ids::{AccountId, DeviceId, Member, RoomId};
use mls_rs::client_builder::{BaseConfig, WithCryptoProvider, WithIdentityProvider, WithMlsRules};
use mls_rs::error::IntoAnyError;
use mls_rs::group::{CommitOutput, GroupContext, Roster};
use mls_rs::identity::SigningIdentity;
use mls_rs::mls_rules::{
    CommitDirection, CommitOptions, CommitSource, EncryptionOptions, ProposalBundle,
};
use mls_rs::time::MlsTime;
use mls_rs::{ExtensionList, IdentityProvider, MlsMessage, MlsRules};
use mls_rs_core::crypto::{SignaturePublicKey, SignatureSecretKey};
use mls_rs_core::identity::{
    CertificateChain, CredentialType, DerCertificate, MemberValidationContext,
};
use mls_rs_crypto_rustcrypto::RustCryptoProvider;

use super::Organisation;
use crate::settings::{Context, ROOM_EXTENSION, Role, RoomSettings};
use crate::{CIPHER_SUITE, RoomKey, hub_identity};

/// No credential is judged.
#[derive(Debug, Clone)]
pub struct Anyone;

#[derive(Debug)]
pub struct Never;

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
pub struct Lawless;

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

pub type Config = WithMlsRules<
    Lawless,
    WithIdentityProvider<Anyone, WithCryptoProvider<RustCryptoProvider, BaseConfig>>,
>;
pub type Client = mls_rs::Client<Config>;
pub type Group = mls_rs::Group<Config>;

/// What a device with this chain and the Ed25519 key of this seed signs as.
pub fn signer(seed: &[u8; 32], chain: &[Vec<u8>]) -> (SignatureSecretKey, SigningIdentity) {
    let public = RoomKey::from_seed(seed).unwrap().public().to_vec();
    let secret = SignatureSecretKey::new([&seed[..], &public].concat());
    let chain: Vec<_> = chain.iter().cloned().map(DerCertificate::from).collect();
    let identity = SigningIdentity::new(
        CertificateChain::from(chain).into_credential(),
        SignaturePublicKey::new(public),
    );
    (secret, identity)
}

/// The client of a device with the Ed25519 key of this seed.
pub fn client(seed: &[u8; 32], chain: &[Vec<u8>]) -> Client {
    let (secret, identity) = signer(seed, chain);
    mls_rs::Client::builder()
        .crypto_provider(RustCryptoProvider::with_enabled_cipher_suites(vec![
            CIPHER_SUITE,
        ]))
        .identity_provider(Anyone)
        .mls_rules(Lawless)
        .extension_type(ROOM_EXTENSION)
        .signing_identity(identity, secret, CIPHER_SUITE)
        .build()
}

/// A device that an organisation has certified.
pub struct Device {
    pub member: Member,
    pub seed: [u8; 32],
    pub chain: Vec<Vec<u8>>,
    pub client: Client,
}

impl Device {
    pub fn new(organisation: &Organisation, handle: &str, number: u8, now_ms: u64) -> Self {
        let member = Member {
            server: organisation.server.clone(),
            account: AccountId::from_bytes([number & 0xf0; 16]),
            device: DeviceId::from_bytes([number; 16]),
        };
        Self::of(organisation, handle, member, [number; 32], now_ms)
    }

    /// The same device with another key, which its organisation has certified as well.
    pub fn with_another_key(&self, organisation: &Organisation, handle: &str, now_ms: u64) -> Self {
        let seed = self.seed.map(|byte| !byte);
        Self::of(organisation, handle, self.member.clone(), seed, now_ms)
    }

    /// The device of an account of its own.
    pub fn numbered(organisation: &Organisation, number: u32, now_ms: u64) -> Self {
        Self::named(organisation, &format!("p{number}"), number, now_ms)
    }

    /// The same, with a handle.
    pub fn named(organisation: &Organisation, handle: &str, number: u32, now_ms: u64) -> Self {
        let mut id = [1; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let mut seed = [1; 32];
        seed[..4].copy_from_slice(&number.to_be_bytes());
        let member = Member {
            server: organisation.server.clone(),
            account: AccountId::from_bytes(id),
            device: DeviceId::from_bytes(id),
        };
        Self::of(organisation, handle, member, seed, now_ms)
    }

    fn of(
        organisation: &Organisation,
        handle: &str,
        member: Member,
        seed: [u8; 32],
        now_ms: u64,
    ) -> Self {
        let address = format!("{handle}@{}", organisation.server).parse().unwrap();
        let key = RoomKey::from_seed(&seed).unwrap();
        let chain = organisation.issue(&member, &address, key.public(), now_ms);
        let client = client(&seed, &chain);
        Self {
            member,
            seed,
            chain,
            client,
        }
    }
}

/// A key package that is good from a little before `now_ms` on.
pub fn key_package(client: &Client, now_ms: u64) -> MlsMessage {
    let none = ExtensionList::default;
    let now = Some(MlsTime::from(now_ms / 1000));
    client
        .generate_key_package_message(none(), none(), now)
        .unwrap()
}

/// What a room begins with that these accounts take part in.
pub fn context<C: AsRef<[u8]>>(
    hub_chain: &[C],
    creator: &Member,
    others: &[(Member, Role)],
) -> Context {
    let mut settings = RoomSettings::new(creator.server.clone(), creator);
    for (member, role) in others {
        let account = (member.server.clone(), member.account);
        settings.participants.insert(account, *role);
    }
    Context {
        settings,
        hub: hub_identity(hub_chain).unwrap(),
    }
}

/// A new room with its creator alone.
pub fn create(client: &Client, room: RoomId, context: &Context) -> Group {
    let extensions = context.extensions().unwrap();
    client
        .create_group_with_id(
            room.as_bytes().to_vec(),
            extensions,
            ExtensionList::default(),
            None,
        )
        .unwrap()
}

pub fn bytes(message: &MlsMessage) -> Bytes {
    message.to_bytes().unwrap().into()
}

/// The group info of the epoch that a group is in.
pub fn group_info(group: &Group) -> Bytes {
    bytes(&group.group_info_message_allowing_ext_commit(true).unwrap())
}

/// The group info that came with a commit.
pub fn next_group_info(output: &CommitOutput) -> Bytes {
    bytes(output.external_commit_group_info.as_ref().unwrap())
}
