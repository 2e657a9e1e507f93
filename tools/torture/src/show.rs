//! Everything that is in a store, entry by entry.

use std::fmt::Write as _;

use homeserver::store::{Order, Store};

use crate::message::{Entry, payload_key};
use crate::{hex, say};

/// Below every key of ours, and above the engines' own.
const FIRST: &[u8] = &[1];
/// Above every key.
const END: &[u8] = &[u8::MAX];
/// Most entries, and bytes, that are read at once.
const PAGE_ENTRIES: usize = 1_000;
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Prints them. A payload is looked up by its key too: that is another way through an engine than a range.
pub(crate) async fn run(store: &Store) -> Result<(), String> {
    let mut from = FIRST.to_vec();
    loop {
        let page = store
            .range_within(&from, END, PAGE_ENTRIES, PAGE_BYTES, Order::Ascending)
            .await
            .map_err(|error| error.to_string())?;
        let Some((last, _)) = page.last() else {
            break;
        };
        from = [&last[..], &[0][..]].concat();
        let mut lines = String::new();
        for (key, value) in &page {
            let entry = Entry::of(key, value);
            if let Entry::Payload(label) = &entry {
                let looked_up = store.get(&payload_key(label)).await;
                if looked_up.map_err(|error| error.to_string())?.as_ref() != Some(value) {
                    add(&mut lines, &format!("w {}", hex(key)));
                }
            }
            add(&mut lines, &line(&entry, key));
        }
        say(&lines);
    }
    say("end\n");
    Ok(())
}

fn line(entry: &Entry, key: &[u8]) -> String {
    match entry {
        Entry::Item {
            inbox,
            number,
            label,
        } => format!(
            "q {inbox} {number} {} {} {}",
            label.sender, label.sequence, label.life
        ),
        Entry::Payload(label) => format!("p {} {} {}", label.sender, label.sequence, label.life),
        Entry::Counter(label) => format!("c {} {}", label.sender, label.sequence),
        Entry::Tail { inbox, number } => format!("t {inbox} {number}"),
        Entry::Tally { inbox, entries } => format!("n {inbox} {entries}"),
        Entry::Wrong => format!("w {}", hex(key)),
    }
}

fn add(lines: &mut String, line: &str) {
    // Writing to a string can't fail.
    let _ = writeln!(lines, "{line}");
}
