//! `Y`: reports of abuse, by their ids, which begin with the time: the oldest lie first.
//!
//! They hold what reporters have disclosed, for [`KEPT_MS`] and no longer, closed or not.

use federation_proto::ids::{AccountId, Address, DeviceId, Handle, ReportId, RoomId, ServerName};
use federation_proto::payload::{AbuseReason, ReportedMessage};
use federation_proto::refusal::Refusal;
use serde::{Deserialize, Serialize};

use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "report";
const VERSION: u8 = 1;
const REPORT: u8 = b'Y';
/// Bytes of an id that are the time.
const TIME_BYTES: usize = 6;
/// How long a report is kept.
pub const KEPT_MS: u64 = 180 * 24 * 60 * 60 * 1000;

/// A report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportRecord {
    /// When it came, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Who reports.
    pub from: Reporter,
    /// Who is reported.
    pub account: AccountId,
    /// The address of whom is reported: known here for own accounts, else as the reporter's device knew it.
    pub address: Address,
    /// The room.
    pub room: RoomId,
    /// Why.
    pub reason: AbuseReason,
    /// In the reporter's words.
    pub note: String,
    /// What was disclosed.
    pub messages: Vec<ReportedMessage>,
    /// What this homeserver knows of the room.
    pub known: Known,
    /// Whether the other organisation is told.
    pub partner: Partner,
    /// Once somebody has dealt with it.
    pub closed: Option<Closed>,
}

/// Who reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reporter {
    /// One of our own.
    Own {
        /// The account.
        account: AccountId,
        /// The device.
        device: DeviceId,
        /// The account's handle then.
        handle: Handle,
    },
    /// Somebody of a partner's.
    Peer {
        /// The partner.
        server: ServerName,
        /// What it calls the report.
        report: ReportId,
        /// Who, if he wants to be named.
        handle: Option<Handle>,
    },
}

/// What this homeserver's own record of the room said when the report came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Known {
    /// The reported account was in the room.
    pub reported_in_room: bool,
    /// The reporter's account was, of a report of our own; a partner's people not counted.
    pub reporter_in_room: bool,
}

/// Whether the organisation of the reported person is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Partner {
    /// No: the reporter has not asked for it, or it is this one.
    NotTold,
    /// It is sent, as soon as the partner can be reached.
    Sent {
        /// With the reporter's name.
        named: bool,
    },
    /// The partner did not take it.
    Returned(Refusal),
}

/// Who has dealt with a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Which administrator, as the audit log names him.
    pub by: String,
    /// What came of it, in his words.
    pub note: String,
}

/// An id for a report that comes now.
pub fn id(at_ms: u64, random: [u8; 16]) -> ReportId {
    let mut bytes = random;
    let time = at_ms.to_be_bytes();
    for (byte, of_time) in bytes.iter_mut().zip(time.into_iter().skip(8 - TIME_BYTES)) {
        *byte = of_time;
    }
    ReportId::from_bytes(bytes)
}

/// Adds a report.
pub fn create(part: &mut Part, id: ReportId, record: &ReportRecord) -> Result<(), StoreError> {
    part.require(Precondition::Absent(key(id)));
    part.put(key(id), encode(FAMILY, VERSION, record)?);
    Ok(())
}

/// Changes a report; the part fails when it is no longer as it was read.
pub fn replace(
    part: &mut Part,
    id: ReportId,
    record: &ReportRecord,
    read: Value,
) -> Result<(), StoreError> {
    part.require(Precondition::Equals(key(id), read));
    part.put(key(id), encode(FAMILY, VERSION, record)?);
    Ok(())
}

/// The report and its stored bytes (for [`replace`]).
pub async fn get(store: &Store, id: ReportId) -> Result<Option<(ReportRecord, Value)>, StoreError> {
    match store.get(&key(id)).await? {
        Some(value) => Ok(Some((decode(FAMILY, VERSION, &value)?, value))),
        None => Ok(None),
    }
}

/// Up to `limit` reports before `before` (`None`: from the newest), newest first.
pub async fn before(
    store: &Store,
    before: Option<ReportId>,
    limit: usize,
) -> Result<Vec<(ReportId, ReportRecord)>, StoreError> {
    let end = before.map_or_else(|| prefix_end(&[REPORT]), key);
    let entries = store
        .range(&[REPORT], &end, limit, Order::Descending)
        .await?;
    entries
        .iter()
        .map(|(key, value)| Ok((id_of(key)?, decode(FAMILY, VERSION, value)?)))
        .collect()
}

/// Adds the deletion of up to `limit` reports older than [`KEPT_MS`].
pub async fn delete_old(
    store: &Store,
    part: &mut Part,
    now_ms: u64,
    limit: usize,
) -> Result<(), StoreError> {
    let end = key(id(now_ms.saturating_sub(KEPT_MS), [0; 16]));
    let keys = store.keys(&[REPORT], &end, limit, Order::Ascending).await?;
    for key in keys {
        part.delete(key);
    }
    Ok(())
}

fn key(id: ReportId) -> Key {
    [&[REPORT][..], id.as_bytes()].concat().into()
}

fn id_of(key: &Key) -> Result<ReportId, StoreError> {
    key.get(1..)
        .and_then(|id| id.try_into().ok())
        .map(ReportId::from_bytes)
        .ok_or(StoreError::Corrupt { family: FAMILY })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::engine::memory::MemoryEngine;

    fn record(at_ms: u64) -> ReportRecord {
        ReportRecord {
            at_ms,
            from: Reporter::Peer {
                server: "b.example".parse().unwrap(),
                report: ReportId::from_bytes([7; 16]),
                handle: None,
            },
            account: AccountId::from_bytes([1; 16]),
            address: "bob@a.example".parse().unwrap(),
            room: RoomId::from_bytes([2; 16]),
            reason: AbuseReason::Spam,
            note: String::new(),
            messages: Vec::new(),
            known: Known::default(),
            partner: Partner::NotTold,
            closed: None,
        }
    }

    /// Goal: reports lie in the order of their time, are read page by page, and go when their time is over and not
    /// before; by four at two times, one of them a millisecond too old.
    #[tokio::test]
    async fn order_and_end() {
        let store = Store::new(Arc::new(MemoryEngine::default())).unwrap();
        let now_ms = 1_795_000_000_000;
        let old_ms = now_ms - KEPT_MS;
        let mut part = Part::default();
        let times = [(old_ms - 1, 0xff), (old_ms, 0), (now_ms, 1), (now_ms, 2)];
        for (at_ms, random) in times {
            create(&mut part, id(at_ms, [random; 16]), &record(at_ms)).unwrap();
        }
        store.commit(part).await.unwrap();
        let first = before(&store, None, 2).await.unwrap();
        let ids: Vec<_> = first.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [id(now_ms, [2; 16]), id(now_ms, [1; 16])]);
        let rest = before(&store, Some(ids[1]), 9).await.unwrap();
        assert_eq!(rest.len(), 2);

        let mut part = Part::default();
        delete_old(&store, &mut part, now_ms, 9).await.unwrap();
        store.commit(part).await.unwrap();
        let left = before(&store, None, 9).await.unwrap();
        assert_eq!(left.len(), 3);
        assert_eq!(left[2].1.at_ms, old_ms);
    }

    /// Goal: the stored form of a report never changes unseen; by comparing with fixed bytes.
    #[test]
    fn stored_form() {
        let value = encode(FAMILY, VERSION, &record(5)).unwrap();
        let mut expected = vec![1, 5, 1, 9];
        expected.extend(b"b.example");
        expected.extend([7; 16]);
        expected.push(0);
        expected.extend([1; 16]);
        expected.push(13);
        expected.extend(b"bob@a.example");
        expected.extend([2; 16]);
        expected.extend([0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(value.as_ref(), expected);
    }
}
