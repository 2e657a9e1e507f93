//! The protocol's text under `docs/protocol/` and this crate agree where a machine can tell.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeMap;

use federation_proto::limits;
use federation_proto::refusal::RefusalCode;

const TEXT: [(&str, &str); 16] = [
    ("README", include_str!("../../docs/protocol/README.md")),
    ("ENC", include_str!("../../docs/protocol/01-encoding.md")),
    ("ID", include_str!("../../docs/protocol/02-identity.md")),
    ("ENV", include_str!("../../docs/protocol/03-envelopes.md")),
    ("LINK", include_str!("../../docs/protocol/04-links.md")),
    ("PEER", include_str!("../../docs/protocol/05-peering.md")),
    ("NET", include_str!("../../docs/protocol/06-transport.md")),
    ("ROOM", include_str!("../../docs/protocol/07-rooms.md")),
    ("CODE", CODES),
    ("E2E", include_str!("../../docs/protocol/09-end-to-end.md")),
    ("DISC", include_str!("../../docs/protocol/10-discovery.md")),
    ("CONS", include_str!("../../docs/protocol/12-consortia.md")),
    // One section for several operations, each with ids of its own.
    (
        "DIR ABUSE",
        include_str!("../../docs/protocol/13-operations.md"),
    ),
    (
        "CONTACT",
        include_str!("../../docs/protocol/14-contacts.md"),
    ),
    ("DEV", include_str!("../../docs/protocol/15-devices.md")),
    (
        "DEPRO",
        include_str!("../../docs/protocol/16-deprovisioning.md"),
    ),
];
const CODES: &str = include_str!("../../docs/protocol/08-codes.md");

/// Goal: the table of refusal codes is the code's; by reading its rows.
#[test]
fn the_table_of_codes() {
    let rows: Vec<(u16, String)> = CODES
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

/// Goal: the table of limits is the code's, with none missing: the names and values of all public
/// constants in `limits.rs`; by reading the table and the source, and asking the compiler.
#[test]
fn the_table_of_limits() {
    macro_rules! values {
        ($($name:ident)*) => {
            BTreeMap::from([$((stringify!($name), limits::$name.to_string()),)*])
        };
    }
    let values: BTreeMap<&str, String> = values! {
        ACCOUNT_STATEMENTS_MAX ARMORED_BYTES_MAX BODY_BYTES_PER_SECOND_MIN BODY_TIME_MS_MIN CERTIFICATE_BYTES_MAX CHARTER_FILE_BYTES_MAX CLAIMED_DEVICES_MAX
        CLOCK_SKEW_MS_MAX CONSORTIUM_MEMBERS_MAX CONSORTIUM_NAME_BYTES_MAX
        CONTACT_ASK_MS_MAX CONTACT_BYTES_MAX CONTACT_TEXT_BYTES_MAX COUNTERSIGNATURE_DELIVERY_MS_MAX
        DEVICE_HISTORY_BYTES_MAX DEVICE_STATEMENT_BYTES_MAX
        DIRECTORY_HANDLES_MAX DIRECTORY_PREFIX_BYTES_MIN ENDPOINTS_MAX ENDPOINT_BYTES_MAX
        EVIDENCE_BYTES_MAX EVIDENCE_HUBS_MAX EVIDENCE_PROOF_BYTES_MAX EVIDENCE_ROOMS_MAX EVIDENCE_STEPS_MAX
        ENVELOPE_KEYS_MAX FORMER_ROOTS_MAX FORMER_ROOT_BYTES_MAX FORMER_ROOT_MS_MAX GROUP_INFO_BYTES_MAX GRANT_USER_TYPES_MAX HANDLE_BYTES_MAX HANDSHAKE_BYTES_MAX IDLE_LANES_MAX
        INTRODUCTION_BYTES_MAX
        ISSUING_SIGNATURE_BYTES_MAX KEY_PACKAGE_BYTES_MAX LABEL_BYTES_MAX LANE_RECENT_MAX
        LINK_LANES_MAX LOG_PATH_MAX LOG_SIZES_KNOWN_MAX MANIFEST_BYTES_MAX MESSAGE_BYTES_MAX NO_PROGRESS_WAIT_MS PADDED_BYTES_MIN PAYLOAD_BYTES_MAX
        PEERING_DOCUMENT_BYTES_MAX PROOF_PATH_MAX QUOTED_CHARACTERS_MAX REASON_BYTES_MAX
        RECEIPT_BYTES_MAX RELAYED_ENVELOPE_BYTES_MAX REPORTED_MESSAGES_MAX REPORT_NOTE_BYTES_MAX REMOVAL_BYTES_MAX REPORT_TEXT_BYTES_MAX RETRY_AFTER_MS_MAX ROOM_CONSENT_MS_MAX ROOM_CONSENT_PAST_ROOT_MS_MAX ROOM_DEVICES_MAX ROOM_DOMAINS_MAX ROOM_EPOCHS_MAX
        SERVER_NAME_BYTES_MAX SIGNATURE_LABEL_BYTES_MAX TLS_PINS_MAX TOMBSTONE_COUNT_MAX
        TRANSACTIONS_UNDER_WAY_BYTES_MAX TRANSACTIONS_UNDER_WAY_MAX
        TRANSACTION_BYTES_MAX TRANSACTION_ENVELOPES_MAX USER_TYPE_BYTES_MAX VERSIONS_MAX WELCOME_BYTES_MAX
    };
    let source: Vec<&str> = include_str!("../src/limits.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.split(':').next())
        .collect();
    assert_eq!(source.len(), values.len());
    for name in source {
        assert!(values.contains_key(name), "{name} is not compared");
    }
    let rows: BTreeMap<&str, String> = CODES
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let name = cells.next()?.strip_suffix('`')?;
            Some((name, cells.next()?.replace(',', "")))
        })
        .collect();
    assert_eq!(rows, values);
}

/// Goal: a requirement has one id, of its own file, every id that is cited exists, and nothing is required without one; by
/// collecting them all.
#[test]
fn requirement_ids() {
    let mut defined: BTreeMap<&str, &str> = BTreeMap::new();
    let mut cited: Vec<&str> = Vec::new();
    for (prefix, text) in TEXT {
        let mut is_required = false;
        for line in text.lines() {
            // A requirement goes on in lines that are indented.
            is_required = line.starts_with("- **") || is_required && line.starts_with("  ");
            let words = line.split(|c: char| !c.is_ascii_alphabetic());
            if !is_required && prefix != "README" {
                let mut words = words.filter(|word| matches!(*word, "MUST" | "SHOULD" | "MAY"));
                assert_eq!(words.next(), None, "{prefix}: without an id: {line}");
            }
            let id = line
                .strip_prefix("- **")
                .and_then(|rest| rest.split_once("**"))
                .map(|(id, _)| id);
            if let Some(id) = id {
                let of = id.split_once('-').unwrap().0;
                assert!(prefix.split(' ').any(|known| known == of), "{id}");
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
        TEXT.iter()
            .any(|(known, _)| known.split(' ').any(|known| known == prefix))
            && number.len() == 3
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}
