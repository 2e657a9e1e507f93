//! A room as its hub knows it: the public half of its group, without any secret.
//!
//! The hub keeps the group info of each room's newest epoch, and nothing else of MLS: what is here is read from
//! that, and may be forgotten at any time. A commit is valid when MLS's rules and ours take it, and when the
//! group info that came with it describes exactly the state that it leads to: so whoever falls out of step can
//! come back by what the hub keeps.

use std::collections::BTreeSet;

use bytes::Bytes;
use federation_proto::ids::Member;
use mls_rs::MlsMessage;
use mls_rs::extension::ExtensionType;
use mls_rs::extension::built_in::{ExternalPubExt, RatchetTreeExt};
use mls_rs::external_client::builder::{
    ExternalBaseConfig, WithCryptoProvider, WithIdentityProvider, WithMlsRules,
};
use mls_rs::external_client::{ExternalClient, ExternalGroup, ExternalReceivedMessage};
use mls_rs::group::proposal::Proposal;
use mls_rs::group::{CommitEffect, CommitMessageDescription, GroupInfo, LeafIndex, Sender};
use mls_rs::time::MlsTime;
use mls_rs_core::crypto::SignatureSecretKey;
use mls_rs_crypto_rustcrypto::RustCryptoProvider;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::certificate::{self, AnchorSet, Validity};
use crate::error::Error;
use crate::identity::{Identities, Imports, device_in, mark};
use crate::rules::{self, Rules};
use crate::settings::{Context, Role};
use crate::{CIPHER_SUITE, guarded, parse, removal};

/// Bytes of a public key of the one suite.
const EXTERNAL_PUB_BYTES: usize = 32;

type Config = WithMlsRules<
    Rules,
    WithIdentityProvider<Identities, WithCryptoProvider<RustCryptoProvider, ExternalBaseConfig>>,
>;

/// The key that a hub proposes removals with.
#[derive(Clone)]
pub struct RoomKey {
    secret: SignatureSecretKey,
    public: Vec<u8>,
}

impl std::fmt::Debug for RoomKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RoomKey")
    }
}

impl RoomKey {
    /// The Ed25519 key of this seed.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, Error> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed)
            .map_err(|_| Error::Mls("the room key is damaged".to_owned()))?;
        let public = pair.public_key().as_ref().to_vec();
        Ok(Self {
            secret: SignatureSecretKey::new([&seed[..], &public].concat()),
            public,
        })
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.public
    }
}

/// A member's place in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Its index in the tree.
    pub index: u32,
    /// Whose it is.
    pub member: Member,
    /// The end of its certificate's validity, seconds since the Unix epoch.
    pub not_after: u64,
}

/// A room's public state in one epoch.
#[derive(Clone)]
pub struct Observed {
    group: ExternalGroup<Config>,
    identities: Identities,
    context: Context,
}

impl std::fmt::Debug for Observed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Observed({})", self.epoch())
    }
}

/// What a valid commit does.
#[derive(Debug)]
pub struct Judged {
    /// Who made it.
    pub committer: Member,
    /// Whether it is somebody's way back in, from outside.
    pub outside: bool,
    /// The devices that it adds.
    pub adds: Vec<Member>,
    /// The devices that it removes, its author's own old leaf not among them.
    pub removes: Vec<Member>,
    /// How many of the hub's removals that wait it leaves out.
    pub left_out: usize,
    /// How many nodes an update path of its author's leaf has in the tree that it leads to.
    pub path_nodes: usize,
    /// The room in the epoch that it begins.
    pub next: Observed,
}

impl Observed {
    /// Reads a room from a group info that this hub has judged before. With the key that is the hub's in the
    /// room it can propose.
    ///
    /// # Errors
    /// When it is no room's group info.
    pub fn open(
        group_info: &[u8],
        anchors: AnchorSet,
        key: Option<&RoomKey>,
    ) -> Result<Self, Error> {
        Self::observe(group_info, Identities::new(anchors, Imports::OurOwn), key)
    }

    /// Reads a new room from its creator's first group info: nobody but the creator is in it, who owns it, and
    /// this hub, with this key, is its hub.
    ///
    /// # Errors
    /// When it is no such room.
    pub fn found(
        group_info: &[u8],
        anchors: &AnchorSet,
        key: &RoomKey,
        creator: &Member,
        now_ms: u64,
    ) -> Result<Self, Error> {
        let judging = Identities::new(anchors.clone(), Imports::Verified);
        let observed = Self::observe(group_info, judging, Some(key))?;
        let wrong = |what: &str| Error::settings(what);
        if observed.epoch() != 0 {
            return Err(wrong("a room begins with epoch 0"));
        }
        let members = observed.group.roster().members();
        let [only] = members.as_slice() else {
            return Err(wrong("a room begins with its creator alone"));
        };
        let identity = only.signing_identity();
        let device = observed
            .identities
            .verify(identity, Validity::At(now_ms / 1000))?;
        if device.member != *creator {
            return Err(wrong("a room begins with its creator alone"));
        }
        let context = &observed.context;
        if context.settings.role(creator) != Some(Role::Owner) {
            return Err(wrong("a room's creator owns it"));
        }
        let ours = context.settings.hub == creator.server
            && context.hub.signature_key.as_ref() == key.public();
        if !ours {
            return Err(wrong(
                "a room's hub is its creator's homeserver, with the key that it has now: fetch its room \
                 certificate again",
            ));
        }
        if !context.settings.former.is_empty() {
            return Err(wrong("nobody is gone from a room that begins"));
        }
        observed
            .identities
            .check_consents(&context.settings, observed.group_id(), Some(now_ms))?;
        // From now on it is our own.
        Self::open(group_info, anchors.clone(), Some(key))
    }

    fn observe(
        group_info: &[u8],
        identities: Identities,
        key: Option<&RoomKey>,
    ) -> Result<Self, Error> {
        let message = parse(group_info)?;
        let info = message
            .as_group_info()
            .ok_or_else(|| Error::Mls("it is no group info".to_owned()))?;
        if info.group_context().cipher_suite() != CIPHER_SUITE {
            return Err(Error::Mls("the room's cipher suite is another".to_owned()));
        }
        let context = Context::read(info.group_context().extensions())?;
        check_extensions(info)?;
        let crypto = RustCryptoProvider::with_enabled_cipher_suites(vec![CIPHER_SUITE]);
        let mut builder = ExternalClient::builder()
            .crypto_provider(crypto)
            .identity_provider(identities.clone())
            .mls_rules(identities.rules().clone())
            .cache_proposals(true)
            .extension_type(crate::settings::ROOM_EXTENSION);
        if let Some(key) = key.filter(|key| context.hub.signature_key.as_ref() == key.public()) {
            builder = builder.signer(key.secret.clone(), context.hub.clone());
        }
        let client = builder.build();
        let group = guarded(|| {
            client
                .observe_group(message, None, None)
                .map_err(Error::from)
        })?;
        Ok(Self {
            group,
            identities,
            context,
        })
    }

    /// Judges by these roots from now on.
    pub fn set_anchors(&self, anchors: AnchorSet) {
        self.identities.set_anchors(anchors);
    }

    /// The epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.group.group_context().epoch()
    }

    /// The room's id, as MLS has it.
    #[must_use]
    pub fn group_id(&self) -> &[u8] {
        self.group.group_context().group_id()
    }

    /// The room's settings.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// What a member may do now: as its role says, or as an owner while there is none and it is the successor.
    ///
    /// # Errors
    /// When it takes no part in the room.
    pub fn acting_role(&self, member: &Member) -> Result<Role, Error> {
        rules::acting_role(&self.context.settings, &self.group.roster(), member)
    }

    /// Who is in the room.
    ///
    /// # Errors
    /// When a leaf is no device's.
    pub fn leaves(&self) -> Result<Vec<Leaf>, Error> {
        let roster = self.group.roster();
        roster.members_iter().map(|leaf| leaf_of(&leaf)).collect()
    }

    /// Makes the hub's proposals to remove these leaves, each with whether its account goes too, for this epoch.
    ///
    /// # Errors
    /// When a leaf is blank, or the room's hub has another key.
    pub fn propose_removals(&self, leaves: &[(u32, bool)]) -> Result<Vec<Bytes>, Error> {
        let mut group = self.group.clone();
        leaves
            .iter()
            .map(|(leaf, account)| {
                let data = removal::authenticated_data(*account);
                let proposal = group.propose_remove(*leaf, data)?;
                Ok(proposal.to_bytes()?.into())
            })
            .collect()
    }

    /// Judges a commit for this epoch, with the hub's removals that wait, at the hub's time, and the group info
    /// that came with it.
    ///
    /// # Errors
    /// When it is not valid, or leaves out a removal that it could take up; the reason is for people.
    pub fn judge(
        &self,
        removals: &[Bytes],
        commit: &[u8],
        group_info: &[u8],
        now_ms: u64,
    ) -> Result<Judged, Error> {
        guarded(|| self.judge_unguarded(removals, commit, group_info, now_ms))
    }

    fn judge_unguarded(
        &self,
        removals: &[Bytes],
        commit: &[u8],
        group_info: &[u8],
        now_ms: u64,
    ) -> Result<Judged, Error> {
        let message = parse(commit)?;
        let _turn = self.identities.turn();
        let outside = self.admit(&message)?;
        let mut group = self.group.clone();
        let mut leaving = BTreeSet::new();
        for removal in removals {
            let account = removal::read(removal)?.account;
            let received = group.process_incoming_message(parse(removal)?)?;
            let ExternalReceivedMessage::Proposal(proposal) = received else {
                return Err(Error::Mls("it is no removal by the room's hub".to_owned()));
            };
            if account {
                leaving.insert(proposal.proposal_ref.to_vec());
            }
        }
        self.identities.rules().set_leaving(leaving);
        self.identities.rules().set_time(now_ms);
        let time = MlsTime::from(now_ms / 1000);
        let received = group.process_incoming_message_with_time(message, time)?;
        let ExternalReceivedMessage::Commit(applied) = received else {
            return Err(Error::Mls("it is no commit".to_owned()));
        };
        let info = group.process_incoming_message(parse(group_info)?)?;
        let ExternalReceivedMessage::GroupInfo(info) = info else {
            return Err(Error::Mls("what came with it is no group info".to_owned()));
        };
        check_extensions(&info)?;
        if info.sender() != applied.committer {
            return Err(Error::Mls(
                "the group info is signed by another than the committer".to_owned(),
            ));
        }
        let judged = self.effect(&applied, outside, group)?;
        if judged.left_out > 0 && !outside {
            return Err(Error::PendingRemoves);
        }
        Ok(judged)
    }

    /// Lets pass without dates whom the committer's present leaf is: it was judged when it came. Whether the
    /// commit comes from outside.
    fn admit(&self, message: &MlsMessage) -> Result<bool, Error> {
        use mls_rs::MlsMessageDescription::PublicProtocolMessage;
        use mls_rs::group::ContentType;
        let roster = self.group.roster();
        let (admitted, outside) = match message.description() {
            PublicProtocolMessage {
                content_type: ContentType::Commit,
                sender: Sender::Member(index),
                ..
            } => {
                let leaf = roster
                    .member_with_index(index)
                    .map_err(|_| Error::Mls("it is of nobody in the room".to_owned()))?;
                (BTreeSet::from([mark_of(&leaf)?]), false)
            }
            PublicProtocolMessage {
                content_type: ContentType::Commit,
                sender: Sender::NewMemberCommit,
                ..
            } => {
                let all = roster.members_iter().map(|leaf| mark_of(&leaf));
                (all.collect::<Result<_, _>>()?, true)
            }
            _ => return Err(Error::Mls("it is no commit of a member".to_owned())),
        };
        self.identities.set_admitted(admitted);
        Ok(outside)
    }

    fn effect(
        &self,
        applied: &CommitMessageDescription,
        outside: bool,
        group: ExternalGroup<Config>,
    ) -> Result<Judged, Error> {
        let CommitEffect::NewEpoch(epoch) = &applied.effect else {
            return Err(Error::refused("it ends the room"));
        };
        let (mut adds, mut removes) = (Vec::new(), Vec::new());
        let before = self.group.roster();
        for info in epoch.applied_proposals() {
            match &info.proposal {
                Proposal::Add(add) => adds.push(device_in(add.signing_identity())?.member),
                // From outside: the author's own old leaf.
                Proposal::Remove(_) if outside => {}
                Proposal::Remove(remove) => {
                    let leaf = before.member_with_index(remove.to_remove())?;
                    removes.push(device_in(leaf.signing_identity())?.member);
                }
                _ => {}
            }
        }
        let committer = group.roster().member_with_index(applied.committer)?;
        // A path changes no copath, so that this is what it has to be in the tree in which it was made, too.
        let path = group
            .exported_tree()
            .filtered_direct_path(LeafIndex::try_from(applied.committer)?)?
            .len();
        Ok(Judged {
            committer: device_in(committer.signing_identity())?.member,
            outside,
            adds,
            removes,
            left_out: epoch.unused_proposals().len(),
            path_nodes: path,
            next: Self {
                context: Context::read(group.group_context().extensions())?,
                identities: self.identities.clone(),
                group,
            },
        })
    }
}

/// Who is in the room that a group info describes, as it says: nothing is judged.
///
/// # Errors
/// When it is no group info with a tree, or a leaf is no device's.
pub fn leaves_in(group_info: &[u8]) -> Result<Vec<Leaf>, Error> {
    let wrong = |what: &str| Error::Mls(format!("the group info {what}"));
    let message = parse(group_info)?;
    let info = message.as_group_info().ok_or_else(|| wrong("is none"))?;
    // The tree is another's, and nobody has judged it.
    guarded(|| {
        let tree: RatchetTreeExt = info
            .extensions()
            .get_as()
            .map_err(|_| wrong("has no readable tree"))?
            .ok_or_else(|| wrong("has no tree"))?;
        let roster = tree.tree_data.roster();
        let leaves = roster.members_iter().map(|leaf| leaf_of(&leaf));
        leaves.collect::<Result<_, Error>>()
    })
}

fn leaf_of(leaf: &mls_rs::group::Member) -> Result<Leaf, Error> {
    let device = device_in(leaf.signing_identity())?;
    Ok(Leaf {
        index: leaf.index(),
        member: device.member,
        not_after: device.not_after,
    })
}

fn mark_of(leaf: &mls_rs::group::Member) -> Result<certificate::CertificateHash, Error> {
    mark(leaf.signing_identity())
}

/// A group info that the hub keeps has the tree and the key for coming back, and nothing else.
fn check_extensions(info: &GroupInfo) -> Result<(), Error> {
    let extensions = info.extensions();
    let external: Option<ExternalPubExt> = extensions.get_as().ok().flatten();
    let fits = extensions.len() == 2
        && extensions.has_extension(ExtensionType::RATCHET_TREE)
        && external.is_some_and(|key| key.external_pub().as_ref().len() == EXTERNAL_PUB_BYTES);
    if fits {
        Ok(())
    } else {
        Err(Error::Mls(
            "a group info has the ratchet tree and the external key, and nothing else".to_owned(),
        ))
    }
}
