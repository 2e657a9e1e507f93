//! What a commit from outside its group shows, and the tree that it is held against: the leaves of a group
//! info, which are public to the servers of a room as handshakes are.

use federation_proto::ids::RoomId;

use super::{
    COMMIT, FramingError, GROUP_INFO, MLS10, NEW_MEMBER_COMMIT, PUBLIC_MESSAGE, Reader,
    SIGNATURE_BYTES_MAX, update_path,
};

/// `LeafNodeSource key_package`.
const FROM_KEY_PACKAGE: u8 = 1;
/// `LeafNodeSource update`.
const FROM_UPDATE: u8 = 2;
/// `LeafNodeSource commit`.
pub(super) const FROM_COMMIT: u8 = 3;
/// `ProposalOrRefType proposal`.
const BY_VALUE: u8 = 1;
/// `ProposalType remove`.
const REMOVE: u16 = 3;
/// `ProposalType external_init`.
const EXTERNAL_INIT: u16 = 6;
/// `ExtensionType ratchet_tree`.
const RATCHET_TREE: u16 = 2;
/// Longest KEM output of any suite.
const KEM_OUTPUT_BYTES_MAX: usize = 2048;

/// What a leaf shows of whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeafFrame<'a> {
    /// The key that its device signs with.
    pub signature_key: &'a [u8],
    /// The device's certificate; empty with a credential of another kind.
    pub certificate: &'a [u8],
}

/// A commit from outside that removes one leaf and puts its own in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExternalCommit<'a> {
    /// The room.
    pub room: RoomId,
    /// The epoch that it ends.
    pub epoch: u64,
    /// The leaf that it removes.
    pub removed: u32,
    /// The leaf that it puts in.
    pub leaf: LeafFrame<'a>,
    /// Its new leaf's signature.
    pub signature: &'a [u8],
    /// `FramedContent`.
    content: &'a [u8],
}

/// What a group info shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupInfoFrame {
    /// The room.
    pub room: RoomId,
    /// The epoch that it describes.
    pub epoch: u64,
}

/// The public half of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupTree<'a> {
    /// `GroupContext`, which signatures cover.
    pub context: &'a [u8],
    /// `optional<Node>`s: leaves and the nodes between them, in turn.
    nodes: &'a [u8],
}

impl ExternalCommit<'_> {
    /// What the signature is over (`SignContent` of `FramedContentTBS`), in a group with this context.
    pub fn signed_content(&self, context: &[u8]) -> Vec<u8> {
        let to_be_signed = [
            &MLS10.to_be_bytes()[..],
            &PUBLIC_MESSAGE.to_be_bytes(),
            self.content,
            context,
        ]
        .concat();
        [vector(b"MLS 1.0 FramedContentTBS"), vector(&to_be_signed)].concat()
    }
}

/// Reads a PublicMessage by which a member that is out of step comes back: an external init and the removal
/// of one leaf, with a path.
pub fn external_commit(bytes: &[u8]) -> Result<ExternalCommit<'_>, FramingError> {
    let mut reader = Reader(bytes);
    reader.message_of(PUBLIC_MESSAGE)?;
    let content_start = reader.0;
    let room = reader.group_id()?;
    let epoch = reader.u64()?;
    if reader.u8()? != NEW_MEMBER_COMMIT {
        return Err(FramingError::Kind);
    }
    if !reader.opaque(usize::MAX)?.is_empty() {
        return Err(FramingError::Attributes);
    }
    if reader.u8()? != COMMIT {
        return Err(FramingError::Kind);
    }
    let removed = only_removal(reader.opaque(usize::MAX)?)?;
    if reader.u8()? != 1 {
        return Err(FramingError::Kind);
    }
    let leaf = update_path(&mut reader)?;
    let content = consumed(content_start, &reader)?;
    let signature = reader.opaque_non_empty(SIGNATURE_BYTES_MAX)?;
    // The confirmation tag; there is no membership tag from outside.
    reader.opaque_non_empty(SIGNATURE_BYTES_MAX)?;
    reader.end()?;
    Ok(ExternalCommit {
        room,
        epoch,
        removed,
        leaf,
        signature,
        content,
    })
}

/// The leaf that the proposals of an external commit remove: an external init and one removal, in any order.
fn only_removal(proposals: &[u8]) -> Result<u32, FramingError> {
    let mut reader = Reader(proposals);
    let (mut init, mut removed) = (false, None);
    while !reader.0.is_empty() {
        if reader.u8()? != BY_VALUE {
            return Err(FramingError::Kind);
        }
        match reader.u16()? {
            EXTERNAL_INIT if !init => {
                reader.opaque_non_empty(KEM_OUTPUT_BYTES_MAX)?;
                init = true;
            }
            REMOVE if removed.is_none() => removed = Some(reader.u32()?),
            _ => return Err(FramingError::Kind),
        }
    }
    removed.filter(|_| init).ok_or(FramingError::Kind)
}

/// Reads the outside of a group info.
pub fn group_info(bytes: &[u8]) -> Result<GroupInfoFrame, FramingError> {
    read_group_info(bytes).map(|(frame, _, _)| frame)
}

/// Reads the public half of the group that a group info describes.
pub fn tree_of(bytes: &[u8]) -> Result<GroupTree<'_>, FramingError> {
    let (_, context, extensions) = read_group_info(bytes)?;
    let mut reader = Reader(extensions);
    while !reader.0.is_empty() {
        let kind = reader.u16()?;
        let data = reader.opaque(usize::MAX)?;
        if kind == RATCHET_TREE {
            let mut tree = Reader(data);
            let nodes = tree.opaque(usize::MAX)?;
            tree.end()?;
            return Ok(GroupTree { context, nodes });
        }
    }
    Err(FramingError::TooShort)
}

/// The frame, the `GroupContext` and the extensions of a `GroupInfo`.
fn read_group_info(bytes: &[u8]) -> Result<(GroupInfoFrame, &[u8], &[u8]), FramingError> {
    let mut reader = Reader(bytes);
    reader.message_of(GROUP_INFO)?;
    let context_start = reader.0;
    if reader.u16()? != MLS10 {
        return Err(FramingError::Kind);
    }
    // The cipher suite.
    reader.u16()?;
    let room = reader.group_id()?;
    let epoch = reader.u64()?;
    reader.opaque_non_empty(SIGNATURE_BYTES_MAX)?; // tree_hash
    reader.opaque(SIGNATURE_BYTES_MAX)?; // confirmed_transcript_hash, empty in epoch 0
    reader.opaque(usize::MAX)?; // extensions
    let context = consumed(context_start, &reader)?;
    let extensions = reader.opaque(usize::MAX)?;
    reader.opaque_non_empty(SIGNATURE_BYTES_MAX)?; // confirmation_tag
    reader.u32()?; // signer
    reader.opaque_non_empty(SIGNATURE_BYTES_MAX)?; // signature
    reader.end()?;
    Ok((GroupInfoFrame { room, epoch }, context, extensions))
}

impl<'a> GroupTree<'a> {
    /// The leaf with this index; `None` when it is blank or lies beyond the last.
    pub fn leaf(&self, index: u32) -> Result<Option<LeafFrame<'a>>, FramingError> {
        let mut reader = Reader(self.nodes);
        let mut place = 0_u64;
        // Leaves and parents take turns.
        let wanted = u64::from(index) * 2;
        while !reader.0.is_empty() {
            let leaf = node(&mut reader)?;
            if place == wanted {
                return Ok(leaf);
            }
            place += 1;
        }
        Ok(None)
    }
}

/// `optional<Node>`: what a leaf shows.
fn node<'a>(reader: &mut Reader<'a>) -> Result<Option<LeafFrame<'a>>, FramingError> {
    /// `NodeType leaf` and `parent`.
    const LEAF: u8 = 1;
    const PARENT: u8 = 2;
    match reader.u8()? {
        0 => return Ok(None),
        1 => {}
        _ => return Err(FramingError::Kind),
    }
    match reader.u8()? {
        LEAF => any_leaf_node(reader).map(Some),
        PARENT => {
            reader.opaque_non_empty(SIGNATURE_BYTES_MAX)?; // encryption_key
            reader.opaque(SIGNATURE_BYTES_MAX)?; // parent_hash
            reader.opaque(usize::MAX)?; // unmerged_leaves
            Ok(None)
        }
        _ => Err(FramingError::Kind),
    }
}

/// `LeafNode` of this source.
pub(super) fn leaf_node<'a>(
    reader: &mut Reader<'a>,
    source: u8,
) -> Result<LeafFrame<'a>, FramingError> {
    read_leaf(reader, |found| found == source)
}

fn any_leaf_node<'a>(reader: &mut Reader<'a>) -> Result<LeafFrame<'a>, FramingError> {
    read_leaf(reader, |_| true)
}

fn read_leaf<'a>(
    reader: &mut Reader<'a>,
    may_come_from: impl FnOnce(u8) -> bool,
) -> Result<LeafFrame<'a>, FramingError> {
    /// `CredentialType basic` and `x509`.
    const BASIC: u16 = 1;
    const X509: u16 = 2;
    reader.opaque_non_empty(SIGNATURE_BYTES_MAX)?; // encryption_key
    let signature_key = reader.opaque_non_empty(SIGNATURE_BYTES_MAX)?;
    let credential = reader.u16()?;
    // `identity<V>`, or `certificates<V>`: one vector either way.
    let inside = reader.opaque(usize::MAX)?;
    let certificate = match credential {
        BASIC => &[][..],
        X509 if inside.is_empty() => inside,
        X509 => Reader(inside).opaque(usize::MAX)?,
        _ => return Err(FramingError::Kind),
    };
    // Capabilities: versions, cipher suites, extensions, proposals, credentials.
    for _ in 0..5 {
        reader.opaque(usize::MAX)?;
    }
    let source = reader.u8()?;
    if !may_come_from(source) {
        return Err(FramingError::Kind);
    }
    match source {
        // Its lifetime.
        FROM_KEY_PACKAGE => {
            reader.take(16)?;
        }
        FROM_UPDATE => {}
        // parent_hash, empty in a tree of one
        FROM_COMMIT => {
            reader.opaque(SIGNATURE_BYTES_MAX)?;
        }
        _ => return Err(FramingError::Kind),
    }
    reader.opaque(usize::MAX)?; // extensions
    reader.opaque_non_empty(SIGNATURE_BYTES_MAX)?; // signature
    Ok(LeafFrame {
        signature_key,
        certificate,
    })
}

/// What was read since the reader stood at `start`.
fn consumed<'a>(start: &'a [u8], reader: &Reader<'a>) -> Result<&'a [u8], FramingError> {
    let length = start.len().checked_sub(reader.0.len());
    length
        .and_then(|length| start.get(..length))
        .ok_or(FramingError::TooShort)
}

/// A variable-size vector (RFC 9420, section 2.1.2): the shortest form. What is longer than any such vector
/// is cut off, so that no signature over it holds.
pub(crate) fn vector(bytes: &[u8]) -> Vec<u8> {
    const LENGTH_MAX: u32 = (1 << 30) - 1;
    let length = u32::try_from(bytes.len()).unwrap_or(LENGTH_MAX);
    let length = length.min(LENGTH_MAX);
    let [a, b, c, d] = length.to_be_bytes();
    let mut out = match length {
        0..64 => vec![d],
        64..16384 => vec![c | 0x40, d],
        _ => vec![a | 0x80, b, c, d],
    };
    out.extend_from_slice(bytes);
    out
}
