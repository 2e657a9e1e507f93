//! What people compare: safety numbers, and the code of a new device.

use std::num::NonZeroU32;

use homeserver_api::Digest;
use homeserver_api::device_log::DeviceChain;
use homeserver_api::fingerprint::Fingerprint;
use homeserver_api::ids::{AccountId, Address};
use ring::digest::{SHA512, digest};
use ring::pbkdf2;

use crate::core::Core;
use crate::error::Error;

const SAFETY_LABEL: &[u8] = b"entente safety number";
const CODE_LABEL: &[u8] = b"entente device code";
/// Groups of five digits.
const SAFETY_GROUPS: usize = 12;
/// Characters of a code: five bits each.
const CODE_CHARACTERS: usize = 12;
/// What a code is written with: no letter that looks like a digit or like another letter.
const CODE_ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Each guess at a key with the same code costs this many rounds.
const CODE_ROUNDS: NonZeroU32 = match NonZeroU32::new(200_000) {
    Some(rounds) => rounds,
    None => NonZeroU32::MIN,
};

/// What two people read to each other to see that nobody stands between them: it is the same on both sides as long
/// as both know the same devices of both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafetyNumber {
    /// As 60 decimal digits in groups of five.
    pub digits: String,
    /// As 24 words.
    pub words: Vec<&'static str>,
    /// Devices of the other account that this one has still to confirm.
    pub unconfirmed: usize,
    /// Whether it is by the devices of both as their homeservers have just said; else by those that were known.
    pub newest: bool,
}

impl Core {
    /// The safety number with somebody whom this device has met.
    pub(crate) fn safety(&self, address: &Address) -> Result<SafetyNumber, Error> {
        let own = &self.identity.member;
        let mine = self.side(&own.server, own.account)?;
        let met = self.met(address);
        let others = met.iter().filter(|member| member.account != own.account);
        let others: Vec<_> = others.collect();
        let [other] = others.as_slice() else {
            if others.len() > 1 {
                return Err(Error::InvalidArgument(format!(
                    "{address} stands for {} accounts here, of which one at the most is who you take it for: ask its \
                     owner which devices he has",
                    others.len()
                )));
            }
            return Err(Error::InvalidArgument(format!(
                "this device has not met {address} yet: start a conversation first"
            )));
        };
        let theirs = self.side(&other.server, other.account)?;
        let person = self.known.person(&other.server, other.account);
        Ok(safety_number(
            mine,
            theirs,
            person.map_or(0, |person| person.unconfirmed().len()),
        ))
    }

    /// Asks for the newest devices of an account, and of the own one.
    pub(crate) fn ask_about(&mut self, address: &Address) -> Result<(), Error> {
        for member in self.met(address) {
            self.ask_devices(&member.server, member.account, address)?;
        }
        Ok(())
    }

    /// Whether an answer about an address is still to come.
    pub(crate) fn is_asked(&self, address: &Address) -> bool {
        self.met(address).iter().any(|member| {
            self.known
                .asked
                .contains(&(member.server.clone(), member.account))
        })
    }

    fn side(
        &self,
        server: &homeserver_api::ids::ServerName,
        account: AccountId,
    ) -> Result<Digest, Error> {
        let person = self.known.person(server, account).ok_or_else(|| {
            Error::InvalidArgument(
                "this device does not know its account's devices yet: connect once".to_owned(),
            )
        })?;
        Ok(side(self.anchors.roots(server)?.0, &person.chain))
    }
}

/// What one side puts into the number.
fn side(root: &[u8], chain: &DeviceChain) -> Digest {
    let mut keys: Vec<[u8; 32]> = chain.devices().iter().map(|device| device.key).collect();
    keys.sort_unstable();
    let root = Digest::of(root);
    let account = chain.account();
    let mut parts: Vec<&[u8]> = vec![root.as_bytes(), account.as_bytes()];
    parts.extend(keys.iter().map(<[u8; 32]>::as_slice));
    Digest::of_parts(&parts)
}

fn safety_number(one: Digest, other: Digest, unconfirmed: usize) -> SafetyNumber {
    let (first, second) = (one.min(other), one.max(other));
    let length = [u8::try_from(SAFETY_LABEL.len()).unwrap_or(u8::MAX)];
    let number = Digest::of_parts(&[&length, SAFETY_LABEL, first.as_bytes(), second.as_bytes()]);
    let (digits, words) = read_aloud(number);
    SafetyNumber {
        digits,
        words,
        unconfirmed,
        newest: false,
    }
}

/// A number as people read it to each other: digits and words.
pub(in crate::core) fn read_aloud(number: Digest) -> (String, Vec<&'static str>) {
    let expanded = digest(&SHA512, number.as_bytes());
    let groups: Vec<String> = expanded
        .as_ref()
        .chunks(5)
        .take(SAFETY_GROUPS)
        .map(|five| {
            let value = five
                .iter()
                .fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
            format!("{:05}", value % 100_000)
        })
        .collect();
    let words = Fingerprint::of_document(number).words();
    (groups.join(" "), words)
}

/// The code of a new device, for a person to carry to a device of the account.
#[must_use]
pub(crate) fn device_code(public_key: &[u8], address: &Address) -> String {
    let length = [u8::try_from(CODE_LABEL.len()).unwrap_or(u8::MAX)];
    let address = address.to_string();
    let salt = [&length[..], CODE_LABEL, address.as_bytes()].concat();
    let mut bytes = [0; 8];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        CODE_ROUNDS,
        &salt,
        public_key,
        &mut bytes,
    );
    let bits = u64::from_be_bytes(bytes);
    let character = |at: usize| {
        let shift = 59_usize.saturating_sub(5 * at);
        let index = usize::try_from(bits >> shift & 31).unwrap_or(0);
        CODE_ALPHABET
            .get(index)
            .map_or('0', |byte| char::from(*byte))
    };
    let characters: Vec<char> = (0..CODE_CHARACTERS).map(character).collect();
    let groups: Vec<String> = characters
        .chunks(4)
        .map(|group| group.iter().collect())
        .collect();
    groups.join("-")
}

/// A code as a person types it: upper and lower case, spaces and dashes don't matter, nor letters that look like
/// digits. `None`: it is none.
#[must_use]
pub(crate) fn read_code(typed: &str) -> Option<String> {
    let kept: Option<Vec<char>> = typed
        .chars()
        .filter(|c| !c.is_whitespace() && *c != '-')
        .map(|c| {
            let c = match c.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                other => other,
            };
            let byte = u8::try_from(c).ok()?;
            CODE_ALPHABET.contains(&byte).then_some(c)
        })
        .collect();
    let kept = kept.filter(|kept| kept.len() == CODE_CHARACTERS)?;
    let groups: Vec<String> = kept.chunks(4).map(|group| group.iter().collect()).collect();
    Some(groups.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a code never changes unseen, belongs to one key and one address, and is read as people type it; by a
    /// fixed one.
    #[test]
    fn codes() {
        let alice: Address = "alice@a.example".parse().unwrap();
        let bob: Address = "bob@a.example".parse().unwrap();
        let code = device_code(&[7; 32], &alice);
        assert_eq!(code.len(), 14);
        assert_ne!(code, device_code(&[8; 32], &alice));
        assert_ne!(code, device_code(&[7; 32], &bob));
        assert_eq!(read_code(&code), Some(code.clone()));
        assert_eq!(
            read_code(&code.to_lowercase().replace('-', " ")),
            Some(code)
        );
        assert_eq!(
            read_code("oooo-iiii-LLLL"),
            Some("0000-1111-1111".to_owned())
        );
        assert_eq!(read_code("0000-0000-000"), None);
        assert_eq!(read_code("0000-0000-000U"), None);
    }

    /// Goal: a safety number is the same from both sides and depends on either; by exchanging and changing them.
    #[test]
    fn both_sides_see_the_same() {
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        let number = safety_number(one, other, 0);
        assert_eq!(safety_number(other, one, 0), number);
        assert_eq!(number.words.len(), 24);
        assert_eq!(number.digits.split(' ').count(), 12);
        assert!(number.digits.split(' ').all(|group| group.len() == 5));
        assert_ne!(safety_number(one, one, 0).digits, number.digits);
    }

    proptest::proptest! {
        /// Goal: no text makes the reader of codes panic, and what it reads it reads again as the same.
        #[test]
        fn any_text(text in ".{0,24}") {
            if let Some(code) = read_code(&text) {
                proptest::prop_assert_eq!(read_code(&code), Some(code.clone()));
            }
        }
    }
}
