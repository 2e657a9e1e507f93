//! Text armour for certificates and keys (RFC 7468, strict form).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

const LINE_CHARACTERS: usize = 64;

/// `bytes` between the lines that name `label`.
///
/// What holds a private key is wiped when it is dropped; the capacity is right from the start, because a
/// text that grows leaves copies behind.
pub fn encode(label: &str, bytes: &[u8]) -> Zeroizing<String> {
    let encoded = Zeroizing::new(STANDARD.encode(bytes));
    let lines = encoded.len().div_ceil(LINE_CHARACTERS);
    let around = 2 * (label.len() + "-----BEGIN -----\n".len());
    let mut text = Zeroizing::new(String::with_capacity(encoded.len() + lines + around));
    for part in ["-----BEGIN ", label, "-----\n"] {
        text.push_str(part);
    }
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at_checked(LINE_CHARACTERS).unwrap_or((rest, ""));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    for part in ["-----END ", label, "-----\n"] {
        text.push_str(part);
    }
    text
}

/// What stands between the lines that name `label`: one block, nothing around it but white space.
pub fn decode(label: &str, text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let body = text
        .trim()
        .strip_prefix(&format!("-----BEGIN {label}-----"))?
        .strip_suffix(&format!("-----END {label}-----"))?;
    let mut encoded = Zeroizing::new(String::with_capacity(body.len()));
    encoded.extend(body.chars().filter(|c| !c.is_ascii_whitespace()));
    STANDARD.decode(&*encoded).ok().map(Zeroizing::new)
}

/// Every block of a text that holds nothing else but white space: what each is called, and its bytes. Comments and
/// further text are no part of it.
pub fn blocks(text: &str) -> Option<Vec<(String, Vec<u8>)>> {
    let mut blocks = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (label, body) = rest
            .strip_prefix("-----BEGIN ")?
            .split_once("-----")
            .filter(|(label, _)| !label.contains('\n'))?;
        let end = format!("-----END {label}-----");
        let (_, after) = body.split_once(&end)?;
        let (block, _) = rest.split_at_checked(rest.len() - after.len())?;
        blocks.push((label.to_owned(), decode(label, block)?.to_vec()));
        rest = after.trim_start();
    }
    Some(blocks)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Goal: blocks come back in their order, and any text is blocks or none. Method: any few, joined; any text.
        #[test]
        fn blocks_come_back(
            parts in prop::collection::vec(("[A-Z]{1,8}( [A-Z]{1,8})?", prop::collection::vec(any::<u8>(), 0..99)), 0..5),
            text in "(-----BEGIN A-----|-----END A-----|[\\PC\n-])*",
        ) {
            let joined: String = parts.iter().map(|(label, bytes)| encode(label, bytes).to_string()).collect();
            prop_assert_eq!(blocks(&joined), Some(parts));
            let _ = blocks(&text);
        }
    }

    /// Goal: any length comes back, in lines of 64; other labels and stray text are refused.
    #[test]
    fn round_trip() {
        for length in [0, 1, 47, 48, 49, 1000] {
            let bytes: Vec<u8> = (0..=255).cycle().take(length).collect();
            let text = encode("THING", &bytes);
            assert!(text.lines().all(|line| line.len() <= LINE_CHARACTERS));
            assert_eq!(decode("THING", &text), Some(Zeroizing::new(bytes)));
            assert!(text.capacity() - text.len() <= 2, "it grew");
            assert_eq!(decode("OTHER", &text), None);
            assert_eq!(decode("THING", &format!("x{}", *text)), None);
        }
    }
}
