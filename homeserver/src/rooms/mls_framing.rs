//! The outside of MLS messages (RFC 9420, section 6): as much as a server without keys can read.
//!
//! Strict: one encoding for every length, known values only, nothing after the end. A server learns
//! which group, which epoch, what kind and what authenticated data; never what is inside.

mod outside;
#[cfg(test)]
mod rfc9420;

use federation_proto::ids::RoomId;
use homeserver_api::attributes::MessageAttributes;

pub use outside::{ExternalCommit, GroupInfoFrame, LeafFrame, external_commit, group_info};

/// `ProtocolVersion mls10`.
const MLS10: u16 = 1;
/// `WireFormat mls_public_message`.
const PUBLIC_MESSAGE: u16 = 1;
/// `WireFormat mls_private_message`.
const PRIVATE_MESSAGE: u16 = 2;
/// `WireFormat mls_welcome`.
const WELCOME: u16 = 3;
/// `ContentType application`.
const APPLICATION: u8 = 1;
/// `ContentType commit`.
const COMMIT: u8 = 3;
/// `WireFormat mls_group_info`.
const GROUP_INFO: u16 = 4;
/// `SenderType member`.
const MEMBER: u8 = 1;
/// `SenderType new_member_commit`.
const NEW_MEMBER_COMMIT: u8 = 4;
/// `sender_data` is sealed: a header of 12 bytes and a tag, no longer than this with any suite.
const SENDER_DATA_BYTES_MAX: usize = 256;
/// Longest signature or tag of any suite.
const SIGNATURE_BYTES_MAX: usize = 1024;

/// The bytes are not what they are said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// Cut off, or a length that points beyond the end.
    #[error("the MLS message ends too early")]
    TooShort,
    /// Something follows the end.
    #[error("bytes follow the end of the MLS message")]
    TrailingBytes,
    /// A length that is not written the shortest way, or is longer than any honest one.
    #[error("a length in the MLS message is not well formed")]
    Length,
    /// Another protocol version, wire format, content type or sender type.
    #[error("the MLS message is of another kind than its place asks for")]
    Kind,
    /// The group id is not a room id.
    #[error("the MLS group id is not a room id")]
    Group,
    /// The authenticated data are not message attributes.
    #[error("the MLS message's authenticated data are not message attributes")]
    Attributes,
}

/// What an application message shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApplicationFrame {
    /// The room.
    pub room: RoomId,
    /// The epoch that it was encrypted in.
    pub epoch: u64,
    /// What it says of itself.
    pub attributes: MessageAttributes,
}

/// What a commit shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitFrame {
    /// The room.
    pub room: RoomId,
    /// The epoch that it ends.
    pub epoch: u64,
    /// How many nodes its update path has; `None`: there is none.
    pub path_nodes: Option<usize>,
}

/// Reads the outside of a PrivateMessage that carries an application message.
pub fn application(bytes: &[u8]) -> Result<ApplicationFrame, FramingError> {
    let mut reader = Reader(bytes);
    reader.message_of(PRIVATE_MESSAGE)?;
    let room = reader.group_id()?;
    let epoch = reader.u64()?;
    if reader.u8()? != APPLICATION {
        return Err(FramingError::Kind);
    }
    let attributes = MessageAttributes::decode(reader.opaque(usize::MAX)?)
        .map_err(|_| FramingError::Attributes)?;
    reader.opaque_non_empty(SENDER_DATA_BYTES_MAX)?;
    reader.opaque_non_empty(usize::MAX)?;
    reader.end()?;
    Ok(ApplicationFrame {
        room,
        epoch,
        attributes,
    })
}

/// Reads the outside of a PublicMessage in which a member commits.
pub fn commit(bytes: &[u8]) -> Result<CommitFrame, FramingError> {
    let mut reader = Reader(bytes);
    reader.message_of(PUBLIC_MESSAGE)?;
    let room = reader.group_id()?;
    let epoch = reader.u64()?;
    if reader.u8()? != MEMBER {
        return Err(FramingError::Kind);
    }
    // The sender's leaf index.
    reader.take(4)?;
    // Authenticated data of handshakes is not used.
    if !reader.opaque(usize::MAX)?.is_empty() {
        return Err(FramingError::Attributes);
    }
    if reader.u8()? != COMMIT {
        return Err(FramingError::Kind);
    }
    let path_nodes = commit_body(&mut reader)?;
    Ok(CommitFrame {
        room,
        epoch,
        path_nodes,
    })
}

/// How many nodes the update path of a commit has, by a member or from outside; `None`: there is none.
pub fn path_nodes(bytes: &[u8]) -> Result<Option<usize>, FramingError> {
    if comes_from_outside(bytes) {
        return Ok(Some(external_commit(bytes)?.path_nodes));
    }
    Ok(commit(bytes)?.path_nodes)
}

/// Whether the bytes are a PublicMessage that comes from outside its group; [`external_commit`] reads it.
pub fn comes_from_outside(bytes: &[u8]) -> bool {
    let mut reader = Reader(bytes);
    let mut sender = || {
        reader.message_of(PUBLIC_MESSAGE)?;
        reader.group_id()?;
        reader.u64()?;
        reader.u8()
    };
    sender() == Ok(NEW_MEMBER_COMMIT)
}

/// Checks that the bytes start as a Welcome does; the rest is for the added devices.
pub fn welcome(bytes: &[u8]) -> Result<(), FramingError> {
    let mut reader = Reader(bytes);
    reader.message_of(WELCOME)?;
    // Cipher suite, one secret per new member, then the sealed group information.
    reader.take(2)?;
    reader.opaque_non_empty(usize::MAX)?;
    reader.opaque_non_empty(usize::MAX)?;
    reader.end()
}

/// `Commit`, `FramedContentAuthData` and the membership tag: to the message's end. How many nodes the path has.
fn commit_body(reader: &mut Reader<'_>) -> Result<Option<usize>, FramingError> {
    // `proposals<V>`, each of them length-free inside.
    reader.opaque(usize::MAX)?;
    let nodes = match reader.u8()? {
        // No path.
        0 => None,
        1 => Some(update_path(reader)?.nodes),
        _ => return Err(FramingError::Kind),
    };
    // Signature, confirmation tag (a commit has one), membership tag (a member's message has one).
    reader.opaque_non_empty(SIGNATURE_BYTES_MAX)?;
    reader.opaque_non_empty(SIGNATURE_BYTES_MAX)?;
    reader.opaque_non_empty(SIGNATURE_BYTES_MAX)?;
    reader.end()?;
    Ok(nodes)
}

/// What an update path shows.
struct PathFrame<'a> {
    leaf: LeafFrame<'a>,
    /// How many nodes there are above the leaf.
    nodes: usize,
}

/// `UpdatePath`: the committer's new leaf and the nodes above it.
fn update_path<'a>(reader: &mut Reader<'a>) -> Result<PathFrame<'a>, FramingError> {
    let leaf = outside::leaf_node(reader)?;
    let mut inside = Reader(reader.opaque(usize::MAX)?);
    let mut nodes = 0;
    while !inside.0.is_empty() {
        inside.opaque_non_empty(SIGNATURE_BYTES_MAX)?; // encryption_key
        inside.opaque(usize::MAX)?; // encrypted_path_secret
        // Each has some of the message's bytes, of which there are far fewer than this can count.
        nodes += 1;
    }
    Ok(PathFrame { leaf, nodes })
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], FramingError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(FramingError::TooShort)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FramingError> {
        let (taken, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(FramingError::TooShort)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, FramingError> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, FramingError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, FramingError> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, FramingError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A variable-size vector's length (RFC 9420, section 2.1.2): the shortest form only.
    fn length(&mut self) -> Result<usize, FramingError> {
        let first = self.u8()?;
        let low = u32::from(first & 0x3f);
        let (value, least) = match first >> 6 {
            0 => (low, 0),
            1 => (low << 8 | u32::from(self.u8()?), 1 << 6),
            2 => {
                let [b, c, d] = self.array()?;
                (u32::from_be_bytes([first & 0x3f, b, c, d]), 1 << 14)
            }
            _ => return Err(FramingError::Length),
        };
        if value < least {
            return Err(FramingError::Length);
        }
        usize::try_from(value).map_err(|_| FramingError::Length)
    }

    fn opaque(&mut self, bytes_max: usize) -> Result<&'a [u8], FramingError> {
        let length = self.length()?;
        if length > bytes_max {
            return Err(FramingError::Length);
        }
        self.take(length)
    }

    fn opaque_non_empty(&mut self, bytes_max: usize) -> Result<&'a [u8], FramingError> {
        let bytes = self.opaque(bytes_max)?;
        if bytes.is_empty() {
            return Err(FramingError::Length);
        }
        Ok(bytes)
    }

    /// The message's version and wire format.
    fn message_of(&mut self, wire_format: u16) -> Result<(), FramingError> {
        if self.u16()? == MLS10 && self.u16()? == wire_format {
            Ok(())
        } else {
            Err(FramingError::Kind)
        }
    }

    fn group_id(&mut self) -> Result<RoomId, FramingError> {
        self.opaque(usize::MAX)?
            .try_into()
            .map(RoomId::from_bytes)
            .map_err(|_| FramingError::Group)
    }

    fn end(&self) -> Result<(), FramingError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(FramingError::TrailingBytes)
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Framing that a server takes for a client's, with nothing but noise inside.

    pub(crate) use super::outside::vector;
    use super::*;

    /// An application message.
    pub(crate) fn application_message(
        room: RoomId,
        epoch: u64,
        attributes: MessageAttributes,
        inside: &[u8],
    ) -> Vec<u8> {
        [
            &[0, 1, 0, 2][..],
            &vector(room.as_bytes()),
            &epoch.to_be_bytes(),
            &[APPLICATION],
            &vector(&attributes.encode()),
            &vector(&[7; 28]),
            &vector(inside),
        ]
        .concat()
    }

    /// A commit without a path.
    pub(crate) fn commit_message(room: RoomId, epoch: u64, inside: &[u8]) -> Vec<u8> {
        [
            &[0, 1, 0, 1][..],
            &vector(room.as_bytes()),
            &epoch.to_be_bytes(),
            &[MEMBER, 0, 0, 0, 0],
            &vector(&[]),
            &[COMMIT],
            &vector(inside),
            &[0],
            &vector(&[1; 64]),
            &vector(&[2; 32]),
            &vector(&[3; 32]),
        ]
        .concat()
    }

    /// A leaf with noise in it.
    pub(crate) fn leaf(signature_key: &[u8], certificate: &[u8], source: &[u8]) -> Vec<u8> {
        [
            &vector(&[1; 32])[..],
            &vector(signature_key),
            &[0, 2],
            &vector(&[vector(certificate), vector(b"issuing")].concat()),
            &vector(&[0, 1]),
            &vector(&[0, 1]),
            &vector(&[]),
            &vector(&[]),
            &vector(&[0, 2]),
            source,
            &vector(&[]),
            &vector(&[5; 64]),
        ]
        .concat()
    }

    /// The nodes of an update path.
    pub(crate) fn path_nodes(count: usize) -> Vec<u8> {
        vector(&[vector(&[6; 32]), vector(&[6; 200])].concat().repeat(count))
    }

    /// A commit from outside with these proposals.
    pub(crate) fn external_commit_message(room: RoomId, epoch: u64, proposals: &[u8]) -> Vec<u8> {
        [
            &[0, 1, 0, 1][..],
            &vector(room.as_bytes()),
            &epoch.to_be_bytes(),
            &[NEW_MEMBER_COMMIT],
            &vector(&[]),
            &[COMMIT],
            &vector(proposals),
            &[1],
            &leaf(&[2; 32], b"certificate", &[3, 0]),
            &path_nodes(3),
            &vector(&[1; 64]),
            &vector(&[2; 32]),
        ]
        .concat()
    }

    /// A group info without a tree.
    pub(crate) fn group_info_message(room: RoomId, epoch: u64) -> Vec<u8> {
        [
            &[0, 1, 0, 4, 0, 1, 0, 1][..],
            &vector(room.as_bytes()),
            &epoch.to_be_bytes(),
            &vector(&[4; 32]),
            &vector(&[5; 32]),
            &vector(&[]),
            &vector(&[]),
            &vector(&[6; 32]),
            &[0, 0, 0, 0],
            &vector(&[7; 64]),
        ]
        .concat()
    }

    /// A welcome.
    pub(crate) fn welcome_message() -> Vec<u8> {
        [
            &[0, 1, 0, 3, 0, 1][..],
            &vector(b"secrets"),
            &vector(b"group info"),
        ]
        .concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::testing::{
        application_message, commit_message, external_commit_message, group_info_message,
        path_nodes as nodes, vector, welcome_message,
    };
    use super::*;

    const ATTRIBUTES: MessageAttributes = MessageAttributes {
        ttl_seconds: 60,
        burn_seconds: 0,
        label: 0,
        file: false,
    };

    fn room() -> RoomId {
        RoomId::from_bytes([9; 16])
    }

    /// Goal: a well-formed message of each kind shows what it should, and no cut or extension of it
    /// passes; by every prefix and one trailing byte.
    #[test]
    fn whole_messages_only() {
        let message = application_message(room(), 5, ATTRIBUTES, &[1; 300]);
        let commit_bytes = commit_message(room(), 6, &[1; 70]);
        let welcome_bytes = welcome_message();
        let frame = application(&message).unwrap();
        assert_eq!(
            (frame.room, frame.epoch, frame.attributes),
            (room(), 5, ATTRIBUTES)
        );
        assert_eq!(
            commit(&commit_bytes).unwrap(),
            CommitFrame {
                room: room(),
                epoch: 6,
                path_nodes: None,
            }
        );
        welcome(&welcome_bytes).unwrap();
        for end in 0..message.len() {
            assert!(application(&message[..end]).is_err());
        }
        for end in 0..commit_bytes.len() {
            assert!(commit(&commit_bytes[..end]).is_err());
        }
        let longer = |bytes: &[u8]| [bytes, &[0]].concat();
        assert_eq!(
            application(&longer(&message)),
            Err(FramingError::TrailingBytes)
        );
        assert_eq!(
            commit(&longer(&commit_bytes)),
            Err(FramingError::TrailingBytes)
        );
        assert_eq!(
            welcome(&longer(&welcome_bytes)),
            Err(FramingError::TrailingBytes)
        );
    }

    /// Goal: a commit with an update path passes, and its path's nodes are counted, however many; what is cut off within one
    /// is none. By commits built field by field.
    #[test]
    fn commit_with_path() {
        let leaf = [
            &vector(&[1; 32])[..],
            &vector(&[2; 32]),
            &[0, 2],
            &vector(&vector(&[3; 500])),
            &vector(&[0, 1]),
            &vector(&[0, 1]),
            &vector(&[]),
            &vector(&[]),
            &vector(&[0, 2]),
            &[3],
            &vector(&[4; 32]),
            &vector(&[]),
            &vector(&[5; 64]),
        ]
        .concat();
        let with = |nodes: &[u8]| {
            [
                &[0, 1, 0, 1][..],
                &vector(room().as_bytes()),
                &8_u64.to_be_bytes(),
                &[MEMBER, 0, 0, 0, 1],
                &vector(&[]),
                &[COMMIT],
                &vector(&[]),
                &[1],
                &leaf,
                nodes,
                &vector(&[1; 64]),
                &vector(&[2; 32]),
                &vector(&[3; 32]),
            ]
            .concat()
        };
        for count in [0, 1, 2, 10] {
            let bytes = with(&nodes(count));
            assert_eq!(commit(&bytes).unwrap().epoch, 8);
            assert_eq!(path_nodes(&bytes), Ok(Some(count)));
        }
        // A node that ends before its secrets do, and one without a key.
        for broken in [vector(&[32]), vector(&[0, 0])] {
            assert!(commit(&with(&broken)).is_err());
        }
    }

    const INIT: &[u8] = &[1, 0, 6, 2, 9, 9];
    const REMOVAL: &[u8] = &[1, 0, 3, 0, 0, 0, 2];

    /// Goal: a commit from outside shows whose place it takes and who comes, is no member's commit, and nothing
    /// but an external init and one removal passes; by one built field by field, its cuts, and other proposals.
    #[test]
    fn commits_from_outside() {
        let bytes = external_commit_message(room(), 8, &[INIT, REMOVAL].concat());
        assert!(comes_from_outside(&bytes));
        assert_eq!(commit(&bytes), Err(FramingError::Kind));
        let read = external_commit(&bytes).unwrap();
        assert_eq!((read.room, read.epoch, read.removed), (room(), 8, 2));
        assert_eq!(path_nodes(&bytes), Ok(Some(3)));
        assert_eq!(read.leaf.signature_key, [2; 32]);
        assert_eq!(read.leaf.certificate, b"certificate");
        for end in 0..bytes.len() {
            assert!(external_commit(&bytes[..end]).is_err());
        }
        assert!(external_commit(&[&bytes[..], &[0]].concat()).is_err());
        let turned = external_commit_message(room(), 8, &[REMOVAL, INIT].concat());
        assert_eq!(external_commit(&turned).unwrap().removed, 2);
        let reference = [&[2][..], &vector(&[7; 32])].concat();
        for proposals in [
            vec![],
            INIT.to_vec(),
            REMOVAL.to_vec(),
            [INIT, REMOVAL, REMOVAL].concat(),
            [INIT, INIT, REMOVAL].concat(),
            [INIT, REMOVAL, &reference[..]].concat(),
            [INIT, REMOVAL, &[1, 0, 7, 0]].concat(),
            [INIT, REMOVAL, &[1]].concat(),
        ] {
            let other = external_commit_message(room(), 8, &proposals);
            assert!(external_commit(&other).is_err(), "{proposals:?}");
        }
        assert!(external_commit(&commit_message(room(), 8, &[])).is_err());
    }

    /// Goal: a group info shows its room and epoch, whatever extensions it has, and no cut or extension of it passes;
    /// by every prefix and one trailing byte.
    #[test]
    fn group_infos() {
        let bytes = group_info_message(room(), 4);
        let expected = GroupInfoFrame {
            room: room(),
            epoch: 4,
        };
        assert_eq!(group_info(&bytes), Ok(expected));
        for end in 0..bytes.len() {
            assert!(group_info(&bytes[..end]).is_err());
        }
        assert!(group_info(&[&bytes[..], &[0]].concat()).is_err());
    }

    /// Goal: what is not what its place asks for is refused; by a table of changed bytes.
    #[test]
    fn other_kinds() {
        let message = application_message(room(), 5, ATTRIBUTES, &[1; 30]);
        let changed = |at: usize, to: u8| {
            let mut bytes = message.clone();
            bytes[at] = to;
            application(&bytes).unwrap_err()
        };
        assert_eq!(changed(1, 2), FramingError::Kind); // version
        assert_eq!(changed(3, 1), FramingError::Kind); // wire format
        assert_eq!(changed(4, 15), FramingError::Group); // group id's length
        assert_eq!(changed(29, 3), FramingError::Kind); // content type
        assert_eq!(changed(31, 2), FramingError::Attributes); // attributes' version
        // A length of 16 in two bytes.
        let padded = [&message[..4], &[0x40, 16], &message[5..]].concat();
        assert_eq!(application(&padded), Err(FramingError::Length));
        assert_eq!(
            application(&commit_message(room(), 5, b"")),
            Err(FramingError::Kind)
        );
        assert_eq!(commit(&message), Err(FramingError::Kind));
    }

    proptest! {
        /// Goal: no bytes at all make the parser panic; by random ones behind honest beginnings.
        #[test]
        fn never_panics(start in 0_usize..60, tail in prop::collection::vec(any::<u8>(), 0..200)) {
            for honest in [
                application_message(room(), 5, ATTRIBUTES, &[1; 30]),
                commit_message(room(), 6, &[1; 30]),
                welcome_message(),
                group_info_message(room(), 4),
                external_commit_message(room(), 8, &[INIT, REMOVAL].concat()),
            ] {
                let bytes = [&honest[..start.min(honest.len())], &tail].concat();
                let _ = (application(&bytes), commit(&bytes), welcome(&bytes));
                let _ = (group_info(&bytes), external_commit(&bytes), path_nodes(&bytes));
            }
        }
    }
}
