//! What lies on the disk, byte by byte, and what of it opens: read as `docs/store.md` has it, with nothing of the store's code.

use std::collections::HashMap;
use std::path::Path;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use crate::keys::MASTER_KEY;

/// Files are looked through in pieces of so many bytes; those of zeros alone are passed over.
const STRIDE: usize = 4096;
/// By so many bytes something is looked for.
const NEEDLE_BYTES: usize = 32;
/// What a wrapped key begins with: its version, and the upper bytes of any generation that a trial gets to.
const WRAPPED_BEGINS: [u8; 8] = [1, 0, 0, 0, 0, 0, 0, 0];
const GENERATION_BEGINS: &[u8] = b"ent-gen\n\x01";

/// A key's bytes.
pub(crate) type Secret = [u8; 32];

/// The data key in a wrapped key, if this generation opens it for what is bound to it.
pub(crate) fn open_wrapped(wrapped: &[u8], bound: &[u8], under: &Secret) -> Option<Secret> {
    let rest = wrapped.get(9..69)?;
    let (nonce, sealed) = rest.split_first_chunk::<12>()?;
    open(under, *nonce, bound, sealed)?.try_into().ok()
}

/// A content as it is stored, without the byte before it.
pub(crate) fn sealed_content(content: &[u8], bound: &[u8], by: &Secret) -> Option<Vec<u8>> {
    let mut bytes = content.to_vec();
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    cipher(by)?
        .seal_in_place_append_tag(nonce, Aad::from(bound), &mut bytes)
        .ok()?;
    Some(bytes)
}

fn open(key: &Secret, nonce: [u8; 12], bound: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = sealed.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    let length = cipher(key)?
        .open_in_place(nonce, Aad::from(bound), &mut bytes)
        .ok()?
        .len();
    bytes.truncate(length);
    Some(bytes)
}

fn cipher(key: &Secret) -> Option<LessSafeKey> {
    UnboundKey::new(&CHACHA20_POLY1305, key)
        .map(LessSafeKey::new)
        .ok()
}

/// All bytes of all files below a folder.
pub(crate) struct Disk(Vec<Vec<u8>>);

impl Disk {
    /// As they are now. Files that vanish meanwhile have nothing in them any more.
    pub(crate) fn read(folder: &Path) -> Result<Self, String> {
        let (mut files, mut waiting) = (Vec::new(), vec![folder.to_owned()]);
        while let Some(folder) = waiting.pop() {
            let entries = std::fs::read_dir(&folder);
            let entries = entries.map_err(|error| format!("{}: {error}", folder.display()))?;
            for entry in entries {
                let path = entry.map_err(|error| error.to_string())?.path();
                if path.is_dir() {
                    waiting.push(path);
                } else if let Ok(bytes) = std::fs::read(&path) {
                    files.push(bytes);
                }
            }
        }
        Ok(Self(files))
    }

    /// The bytes from each place on where not all is zero.
    fn places(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().flat_map(move |file| {
            let strides = file.chunks(STRIDE).enumerate();
            let filled = strides.filter(|(_, stride)| stride.iter().any(|byte| *byte != 0));
            filled.flat_map(move |(number, stride)| {
                let from = number.saturating_mul(STRIDE);
                let places = from..from.saturating_add(stride.len());
                places.filter_map(move |at| file.get(at..))
            })
        })
    }

    /// Every generation that the master key opens, wherever it lies.
    pub(crate) fn generations(&self) -> Vec<Secret> {
        let begins = self
            .places()
            .filter(|bytes| bytes.starts_with(GENERATION_BEGINS));
        let mut found: Vec<Secret> = begins
            .filter_map(|bytes| {
                let (head, rest) = bytes.get(..85)?.split_at_checked(25)?;
                let (nonce, sealed) = rest.split_first_chunk::<12>()?;
                open(&MASTER_KEY, *nonce, head, sealed)?.try_into().ok()
            })
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// What may be a wrapped key, wherever it lies.
    pub(crate) fn wrapped_keys(&self) -> Vec<&[u8]> {
        let begins = self
            .places()
            .filter(|bytes| bytes.starts_with(&WRAPPED_BEGINS));
        let mut found: Vec<&[u8]> = begins.filter_map(|bytes| bytes.get(..69)).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Of each of these whether its first bytes lie anywhere.
    pub(crate) fn has(&self, all: &[&[u8]]) -> Vec<bool> {
        let mut found = vec![false; all.len()];
        let mut by_start: HashMap<&[u8], Vec<usize>> = HashMap::new();
        let mut begins = vec![false; 1 << 16];
        for (number, needle) in all.iter().enumerate() {
            if let Some(needle) = needle.get(..NEEDLE_BYTES) {
                by_start.entry(needle).or_default().push(number);
                if let Some(begin) = begins.get_mut(beginning(needle)) {
                    *begin = true;
                }
            }
        }
        for bytes in self.places() {
            // Most places are told by their first two bytes.
            if begins.get(beginning(bytes)) != Some(&true) {
                continue;
            }
            let numbers = bytes.get(..NEEDLE_BYTES);
            let numbers = numbers.and_then(|needle| by_start.get(needle));
            for number in numbers.into_iter().flatten() {
                if let Some(found) = found.get_mut(*number) {
                    *found = true;
                }
            }
        }
        found
    }
}

/// The first two bytes as a number.
fn beginning(bytes: &[u8]) -> usize {
    let two = bytes.first_chunk::<2>().copied().unwrap_or_default();
    usize::from(u16::from_be_bytes(two))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what lies on a disk is found wherever it lies, also across pieces, and what does not is not. Method: a file with
    /// something across a piece's end.
    #[test]
    fn bytes_are_found() {
        let needle: Vec<u8> = (1..=40).collect();
        let mut file = vec![0; STRIDE - 5];
        file.extend_from_slice(&needle);
        file.resize(3 * STRIDE, 0);
        let disk = Disk(vec![vec![0; 100], file]);
        let other = [7; 40];
        let short = [1, 2];
        assert_eq!(disk.has(&[&needle, &other, &short]), [true, false, false]);
        assert!(disk.generations().is_empty() && disk.wrapped_keys().is_empty());
    }

    /// Goal: what is sealed opens with its own key and for its own place alone. Method: a wrapped key, put together by hand.
    #[test]
    fn a_wrapped_key_opens() {
        let (generation, secret, nonce) = ([1; 32], [2; 32], [3; 12]);
        let mut sealed = secret.to_vec();
        cipher(&generation)
            .unwrap()
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(b"Pid"),
                &mut sealed,
            )
            .unwrap();
        let wrapped = [&[1][..], &[0; 8], &nonce, &sealed].concat();
        assert_eq!(open_wrapped(&wrapped, b"Pid", &generation), Some(secret));
        assert_eq!(open_wrapped(&wrapped, b"Pie", &generation), None);
        assert_eq!(open_wrapped(&wrapped, b"Pid", &secret), None);
        assert_eq!(open_wrapped(&wrapped[..68], b"Pid", &generation), None);
    }
}
