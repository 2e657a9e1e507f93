//! Device statements, logs and their proofs, written and read from the protocol's section 15 alone.

use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

use crate::failure::Result;
use crate::organisation::Organisation;
use crate::transaction::{merkle_root, sha256};
use crate::wire::{Decoder, Encoder};

/// What an issuing key signs for a head starts with this.
const HEAD_LABEL: &[u8] = b"entente device log";
const FORMAT: u8 = 1;
/// What a statement says.
const FIRST: u8 = 1;
const APPROVED: u8 = 2;
/// How a P-256 key stands in a certificate: a bit string of 65 bytes, of which the first says "uncompressed".
const POINT: [u8; 4] = [0x03, 0x42, 0x00, 0x04];
const POINT_BYTES: usize = 65;
/// Where its bytes begin in that.
const POINT_BEHIND: usize = 3;

/// The history of an account whose first device this is, in a log of its own.
pub(crate) fn of_first(
    organisation: &Organisation,
    (account, device): (&[u8; 16], &[u8; 16]),
    key: &[u8],
    now_ms: u64,
) -> Result<Vec<u8>> {
    let statement = Encoder::new()
        .u8(FORMAT)
        .fixed(account)
        .fixed(device)
        .fixed(key)
        .u64(1)
        .fixed(&[0; 32])
        .u64(now_ms)
        .u8(FIRST)
        .finish();
    let head = Encoder::new()
        .u8(FORMAT)
        .vector(1, organisation.name.as_bytes())
        .u64(1)
        .fixed(&merkle_root(&[leaf(&statement)]))
        .u64(now_ms)
        .vector(2, &organisation.issuing)
        .finish();
    let signature = organisation.sign(HEAD_LABEL, &head)?;
    let (index, no_path, no_growth) = (0, b"", b"");
    Ok(Encoder::new()
        .vector(4, &statement)
        .u64(index)
        .vector(4, no_path)
        .fixed(&head)
        .vector(1, &signature)
        .vector(4, no_growth)
        .finish())
}

fn leaf(statement: &[u8]) -> [u8; 32] {
    sha256(&[&[0], statement].concat())
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    sha256(&[&[1], left.as_slice(), right.as_slice()].concat())
}

/// One thing that was said of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) account: [u8; 16],
    pub(crate) device: [u8; 16],
    serial: u64,
    previous: [u8; 32],
    hash: [u8; 32],
}

impl Statement {
    fn read(input: &mut Decoder<'_>, bytes: &[u8]) -> Option<Self> {
        let before = input.rest().len();
        (input.u8()? == FORMAT).then_some(())?;
        let (account, device, _key) = (input.fixed()?, input.fixed()?, input.fixed::<32>()?);
        let (serial, previous, _at_ms) = (input.u64()?, input.fixed()?, input.u64()?);
        match input.u8()? {
            APPROVED => drop((input.fixed::<16>()?, input.fixed::<64>()?)),
            1..=4 => {}
            _ => return None,
        }
        let from = bytes.len().checked_sub(before)?;
        let to = bytes.len().checked_sub(input.rest().len())?;
        Some(Self {
            account,
            device,
            serial,
            previous,
            hash: leaf(bytes.get(from..to)?),
        })
    }
}

/// An account's history, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct History {
    pub(crate) statements: Vec<Statement>,
    index: u64,
    path: Vec<[u8; 32]>,
    pub(crate) server: String,
    pub(crate) size: u64,
    pub(crate) root: [u8; 32],
    signed: Vec<u8>,
    pub(crate) issuing: Vec<u8>,
    signature: Vec<u8>,
    growth: Vec<(u64, Vec<[u8; 32]>)>,
}

impl History {
    /// Reads it from where it begins.
    pub(crate) fn read(input: &mut Decoder<'_>) -> Option<Self> {
        let bytes = input.vector(4)?;
        let mut list = Decoder::new(bytes);
        let mut statements = Vec::new();
        while !list.is_empty() {
            statements.push(Statement::read(&mut list, bytes)?);
        }
        let (index, path) = (input.u64()?, hashes(input)?);
        let (format, server, size) = (input.u8()?, input.text(1)?, input.u64()?);
        let (root, at_ms) = (input.fixed()?, input.u64()?);
        let issuing = input.vector(2)?.to_vec();
        let signature = input.vector(1)?.to_vec();
        let signed = Encoder::new()
            .u8(format)
            .vector(1, server.as_bytes())
            .u64(size)
            .fixed(&root)
            .u64(at_ms)
            .vector(2, &issuing)
            .finish();
        let mut list = Decoder::new(input.vector(4)?);
        let mut growth = Vec::new();
        while !list.is_empty() {
            growth.push((list.u64()?, hashes(&mut list)?));
        }
        (format == FORMAT).then_some(Self {
            statements,
            index,
            path,
            server,
            size,
            root,
            signed,
            issuing,
            signature,
            growth,
        })
    }

    /// Whether each statement names the one before it, and all are of one account.
    pub(crate) fn is_a_chain(&self) -> bool {
        let mut before = ([0; 32], 0_u64);
        let account = self.statements.first().map(|first| first.account);
        for statement in &self.statements {
            let serial = before.1.saturating_add(1);
            if (statement.previous, statement.serial) != (before.0, serial)
                || Some(statement.account) != account
            {
                return false;
            }
            before = (statement.hash, serial);
        }
        account.is_some()
    }

    /// Whether the newest statement is where it is said to be in the log (RFC 9162, section 2.1.3.2).
    pub(crate) fn is_in_the_log(&self) -> bool {
        let Some(newest) = self.statements.last() else {
            return false;
        };
        let Some(mut last) = self.size.checked_sub(1).filter(|last| self.index <= *last) else {
            return false;
        };
        let (mut at, mut hash) = (self.index, newest.hash);
        for sibling in &self.path {
            if last == 0 {
                return false;
            }
            if at % 2 == 1 || at == last {
                hash = node(sibling, &hash);
                while at.is_multiple_of(2) && at != 0 {
                    at /= 2;
                    last /= 2;
                }
            } else {
                hash = node(&hash, sibling);
            }
            at /= 2;
            last /= 2;
        }
        last == 0 && hash == self.root
    }

    /// Whether the key of the certificate that comes along has signed the head.
    pub(crate) fn is_signed(&self) -> bool {
        let key = self
            .issuing
            .windows(POINT.len())
            .position(|window| window == POINT)
            .and_then(|at| at.checked_add(POINT_BEHIND))
            .and_then(|at| self.issuing.get(at..at.checked_add(POINT_BYTES)?));
        let signed = Encoder::new().vector(1, HEAD_LABEL).fixed(&self.signed);
        key.is_some_and(|key| {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
                .verify(&signed.finish(), &self.signature)
                .is_ok()
        })
    }

    /// The log as it was when the newest statement had just been written: that is the last leaf then, and what stands
    /// to the left of it has not changed since.
    pub(crate) fn at_its_newest(&self) -> Option<(u64, [u8; 32])> {
        let mut last = self.size.checked_sub(1)?;
        let (mut at, mut root) = (self.index, self.statements.last()?.hash);
        for sibling in &self.path {
            if at % 2 == 1 || at == last {
                root = node(sibling, &root);
                while at.is_multiple_of(2) && at != 0 {
                    at /= 2;
                    last /= 2;
                }
            }
            at /= 2;
            last /= 2;
        }
        Some((self.index.checked_add(1)?, root))
    }

    /// Whether it shows that the log has grown from this size and root (RFC 9162, section 2.1.4.2).
    pub(crate) fn has_grown_from(&self, (first, first_root): (u64, [u8; 32])) -> bool {
        let second = self.size;
        if first == second {
            return first_root == self.root;
        }
        let shown = self.growth.iter().find(|(from, _)| *from == first);
        let Some((_, path)) = shown.filter(|_| 0 < first && first < second) else {
            return false;
        };
        let mut rest = path.iter();
        let start = match first.is_power_of_two() {
            true => Some(&first_root),
            false => rest.next(),
        };
        let Some(start) = start else {
            return false;
        };
        let (mut at, mut last) = (first.saturating_sub(1), second.saturating_sub(1));
        while at % 2 == 1 {
            at /= 2;
            last /= 2;
        }
        let (mut old, mut new) = (*start, *start);
        for sibling in rest {
            if last == 0 {
                return false;
            }
            if at % 2 == 1 || at == last {
                old = node(sibling, &old);
                new = node(sibling, &new);
                while at.is_multiple_of(2) && at != 0 {
                    at /= 2;
                    last /= 2;
                }
            } else {
                new = node(&new, sibling);
            }
            at /= 2;
            last /= 2;
        }
        last == 0 && old == first_root && new == self.root
    }
}

fn hashes(input: &mut Decoder<'_>) -> Option<Vec<[u8; 32]>> {
    let mut list = Decoder::new(input.vector(4)?);
    let mut hashes = Vec::new();
    while !list.is_empty() {
        hashes.push(list.fixed()?);
    }
    Some(hashes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made() -> Vec<u8> {
        let organisation = Organisation::new("a.example").unwrap();
        of_first(&organisation, (&[1; 16], &[2; 16]), &[3; 32], 4).unwrap()
    }

    fn read(bytes: &[u8]) -> Option<History> {
        let mut input = Decoder::new(bytes);
        History::read(&mut input).filter(|_| input.is_empty())
    }

    fn holds(history: &History) -> bool {
        history.is_a_chain() && history.is_in_the_log() && history.is_signed()
    }

    /// Goal: what is written holds when it is read, and nothing holds of which a byte is another one. Method: each byte in turn.
    #[test]
    fn one_byte_more_or_less() {
        let bytes = made();
        let history = read(&bytes).unwrap();
        assert!(holds(&history));
        let now = (history.size, history.root);
        assert!(history.has_grown_from(now));
        assert_eq!(history.at_its_newest(), Some(now));
        assert_eq!(history.statements[0].device, [2; 16]);
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(!read(&other).is_some_and(|read| holds(&read)), "{at}");
        }
    }

    /// Goal: the log as it was is found from the newest statement's place, and growth from it is taken; other growth is not.
    /// Method: logs of three leaves, by hand as RFC 9162 draws them, and a byte changed.
    #[test]
    fn a_log_grows() {
        let leaves = [[1; 32], [2; 32], [3; 32]];
        let two = node(&leaves[0], &leaves[1]);
        let three = node(&two, &leaves[2]);
        let mut history = read(&made()).unwrap();
        (history.size, history.root) = (3, three);
        for (index, path, was) in [
            (0, vec![leaves[1], leaves[2]], leaves[0]),
            (1, vec![leaves[0], leaves[2]], two),
            (2, vec![two], three),
        ] {
            history.index = index;
            history.path = path;
            history.statements[0].hash = leaves[usize::try_from(index).unwrap()];
            assert!(history.is_in_the_log());
            assert_eq!(history.at_its_newest(), Some((index + 1, was)));
        }
        history.growth = vec![(1, vec![leaves[1], leaves[2]]), (2, vec![leaves[2]])];
        assert!(history.has_grown_from((1, leaves[0])));
        assert!(history.has_grown_from((2, two)));
        assert!(!history.has_grown_from((2, leaves[0])));
        history.growth[1].1[0][0] ^= 1;
        assert!(!history.has_grown_from((2, two)));
        history.growth.clear();
        assert!(!history.has_grown_from((1, leaves[0])));
    }

    proptest! {
        /// Goal: no bytes make the reader panic. Method: any bytes.
        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            if let Some(history) = read(&bytes) {
                let _ = (holds(&history), history.at_its_newest());
                let _ = history.has_grown_from((1, history.root));
            }
        }
    }
}
