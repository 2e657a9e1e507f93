//! The protocol's text under `docs/protocol/` and this crate agree where a machine can tell.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeMap;

use federation_proto::refusal::RefusalCode;

const TEXT: [(&str, &str); 9] = [
    ("README", include_str!("../../docs/protocol/README.md")),
    ("ENC", include_str!("../../docs/protocol/01-encoding.md")),
    ("ID", include_str!("../../docs/protocol/02-identity.md")),
    ("ENV", include_str!("../../docs/protocol/03-envelopes.md")),
    ("LINK", include_str!("../../docs/protocol/04-links.md")),
    ("PEER", include_str!("../../docs/protocol/05-peering.md")),
    ("NET", include_str!("../../docs/protocol/06-transport.md")),
    ("ROOM", include_str!("../../docs/protocol/07-rooms.md")),
    ("CODE", include_str!("../../docs/protocol/08-codes.md")),
];

/// Goal: the table of refusal codes is the code's; by reading its rows.
#[test]
fn the_table_of_codes() {
    let (_, text) = TEXT.last().unwrap();
    let rows: Vec<(u16, String)> = text
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            let number = cells.next()?.parse().ok()?;
            Some((number, cells.next()?.trim_matches('`').to_owned()))
        })
        .collect();
    let codes: Vec<(u16, String)> = RefusalCode::ALL
        .iter()
        .map(|code| (code.number(), code.to_string()))
        .collect();
    assert_eq!(rows, codes);
}

/// Goal: a requirement has one id, of its own file, and every id that is cited exists; by
/// collecting them all.
#[test]
fn requirement_ids() {
    let mut defined: BTreeMap<&str, &str> = BTreeMap::new();
    let mut cited: Vec<&str> = Vec::new();
    for (prefix, text) in TEXT {
        for line in text.lines() {
            let id = line
                .strip_prefix("- **")
                .and_then(|rest| rest.split_once("**"))
                .map(|(id, _)| id);
            if let Some(id) = id {
                assert_eq!(id.split_once('-').unwrap().0, prefix, "{id}");
                assert_eq!(defined.insert(id, prefix), None, "{id} is defined twice");
            }
            cited.extend(
                line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
                    .filter(|word| is_id(word)),
            );
        }
    }
    assert!(defined.len() > 80);
    for id in cited {
        assert!(defined.contains_key(id), "{id} is cited and not defined");
    }
}

fn is_id(word: &str) -> bool {
    word.split_once('-').is_some_and(|(prefix, number)| {
        TEXT.iter().any(|(known, _)| *known == prefix)
            && number.len() == 3
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}
