//! The outsides of MLS messages (RFC 9420, section 6), with noise inside: as much as a server looks at.

use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::wire::{Decoder, Encoder};

/// `mls10` with the wire formats of a public message, a private message, a welcome, a group info and a key package.
const PUBLIC_MESSAGE: [u8; 4] = [0, 1, 0, 1];
const PRIVATE_MESSAGE: [u8; 4] = [0, 1, 0, 2];
const WELCOME: [u8; 4] = [0, 1, 0, 3];
const GROUP_INFO: [u8; 4] = [0, 1, 0, 4];
const KEY_PACKAGE: [u8; 4] = [0, 1, 0, 5];
const MLS_10: u16 = 1;
const CURVE25519_AES128: u16 = 1;
/// `CredentialType x509`.
const X509: u16 = 2;
/// The extension of rooms, which every member must know.
const ROOM_EXTENSION: u16 = 0xF0E1;
/// `LeafNodeSource` key_package and commit.
const FROM_KEY_PACKAGE: u8 = 1;
const FROM_COMMIT: u8 = 3;
/// `SenderType new_member_commit`.
const NEW_MEMBER_COMMIT: u8 = 4;
/// Seconds of a day.
const DAY_S: u64 = 86_400;
/// Suite 0x0001.
const SUITE: [u8; 2] = [0, 1];
/// `ContentType application`.
const APPLICATION: u8 = 1;
/// `ContentType commit`.
const COMMIT: u8 = 3;
/// Bytes of sealed sender data.
const SENDER_DATA_BYTES: usize = 28;

/// A variable-size vector: the shortest length that fits.
fn vector(encoder: Encoder, bytes: &[u8]) -> Encoder {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let [_, _, high, low] = length.to_be_bytes();
    match length {
        0..64 => encoder.u8(low),
        64..16_384 => encoder.u8(high | 0x40).u8(low),
        _ => encoder.u32(length | 0x8000_0000),
    }
    .fixed(bytes)
}

/// An application message with the attributes that servers read, alive for `ttl_seconds`.
pub(crate) fn application(
    group: &[u8; 16],
    epoch: u64,
    ttl_seconds: u32,
    inside: &[u8],
) -> Vec<u8> {
    let attributes = Encoder::new()
        .u8(1)
        .u32(ttl_seconds)
        .u32(0)
        .fixed(&[0; 3])
        .finish();
    let mut message = vector(Encoder::new().fixed(&PRIVATE_MESSAGE), group);
    message = message.u64(epoch).u8(APPLICATION);
    message = vector(message, &attributes);
    message = vector(message, &[7; SENDER_DATA_BYTES]);
    vector(message, inside).finish()
}

/// A welcome.
pub(crate) fn welcome() -> Vec<u8> {
    let welcome = vector(Encoder::new().fixed(&WELCOME).fixed(&SUITE), b"secrets");
    vector(welcome, b"group info").finish()
}

/// A commit by which somebody comes in from outside: each part open to be wrong.
#[derive(Clone)]
pub(crate) struct FromOutside<'a> {
    pub(crate) group: [u8; 16],
    pub(crate) epoch: u64,
    /// Encoded `ProposalOrRef`s.
    pub(crate) proposals: Vec<u8>,
    /// The new leaf's certificates, its own first.
    pub(crate) chain: &'a [Vec<u8>],
    /// What the new leaf signs with.
    pub(crate) key: &'a Ed25519KeyPair,
}

/// An external init, by value.
pub(crate) fn external_init() -> Vec<u8> {
    vector(Encoder::new().u8(1).u16(6), &[8; 32]).finish()
}

/// The removal of a leaf, by value.
pub(crate) fn remove(leaf: u32) -> Vec<u8> {
    Encoder::new().u8(1).u16(3).u32(leaf).finish()
}

/// A proposal by reference.
pub(crate) fn reference() -> Vec<u8> {
    vector(Encoder::new().u8(2), &[9; 32]).finish()
}

impl FromOutside<'_> {
    /// `FramedContent`.
    fn content(&self) -> Vec<u8> {
        let leaf = unsigned_leaf(self.chain, self.key).u8(FROM_COMMIT);
        // The parent hash, extensions, and a signature that no server can check.
        let leaf = vector(vector(vector(leaf, &[]), &[]), &[11; 64]).finish();
        let content = vector(Encoder::new(), &self.group);
        let content = content.u64(self.epoch).u8(NEW_MEMBER_COMMIT);
        let content = vector(content, &[]).u8(COMMIT);
        let content = vector(content, &self.proposals).u8(1).fixed(&leaf);
        // No nodes above the leaf.
        vector(content, &[]).finish()
    }

    fn message(&self, signature: &[u8]) -> Vec<u8> {
        let message = Encoder::new().fixed(&PUBLIC_MESSAGE).fixed(&self.content());
        // The confirmation tag is for members alone.
        vector(vector(message, signature), &[13; 32]).finish()
    }

    /// The PublicMessage, with a signature that only a hub can find wrong.
    pub(crate) fn encode(&self) -> Vec<u8> {
        self.message(&[12; 64])
    }

    /// The PublicMessage, signed for a group with this `GroupContext`.
    pub(crate) fn signed(&self, context: &[u8]) -> Vec<u8> {
        let to_be_signed = [&PUBLIC_MESSAGE[..], &self.content(), context].concat();
        self.message(&signed(self.key, "FramedContentTBS", &to_be_signed))
    }
}

/// A LeafNode up to its source: keys, X.509 credential, and capabilities for nothing but what every room needs.
fn unsigned_leaf(chain: &[Vec<u8>], key: &Ed25519KeyPair) -> Encoder {
    let certificates = chain
        .iter()
        .fold(Encoder::new(), |list, certificate| {
            vector(list, certificate)
        })
        .finish();
    // A key that nothing will ever be decrypted with.
    let leaf = vector(Encoder::new(), &[10; 32]);
    let leaf = vector(leaf, key.public_key().as_ref()).u16(X509);
    let leaf = vector(leaf, &certificates);
    let capabilities: [&[u16]; 5] = [
        &[MLS_10],
        &[CURVE25519_AES128],
        &[ROOM_EXTENSION],
        &[],
        &[X509],
    ];
    capabilities.iter().fold(leaf, |leaf, numbers| {
        let bytes: Vec<u8> = numbers
            .iter()
            .flat_map(|number| number.to_be_bytes())
            .collect();
        vector(leaf, &bytes)
    })
}

/// `SignWithLabel` (RFC 9420, section 5.1.2).
fn signed(key: &Ed25519KeyPair, label: &str, content: &[u8]) -> Vec<u8> {
    let label = format!("MLS 1.0 {label}");
    let content = vector(vector(Encoder::new(), label.as_bytes()), content).finish();
    key.sign(&content).as_ref().to_vec()
}

/// A key package of a device, good for a day around `now_s`.
pub(crate) fn key_package(chain: &[Vec<u8>], key: &Ed25519KeyPair, now_s: u64) -> Vec<u8> {
    let leaf = unsigned_leaf(chain, key)
        .u8(FROM_KEY_PACKAGE)
        .u64(now_s.saturating_sub(DAY_S))
        .u64(now_s.saturating_add(DAY_S));
    let leaf = vector(leaf, &[]).finish();
    let signature = signed(key, "LeafNodeTBS", &leaf);
    let leaf = vector(Encoder::new().fixed(&leaf), &signature).finish();
    let package = Encoder::new().u16(MLS_10).u16(CURVE25519_AES128);
    let package = vector(vector(package, &[14; 32]).fixed(&leaf), &[]).finish();
    let signature = signed(key, "KeyPackageTBS", &package);
    let message = Encoder::new().fixed(&KEY_PACKAGE).fixed(&package);
    vector(message, &signature).finish()
}

/// What a GroupInfo says of its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupInfo {
    pub(crate) group: Vec<u8>,
    pub(crate) epoch: u64,
    /// `GroupContext`.
    pub(crate) context: Vec<u8>,
    /// Where the epoch stands in the message.
    epoch_at: usize,
}

impl GroupInfo {
    /// The GroupInfo that these bytes are, all of them.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Decoder::new(bytes);
        if input.take(GROUP_INFO.len())? != GROUP_INFO {
            return None;
        }
        let start = input.rest();
        if (input.u16()?, input.u16()?) != (MLS_10, CURVE25519_AES128) {
            return None;
        }
        let group = opaque(&mut input)?.to_vec();
        let epoch_at = bytes.len().checked_sub(input.rest().len())?;
        let epoch = input.u64()?;
        // The tree's hash, the transcript's, and extensions.
        for _ in 0..3 {
            opaque(&mut input)?;
        }
        let context = start.get(..start.len().checked_sub(input.rest().len())?)?;
        // Extensions, the confirmation tag, who signs, and the signature.
        opaque(&mut input)?;
        opaque(&mut input)?;
        input.u32()?;
        opaque(&mut input)?;
        input.is_empty().then(|| Self {
            group,
            epoch,
            context: context.to_vec(),
            epoch_at,
        })
    }

    /// The same bytes, of the next epoch: as much as a hub can look at.
    pub(crate) fn of_next_epoch(&self, bytes: &[u8]) -> Vec<u8> {
        let mut next = bytes.to_vec();
        let epoch = self.epoch.saturating_add(1).to_be_bytes();
        for (to, from) in next.iter_mut().skip(self.epoch_at).zip(epoch) {
            *to = from;
        }
        next
    }
}

/// A variable-size vector.
fn opaque<'a>(input: &mut Decoder<'a>) -> Option<&'a [u8]> {
    let first = input.u8()?;
    let more = match first >> 6 {
        0 => 0,
        1 => 1,
        2 => 3,
        _ => return None,
    };
    let length = input
        .take(more)?
        .iter()
        .fold(usize::from(first & 0x3f), |length, byte| {
            (length << 8) | usize::from(*byte)
        });
    input.take(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Goal: lengths are written the shortest way that RFC 9420 allows. Method: both sides of each border.
    #[test]
    fn lengths_are_shortest() {
        let head = |length: usize| {
            let mut bytes = vector(Encoder::new(), &vec![0; length]).finish();
            bytes.truncate(bytes.len() - length);
            bytes
        };
        assert_eq!(head(63), [63]);
        assert_eq!(head(64), [0x40, 64]);
        assert_eq!(head(16_383), [0x7f, 0xff]);
        assert_eq!(head(16_384), [0x80, 0, 0x40, 0]);
    }

    fn group_info(group: &[u8], epoch: u64, rest: &[Vec<u8>; 6]) -> Vec<u8> {
        let [tree, transcript, extensions, more, tag, signature] = rest;
        let mut info = vector(Encoder::new().fixed(&GROUP_INFO).u16(1).u16(1), group).u64(epoch);
        for part in [tree, transcript, extensions, more, tag] {
            info = vector(info, part);
        }
        vector(info.u32(0), signature).finish()
    }

    proptest! {
        /// Goal: a group info is read whole, to its last byte, and that of the next epoch differs in the epoch alone; any
        /// bytes are one or none. Method: any parts; the bytes cut and lengthened.
        #[test]
        fn group_infos_are_read_whole(
            group in prop::collection::vec(any::<u8>(), 0..100),
            epoch in 0..u64::MAX,
            rest: [Vec<u8>; 6],
            cut in any::<prop::sample::Index>(),
            noise: Vec<u8>,
        ) {
            let mut bytes = group_info(&group, epoch, &rest);
            let read = GroupInfo::decode(&bytes).unwrap();
            prop_assert_eq!((&read.group, read.epoch), (&group, epoch));
            let next = read.of_next_epoch(&bytes);
            prop_assert_eq!(&next, &group_info(&group, epoch + 1, &rest));
            prop_assert!(bytes[GROUP_INFO.len()..].starts_with(&read.context));
            prop_assert_eq!(GroupInfo::decode(&bytes[..cut.index(bytes.len())]), None);
            bytes.push(0);
            prop_assert_eq!(GroupInfo::decode(&bytes), None);
            let _ = GroupInfo::decode(&noise);
        }
    }
}
