//! The master key: it opens the generations, and is kept wherever the operator says.
//!
//! As text it is base64 of 32 bytes, as `openssl rand -base64 32` prints them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use super::wrapping::{KEY_BYTES, WrappingKey};
use crate::store::StoreError;

/// The key that wraps generations.
pub struct MasterKey(WrappingKey);

impl MasterKey {
    /// A new master key.
    pub fn draw(random: &dyn SecureRandom) -> Result<Self, StoreError> {
        WrappingKey::draw(random).map(Self)
    }

    /// The master key in a text that has nothing else in it; `None`: it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).ok()?);
        let bytes: [u8; KEY_BYTES] = bytes.as_slice().try_into().ok()?;
        Some(Self(WrappingKey::new(Zeroizing::new(bytes))))
    }

    /// The key as a line of text.
    pub fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(STANDARD.encode(self.0.bytes()));
        text.push('\n');
        text
    }

    pub(super) fn key(&self) -> &WrappingKey {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;

    /// Goal: a key comes back from its text, with white space around it or not, and what has another length or other
    /// characters is none. Method: one of each.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test draws its own randomness")]
    fn a_key_is_a_text() {
        let key = MasterKey::draw(&SystemRandom::new()).unwrap();
        let text = key.text();
        for text in [text.to_string(), format!("  {}\r\n", text.trim())] {
            let again = MasterKey::parse(&text).unwrap();
            assert_eq!(again.0.bytes(), key.0.bytes());
        }
        let wrong = ["", "AAAA", "not base64 at all", &text[1..], &text.repeat(2)];
        for wrong in wrong {
            assert!(MasterKey::parse(wrong).is_none(), "{wrong}");
        }
    }
}
