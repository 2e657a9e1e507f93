//! The outsides of MLS messages (RFC 9420, section 6), with noise inside: as much as a server looks at.

use crate::wire::Encoder;

/// `mls10` with the wire formats of a private message and of a welcome.
const PRIVATE_MESSAGE: [u8; 4] = [0, 1, 0, 2];
const WELCOME: [u8; 4] = [0, 1, 0, 3];
/// Suite 0x0001.
const SUITE: [u8; 2] = [0, 1];
/// `ContentType application`.
const APPLICATION: u8 = 1;
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
