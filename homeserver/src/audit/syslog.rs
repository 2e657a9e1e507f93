//! Entries as a log server takes them: messages of RFC 5424, framed as RFC 5425 says, each with an OCSF event as its text.
//!
//! How far the log server has them lies in the store, so that nothing is left out while it is away. Numbers have no holes,
//! so a log server can tell that it has got every entry, and which one it has got twice.

use homeserver_api::admin::AuditEntry;
use homeserver_api::ocsf::Event;
use ring::rand::SecureRandom;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::numbering::{PAGE_PARTS_MAX, sequence, shown};
use crate::store::audit::{self as rows, Forwarded};
use crate::store::{Part, PartOutcome, Store, StoreError};

/// Entries sent in one go.
const BATCH_ENTRIES: usize = 256;
/// Every log server takes messages of this length (RFC 5425, section 4.3.1); of a longer entry the detail is cut.
const MESSAGE_BYTES_MAX: usize = 8192;
/// What stands where a detail was cut.
const CUT: &str = " [cut]";
/// The facility "log audit", as the priority has it.
const FACILITY: u8 = 13 * 8;
const NOTICE: u8 = 5;
const WARNING: u8 = 4;
/// Longest name of a kind of message.
const MESSAGE_ID_BYTES_MAX: usize = 32;
/// The structured data's name. 32473 is the number for documentation (RFC 5612): this software has none of its own.
const DATA: &str = "entente@32473";
const TIMESTAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// Entries that the log server has not had yet.
pub struct Batch {
    read: Forwarded,
    /// The number of the last of them.
    last: u64,
    /// Their frames, one behind the other.
    pub frames: Vec<u8>,
}

/// The next entries for the log server; `None` when it has them all.
pub async fn next(
    store: &Store,
    random: &(dyn SecureRandom + Send + Sync),
    server: &str,
) -> Result<Option<Batch>, StoreError> {
    sequence(store, random, PAGE_PARTS_MAX).await?;
    let read = rows::forwarded(store).await?;
    let entries = rows::entries(store, read.number, BATCH_ENTRIES).await?;
    let Some((last, _)) = entries.last() else {
        return Ok(None);
    };
    let last = *last;
    let mut frames = Vec::new();
    for entry in entries {
        frame(&mut frames, shown(entry), server);
    }
    Ok(Some(Batch { read, last, frames }))
}

/// The log server has read these entries to their end. Whether nobody else had noted something meanwhile.
pub async fn has(store: &Store, batch: &Batch, now_ms: u64) -> Result<bool, StoreError> {
    let mut part = Part::default();
    rows::put_forwarded(&mut part, batch.last, now_ms, &batch.read)?;
    Ok(store.commit(part).await? == PartOutcome::Committed)
}

/// How many entries the log server has not had, and since when nothing has reached it; `None` for never.
pub async fn waiting(store: &Store) -> Result<(u64, Option<u64>), StoreError> {
    let forwarded = rows::forwarded(store).await?;
    let (tree, _) = rows::head(store).await?;
    let count = tree.size().saturating_sub(forwarded.number);
    Ok((count, forwarded.at_ms))
}

/// Adds an entry: its length in bytes, a space, and the message.
fn frame(frames: &mut Vec<u8>, mut entry: AuditEntry, server: &str) {
    let mut message = message(&entry, server);
    while message.len() > MESSAGE_BYTES_MAX && !entry.detail.is_empty() {
        let kept = entry.detail.trim_end_matches(CUT).len() / 2;
        let kept = entry.detail.floor_char_boundary(kept);
        entry.detail.truncate(kept);
        if kept > 0 {
            entry.detail.push_str(CUT);
        }
        message = self::message(&entry, server);
    }
    frames.extend(message.len().to_string().bytes());
    frames.push(b' ');
    frames.extend(message.bytes());
}

fn message(entry: &AuditEntry, server: &str) -> String {
    let event = Event::of(entry, server, env!("CARGO_PKG_VERSION"));
    let severity = if event.is_failure() { WARNING } else { NOTICE };
    let priority = FACILITY + severity;
    let kind = entry.action.get(..MESSAGE_ID_BYTES_MAX);
    let kind = kind.unwrap_or(&entry.action);
    // Strings and numbers always encode.
    let text = serde_json::to_string(&event).unwrap_or_default();
    format!(
        "<{priority}>1 {} {server} entente - {kind} [{DATA} number=\"{}\" hash=\"{}\"] {text}",
        instant(entry.at_ms),
        entry.number,
        entry.hash
    )
}

/// A time as RFC 5424 writes it, `-` where there is none.
fn instant(at_ms: u64) -> String {
    let nanoseconds = i128::from(at_ms) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanoseconds)
        .ok()
        .and_then(|at| at.format(TIMESTAMP).ok())
        .unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Actor, Event, record};
    use crate::node::testing;

    fn entry(detail: &str) -> AuditEntry {
        AuditEntry {
            number: 7,
            at_ms: 1_795_000_000_123,
            actor: "system".to_owned(),
            action: "message.refused".to_owned(),
            subject: "b.example".to_owned(),
            detail: detail.to_owned(),
            hash: "0a".to_owned(),
        }
    }

    /// Goal: a message has the header of RFC 5424 and is framed by its length in bytes. Method: fixed text.
    #[test]
    fn a_message() {
        let mut frames = Vec::new();
        frame(&mut frames, entry("ä"), "a.example");
        let text = String::from_utf8(frames).unwrap();
        let (length, message) = text.split_once(' ').unwrap();
        assert_eq!(length, message.len().to_string());
        let head = "<108>1 2026-11-18T11:06:40.123Z a.example entente - message.refused \
                    [entente@32473 number=\"7\" hash=\"0a\"] {";
        assert!(message.starts_with(head), "{message}");
        assert!(message.contains("\"status_detail\":\"ä\""), "{message}");
        assert!(message.ends_with('}'), "{message}");
    }

    /// Goal: no message is longer than every log server takes, whatever stands in the entry, and the text stays whole
    /// JSON. Method: the longest details, one of which JSON writes as six times as many.
    #[test]
    fn messages_are_bounded() {
        for detail in ["x".repeat(8192), "\u{1}".repeat(8192), "ä\n".repeat(3000)] {
            let mut frames = Vec::new();
            frame(&mut frames, entry(&detail), "a.example");
            let text = String::from_utf8(frames).unwrap();
            let (_, message) = text.split_once(' ').unwrap();
            assert!(message.len() <= MESSAGE_BYTES_MAX, "{}", message.len());
            let json = message.split_once("] {").unwrap().1;
            let event: serde_json::Value = serde_json::from_str(&format!("{{{json}")).unwrap();
            let told = event["status_detail"].as_str().unwrap();
            assert!(told.ends_with(CUT) && told.len() > 500, "{told}");
        }
    }

    /// Goal: each entry is handed over in order and again until it was taken, then never more; what another node has noted
    /// meanwhile is not taken back. Method: batches that are taken and that are not.
    #[tokio::test]
    async fn every_entry_once_taken() {
        let (node, _) = testing::node("a.example");
        let (store, random) = (&node.store, node.random.as_ref());
        assert!(next(store, random, "a.example").await.unwrap().is_none());
        let mut part = Part::default();
        for number in 0..300_u64 {
            let event = Event {
                at_ms: number,
                actor: Actor::System,
                action: "test.happened",
                subject: format!("subject {number}"),
                detail: String::new(),
            };
            record(&mut part, &event);
        }
        store.commit(part).await.unwrap();
        let first = next(store, random, "a.example").await.unwrap().unwrap();
        let again = next(store, random, "a.example").await.unwrap().unwrap();
        assert_eq!(first.frames, again.frames, "not taken yet");
        assert_eq!(waiting(store).await.unwrap(), (300, None));
        assert!(has(store, &first, 5).await.unwrap());
        assert!(!has(store, &again, 6).await.unwrap());
        assert_eq!(waiting(store).await.unwrap(), (300 - 256, Some(5)));
        let rest = next(store, random, "a.example").await.unwrap().unwrap();
        assert!(has(store, &rest, 7).await.unwrap());
        assert!(next(store, random, "a.example").await.unwrap().is_none());
        let text = String::from_utf8([first.frames, rest.frames].concat()).unwrap();
        let numbers: Vec<u64> = text
            .split("number=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(numbers, (1..=300).collect::<Vec<u64>>());
    }
}
