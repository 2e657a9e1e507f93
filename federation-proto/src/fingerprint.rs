//! The fingerprint of an organisation, which administrators read to each other.

use std::fmt;
use std::str::FromStr;

use bip39::{Language, Mnemonic};

use crate::hash::Digest;
use crate::limits::QUOTED_CHARACTERS_MAX;

/// Words that spell out a fingerprint: its 256 bits and a checksum, 11 bits a word.
pub const FINGERPRINT_WORDS: usize = 24;

/// SHA-256 of an organisation's root certificate (DER), or of a consortium's charter. People read it to each other as words
/// ([`Fingerprint::words`]); machines write it as 16 groups of 4 digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(Digest);

/// The text is not a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    /// Neither digits nor words.
    #[error(
        "not a fingerprint: it has {FINGERPRINT_WORDS} words, or 64 hexadecimal digits; \
         {0} such digits were found"
    )]
    Digits(usize),
    /// Too few words, or too many.
    #[error("a fingerprint has {FINGERPRINT_WORDS} words; {0} were found")]
    Words(usize),
    /// A word that is not in the list.
    #[error("`{0}` is not a word of fingerprints: it was misheard or mistyped")]
    UnknownWord(String),
    /// The checksum does not fit.
    #[error(
        "the words do not fit together: one was misheard, or two were exchanged; read them again"
    )]
    Checksum,
}

impl Fingerprint {
    /// The fingerprint of the organisation with this root certificate.
    #[must_use]
    pub fn of_root(root_der: &[u8]) -> Self {
        Self(Digest::of(root_der))
    }

    /// The fingerprint of a document that people compare: SHA-256 of its bytes.
    #[must_use]
    pub const fn of_document(sha256: Digest) -> Self {
        Self(sha256)
    }

    /// The fingerprint as [`FINGERPRINT_WORDS`] English words, as BIP-39 spells 256 bits: four first letters
    /// tell each word from every other, and a checksum finds a word that was misheard.
    #[must_use]
    pub fn words(&self) -> Vec<&'static str> {
        // 256 bits are one of the lengths that can be spelt.
        Mnemonic::from_entropy_in(Language::English, self.0.as_bytes())
            .map(|spelt| spelt.words().collect())
            .unwrap_or_default()
    }

    /// The digest.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, pair) in self.0.as_bytes().chunks(2).enumerate() {
            let space = if index == 0 { "" } else { " " };
            f.write_str(space)?;
            pair.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        Ok(())
    }
}

/// People write it down in many ways: case, spaces, colons, dashes, commas and line ends do not matter.
impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let separates = |c: char| c.is_whitespace() || matches!(c, ':' | '-' | ',');
        let kept = || text.chars().filter(|c| !separates(*c));
        let digits: Vec<u8> = kept()
            .filter_map(|c| c.to_digit(16))
            .filter_map(|digit| u8::try_from(digit).ok())
            .collect();
        if digits.len() == 64 && kept().count() == 64 {
            let mut bytes = [0; 32];
            for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
                *byte = pair.iter().fold(0, |value, digit| value << 4 | digit);
            }
            return Ok(Self(Digest::from_bytes(bytes)));
        }
        let spoken: Vec<String> = text
            .split(separates)
            .filter(|word| !word.is_empty())
            .map(str::to_ascii_lowercase)
            .collect();
        let looks_spoken = spoken
            .iter()
            .filter(|word| Language::English.find_word(word).is_some())
            .count()
            > 1;
        if looks_spoken {
            from_words(&spoken)
        } else {
            Err(FingerprintError::Digits(digits.len()))
        }
    }
}

fn from_words(spoken: &[String]) -> Result<Fingerprint, FingerprintError> {
    if let Some(unknown) = spoken
        .iter()
        .find(|word| Language::English.find_word(word).is_none())
    {
        let shown = unknown.chars().take(QUOTED_CHARACTERS_MAX).collect();
        return Err(FingerprintError::UnknownWord(shown));
    }
    if spoken.len() != FINGERPRINT_WORDS {
        return Err(FingerprintError::Words(spoken.len()));
    }
    let mnemonic = Mnemonic::parse_in_normalized(Language::English, &spoken.join(" "))
        .map_err(|_| FingerprintError::Checksum)?;
    let (entropy, bytes) = mnemonic.to_entropy_array();
    match entropy.first_chunk::<32>() {
        Some(digest) if bytes == 32 => Ok(Fingerprint(Digest::from_bytes(*digest))),
        _ => Err(FingerprintError::Words(spoken.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the printed form reads back, also as people retype it; by rewriting it in their ways.
    #[test]
    fn reads_what_people_write() {
        let fingerprint = Fingerprint::of_root(b"root");
        let text = fingerprint.to_string();
        assert_eq!(text.len(), 16 * 4 + 15);
        for written in [
            text.clone(),
            text.to_uppercase(),
            text.replace(' ', ""),
            text.replace(' ', ":"),
            format!(" {}\n", text.replace(' ', "\n")),
        ] {
            assert_eq!(written.parse(), Ok(fingerprint), "{written}");
        }
    }

    /// Goal: anything else is refused, so that half a fingerprint never passes; by cutting one,
    /// and by adding to it.
    #[test]
    fn refuses_what_is_not_one() {
        let text = Fingerprint::of_root(b"root").to_string();
        assert_eq!("".parse::<Fingerprint>(), Err(FingerprintError::Digits(0)));
        assert!(text[..text.len() - 1].parse::<Fingerprint>().is_err());
        assert!(format!("{text}0").parse::<Fingerprint>().is_err());
        assert!(format!("{text}x").parse::<Fingerprint>().is_err());
    }

    /// Goal: the words read back as they are said, and one that was misheard, forgotten or exchanged is
    /// noticed; by saying them in people's ways, and by each mistake.
    #[test]
    fn words_are_read_aloud() {
        let fingerprint = Fingerprint::of_root(b"root");
        let words = fingerprint.words();
        assert_eq!(words.len(), FINGERPRINT_WORDS);
        for said in [
            words.join(" "),
            words.join(", ").to_uppercase(),
            words.join("\n"),
        ] {
            assert_eq!(said.parse(), Ok(fingerprint), "{said}");
        }
        let short = words[1..].join(" ");
        assert_eq!(
            short.parse::<Fingerprint>(),
            Err(FingerprintError::Words(23))
        );
        let misheard = words.join(" ").replacen(words[3], "entente", 1);
        assert_eq!(
            misheard.parse::<Fingerprint>(),
            Err(FingerprintError::UnknownWord("entente".to_owned()))
        );
        let other = Fingerprint::of_root(b"other").words();
        let mut mixed = words.clone();
        mixed[5] = if words[5] == other[0] {
            other[1]
        } else {
            other[0]
        };
        // One checksum in 256 fits by chance; then the fingerprint is still another one.
        assert_ne!(mixed.join(" ").parse::<Fingerprint>(), Ok(fingerprint));
    }
}
