//! The recovery code: what opens a backup, for a person to write down.
//!
//! Nine groups of four characters. Three of each group are random, 135 bits together; the fourth is a check over
//! GF(2^5) with a constant of its own for each place: a mistyped character, two that were exchanged, and two exchanged
//! groups are noticed, and it is said where.

use std::fmt;
use std::str::FromStr;

use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use crate::error::Error;

/// What a code is written with, as that of a new device.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const GROUPS: usize = 9;
const GROUP_CHARACTERS: usize = 4;
/// Random characters of a group.
const DATA_CHARACTERS: usize = GROUP_CHARACTERS - 1;
/// How many random bytes a code is made of: one for each random character, of which five bits count.
pub(crate) const RANDOM_BYTES: usize = GROUPS * DATA_CHARACTERS;

const _: () = assert!(RANDOM_BYTES * 5 >= 128);

/// What opens a backup.
#[derive(Clone, PartialEq, Eq)]
pub struct RecoveryCode {
    /// The random characters.
    secret: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryCode")
    }
}

impl RecoveryCode {
    /// A new one.
    pub(crate) fn generate() -> Result<Self, Error> {
        let mut random = Zeroizing::new([0; RANDOM_BYTES]);
        SystemRandom::new()
            .fill(random.as_mut())
            .map_err(|_| Error::Store("no random bytes".to_owned()))?;
        Ok(Self::from_random(&random))
    }

    /// The one of these random bytes.
    pub(crate) fn from_random(random: &[u8; RANDOM_BYTES]) -> Self {
        let secret = random.iter().map(|byte| character(byte & 31)).collect();
        Self {
            secret: Zeroizing::new(secret),
        }
    }

    /// What keys are made of.
    pub(crate) fn secret(&self) -> &[u8] {
        &self.secret
    }
}

impl fmt::Display for RecoveryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, group) in self.secret.chunks(DATA_CHARACTERS).enumerate() {
            if place > 0 {
                f.write_str("-")?;
            }
            let mut values = [0; DATA_CHARACTERS];
            for (value, byte) in values.iter_mut().zip(group) {
                *value = value_of(char::from(*byte)).unwrap_or(0);
                write!(f, "{}", char::from(*byte))?;
            }
            write!(f, "{}", char::from(character(check(place, values))))?;
        }
        Ok(())
    }
}

impl FromStr for RecoveryCode {
    type Err = Error;

    /// Reads a code as a person types it: case, spaces and dashes don't matter, nor letters that look like digits.
    fn from_str(typed: &str) -> Result<Self, Error> {
        let is_between = |c: &char| c.is_whitespace() || *c == '-';
        let mut values = Zeroizing::new(Vec::with_capacity(GROUPS * GROUP_CHARACTERS));
        for c in typed.chars().filter(|c| !is_between(c)) {
            let value = value_of(c).ok_or_else(|| {
                wrong(&format!("there is no `{}` in any code", c.escape_default()))
            })?;
            values.push(value);
        }
        if values.len() != GROUPS * GROUP_CHARACTERS {
            return Err(wrong(&format!(
                "it has {GROUPS} groups of {GROUP_CHARACTERS} characters, and this has {} characters",
                values.len()
            )));
        }
        let mut secret = Zeroizing::new(Vec::with_capacity(RANDOM_BYTES));
        for (place, group) in values.chunks(GROUP_CHARACTERS).enumerate() {
            let [first, second, third, last] = *group else {
                continue;
            };
            if check(place, [first, second, third]) != last {
                return Err(wrong(&format!("look at group {} again", place + 1)));
            }
            secret.extend([first, second, third].map(character));
        }
        Ok(Self { secret })
    }
}

fn wrong(what: &str) -> Error {
    Error::RecoveryCode(format!("that is not the recovery code: {what}"))
}

/// The character of a value of five bits.
fn character(value: u8) -> u8 {
    ALPHABET.get(usize::from(value)).copied().unwrap_or(b'0')
}

fn value_of(typed: char) -> Option<u8> {
    let c = match typed.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    let byte = u8::try_from(c).ok()?;
    let at = ALPHABET.iter().position(|known| *known == byte)?;
    u8::try_from(at).ok()
}

/// A group's last character: the others, each times another power of x, and the group's place.
fn check(place: usize, [first, second, third]: [u8; DATA_CHARACTERS]) -> u8 {
    let place = u8::try_from(place + 1).unwrap_or(0) & 31;
    place ^ times_x(first) ^ times_x(times_x(second)) ^ times_x(times_x(times_x(third)))
}

/// Multiplied by x in GF(2^5), modulo x^5 + x^2 + 1.
const fn times_x(value: u8) -> u8 {
    let doubled = value << 1;
    if doubled & 32 == 0 {
        doubled
    } else {
        doubled ^ 0b10_0101
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code() -> RecoveryCode {
        let mut random = [0; RANDOM_BYTES];
        for (at, byte) in (0_u8..).zip(random.iter_mut()) {
            *byte = at.wrapping_mul(73).wrapping_add(11);
        }
        RecoveryCode::from_random(&random)
    }

    /// Goal: a code never changes unseen and is read as people type it; by a fixed one.
    #[test]
    fn as_it_is_typed() {
        let text = code().to_string();
        assert_eq!(text, "BMXY-6FR9-1AK0-W5EJ-Q09C-JV41-DPZC-8HTR-3CN3");
        let typed = text.to_lowercase().replace('-', " ").replace('1', "l");
        assert_eq!(typed.replace('0', "o").parse(), Ok(code()));
        let short = text[1..].parse::<RecoveryCode>().unwrap_err();
        assert!(short.to_string().contains("35 characters"), "{short}");
        assert!("U".repeat(36).parse::<RecoveryCode>().is_err());
        assert_ne!(RecoveryCode::generate(), RecoveryCode::generate());
    }

    /// Goal: every single wrong character, every two that are exchanged next to each other in a group, and every two
    /// exchanged groups are noticed, and the group is named. Method: all of them, for one code.
    #[test]
    fn slips_are_noticed() {
        let text: Vec<char> = code().to_string().chars().collect();
        let refused = |typed: &[char], group: Option<usize>| {
            let typed: String = typed.iter().collect();
            let error = typed.parse::<RecoveryCode>().unwrap_err().to_string();
            let told = group.is_none_or(|group| error.ends_with(&format!("group {group} again")));
            assert!(told, "{typed}: {error}");
        };
        for at in (0..text.len()).filter(|at| text[*at] != '-') {
            let group = Some(at / 5 + 1);
            for other in ALPHABET.iter().map(|byte| char::from(*byte)) {
                let mut typed = text.clone();
                typed[at] = other;
                if typed != text {
                    refused(&typed, group);
                }
            }
            let next = at + 1;
            if next < text.len() && text[next] != '-' && text[at] != text[next] {
                let mut typed = text.clone();
                typed.swap(at, next);
                refused(&typed, group);
            }
        }
        for one in 0..GROUPS {
            for other in one + 1..GROUPS {
                let mut typed = text.clone();
                for at in 0..GROUP_CHARACTERS {
                    typed.swap(one * 5 + at, other * 5 + at);
                }
                refused(&typed, None);
            }
        }
    }

    proptest::proptest! {
        /// Goal: no text makes the reader of codes panic, and what is a code is read as the same again.
        #[test]
        fn any_text(text in ".{0,50}", random in proptest::array::uniform27(0_u8..)) {
            crate::backup::code_any(&text);
            let code = RecoveryCode::from_random(&random);
            proptest::prop_assert_eq!(code.to_string().parse(), Ok(code));
        }
    }
}
