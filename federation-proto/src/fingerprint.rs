//! The fingerprint of an organisation, which administrators read to each other.

use std::fmt;
use std::str::FromStr;

use crate::hash::Digest;

/// SHA-256 of an organisation's root certificate (DER), shown as 16 groups of 4 digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(Digest);

/// The text is not a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a fingerprint: it has 64 hexadecimal digits, usually in 16 groups of 4; \
     {0} such digits were found"
)]
pub struct FingerprintError(pub usize);

impl Fingerprint {
    /// The fingerprint of the organisation with this root certificate.
    #[must_use]
    pub fn of_root(root_der: &[u8]) -> Self {
        Self(Digest::of(root_der))
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

/// People write it down in many ways: case, spaces, colons, dashes and line ends do not matter.
impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let kept = || {
            text.chars()
                .filter(|c| !c.is_whitespace() && !matches!(c, ':' | '-'))
        };
        let digits: Vec<u8> = kept()
            .filter_map(|c| c.to_digit(16))
            .filter_map(|digit| u8::try_from(digit).ok())
            .collect();
        if digits.len() != 64 || kept().count() != 64 {
            return Err(FingerprintError(digits.len()));
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = pair.iter().fold(0, |value, digit| value << 4 | digit);
        }
        Ok(Self(Digest::from_bytes(bytes)))
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
        assert_eq!("".parse::<Fingerprint>(), Err(FingerprintError(0)));
        assert!(text[..text.len() - 1].parse::<Fingerprint>().is_err());
        assert!(format!("{text}0").parse::<Fingerprint>().is_err());
        assert!(format!("{text}x").parse::<Fingerprint>().is_err());
    }
}
