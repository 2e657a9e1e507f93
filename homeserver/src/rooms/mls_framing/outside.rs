//! What a commit from outside its group shows, and what a group info does.

use federation_proto::ids::RoomId;

use super::{
    COMMIT, FramingError, GROUP_INFO, MLS10, NEW_MEMBER_COMMIT, PUBLIC_MESSAGE, Reader,
    SIGNATURE_BYTES_MAX, update_path,
};

/// `LeafNodeSource commit`.
const FROM_COMMIT: u8 = 3;
/// `ProposalOrRefType proposal`.
const BY_VALUE: u8 = 1;
/// `ProposalType remove`.
const REMOVE: u16 = 3;
/// `ProposalType external_init`.
const EXTERNAL_INIT: u16 = 6;
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
    /// How many nodes its update path has.
    pub path_nodes: usize,
}

/// What a group info shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupInfoFrame {
    /// The room.
    pub room: RoomId,
    /// The epoch that it describes.
    pub epoch: u64,
}

/// Reads a PublicMessage by which a member that is out of step comes back: an external init and the removal
/// of one leaf, with a path.
pub fn external_commit(bytes: &[u8]) -> Result<ExternalCommit<'_>, FramingError> {
    let mut reader = Reader(bytes);
    reader.message_of(PUBLIC_MESSAGE)?;
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
    let path = update_path(&mut reader)?;
    reader.opaque_non_empty(SIGNATURE_BYTES_MAX)?; // signature
    // The confirmation tag; there is no membership tag from outside.
    reader.opaque_non_empty(SIGNATURE_BYTES_MAX)?;
    reader.end()?;
    Ok(ExternalCommit {
        room,
        epoch,
        removed,
        leaf: path.leaf,
        path_nodes: path.nodes,
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
    let mut reader = Reader(bytes);
    reader.message_of(GROUP_INFO)?;
    if reader.u16()? != MLS10 {
        return Err(FramingError::Kind);
    }
    // The cipher suite.
    reader.u16()?;
    let room = reader.group_id()?;
    let epoch = reader.u64()?;
    reader.opaque_non_empty(SIGNATURE_BYTES_MAX)?; // tree_hash
    reader.opaque(SIGNATURE_BYTES_MAX)?; // confirmed_transcript_hash, empty in epoch 0
    reader.opaque(usize::MAX)?; // extensions of the context
    reader.opaque(usize::MAX)?; // extensions, the tree among them
    reader.opaque_non_empty(SIGNATURE_BYTES_MAX)?; // confirmation_tag
    reader.u32()?; // signer
    reader.opaque_non_empty(SIGNATURE_BYTES_MAX)?; // signature
    reader.end()?;
    Ok(GroupInfoFrame { room, epoch })
}

/// `LeafNode` of a commit.
pub(super) fn leaf_node<'a>(reader: &mut Reader<'a>) -> Result<LeafFrame<'a>, FramingError> {
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
    if reader.u8()? != FROM_COMMIT {
        return Err(FramingError::Kind);
    }
    reader.opaque(SIGNATURE_BYTES_MAX)?; // parent_hash, empty in a tree of one
    reader.opaque(usize::MAX)?; // extensions
    reader.opaque_non_empty(SIGNATURE_BYTES_MAX)?; // signature
    Ok(LeafFrame {
        signature_key,
        certificate,
    })
}

/// A variable-size vector (RFC 9420, section 2.1.2): the shortest form. What is longer than any such vector
/// is cut off.
#[cfg(test)]
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
