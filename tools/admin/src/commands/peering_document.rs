//! Peering documents: read, explained, confirmed.

use std::io::{self, Write};
use std::path::Path;

use homeserver_api::admin::{DocumentSummary, PeeringDocument};
use homeserver_api::ids::ServerName;

use super::{confirm, read_file};
use crate::cli::ConfirmArguments;
use crate::connection::Admin;
use crate::failure::Failure;
use crate::output::facts;

/// A document that this command was given, with its plain-language summary.
pub(super) async fn inspect(
    admin: &Admin,
    file: &Path,
) -> Result<(String, DocumentSummary), Failure> {
    let document = read_file(file)?;
    let request = PeeringDocument::new(document.clone());
    let summary = admin.post("/admin/v1/peers/inspections", &request).await?;
    Ok((document, summary))
}

/// Makes sure that a document is of the kind that a command takes, and that nothing stands in its way: before
/// anybody reads it and calls the partner.
pub(super) fn check_usable(summary: &DocumentSummary, kind: &str) -> Result<(), Failure> {
    if summary.kind != kind {
        let command = match summary.kind.as_str() {
            "offer" => "accept",
            "acceptance" => "countersign",
            _ => "take",
        };
        return Err(Failure::Other(format!(
            "the document is no {kind} but says {:?}: nothing was changed; `hsctl peer {command}` takes it",
            summary.kind
        )));
    }
    match &summary.obstacle {
        Some(obstacle) => Err(Failure::Other(format!("nothing was changed: {obstacle}"))),
        None => Ok(()),
    }
}

/// The document in plain language.
pub(super) fn sheet(summary: &DocumentSummary) -> String {
    let mut known = vec![
        ("document", summary.kind.clone()),
        ("from", summary.from.to_string()),
        ("to", summary.to.to_string()),
        ("fingerprint", summary.fingerprint.clone()),
    ];
    if !summary.words.is_empty() {
        known.push(("to read aloud", summary.words.clone()));
    }
    let mut text = facts(known);
    text.push('\n');
    for line in &summary.lines {
        text.push_str("\n- ");
        text.push_str(line);
    }
    if let Some(obstacle) = &summary.obstacle {
        text.push_str("\n! ");
        text.push_str(obstacle);
    }
    text
}

/// Makes sure that the document is the partner's: the given fingerprint must be its own, or a
/// person at the terminal says that it is. Returns the fingerprint.
pub(super) fn confirm_origin(
    summary: &DocumentSummary,
    arguments: &ConfirmArguments,
) -> Result<String, Failure> {
    if arguments.fingerprint.is_none() {
        // On standard error: standard output carries the next document.
        writeln!(io::stderr().lock(), "{}\n", sheet(summary))
            .map_err(|error| Failure::Other(format!("the terminal does not answer: {error}")))?;
    }
    let shown = [&summary.fingerprint, &summary.words].map(String::as_str);
    confirm_fingerprint(&summary.kind, &summary.from, shown, arguments)
}

/// Makes sure that a fingerprint, which is shown in both forms, is the one that the administrator of `from` reads aloud. Returns it.
pub(super) fn confirm_fingerprint(
    kind: &str,
    from: &ServerName,
    [fingerprint, words]: [&str; 2],
    arguments: &ConfirmArguments,
) -> Result<String, Failure> {
    if let Some(given) = &arguments.fingerprint {
        return if digits(given) == digits(fingerprint) {
            Ok(fingerprint.to_owned())
        } else if is_spoken(given) {
            // The homeserver knows the words: it refuses those that are not of this document, and says which one
            // was misheard.
            Ok(given.clone())
        } else {
            Err(Failure::Other(format!(
                "the {kind} is not what {from} sent: its fingerprint is {fingerprint}, not the one given. Nothing \
                 was changed; ask the partner's administrator to send it again another way"
            )))
        };
    }
    confirm(
        &format!(
            "Call the administrator of {from}. Do they read these words aloud: {words}? (As digits: {fingerprint}.)"
        ),
        "--fingerprint with what they read",
    )?;
    Ok(fingerprint.to_owned())
}

/// Whether these are words, not digits. How they are separated and how many there are, the homeserver judges.
fn is_spoken(fingerprint: &str) -> bool {
    fingerprint
        .chars()
        .any(|c| c.is_alphabetic() && !c.is_ascii_hexdigit())
}

fn digits(fingerprint: &str) -> String {
    fingerprint
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|digit| digit.to_ascii_lowercase())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> DocumentSummary {
        DocumentSummary {
            kind: "offer".to_owned(),
            from: "a.example".parse().expect("a name"),
            to: "b.example".parse().expect("a name"),
            fingerprint: "00ff 1234".to_owned(),
            words: "abandon zoo".to_owned(),
            lines: vec!["Messages may live from 1 minute to 30 days.".to_owned()],
            obstacle: None,
        }
    }

    /// Goal: a document that a command can't take is refused before anything is compared, with the command that takes
    /// it. Method: an offer, wanted as such, as an acceptance, and one that has an obstacle.
    #[test]
    fn wrong_documents() {
        let mut offer = summary();
        assert!(check_usable(&offer, "offer").is_ok());
        let error = check_usable(&offer, "acceptance").expect_err("it is an offer");
        assert!(error.to_string().contains("hsctl peer accept"), "{error}");
        offer.obstacle = Some("this offer is your own".to_owned());
        let error = check_usable(&offer, "offer").expect_err("it can't be taken");
        assert!(error.to_string().contains("is your own"), "{error}");
    }

    /// Goal: a fingerprint is compared by its digits, however it is grouped; a wrong one stops.
    #[test]
    fn fingerprints() {
        for (given, same) in [
            ("00ff 1234", true),
            ("00FF1234", true),
            ("00:ff:12:34", true),
            ("00ff 1235", false),
            ("00ff", false),
            ("", false),
        ] {
            let arguments = ConfirmArguments {
                fingerprint: Some(given.to_owned()),
            };
            assert_eq!(
                confirm_origin(&summary(), &arguments).is_ok(),
                same,
                "{given}"
            );
        }
    }

    /// Goal: words go to the homeserver however they are separated, for they alone decide there; by the separators
    /// that people use, and by words that digits could be mistaken for.
    #[test]
    fn spoken_fingerprints() {
        let words = ["ability"; 24];
        for separator in [" ", "  ", "-", ":", ", ", "\n"] {
            let given = words.join(separator);
            let arguments = ConfirmArguments {
                fingerprint: Some(given.clone()),
            };
            assert_eq!(
                confirm_origin(&summary(), &arguments).expect("it is for the homeserver"),
                given
            );
        }
        for digits in ["00ff-1234", "dead beef", "add face"] {
            assert!(!is_spoken(digits), "{digits}");
        }
    }

    /// Goal: the sheet shows who, for whom, the fingerprint and every line.
    #[test]
    fn sheets() {
        assert_eq!(
            sheet(&summary()),
            "document       offer\nfrom           a.example\nto             b.example\nfingerprint    00ff 1234\n\
             to read aloud  abandon zoo\n\n\
             - Messages may live from 1 minute to 30 days."
        );
    }
}
