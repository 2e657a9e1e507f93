//! The outsides of MLS messages (RFC 9420, section 6), with noise inside: as much as a server looks at.

use crate::wire::Encoder;

/// `mls10` with the wire formats of a public message, a private message and a welcome.
const PUBLIC_MESSAGE: [u8; 4] = [0, 1, 0, 1];
const PRIVATE_MESSAGE: [u8; 4] = [0, 1, 0, 2];
const WELCOME: [u8; 4] = [0, 1, 0, 3];
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
#[derive(Debug, Clone)]
pub(crate) struct FromOutside<'a> {
    pub(crate) group: [u8; 16],
    pub(crate) epoch: u64,
    /// `SenderType`.
    pub(crate) sender: u8,
    /// Encoded `ProposalOrRef`s.
    pub(crate) proposals: Vec<u8>,
    /// The new leaf's certificates, its own first.
    pub(crate) chain: &'a [Vec<u8>],
    /// The key that the new leaf signs with.
    pub(crate) signature_key: [u8; 32],
}

/// `SenderType new_member_commit`.
pub(crate) const NEW_MEMBER_COMMIT: u8 = 4;

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
    /// The PublicMessage.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let numbers = |numbers: &[u16]| -> Vec<u8> {
            numbers
                .iter()
                .flat_map(|number| number.to_be_bytes())
                .collect()
        };
        let certificates = self
            .chain
            .iter()
            .fold(Encoder::new(), |list, certificate| {
                vector(list, certificate)
            })
            .finish();
        // LeafNode: keys, X.509 credential, capabilities, source commit with its parent hash, extensions, signature.
        let mut leaf = vector(Encoder::new(), &[10; 32]);
        leaf = vector(leaf, &self.signature_key).u16(2);
        leaf = vector(leaf, &certificates);
        for list in [&[1][..], &[1], &[], &[], &[2]] {
            leaf = vector(leaf, &numbers(list));
        }
        leaf = vector(leaf.u8(3), &[]);
        leaf = vector(leaf, &[]);
        leaf = vector(leaf, &[11; 64]);
        let mut message = vector(Encoder::new().fixed(&PUBLIC_MESSAGE), &self.group);
        message = message.u64(self.epoch).u8(self.sender);
        message = vector(message, &[]).u8(COMMIT);
        message = vector(message, &self.proposals).u8(1).fixed(&leaf.finish());
        // No nodes above the leaf, then signature and confirmation tag.
        message = vector(message, &[]);
        message = vector(message, &[12; 64]);
        vector(message, &[13; 32]).finish()
    }
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
