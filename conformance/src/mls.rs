//! The outsides of MLS messages (RFC 9420, section 6), with noise inside: as much as a server looks at.

use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::organisation::DeviceIdentity;
use crate::wire::Encoder;

/// `mls10` with the wire formats of a public message, a private message and a welcome.
pub(crate) const PUBLIC_MESSAGE: [u8; 4] = [0, 1, 0, 1];
const PRIVATE_MESSAGE: [u8; 4] = [0, 1, 0, 2];
const WELCOME: [u8; 4] = [0, 1, 0, 3];
const MLS_10: u16 = 1;
const CURVE25519_AES128: u16 = 1;
/// `CredentialType x509`.
const X509: u16 = 2;
/// The extension of rooms, which every member must know.
pub(crate) const ROOM_EXTENSION: u16 = 0xF0E1;
/// `LeafNodeSource` commit.
const FROM_COMMIT: u8 = 3;
/// `SenderType member` and new_member_commit.
const MEMBER: u8 = 1;
const NEW_MEMBER_COMMIT: u8 = 4;
/// Suite 0x0001.
const SUITE: [u8; 2] = [0, 1];
/// `ContentType application`.
const APPLICATION: u8 = 1;
/// `ContentType commit`.
const COMMIT: u8 = 3;
/// Bytes of sealed sender data.
const SENDER_DATA_BYTES: usize = 28;

/// A variable-size vector: the shortest length that fits.
pub(crate) fn vector(encoder: Encoder, bytes: &[u8]) -> Encoder {
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
        let content = vector(Encoder::new(), &self.group);
        let content = content.u64(self.epoch).u8(NEW_MEMBER_COMMIT);
        let content = vector(content, &[]).u8(COMMIT);
        let content = vector(content, &self.proposals).u8(1);
        content.fixed(&path(self.chain, self.key)).finish()
    }

    /// The PublicMessage, with a signature that only a hub can find wrong.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let message = Encoder::new().fixed(&PUBLIC_MESSAGE).fixed(&self.content());
        // The confirmation tag is for members alone.
        vector(vector(message, &[12; 64]), &[13; 32]).finish()
    }
}

/// A member's commit, of which the frame alone is right.
pub(crate) fn framed_commit(
    group: &[u8; 16],
    epoch: u64,
    leaf: u32,
    DeviceIdentity { chain, key, .. }: &DeviceIdentity,
) -> Vec<u8> {
    let message = vector(Encoder::new().fixed(&PUBLIC_MESSAGE), group);
    let message = message.u64(epoch).u8(MEMBER).u32(leaf);
    // No proposals.
    let message = vector(vector(message, &[]).u8(COMMIT), &[]).u8(1);
    let message = message.fixed(&path(chain, key));
    let message = vector(vector(message, &[12; 64]), &[13; 32]);
    vector(message, &[14; 32]).finish()
}

/// An UpdatePath without nodes above the leaf.
fn path(chain: &[Vec<u8>], key: &Ed25519KeyPair) -> Vec<u8> {
    let leaf = unsigned_leaf(chain, key).u8(FROM_COMMIT);
    // The parent hash, extensions, and a signature that nobody has made.
    let leaf = vector(vector(vector(leaf, &[]), &[]), &[11; 64]);
    vector(leaf, &[]).finish()
}

/// A credential's chain of certificates, without its length.
pub(crate) fn certificates(chain: &[Vec<u8>]) -> Vec<u8> {
    chain
        .iter()
        .fold(Encoder::new(), |list, certificate| {
            vector(list, certificate)
        })
        .finish()
}

/// A LeafNode up to its source: keys, X.509 credential, and capabilities for nothing but what every room needs.
fn unsigned_leaf(chain: &[Vec<u8>], key: &Ed25519KeyPair) -> Encoder {
    // A key that nothing will ever be decrypted with.
    let leaf = vector(Encoder::new(), &[10; 32]);
    let leaf = vector(leaf, key.public_key().as_ref()).u16(X509);
    let leaf = vector(leaf, &certificates(chain));
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

#[cfg(test)]
mod tests {
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
}
