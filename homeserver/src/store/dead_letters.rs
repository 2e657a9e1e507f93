//! `X`: envelopes that were given up, numbered in the order in which that happened; of those that nobody here
//! had written, how many on a day for whom and why.
//!
//! Deliberately absent: payloads. What was given up is gone; who lost what, and why, stays for
//! [`KEPT_MS`].

use federation_proto::ids::{DeviceId, RoomId, ServerName};
use federation_proto::refusal::RefusalCode;
use serde::{Deserialize, Serialize};

use super::record::{decode, encode, prefix_end};
use super::tally::Tally;
use super::{Key, Order, Part, Store, StoreError};

const FAMILY: &str = "dead letter";
const VERSION: u8 = 1;
const ENTRY: &[u8] = b"Xe";
const TAIL: &[u8] = b"Xt";
const COUNT: &[u8] = b"Xc";
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Dead letters deleted in one part.
const DELETED_MAX: usize = 1000;
/// How long a dead letter is shown.
pub const KEPT_MS: u64 = 90 * DAY_MS;

/// An envelope that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterRecord {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// For whom it was.
    pub server: ServerName,
    /// The room, when it was of one.
    pub room: Option<RoomId>,
    /// The sending device, when it was one of this homeserver.
    pub device: Option<DeviceId>,
    /// The number of the reason's code.
    pub code: u16,
    /// The reason in words.
    pub reason: String,
}

impl DeadLetterRecord {
    /// The reason's code.
    pub fn refusal_code(&self) -> RefusalCode {
        known_code(self.code)
    }
}

/// A code that only a newer version knows is shown as what every version knows.
fn known_code(number: u16) -> RefusalCode {
    RefusalCode::from_number(number).unwrap_or(RefusalCode::Malformed)
}

/// How many envelopes without a sender here were given up on one day, for one server and reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadCount {
    /// When the day began, milliseconds since the Unix epoch.
    pub day_ms: u64,
    /// For whom they were.
    pub server: ServerName,
    /// Why.
    pub code: RefusalCode,
    /// How many.
    pub count: u64,
}

/// Adds a dead letter.
pub fn append(part: &mut Part, record: &DeadLetterRecord) -> Result<(), StoreError> {
    let value = encode(FAMILY, VERSION, record)?;
    part.append(TAIL.to_vec().into(), ENTRY.to_vec().into(), value);
    Ok(())
}

/// The newest `limit` dead letters, newest first.
pub async fn newest(store: &Store, limit: usize) -> Result<Vec<DeadLetterRecord>, StoreError> {
    let entries = store
        .range(ENTRY, &prefix_end(ENTRY), limit, Order::Descending)
        .await?;
    entries
        .iter()
        .map(|(_, value)| decode(FAMILY, VERSION, value))
        .collect()
}

/// Counts an envelope without a sender here. As many as there are, a day has one entry for each server and
/// code.
pub fn count(part: &mut Part, server: &ServerName, code: RefusalCode, now_ms: u64) {
    let day = (now_ms / DAY_MS).to_be_bytes();
    let code = code.number().to_be_bytes();
    let key = [COUNT, &day, &code, server.as_str().as_bytes()].concat();
    part.count(key.into(), 0);
}

/// The newest `limit` counts, newest day first.
pub async fn counts(store: &Store, limit: usize) -> Result<Vec<DeadCount>, StoreError> {
    let entries = store
        .range(COUNT, &prefix_end(COUNT), limit, Order::Descending)
        .await?;
    let counts = entries.iter().map(|(key, value)| {
        let (day, code, server) = count_of(key).ok_or(StoreError::Corrupt { family: FAMILY })?;
        Ok(DeadCount {
            day_ms: day.saturating_mul(DAY_MS),
            server,
            code: known_code(code),
            count: Tally::read(Some(value))?.entries,
        })
    });
    counts.collect()
}

fn count_of(key: &Key) -> Option<(u64, u16, ServerName)> {
    let (day, rest) = key.strip_prefix(COUNT)?.split_first_chunk::<8>()?;
    let (code, server) = rest.split_first_chunk::<2>()?;
    let server = std::str::from_utf8(server).ok()?.parse().ok()?;
    Some((u64::from_be_bytes(*day), u16::from_be_bytes(*code), server))
}

/// Deletes all dead letters, and counts of them, that are older than [`KEPT_MS`]: a part after the other, so
/// that they go as fast as they came, and others get their turns between. One that does not decode stays, and is told
/// when all others are gone.
pub async fn delete_old(store: &Store, now_ms: u64) -> Result<(), StoreError> {
    let mut from = ENTRY.to_vec();
    let mut damaged = false;
    loop {
        let entries = store
            .range(&from, &prefix_end(ENTRY), DELETED_MAX, Order::Ascending)
            .await?;
        let mut is_last = entries.len() < DELETED_MAX;
        let mut part = Part::default();
        for (key, value) in &entries {
            match decode::<DeadLetterRecord>(FAMILY, VERSION, value) {
                Ok(record) if record.at_ms.saturating_add(KEPT_MS) > now_ms => {
                    is_last = true;
                    break;
                }
                Ok(_) => {
                    part.delete(key.clone());
                }
                Err(_) => damaged = true,
            }
            // What was deleted is not passed over again.
            from = [key.as_ref(), &[0]].concat();
        }
        if !part.writes.is_empty() {
            store.commit(part).await?;
        }
        if is_last {
            break;
        }
    }
    delete_old_counts(store, now_ms).await?;
    if damaged {
        return Err(StoreError::Corrupt { family: FAMILY });
    }
    Ok(())
}

async fn delete_old_counts(store: &Store, now_ms: u64) -> Result<(), StoreError> {
    // A day counts as old when its end is.
    let kept_days = now_ms.saturating_sub(KEPT_MS) / DAY_MS;
    let to = [COUNT, &kept_days.to_be_bytes()].concat();
    loop {
        let old = store
            .range(COUNT, &to, DELETED_MAX, Order::Ascending)
            .await?;
        if old.is_empty() {
            return Ok(());
        }
        let mut part = Part::default();
        for (key, _) in old {
            part.delete(key);
        }
        store.commit(part).await?;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::node::testing;

    /// Goal: what is old goes in one round, however much there is, and what is not stays; by more dead letters than
    /// go in one part, and a count of each of two days.
    #[tokio::test]
    async fn old_ones_go_at_once() {
        let (node, _) = testing::node("a.example");
        let now_ms = 1_000 * DAY_MS;
        let server: ServerName = "b.example".parse().unwrap();
        let mut part = Part::default();
        let mut letter = DeadLetterRecord {
            at_ms: now_ms,
            server: server.clone(),
            room: None,
            device: None,
            code: RefusalCode::Expired.number(),
            reason: String::new(),
        };
        for _ in 0..2 * DELETED_MAX + 1 {
            append(&mut part, &letter).unwrap();
        }
        letter.at_ms += 1;
        append(&mut part, &letter).unwrap();
        for at_ms in [now_ms, now_ms, now_ms + DAY_MS] {
            count(&mut part, &server, RefusalCode::Quota, at_ms);
        }
        node.store.commit(part).await.unwrap();
        let told = counts(&node.store, 9).await.unwrap();
        let told: Vec<_> = told.iter().map(|told| (told.day_ms, told.count)).collect();
        assert_eq!(told, [(now_ms + DAY_MS, 1), (now_ms, 2)]);

        delete_old(&node.store, now_ms + KEPT_MS).await.unwrap();
        assert_eq!(newest(&node.store, 9).await.unwrap(), [letter]);
        assert_eq!(counts(&node.store, 9).await.unwrap().len(), 2);
        delete_old(&node.store, now_ms + KEPT_MS + DAY_MS)
            .await
            .unwrap();
        let left = counts(&node.store, 9).await.unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(
            (&left[0].server, left[0].code),
            (&server, RefusalCode::Quota)
        );
    }

    /// Goal: one that does not decode keeps no other from going, and is told; by damaging the first of three.
    #[tokio::test]
    async fn damage_keeps_no_other() {
        let (node, _) = testing::node("a.example");
        let now_ms = 1_000 * DAY_MS;
        let letter = DeadLetterRecord {
            at_ms: now_ms,
            server: "b.example".parse().unwrap(),
            room: None,
            device: None,
            code: RefusalCode::Expired.number(),
            reason: String::new(),
        };
        let mut part = Part::default();
        for _ in 0..3 {
            append(&mut part, &letter).unwrap();
        }
        node.store.commit(part).await.unwrap();
        let all = async || {
            let to = prefix_end(ENTRY);
            let all = node.store.range(ENTRY, &to, 9, Order::Ascending);
            all.await.unwrap()
        };
        let (first, _) = all().await.remove(0);
        let mut part = Part::default();
        part.put(first.clone(), Bytes::from_static(b"?"));
        node.store.commit(part).await.unwrap();

        let deleted = delete_old(&node.store, now_ms + KEPT_MS).await;
        assert!(
            matches!(deleted, Err(StoreError::Corrupt { family: FAMILY })),
            "{deleted:?}"
        );
        let left = all().await;
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].0, first);
    }
}
