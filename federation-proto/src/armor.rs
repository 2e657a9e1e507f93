//! Peering documents as text that survives mail and chat.
//!
//! A begin line, base64 in lines of 64, a line with the SHA-256 of the bytes, an end line. Whatever
//! stands before and after is ignored, as are line ends, indentation and quotation marks, so that a
//! document may be pasted out of a mail; the checksum says whether it survived. It proves nothing
//! about who wrote it: the signature inside does.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::hash::Digest;
use crate::limits::{
    ARMORED_BYTES_MAX, CHARTER_FILE_BYTES_MAX, EVIDENCE_BYTES_MAX, INTRODUCTION_BYTES_MAX,
    PEERING_DOCUMENT_BYTES_MAX,
};

const LINE_CHARACTERS: usize = 64;
const CHECKSUM: &str = "SHA-256:";

/// Which document it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An offer.
    Offer,
    /// An acceptance.
    Acceptance,
    /// A countersignature.
    Countersignature,
    /// An amendment.
    Amendment,
    /// A consent to an amendment.
    Consent,
    /// What a side has decided about an agreement.
    Declaration,
    /// A member's introduction to a consortium.
    Introduction,
    /// A consortium's charter, with signatures.
    Charter,
    /// A page of evidence of deprovisioning.
    Evidence,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Offer,
        Self::Acceptance,
        Self::Countersignature,
        Self::Amendment,
        Self::Consent,
        Self::Declaration,
        Self::Introduction,
        Self::Charter,
        Self::Evidence,
    ];

    /// As in `offer`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::Acceptance => "acceptance",
            Self::Countersignature => "countersignature",
            Self::Amendment => "amendment",
            Self::Consent => "consent",
            Self::Declaration => "declaration",
            Self::Introduction => "introduction",
            Self::Charter => "charter",
            Self::Evidence => "evidence",
        }
    }

    const fn with_article(self) -> &'static str {
        match self {
            Self::Offer => "an offer",
            Self::Acceptance => "an acceptance",
            Self::Countersignature => "a countersignature",
            Self::Amendment => "an amendment",
            Self::Consent => "a consent",
            Self::Declaration => "a declaration",
            Self::Introduction => "an introduction",
            Self::Charter => "a charter",
            Self::Evidence => "evidence",
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Offer => "ENTENTE OFFER",
            Self::Acceptance => "ENTENTE ACCEPTANCE",
            Self::Countersignature => "ENTENTE COUNTERSIGNATURE",
            Self::Amendment => "ENTENTE AMENDMENT",
            Self::Consent => "ENTENTE CONSENT",
            Self::Declaration => "ENTENTE DECLARATION",
            Self::Introduction => "ENTENTE INTRODUCTION",
            Self::Charter => "ENTENTE CHARTER",
            Self::Evidence => "ENTENTE EVIDENCE",
        }
    }

    /// Largest document of the kind.
    const fn bytes_max(self) -> usize {
        match self {
            Self::Offer
            | Self::Acceptance
            | Self::Countersignature
            | Self::Amendment
            | Self::Consent
            | Self::Declaration => PEERING_DOCUMENT_BYTES_MAX,
            Self::Introduction => INTRODUCTION_BYTES_MAX,
            Self::Charter => CHARTER_FILE_BYTES_MAX,
            Self::Evidence => EVIDENCE_BYTES_MAX,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is not the document that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArmorError {
    /// No begin line.
    #[error("there is no line -----BEGIN ENTENTE …-----: pass the whole document, with that line")]
    NotADocument,
    /// Another kind of document.
    #[error("this is {}, not {}", .found.with_article(), .expected.with_article())]
    OtherKind {
        /// What was asked for.
        expected: Kind,
        /// What it is.
        found: Kind,
    },
    /// No end line.
    #[error(
        "the document's end is missing: pass all of it, up to the line -----END ENTENTE …-----"
    )]
    CutOff,
    /// A line was changed or lost.
    #[error("the document was damaged on its way (its checksum does not fit): ask for it again")]
    Damaged,
    /// No line with the checksum.
    #[error(
        "the document's line `SHA-256: …` is missing: pass all of it, from -----BEGIN to -----END"
    )]
    NoChecksum,
    /// Over the limit.
    #[error("the text is too long for such a document")]
    TooLong,
    /// More than one document.
    #[error("the text holds more than one document: pass one")]
    Several,
}

/// The document as text.
#[must_use]
pub fn write(kind: Kind, document: &[u8]) -> String {
    let encoded = STANDARD.encode(document);
    let mut text = format!("-----BEGIN {}-----\n", kind.label());
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII, so any index is between characters.
        let (line, after) = rest.split_at_checked(LINE_CHARACTERS).unwrap_or((rest, ""));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!(
        "{CHECKSUM} {}\n-----END {}-----\n",
        Digest::of(document),
        kind.label()
    ));
    text
}

/// Which document the text holds.
///
/// # Errors
/// When it holds none, or several.
pub fn detect(text: &str) -> Result<Kind, ArmorError> {
    if text.len() > ARMORED_BYTES_MAX {
        return Err(ArmorError::TooLong);
    }
    let mut found = text.lines().map(bare).filter_map(begins);
    match (found.next(), found.next()) {
        (None, _) => Err(ArmorError::NotADocument),
        (Some(kind), None) => Ok(kind),
        (Some(_), Some(_)) => Err(ArmorError::Several),
    }
}

/// The bytes of the document of the expected kind in this text.
///
/// # Errors
/// When the text holds no such document, whole and undamaged.
pub fn read(expected: Kind, text: &str) -> Result<Bytes, ArmorError> {
    let found = detect(text)?;
    if found != expected {
        return Err(ArmorError::OtherKind { expected, found });
    }
    let mut encoded = String::new();
    let mut checksum = None;
    let mut lines = text.lines().map(bare);
    lines.by_ref().find(|line| begins(line).is_some());
    loop {
        let line = lines.next().ok_or(ArmorError::CutOff)?;
        if line == format!("-----END {}-----", expected.label()) {
            break;
        }
        match line.strip_prefix(CHECKSUM) {
            Some(digits) if checksum.is_none() => checksum = Some(digits.trim()),
            Some(_) => return Err(ArmorError::Damaged),
            None if line.is_empty() => {}
            None if checksum.is_some() => return Err(ArmorError::Damaged),
            None => encoded.push_str(line),
        }
    }
    let checksum = checksum.ok_or(ArmorError::NoChecksum)?;
    let document = STANDARD.decode(encoded).map_err(|_| ArmorError::Damaged)?;
    if document.len() > expected.bytes_max() {
        return Err(ArmorError::TooLong);
    }
    if checksum == Digest::of(&document).to_string() {
        Ok(Bytes::from(document))
    } else {
        Err(ArmorError::Damaged)
    }
}

/// The documents of the expected kind in this text, at least one, each as [`read`] takes it.
///
/// # Errors
/// When one of them is not whole, or of another kind.
pub fn read_all(expected: Kind, text: &str) -> Result<Vec<Bytes>, ArmorError> {
    let end = format!("-----END {}-----", expected.label());
    let (mut documents, mut piece) = (Vec::new(), String::new());
    for line in text.lines() {
        piece.push_str(line);
        piece.push('\n');
        if bare(line) == end {
            documents.push(read(expected, &piece)?);
            piece.clear();
        }
    }
    let has_another = piece.lines().map(bare).any(|line| begins(line).is_some());
    if has_another || documents.is_empty() {
        documents.push(read(expected, &piece)?);
    }
    Ok(documents)
}

/// A line without what mail puts around it.
fn bare(line: &str) -> &str {
    line.trim_start_matches(['>', ' ', '\t']).trim_end()
}

fn begins(line: &str) -> Option<Kind> {
    let label = line.strip_prefix("-----BEGIN ")?.strip_suffix("-----")?;
    Kind::ALL.into_iter().find(|kind| kind.label() == label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Vec<u8> {
        (0..200_u8).collect()
    }

    /// Goal: a document survives being pasted out of a mail; by quoting it, indenting it, changing
    /// its line ends and writing around it.
    #[test]
    fn survives_mail() {
        let text = write(Kind::Offer, &document());
        let quoted: String = text.lines().map(|line| format!("> {line}\r\n")).collect();
        let spaced: String = text.lines().map(|line| format!("  {line}  \n\n")).collect();
        let around = format!("Dear Bob,\nhere it is:\n{text}\nYours, Alice\n");
        for text in [&text, &quoted, &spaced, &around] {
            assert_eq!(read(Kind::Offer, text).unwrap(), document());
        }
    }

    /// Goal: each mistake of a person has its own answer; by making them one by one.
    #[test]
    fn says_what_is_wrong() {
        let text = write(Kind::Acceptance, &document());
        let error = read(Kind::Offer, &text).unwrap_err();
        assert_eq!(error.to_string(), "this is an acceptance, not an offer");
        assert_eq!(read(Kind::Offer, "hello"), Err(ArmorError::NotADocument));
        assert_eq!(
            read(Kind::Acceptance, &text[..text.len() - 30]),
            Err(ArmorError::Damaged)
        );
        assert_eq!(
            read(Kind::Acceptance, &text[..text.len() / 2]),
            Err(ArmorError::CutOff)
        );
        assert_eq!(
            read(Kind::Acceptance, &format!("{text}{text}")),
            Err(ArmorError::Several)
        );
        let both = read_all(Kind::Acceptance, &format!("Two:\n{text}and\n{text}"));
        assert_eq!(both, Ok(vec![document().into(), document().into()]));
        let cut = read_all(
            Kind::Acceptance,
            &format!("{text}{}", &text[..text.len() / 2]),
        );
        assert_eq!(cut, Err(ArmorError::CutOff));
        assert_eq!(
            read_all(Kind::Acceptance, "nothing"),
            Err(ArmorError::NotADocument)
        );
        let without_a_line: String = text
            .lines()
            .enumerate()
            .filter(|(number, _)| *number != 2)
            .map(|(_, line)| format!("{line}\n"))
            .collect();
        assert_eq!(
            read(Kind::Acceptance, &without_a_line),
            Err(ArmorError::Damaged)
        );
        let without_checksum: String = text
            .lines()
            .filter(|line| !line.starts_with(CHECKSUM))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(
            read(Kind::Acceptance, &without_checksum),
            Err(ArmorError::NoChecksum)
        );
        assert_eq!(
            read(Kind::Acceptance, &text.replacen("AAEC", "AAED", 1)),
            Err(ArmorError::Damaged)
        );
    }
}
