//! Text armour for certificates and keys (RFC 7468, strict form).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const LINE_CHARACTERS: usize = 64;

/// `bytes` between the lines that name `label`.
pub(super) fn encode(label: &str, bytes: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let encoded = STANDARD.encode(bytes);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at_checked(LINE_CHARACTERS).unwrap_or((rest, ""));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// What stands between the lines that name `label`: one block, nothing around it but white space.
pub(super) fn decode(label: &str, text: &str) -> Option<Vec<u8>> {
    let body = text
        .trim()
        .strip_prefix(&format!("-----BEGIN {label}-----"))?
        .strip_suffix(&format!("-----END {label}-----"))?;
    let encoded: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(encoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: any length comes back, in lines of 64; other labels and stray text are refused.
    #[test]
    fn round_trip() {
        for length in [0, 1, 47, 48, 49, 1000] {
            let bytes: Vec<u8> = (0..=255).cycle().take(length).collect();
            let text = encode("THING", &bytes);
            assert!(text.lines().all(|line| line.len() <= LINE_CHARACTERS));
            assert_eq!(decode("THING", &text), Some(bytes));
            assert_eq!(decode("OTHER", &text), None);
            assert_eq!(decode("THING", &format!("x{text}")), None);
        }
    }
}
