//! Rooms as their members have them, by openmls: an MLS stack that no part of the homeserver is made of, so
//! that a fault in one of the two can't hide in the other.
//!
//! It takes whatever MLS takes. What the protocol asks beyond that, certificates and roles, is opaque to it,
//! and so the suite can break each rule and keep all others.

use openmls::group::CommitMessageBundle;
use openmls::prelude::tls_codec::{DeserializeBytes as _, Serialize as _};
use openmls::prelude::{
    Capabilities, Credential, CredentialType, CredentialWithKey, Extension, ExtensionType,
    Extensions, ExternalSender, GroupContext, GroupId, KeyPackage, LeafNodeIndex,
    LeafNodeParameters, MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY, MIXED_PLAINTEXT_WIRE_FORMAT_POLICY,
    MlsGroup, MlsGroupJoinConfig, MlsMessageBodyIn, MlsMessageIn, MlsMessageOut,
    OpenMlsProvider as _, ProcessedMessageContent, ProtocolVersion, RequiredCapabilitiesExtension,
    SignatureScheme, StagedWelcome, UnknownExtension,
};
use openmls_traits::signatures::{Signer, SignerError};
use ring::signature::KeyPair as _;

use crate::consent;
use crate::crypto::{Provider, SUITE};
use crate::failure::{Failure, Result};
use crate::mls::{ROOM_EXTENSION, certificates};
use crate::organisation::DeviceIdentity;
use crate::wire::Encoder;

/// What an account may do in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Owner,
    Moderator,
    Member,
}

/// An account that takes part in a room.
pub(crate) type Participant<'a> = (&'a str, [u8; 16], Role);

/// The room extension (protocol, section 9), of epochs that are kept as long as rooms may, with these consents one after
/// the other; without any it has no policy.
pub(crate) fn room_extension(
    hub: &str,
    participants: &[Participant<'_>],
    consents: &[u8],
) -> Vec<u8> {
    const RETAINED_EPOCHS: u16 = 32;
    let mut participants = participants.to_vec();
    participants.sort_by_key(|(server, account, _)| (*server, *account));
    let domains = participants
        .chunk_by(|(one, ..), (next, ..)| one == next)
        .fold(Encoder::new(), |domains, accounts| {
            let (server, ..) = accounts.first().unwrap_or(&("", [0; 16], Role::Member));
            let list = accounts
                .iter()
                .fold(Encoder::new(), |list, (_, account, role)| {
                    list.fixed(account).u8(match role {
                        Role::Owner => 1,
                        Role::Moderator => 2,
                        Role::Member => 3,
                    })
                });
            domains
                .vector(1, server.as_bytes())
                .vector(4, &list.finish())
        });
    let extension = Encoder::new()
        .u8(1)
        .vector(1, hub.as_bytes())
        .u16(RETAINED_EPOCHS)
        // No name.
        .vector(1, b"")
        .vector(4, &domains.finish());
    match consents {
        [] => extension.u8(0),
        consents => extension.u8(1).vector(4, consents),
    }
    // It continues no other room.
    .u8(0)
    .finish()
}

impl Signer for DeviceIdentity {
    fn sign(&self, payload: &[u8]) -> std::result::Result<Vec<u8>, SignerError> {
        Ok(self.key.sign(payload).as_ref().to_vec())
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// Everything that travels with a commit.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) commit: Vec<u8>,
    pub(crate) welcome: Option<Vec<u8>>,
    pub(crate) group_info: Vec<u8>,
}

/// What a commit does besides giving its author new keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Change<'a> {
    /// Key packages.
    pub(crate) adds: &'a [Vec<u8>],
    /// Leaves.
    pub(crate) removes: &'a [u32],
    /// The room extension that takes the place of the present one.
    pub(crate) room: Option<Vec<u8>>,
}

/// A device of the fake peer's, with all that MLS keeps on it.
pub(crate) struct Seat {
    pub(crate) identity: DeviceIdentity,
    provider: Provider,
    group: Option<MlsGroup>,
}

impl Seat {
    /// Of a device that is in no room yet.
    pub(crate) fn new(identity: DeviceIdentity) -> Self {
        Self {
            identity,
            provider: Provider::default(),
            group: None,
        }
    }

    fn group(&self) -> Result<&MlsGroup> {
        self.group.as_ref().ok_or_else(in_no_room)
    }

    /// Founds a room with this id, which `hub` is the hub of.
    pub(crate) fn found(
        &mut self,
        id: &[u8; 16],
        hub: &DeviceIdentity,
        room_extension: Vec<u8>,
    ) -> Result {
        let required = RequiredCapabilitiesExtension::new(
            &[ExtensionType::Unknown(ROOM_EXTENSION)],
            &[],
            &[CredentialType::X509],
        );
        let CredentialWithKey {
            credential,
            signature_key,
        } = credential(hub);
        let context = Extensions::<GroupContext>::from_vec(vec![
            Extension::RequiredCapabilities(required),
            Extension::ExternalSenders(vec![ExternalSender::new(signature_key, credential)]),
            Extension::Unknown(ROOM_EXTENSION, UnknownExtension(room_extension)),
        ])
        .map_err(Failure::mls)?;
        let group = MlsGroup::builder()
            .with_group_id(GroupId::from_slice(id))
            .ciphersuite(SUITE)
            .with_wire_format_policy(MIXED_PLAINTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(true)
            .with_capabilities(capabilities())
            .with_group_context_extensions(context)
            .build(&self.provider, &self.identity, credential_of(self))
            .map_err(Failure::mls)?;
        self.group = Some(group);
        Ok(())
    }

    /// A new key package.
    pub(crate) fn key_package(&self) -> Result<Vec<u8>> {
        let made = KeyPackage::builder()
            .leaf_node_capabilities(capabilities())
            .build(SUITE, &self.provider, &self.identity, credential_of(self))
            .map_err(Failure::mls)?;
        written(&MlsMessageOut::from(made))
    }

    /// Joins by a welcome; why not, if it is not to be joined by.
    pub(crate) fn join(&mut self, welcome: &[u8]) -> std::result::Result<(), String> {
        let MlsMessageBodyIn::Welcome(welcome) = read(welcome)? else {
            return Err("it is no welcome".to_owned());
        };
        // How long others' leaves say that they last is no matter of rooms.
        let staged = StagedWelcome::build_from_welcome(&self.provider, &join_config(), welcome)
            .map_err(text)?
            .skip_lifetime_validation()
            .replace_old_group()
            .build()
            .map_err(text)?;
        self.group = Some(staged.into_group(&self.provider).map_err(text)?);
        Ok(())
    }

    /// Makes a commit, and waits for what becomes of it.
    pub(crate) fn commit(&mut self, change: &Change<'_>) -> Result<Made> {
        let adds: Vec<KeyPackage> = change
            .adds
            .iter()
            .map(|package| self.read_key_package(package))
            .collect::<Result<_>>()?;
        let Self {
            identity,
            provider,
            group,
        } = self;
        let group = group.as_mut().ok_or_else(in_no_room)?;
        let mut context = group.extensions().clone();
        let mut builder = group
            .commit_builder()
            .force_self_update(true)
            .propose_adds(adds)
            .propose_removals(change.removes.iter().copied().map(LeafNodeIndex::new));
        if let Some(room) = &change.room {
            let room = Extension::Unknown(ROOM_EXTENSION, UnknownExtension(room.clone()));
            context.add_or_replace(room).map_err(Failure::mls)?;
            builder = builder
                .propose_group_context_extensions(context)
                .map_err(Failure::mls)?;
        }
        let bundle = builder
            .load_psks(provider.storage())
            .map_err(Failure::mls)?
            .create_group_info(true)
            .use_ratchet_tree_extension(true)
            .build(provider.rand(), provider.crypto(), identity, |_| true)
            .map_err(Failure::mls)?
            .stage_commit(provider)
            .map_err(Failure::mls)?;
        made(bundle)
    }

    /// As [`Seat::commit`], of a change that nobody reads: a PrivateMessage.
    pub(crate) fn private_commit(&mut self) -> Result<Made> {
        let secretly = |policy| {
            MlsGroupJoinConfig::builder()
                .wire_format_policy(policy)
                .build()
        };
        self.configure(&secretly(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY))?;
        let made = self.commit(&Change::default());
        self.configure(&join_config())?;
        made
    }

    fn configure(&mut self, config: &MlsGroupJoinConfig) -> Result {
        let group = self.group.as_mut().ok_or_else(in_no_room)?;
        group
            .set_configuration(self.provider.storage(), config)
            .map_err(Failure::mls)
    }

    /// The hub has ordered the commit that waits, or not.
    pub(crate) fn decided(&mut self, ordered: bool) -> Result {
        let group = self.group.as_mut().ok_or_else(in_no_room)?;
        if ordered {
            group
                .merge_pending_commit(&self.provider)
                .map_err(Failure::mls)
        } else {
            group
                .clear_pending_commit(self.provider.storage())
                .map_err(Failure::mls)
        }
    }

    /// Applies another's commit; why not, if it can't be.
    pub(crate) fn apply(&mut self, commit: &[u8]) -> std::result::Result<(), String> {
        let group = self.group.as_mut().ok_or("it is in no room")?;
        let message = MlsMessageIn::tls_deserialize_exact_bytes(commit).map_err(text)?;
        let message = message.try_into_protocol_message().map_err(text)?;
        let processed = group
            .process_message(&self.provider, message)
            .map_err(text)?;
        match processed.into_content() {
            ProcessedMessageContent::StagedCommitMessage(staged) => group
                .merge_staged_commit(&self.provider, *staged)
                .map_err(text),
            other => Err(format!("it is no commit: {other:?}")),
        }
    }

    /// What a member has written.
    pub(crate) fn open(&mut self, message: &[u8]) -> std::result::Result<Vec<u8>, String> {
        let group = self.group.as_mut().ok_or("it is in no room")?;
        let message = MlsMessageIn::tls_deserialize_exact_bytes(message).map_err(text)?;
        let message = message.try_into_protocol_message().map_err(text)?;
        let processed = group
            .process_message(&self.provider, message)
            .map_err(text)?;
        match processed.into_content() {
            ProcessedMessageContent::ApplicationMessage(message) => Ok(message.into_bytes()),
            other => Err(format!("nothing is written there: {other:?}")),
        }
    }

    /// A commit from outside into the room of this group info, in the place of the leaf with this device's key
    /// if there is one. The seat is in the room as the commit leaves it.
    pub(crate) fn come_in(&mut self, group_info: &[u8]) -> std::result::Result<Made, String> {
        let MlsMessageBodyIn::GroupInfo(info) = read(group_info)? else {
            return Err("it is no group info".to_owned());
        };
        // What the device knew is forgotten.
        self.provider = Provider::default();
        self.group = None;
        let leaf = LeafNodeParameters::builder()
            .with_capabilities(capabilities())
            .build();
        let (group, bundle) = MlsGroup::external_commit_builder()
            .with_config(join_config())
            .skip_lifetime_validation()
            .build_group(&self.provider, info, credential_of(self))
            .map_err(text)?
            .leaf_node_parameters(leaf)
            .load_psks(self.provider.storage())
            .map_err(text)?
            .create_group_info(true)
            .use_ratchet_tree_extension(true)
            .build(
                self.provider.rand(),
                self.provider.crypto(),
                &self.identity,
                |_| true,
            )
            .map_err(text)?
            .finalize(&self.provider)
            .map_err(text)?;
        self.group = Some(group);
        made(bundle).map_err(text)
    }

    /// What the room's group context says: the types of its extensions in their order, and the room extension.
    pub(crate) fn context(&self) -> Result<(Vec<u16>, Option<Vec<u8>>)> {
        let extensions = self.group()?.extensions();
        let types = extensions
            .iter()
            .map(|extension| u16::from(extension.extension_type()))
            .collect();
        let room = extensions.unknown(ROOM_EXTENSION);
        Ok((types, room.map(|room| room.0.clone())))
    }

    /// The consents in the room's group context, one after the other.
    pub(crate) fn consents(&self) -> Result<Vec<u8>> {
        let (_, room) = self.context()?;
        let consents = room.as_deref().and_then(consent::in_room);
        Ok(consents.unwrap_or_default().to_vec())
    }

    /// The group info of the epoch that the device is in.
    pub(crate) fn group_info(&self) -> Result<Vec<u8>> {
        let info = self
            .group()?
            .export_group_info(self.provider.crypto(), &self.identity, true)
            .map_err(Failure::mls)?;
        written(&info)
    }

    /// The epoch that the device is in.
    pub(crate) fn epoch(&self) -> Result<u64> {
        Ok(self.group()?.epoch().as_u64())
    }

    /// The device's own leaf.
    pub(crate) fn leaf(&self) -> Result<u32> {
        Ok(self.group()?.own_leaf_index().u32())
    }

    /// What only who is in the room's present epoch knows: equal on two devices when they are in the same.
    pub(crate) fn authenticator(&self) -> Result<Vec<u8>> {
        Ok(self.group()?.epoch_authenticator().as_slice().to_vec())
    }

    fn read_key_package(&self, package: &[u8]) -> Result<KeyPackage> {
        let MlsMessageBodyIn::KeyPackage(package) = read(package).map_err(Failure::Mls)? else {
            return Err(Failure::Mls("it is no key package".to_owned()));
        };
        package
            .validate(self.provider.crypto(), ProtocolVersion::Mls10)
            .map_err(Failure::mls)
    }
}

fn in_no_room() -> Failure {
    Failure::Mls("the device is in no room".to_owned())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn read(bytes: &[u8]) -> std::result::Result<MlsMessageBodyIn, String> {
    let message = MlsMessageIn::tls_deserialize_exact_bytes(bytes);
    message.map(MlsMessageIn::extract).map_err(text)
}

fn written(message: &MlsMessageOut) -> Result<Vec<u8>> {
    message.tls_serialize_detached().map_err(Failure::mls)
}

fn made(bundle: CommitMessageBundle) -> Result<Made> {
    let (commit, welcome, group_info) = bundle.into_messages();
    let group_info = group_info.ok_or_else(|| Failure::Mls("no group info was made".to_owned()))?;
    Ok(Made {
        commit: written(&commit)?,
        welcome: welcome.as_ref().map(written).transpose()?,
        group_info: written(&group_info)?,
    })
}

/// What every room needs, and nothing else.
fn capabilities() -> Capabilities {
    Capabilities::builder()
        .versions(vec![ProtocolVersion::Mls10])
        .ciphersuites(vec![SUITE])
        .extensions(vec![ExtensionType::Unknown(ROOM_EXTENSION)])
        .proposals(Vec::new())
        .credentials(vec![CredentialType::X509])
        .build()
}

fn credential(identity: &DeviceIdentity) -> CredentialWithKey {
    CredentialWithKey {
        credential: Credential::new(CredentialType::X509, certificates(&identity.chain)),
        signature_key: identity.key.public_key().as_ref().to_vec().into(),
    }
}

fn credential_of(seat: &Seat) -> CredentialWithKey {
    credential(&seat.identity)
}

fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(MIXED_PLAINTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(true)
        .build()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::organisation::Organisation;
    use crate::usurper;

    const ROOM: [u8; 16] = [1; 16];
    const ACCOUNT: [u8; 16] = [2; 16];

    /// A room of two devices of one account.
    pub(crate) fn room() -> (Organisation, Seat, Seat) {
        let organisation = Organisation::new("a.example").unwrap();
        let seat = |device| {
            Seat::new(
                organisation
                    .device("alice", &ACCOUNT, &[device; 16])
                    .unwrap(),
            )
        };
        let (mut first, mut second) = (seat(3), seat(4));
        let settings = room_extension("a.example", &[("a.example", ACCOUNT, Role::Owner)], b"");
        first
            .found(&ROOM, &organisation.hub().unwrap(), settings)
            .unwrap();
        let made = first
            .commit(&Change {
                adds: &[second.key_package().unwrap()],
                ..Change::default()
            })
            .unwrap();
        first.decided(true).unwrap();
        second.join(&made.welcome.unwrap()).unwrap();
        (organisation, first, second)
    }

    fn are_together(one: &Seat, other: &Seat) -> bool {
        one.authenticator().unwrap() == other.authenticator().unwrap()
    }

    /// Goal: the room extension is written as section 9 says, servers and accounts ascending. Method: fixed bytes.
    #[test]
    fn the_room_extension_is_as_it_is_specified() {
        let written = room_extension(
            "h",
            &[
                ("b", [2; 16], Role::Member),
                ("a", [9; 16], Role::Moderator),
                ("b", [1; 16], Role::Owner),
            ],
            b"",
        );
        let mut expected = vec![1, 1, b'h', 0, 32, 0, 0, 0, 0, 6 + 17 + 6 + 34];
        expected.extend([1, b'a', 0, 0, 0, 17]);
        expected.extend([9; 16]);
        expected.extend([2, 1, b'b', 0, 0, 0, 34]);
        expected.extend([1; 16]);
        expected.push(1);
        expected.extend([2; 16]);
        // Its name, and that it continues no other.
        expected.extend([3, 0, 0]);
        assert_eq!(written, expected);
    }

    /// Goal: a room has exactly the three extensions, and its members go on together: by commits of both, and not by a commit
    /// that was given up or for an epoch that is over. Method: two devices, a commit of each for the same epoch.
    #[test]
    fn members_go_on_together() {
        let (_, mut first, mut second) = room();
        assert!(are_together(&first, &second));
        assert_eq!(first.context().unwrap().0, [3, 5, ROOM_EXTENSION]);
        let given_up = first.commit(&Change::default()).unwrap();
        first.decided(false).unwrap();
        let ordered = second.commit(&Change::default()).unwrap();
        second.decided(true).unwrap();
        first.apply(&ordered.commit).unwrap();
        assert!(are_together(&first, &second));
        assert!(second.apply(&given_up.commit).is_err());
        assert_eq!(second.epoch().unwrap(), 2);
    }

    /// Goal: a device comes back in by a group info, also when the other stack makes its commit; so what is wrong with that
    /// stack's commits elsewhere is the leaf that they take. Method: one way in of each stack, which the other device applies.
    #[test]
    fn both_stacks_come_in() {
        let (_, mut first, mut second) = room();
        let info = first.group_info().unwrap();
        let mut again = Seat::new(second.identity.copied().unwrap());
        let made = again.come_in(&info).unwrap();
        first.apply(&made.commit).unwrap();
        assert!(are_together(&first, &again));
        let leaf = again.leaf().unwrap();
        let made = usurper::come_in(&made.group_info, &again.identity, leaf).unwrap();
        first.apply(&made.commit).unwrap();
        assert_eq!(first.epoch().unwrap(), 3);
        assert!(second.apply(&made.commit).is_err());
    }
}
