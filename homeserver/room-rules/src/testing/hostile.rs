//! Commits of a member whose client breaks MLS in what a server can't see, or is not made to look at: the
//! homeservers take them, as far as they are to be believed, and no other member can apply them.
//!
//! Each is made of an honest commit without proposals: what is changed in its update path is signed again, and so
//! are the leaf, the whole, and the group info that describes where it leads.

use bytes::Bytes;
use mls_rs::MlsMessage;
use mls_rs::extension::built_in::{ExternalPubExt, RatchetTreeExt};
use mls_rs::external_client::ExternalClient;
use mls_rs::group::LeafIndex;
use mls_rs::mls_rs_codec::MlsEncode as _;
use mls_rs_crypto_rustcrypto::RustCryptoProvider;
use ring::signature::Ed25519KeyPair;
use ring::{digest, hmac};

use super::mls::{Anyone, Lawless};
use crate::CIPHER_SUITE;
use crate::settings::ROOM_EXTENSION;

/// `ProtocolVersion mls10`, then `WireFormat mls_public_message`.
const PUBLIC: [u8; 4] = [0, 1, 0, 1];
/// The same for `mls_group_info`.
const GROUP_INFO: [u8; 4] = [0, 1, 0, 4];
/// Bytes of a membership key of the one suite.
const KEY_BYTES: usize = 32;

/// What is wrong with a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// Every path secret is sealed badly, which only those can see to whom it is sealed.
    Secrets,
    /// The path has this many nodes, from the leaf on. Its author, whose neighbour's leaf is not blank, has made the commit
    /// before this one too.
    PathOf(usize),
    /// Nothing but the key in the group info, by which others come in from outside.
    ExternalPub,
}

/// Who makes it.
#[derive(Debug, Clone, Copy)]
pub struct Hostile<'a> {
    /// Of the signature key.
    pub seed: &'a [u8; 32],
    /// The group info of the epoch that the commit ends.
    pub before: &'a [u8],
    /// What the device keeps of the group, where its membership key is found. Without it the membership tag stays wrong,
    /// which servers can't see either.
    pub state: &'a [u8],
}

struct PathNode {
    public_key: Vec<u8>,
    /// Of each: KEM output and ciphertext.
    secrets: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A member's commit in its parts.
struct Parts {
    /// From the group id to the mark that a path follows.
    head: Vec<u8>,
    sender: u32,
    /// The leaf up to where it comes from.
    leaf_head: Vec<u8>,
    parent_hash: Vec<u8>,
    /// With their length.
    leaf_extensions: Vec<u8>,
    nodes: Vec<PathNode>,
    confirmation_tag: Vec<u8>,
    membership_tag: Vec<u8>,
    /// `FramedContent`, as it was.
    content: Vec<u8>,
    /// Signature and confirmation tag, as they were.
    auth: Vec<u8>,
}

impl Hostile<'_> {
    /// Makes a bad commit and its group info of a good one and its.
    pub fn spoil(&self, commit: &[u8], group_info: &[u8], wrong: Wrong) -> (Bytes, Bytes) {
        let before = MlsMessage::from_bytes(self.before).unwrap();
        let before = before.as_group_info().unwrap();
        let context = before.group_context().mls_encode_to_vec().unwrap();
        let mut parts = Parts::read(commit);
        let old_tag = parts.membership_tag.clone();
        let old = [&PUBLIC[..], &parts.content, &context, &parts.auth].concat();
        match wrong {
            Wrong::Secrets => parts.spoil_secrets(),
            Wrong::PathOf(nodes) => {
                let tree: RatchetTreeExt = before.extensions().get_as().unwrap().unwrap();
                parts.shorten(nodes, &tree);
            }
            Wrong::ExternalPub => {}
        }
        let content = parts.encode(self, before.group_context().group_id());
        let signed = [&PUBLIC[..], &content, &context].concat();
        let auth = [
            vector(&self.sign("FramedContentTBS", &signed)),
            vector(&parts.confirmation_tag),
        ]
        .concat();
        let tagged = [&signed[..], &auth].concat();
        let tag = self
            .membership_key(&old, &old_tag)
            .map_or(old_tag, |key| hmac::sign(&key, &tagged).as_ref().to_vec());
        let commit: Bytes = [&PUBLIC[..], &content, &auth, &vector(&tag)]
            .concat()
            .into();
        let info = self.describe(&commit, &parts, group_info, wrong);
        (commit, info)
    }

    fn sign(&self, label: &str, content: &[u8]) -> Vec<u8> {
        let label = format!("MLS 1.0 {label}");
        let signed = [vector(label.as_bytes()), vector(content)].concat();
        let key = Ed25519KeyPair::from_seed_unchecked(self.seed).unwrap();
        key.sign(&signed).as_ref().to_vec()
    }

    /// The key of the epoch, known by a tag that it has made.
    fn membership_key(&self, tagged: &[u8], tag: &[u8]) -> Option<hmac::Key> {
        let mut keys = self.state.windows(KEY_BYTES);
        keys.find_map(|key| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key);
            (hmac::sign(&key, tagged).as_ref() == tag).then_some(key)
        })
    }

    /// The group info of where a commit leads, as a server without secrets finds it.
    fn describe(&self, commit: &[u8], parts: &Parts, honest: &[u8], wrong: Wrong) -> Bytes {
        let crypto = RustCryptoProvider::with_enabled_cipher_suites(vec![CIPHER_SUITE]);
        let mut group = ExternalClient::builder()
            .crypto_provider(crypto)
            .identity_provider(Anyone)
            .mls_rules(Lawless)
            .extension_type(ROOM_EXTENSION)
            .build()
            .observe_group(MlsMessage::from_bytes(self.before).unwrap(), None, None)
            .unwrap();
        let commit = MlsMessage::from_bytes(commit).unwrap();
        group.process_incoming_message(commit).unwrap();
        let honest = MlsMessage::from_bytes(honest).unwrap();
        let extensions = honest.as_group_info().unwrap().extensions();
        let external: ExternalPubExt = extensions.get_as().unwrap().unwrap();
        let mut external = external.external_pub().as_ref().to_vec();
        if wrong == Wrong::ExternalPub {
            external.reverse();
        }
        let extensions = [
            &[0, 2][..], // ratchet_tree
            &vector(&group.export_tree().unwrap()),
            &[0, 4], // external_pub
            &vector(&vector(&external)),
        ]
        .concat();
        let info = [
            group.group_context().mls_encode_to_vec().unwrap(),
            vector(&extensions),
            vector(&parts.confirmation_tag),
            parts.sender.to_be_bytes().to_vec(),
        ]
        .concat();
        let signature = vector(&self.sign("GroupInfoTBS", &info));
        [&GROUP_INFO[..], &info, &signature].concat().into()
    }
}

impl Parts {
    fn read(commit: &[u8]) -> Self {
        let mut reader = Reader(commit);
        assert_eq!(reader.take(4), PUBLIC);
        let start = reader.0;
        reader.vector(); // group id
        reader.take(8); // epoch
        assert_eq!(reader.take(1), [1], "a member sends it");
        let sender = u32::from_be_bytes(reader.take(4).try_into().unwrap());
        reader.vector(); // authenticated data
        assert_eq!(reader.take(1), [3], "it is a commit");
        reader.vector(); // proposals
        assert_eq!(reader.take(1), [1], "it has a path");
        let head = reader.since(start);
        let start_of_leaf = reader.0;
        reader.vector(); // encryption key
        reader.vector(); // signature key
        reader.take(2); // kind of credential
        // The credential, and the five lists of capabilities.
        for _ in 0..6 {
            reader.vector();
        }
        assert_eq!(reader.take(1), [3], "the leaf is of a commit");
        let leaf_head = reader.since(start_of_leaf);
        let parent_hash = reader.vector().to_vec();
        let leaf_extensions = vector(reader.vector());
        reader.vector(); // signature
        let mut inside = Reader(reader.vector());
        let mut nodes = Vec::new();
        while !inside.0.is_empty() {
            let public_key = inside.vector().to_vec();
            let mut sealed = Reader(inside.vector());
            let mut secrets = Vec::new();
            while !sealed.0.is_empty() {
                secrets.push((sealed.vector().to_vec(), sealed.vector().to_vec()));
            }
            nodes.push(PathNode {
                public_key,
                secrets,
            });
        }
        let content = reader.since(start);
        let start_of_auth = reader.0;
        reader.vector(); // signature
        let confirmation_tag = reader.vector().to_vec();
        let auth = reader.since(start_of_auth);
        let membership_tag = reader.vector().to_vec();
        assert!(reader.0.is_empty());
        Self {
            head,
            sender,
            leaf_head,
            parent_hash,
            leaf_extensions,
            nodes,
            confirmation_tag,
            membership_tag,
            content,
            auth,
        }
    }

    fn spoil_secrets(&mut self) {
        let nodes = self.nodes.iter_mut();
        for (_, ciphertext) in nodes.flat_map(|node| &mut node.secrets) {
            for byte in ciphertext {
                *byte ^= 1;
            }
        }
    }

    /// Leaves the upper nodes out. The parents that they would have replaced stay, and what the leaf says of them is true.
    fn shorten(&mut self, nodes: usize, tree: &RatchetTreeExt) {
        let tree = &tree.tree_data;
        self.nodes.truncate(nodes);
        let index = |leaf: u32| LeafIndex::try_from(leaf).unwrap();
        let neighbour = self.sender ^ 1;
        let leaf = tree.get_leaf(index(neighbour)).unwrap().unwrap();
        // `TreeHashInput` of a leaf that is there.
        let sibling = [
            &[1][..],
            &neighbour.to_be_bytes(),
            &[1],
            &leaf.mls_encode_to_vec().unwrap(),
        ]
        .concat();
        let parent = tree.get_parent(2 * (self.sender & !1) + 1);
        let parent = parent.unwrap().unwrap();
        let key = self
            .nodes
            .first()
            .map_or(parent.public_key.as_ref(), |node| {
                node.public_key.as_slice()
            });
        let input = [
            vector(key),
            vector(&parent.parent_hash),
            vector(&sha256(&sibling)),
        ]
        .concat();
        self.parent_hash = sha256(&input);
    }

    /// `FramedContent`.
    fn encode(&self, by: &Hostile<'_>, group_id: &[u8]) -> Vec<u8> {
        let leaf = [
            &self.leaf_head[..],
            &vector(&self.parent_hash),
            &self.leaf_extensions,
        ]
        .concat();
        let signed = [&leaf[..], &vector(group_id), &self.sender.to_be_bytes()].concat();
        let signature = vector(&by.sign("LeafNodeTBS", &signed));
        let nodes = self.nodes.iter().map(|node| {
            let secrets = node.secrets.iter();
            let secrets = secrets.map(|(kem, sealed)| [vector(kem), vector(sealed)].concat());
            let secrets = secrets.collect::<Vec<_>>().concat();
            [vector(&node.public_key), vector(&secrets)].concat()
        });
        let nodes = vector(&nodes.collect::<Vec<_>>().concat());
        [&self.head[..], &leaf, &signature, &nodes].concat()
    }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

/// A variable-size vector (RFC 9420, section 2.1.2), its length the shortest way.
fn vector(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    let [a, b, c, d] = length.to_be_bytes();
    let length = match length {
        0..64 => vec![d],
        64..16384 => vec![c | 0x40, d],
        _ => vec![a | 0x80, b, c, d],
    };
    [length, bytes.to_vec()].concat()
}

/// What is left of bytes that are well formed.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn vector(&mut self) -> &'a [u8] {
        let first = *self.0.first().unwrap();
        let width = 1_usize << (first >> 6);
        let mut length = self.take(width).to_vec();
        if let Some(first) = length.first_mut() {
            *first &= 0x3f;
        }
        let length = length
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        self.take(length)
    }

    /// What was read since then.
    fn since(&self, start: &[u8]) -> Vec<u8> {
        start.split_at(start.len() - self.0.len()).0.to_vec()
    }
}
