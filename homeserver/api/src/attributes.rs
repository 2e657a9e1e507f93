//! What a message says of itself to the servers on its way.
//!
//! Travels as the MLS `authenticated_data` of each application message: servers read it to hold
//! the message to policy, receivers check that it matches the content. Twelve bytes, one encoding.

/// Version byte of the encoding.
const VERSION: u8 = 1;
/// Length of the encoding.
pub const ATTRIBUTES_BYTES: usize = 12;

/// Time-to-live, burn-on-read time and label of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageAttributes {
    /// Seconds from the origin server's durable acceptance to deletion everywhere; at least 1.
    pub ttl_seconds: u32,
    /// Seconds from being shown to deletion on the device that showed it; 0 for never.
    pub burn_seconds: u32,
    /// Classification label, 0 for none.
    pub label: u8,
    /// Whether the message refers to an uploaded file.
    pub file: bool,
}

/// The bytes are not message attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a message's authenticated data must be its attributes: 12 bytes, version 1, a TTL of at least 1 s"
)]
pub struct AttributesError;

impl MessageAttributes {
    /// The bytes that travel: version, TTL, burn time (both big-endian), label, file flag, zero.
    #[must_use]
    pub fn encode(self) -> [u8; ATTRIBUTES_BYTES] {
        let [t0, t1, t2, t3] = self.ttl_seconds.to_be_bytes();
        let [b0, b1, b2, b3] = self.burn_seconds.to_be_bytes();
        let file = u8::from(self.file);
        [VERSION, t0, t1, t2, t3, b0, b1, b2, b3, self.label, file, 0]
    }

    /// Reads [`Self::encode`]'s bytes and nothing else.
    ///
    /// # Errors
    /// When the bytes are of another length or version, or a field is out of its range.
    pub fn decode(bytes: &[u8]) -> Result<Self, AttributesError> {
        match *bytes {
            [
                VERSION,
                t0,
                t1,
                t2,
                t3,
                b0,
                b1,
                b2,
                b3,
                label,
                file @ (0 | 1),
                0,
            ] => {
                let ttl_seconds = u32::from_be_bytes([t0, t1, t2, t3]);
                if ttl_seconds == 0 {
                    return Err(AttributesError);
                }
                Ok(Self {
                    ttl_seconds,
                    burn_seconds: u32::from_be_bytes([b0, b1, b2, b3]),
                    label,
                    file: file == 1,
                })
            }
            _ => Err(AttributesError),
        }
    }
}
