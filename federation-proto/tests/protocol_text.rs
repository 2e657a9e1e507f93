//! The protocol's text under `docs/protocol/` and this crate agree where a machine can tell.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use federation_proto::agreement::Operation;
use federation_proto::limits;
use federation_proto::refusal::RefusalCode;

const TEXT: [(&str, &str); 17] = [
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
    ("AUDIT", include_str!("../../docs/protocol/17-audit.md")),
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
        ACCOUNT_STATEMENTS_MAX ARMORED_BYTES_MAX AUDIT_TEXT_BYTES_MAX BODY_BYTES_PER_SECOND_MIN BODY_TIME_MS_MIN CERTIFICATE_BYTES_MAX CHARTER_FILE_BYTES_MAX CLAIMED_DEVICES_MAX
        CLOCK_SKEW_MS_MAX CONSORTIUM_MEMBERS_MAX CONSORTIUM_NAME_BYTES_MAX
        CONTACT_ASK_MS_MAX CONTACT_BYTES_MAX CONTACT_TEXT_BYTES_MAX COUNTERSIGNATURE_DELIVERY_MS_MAX
        DEVICE_HISTORY_BYTES_MAX DEVICE_STATEMENT_BYTES_MAX
        DIRECTORY_HANDLES_MAX DIRECTORY_PREFIX_BYTES_MIN ENDPOINTS_MAX ENDPOINT_BYTES_MAX
        EVIDENCE_BYTES_MAX EVIDENCE_HUBS_MAX EVIDENCE_PROOF_BYTES_MAX EVIDENCE_ROOMS_MAX EVIDENCE_STEPS_MAX
        ENVELOPE_KEYS_MAX FORMER_ROOTS_MAX FORMER_ROOT_BYTES_MAX FORMER_ROOT_MS_MAX GROUP_INFO_BYTES_MAX GRANT_USER_TYPES_MAX HANDLE_BYTES_MAX HANDSHAKE_BYTES_MAX HEADERS_MAX HEAD_BYTES_MAX IDLE_LANES_MAX
        INTRODUCTION_BYTES_MAX
        ISSUING_SIGNATURE_BYTES_MAX KEY_PACKAGE_BYTES_MAX LABEL_BYTES_MAX LANE_RECENT_MAX
        LINK_LANES_MAX LINK_RECENT_MAX LOG_PATH_MAX LOG_SIZES_KNOWN_MAX MANIFEST_BYTES_MAX MESSAGE_BYTES_MAX NO_PROGRESS_WAIT_MS PADDED_BYTES_MIN PAYLOAD_BYTES_MAX
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

/// Goal: every bound of a field or a document in the text is the code's, and is written as section 1 says: `<..>` counts
/// bytes, `[..]` elements. Method: read all bounds, and compare each with its limit; those of clients' own formats, which
/// are other crates', where this crate has them.
#[test]
fn the_bounds_of_fields() {
    macro_rules! bounds {
        ($($section:literal { $($name:ident $limit:ident)* })*) => {
            BTreeMap::from([$($((($section, stringify!($name)), limits::$limit.to_string()),)*)*])
        };
    }
    let mut bounds: BTreeMap<(&str, &str), String> = bounds! {
        "ENC" { versions VERSIONS_MAX label SIGNATURE_LABEL_BYTES_MAX }
        "ID" {
            ServerName SERVER_NAME_BYTES_MAX root FORMER_ROOT_BYTES_MAX issuing_certificate CERTIFICATE_BYTES_MAX
            envelope_keys ENVELOPE_KEYS_MAX tls_pins TLS_PINS_MAX revoked ENVELOPE_KEYS_MAX former FORMER_ROOTS_MAX
            signature ISSUING_SIGNATURE_BYTES_MAX
        }
        "ENV" {
            payload_length PAYLOAD_BYTES_MAX envelopes TRANSACTION_ENVELOPES_MAX Transaction TRANSACTION_BYTES_MAX
            path PROOF_PATH_MAX reason REASON_BYTES_MAX message MESSAGE_BYTES_MAX commit HANDSHAKE_BYTES_MAX
            adds ROOM_DEVICES_MAX removes ROOM_DEVICES_MAX welcome WELCOME_BYTES_MAX group_info GROUP_INFO_BYTES_MAX
            members ROOM_DEVICES_MAX recipients ROOM_DEVICES_MAX envelope RELAYED_ENVELOPE_BYTES_MAX
            requester_handle HANDLE_BYTES_MAX handle HANDLE_BYTES_MAX known LOG_SIZES_KNOWN_MAX
            key_package KEY_PACKAGE_BYTES_MAX keys CLAIMED_DEVICES_MAX handles DIRECTORY_HANDLES_MAX
            text REPORT_TEXT_BYTES_MAX note REPORT_NOTE_BYTES_MAX messages REPORTED_MESSAGES_MAX
            proposal REMOVAL_BYTES_MAX removals ROOM_DEVICES_MAX domains ROOM_DOMAINS_MAX
        }
        "LINK" {
            retry_after_ms RETRY_AFTER_MS_MAX results TRANSACTION_ENVELOPES_MAX lanes TRANSACTION_ENVELOPES_MAX
            Receipt RECEIPT_BYTES_MAX receipt RECEIPT_BYTES_MAX
        }
        "PEER" {
            endpoint ENDPOINT_BYTES_MAX name USER_TYPE_BYTES_MAX user_types GRANT_USER_TYPES_MAX
            root CERTIFICATE_BYTES_MAX manifest MANIFEST_BYTES_MAX endpoints ENDPOINTS_MAX contact CONTACT_BYTES_MAX
            signature ISSUING_SIGNATURE_BYTES_MAX reason REASON_BYTES_MAX
        }
        "E2E" {
            domains ROOM_DOMAINS_MAX consents ROOM_DOMAINS_MAX issuing_certificate CERTIFICATE_BYTES_MAX
            signature ISSUING_SIGNATURE_BYTES_MAX label SIGNATURE_LABEL_BYTES_MAX
        }
        "CONS" {
            root CERTIFICATE_BYTES_MAX manifest MANIFEST_BYTES_MAX endpoints ENDPOINTS_MAX contact CONTACT_BYTES_MAX
            Introduction INTRODUCTION_BYTES_MAX name CONSORTIUM_NAME_BYTES_MAX members CONSORTIUM_MEMBERS_MAX
            introduction INTRODUCTION_BYTES_MAX signature ISSUING_SIGNATURE_BYTES_MAX
            charter PEERING_DOCUMENT_BYTES_MAX introductions CONSORTIUM_MEMBERS_MAX
            signatures CONSORTIUM_MEMBERS_MAX CharterFile CHARTER_FILE_BYTES_MAX
        }
        "CONTACT" { from HANDLE_BYTES_MAX to HANDLE_BYTES_MAX text CONTACT_TEXT_BYTES_MAX }
        "DEV" {
            issuing_certificate CERTIFICATE_BYTES_MAX signature ISSUING_SIGNATURE_BYTES_MAX path LOG_PATH_MAX
            statements ACCOUNT_STATEMENTS_MAX growth LOG_SIZES_KNOWN_MAX label SIGNATURE_LABEL_BYTES_MAX
        }
        "AUDIT" {
            actor AUDIT_TEXT_BYTES_MAX action AUDIT_TEXT_BYTES_MAX subject AUDIT_TEXT_BYTES_MAX
            detail AUDIT_TEXT_BYTES_MAX issuing_certificate CERTIFICATE_BYTES_MAX
            signature ISSUING_SIGNATURE_BYTES_MAX
        }
        "DEPRO" {
            handle HANDLE_BYTES_MAX name HANDLE_BYTES_MAX devices ACCOUNT_STATEMENTS_MAX
            envelope EVIDENCE_PROOF_BYTES_MAX steps EVIDENCE_STEPS_MAX root CERTIFICATE_BYTES_MAX
            manifest MANIFEST_BYTES_MAX hubs EVIDENCE_HUBS_MAX rooms EVIDENCE_ROOMS_MAX
            issuing_certificate CERTIFICATE_BYTES_MAX signature ISSUING_SIGNATURE_BYTES_MAX
        }
    };
    for grants in ["outbound", "inbound"] {
        bounds.insert(("PEER", grants), Operation::ALL.len().to_string());
    }
    let mut seen = BTreeSet::new();
    for (section, text) in TEXT {
        for line in text.lines() {
            for bound in vector_bounds(line).chain(said_bound(line)) {
                let Some(limit) = bounds.get(&(section, bound.name)) else {
                    assert_eq!(section, "E2E", "{} is not compared: {line}", bound.name);
                    continue;
                };
                assert_eq!(bound.most, *limit, "{section}: {line}");
                seen.insert((section, bound.name));
            }
        }
    }
    for field in bounds.into_keys() {
        assert!(seen.contains(&field), "{field:?} has no bound in the text");
    }
}

/// The upper bound of a field, or of a document.
struct Bound<'a> {
    name: &'a str,
    /// Without its commas.
    most: String,
}

/// The vectors in a line, each written as its elements are.
fn vector_bounds(line: &str) -> impl Iterator<Item = Bound<'_>> {
    line.match_indices("..").filter_map(move |(at, _)| {
        let (before, after) = line.split_at(at);
        let opened = before.trim_end_matches(|c: char| c.is_ascii_digit());
        let (most, _) = after.strip_prefix("..")?.split_once(['>', ']'])?;
        let named = opened.strip_suffix(|c: char| matches!(c, '<' | '['))?;
        // Without a least number, or beyond the numbers, it is no bound but how bounds are written.
        if opened.len() == before.len() || !most.bytes().all(|b| b.is_ascii_digit()) {
            assert!(!most.contains('^') || named.contains("opaque"), "{line}");
            return None;
        }
        let sized = named
            .strip_suffix(']')
            .and_then(|sized| sized.rsplit_once('['));
        let is_sized = sized.is_some();
        let named = sized.map_or(named, |(named, _)| named);
        let name = named.rsplit(|c: char| !is_of_name(c)).next()?;
        let is_opaque = named
            .strip_suffix(name)
            .is_some_and(|kind| kind.ends_with("opaque "));
        let counts_bytes = opened.ends_with('<');
        assert_eq!(counts_bytes, is_opaque && !is_sized, "{line}");
        let most = most.to_owned();
        Some(Bound { name, most })
    })
}

/// What a comment says of the field or the document in front of it.
fn said_bound(line: &str) -> Option<Bound<'_>> {
    let (code, said) = line.strip_prefix("    ")?.split_once("// at most ")?;
    let code = code.trim_end_matches([' ', ';', '}']);
    let name = code.rsplit(|c: char| !is_of_name(c)).next()?;
    let number = said.split(' ').next()?;
    let most = number.replace(',', "");
    Some(Bound { name, most })
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
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
