//! Text of somebody else's making, before a person reads it.

use std::fmt;

/// Format characters (Unicode 16, category Cf), with the two separators of lines and paragraphs (Zl,
/// Zp): no glyph of their own, but they turn, hide or break the text around them.
const FORMATS: [(u32, u32); 20] = [
    (0x00ad, 0x00ad),
    (0x0600, 0x0605),
    (0x061c, 0x061c),
    (0x06dd, 0x06dd),
    (0x070f, 0x070f),
    (0x0890, 0x0891),
    (0x08e2, 0x08e2),
    (0x180e, 0x180e),
    (0x200b, 0x200f),
    (0x2028, 0x202e),
    (0x2060, 0x2064),
    (0x2066, 0x206f),
    (0xfeff, 0xfeff),
    (0xfff9, 0xfffb),
    (0x1_10bd, 0x1_10bd),
    (0x1_10cd, 0x1_10cd),
    (0x1_3430, 0x1_343f),
    (0x1_bca0, 0x1_bca3),
    (0x1_d173, 0x1_d17a),
    (0xe_0001, 0xe_007f),
];

/// Whether a character is not seen, and changes how the characters around it are seen.
pub(crate) fn is_unseen(character: char) -> bool {
    let code = u32::from(character);
    character.is_control()
        || FORMATS
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&code))
}

/// Somebody else's text inside a sentence of ours: in quotation marks that it can't close.
pub(crate) struct Quoted<'t>(pub(crate) &'t str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for character in self.0.chars() {
            match character {
                '"' | '\\' => write!(f, "\\{character}")?,
                _ if is_unseen(character) => write!(f, "{}", character.escape_unicode())?,
                _ => write!(f, "{character}")?,
            }
        }
        f.write_str("\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what turns, hides or breaks text is known, and what people write is not taken for it;
    /// by examples of each.
    #[test]
    fn unseen_characters() {
        for unseen in [
            '\n',
            '\u{1b}',
            '\u{ad}',
            '\u{200b}',
            '\u{200d}',
            '\u{202e}',
            '\u{2028}',
            '\u{2029}',
            '\u{2066}',
            '\u{feff}',
            '\u{e0041}',
        ] {
            assert!(is_unseen(unseen), "{}", unseen.escape_unicode());
        }
        for seen in [' ', 'a', 'ä', '"', '\u{a0}', '漢', '\u{202f}', '\u{1f600}'] {
            assert!(!is_unseen(seen), "{}", seen.escape_unicode());
        }
    }

    /// Goal: quoted text neither ends its quotation nor changes what stands behind; by text that
    /// tries.
    #[test]
    fn quotations_hold() {
        assert_eq!(Quoted("plain").to_string(), "\"plain\"");
        assert_eq!(Quoted("a\" b\\").to_string(), "\"a\\\" b\\\\\"");
        assert_eq!(Quoted("x\u{202e}y").to_string(), "\"x\\u{202e}y\"");
    }
}
