//! `O`: envelopes that wait for a peer, by destination and lane, numbered in commit order; `o`: the
//! last number of each lane.
//!
//! A row's number is the sequence that its envelope gets on the link. Rows are written once and
//! deleted once: when the peer has acknowledged them, or when they are given up. What waits for a peer
//! is counted in its tally ([`super::tally::outbound`]); what an account here has sent in another one
//! ([`super::tally::sent`]), by whoever adds rows and takes them out.

use bytes::Bytes;
use federation_proto::envelope::{Kind, Lane};
use federation_proto::ids::{AccountId, DeviceId, RoomId, ServerName};
use serde::{Deserialize, Serialize};

use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Precondition, Store, StoreError, Value, tally};

/// The record family, as errors name it.
pub const FAMILY: &str = "outbox";
const VERSION: u8 = 1;
const ROW: u8 = b'O';
const TAIL: u8 = b'o';
/// Bytes of a lane and of a number at a row key's end.
const LANE_BYTES: usize = 16;
const NUMBER_BYTES: usize = 8;
/// About how much is read of the outbox in one go, however many rows that is.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Rows read in one go when all of them are looked through.
const PAGE_ROWS: usize = 512;

/// An envelope that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRow {
    /// What the payload is.
    pub kind: Kind,
    /// Its payload.
    pub payload: Bytes,
    /// This server's durable acceptance, milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When it is given up, milliseconds since the Unix epoch; 0 for never.
    pub expires_ms: u64,
    /// The device of this homeserver that is told when it can't be delivered.
    pub sender: Option<SenderRef>,
    /// The device of another server that is told, through its server, when it can't be delivered.
    pub origin: Option<OriginRef>,
}

/// A device of another server and which of its submissions an envelope stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginRef {
    /// The server.
    pub server: ServerName,
    /// The device.
    pub device: DeviceId,
    /// The room of the submission.
    pub room: RoomId,
    /// What its server calls the submission.
    pub reference: u64,
}

/// A device of this homeserver and which of its submissions an envelope stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderRef {
    /// The account.
    pub account: AccountId,
    /// The device.
    pub device: DeviceId,
    /// The room of the submission.
    pub room: RoomId,
    /// The submission's counter.
    pub counter: u64,
}

/// A row and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingRow {
    /// The lane.
    pub lane: Lane,
    /// The number within the lane.
    pub number: u64,
    /// The row.
    pub row: OutboxRow,
}

/// The stored form of a row.
pub fn value(row: &OutboxRow) -> Result<Value, StoreError> {
    encode(FAMILY, VERSION, row)
}

/// Adds a row (its [`value`]) at the end of a lane.
pub fn append(part: &mut Part, destination: &ServerName, lane: Lane, value: Value) {
    part.count(tally::outbound(destination), value.len());
    part.append(
        tail_key(destination, lane),
        lane_prefix(destination, lane),
        value,
    );
}

/// Whether an envelope of this kind is mail, which an account's own bound is about: a room goes on changing, whatever waits.
pub const fn is_mail(kind: Kind) -> bool {
    match kind {
        Kind::Message
        | Kind::Relay
        | Kind::KeyRequest
        | Kind::DirectoryQuery
        | Kind::AbuseReport
        | Kind::Contact
        | Kind::LogHead
        | Kind::AuditHead => true,
        Kind::KeyResponse
        | Kind::DirectoryAnswer
        | Kind::GroupInfo
        | Kind::RoomConsent
        | Kind::AuditSighting
        | Kind::Notice
        | Kind::Handshake
        | Kind::Welcome
        | Kind::GroupInfoRequest
        | Kind::RoomConsentRequest
        | Kind::RemovalRequest
        | Kind::Removals
        | Kind::Tombstone => false,
    }
}

/// The account here whose mail the row is, if it is anybody's: in whose tally it is counted.
pub fn account_of(row: &OutboxRow) -> Option<AccountId> {
    let sender = row.sender.as_ref().filter(|_| is_mail(row.kind))?;
    Some(sender.account)
}

/// Counts a row of so many bytes into what its sender's account has waiting, if it is an account's mail.
pub fn count_in(part: &mut Part, row: &OutboxRow, bytes: usize) {
    if let Some(account) = account_of(row) {
        part.count(tally::sent(account), bytes);
    }
}

/// Counts a row that is about to go, or to be replaced, out of what its sender's account has waiting.
pub fn count_out(part: &mut Part, destination: &ServerName, waits: &WaitingRow) {
    if let Some(account) = account_of(&waits.row) {
        let key = row_key(destination, waits.lane, waits.number);
        part.uncount(tally::sent(account), key);
    }
}

/// For whom the row at `key` waits, and the row, by its content; `None`: no row lies there.
pub(super) fn read(
    key: &Key,
    content: &Value,
) -> Option<Result<(ServerName, OutboxRow), StoreError>> {
    if key.first() != Some(&ROW) {
        return None;
    }
    let destination = destination_of(key);
    let destination = destination.ok_or(StoreError::Corrupt { family: FAMILY });
    Some(destination.and_then(|destination| Ok((destination, decode(FAMILY, VERSION, content)?))))
}

/// Where all rows lie: from one key to before another.
pub(super) fn all_rows() -> (Key, Key) {
    (Key::from_static(&[ROW]), prefix_end(&[ROW]))
}

/// Puts `row` in the place of one that waits; the part fails when that is gone.
pub fn replace(
    part: &mut Part,
    destination: &ServerName,
    lane: Lane,
    number: u64,
    row: &OutboxRow,
) -> Result<(), StoreError> {
    let key = row_key(destination, lane, number);
    let value = value(row)?;
    part.require(Precondition::Present(key.clone()));
    part.uncount(tally::outbound(destination), key.clone());
    part.count(tally::outbound(destination), value.len());
    part.put(key, value);
    Ok(())
}

/// The part fails when this row is gone.
pub fn require(part: &mut Part, destination: &ServerName, lane: Lane, number: u64) {
    part.require(Precondition::Present(row_key(destination, lane, number)));
}

/// Deletes one row.
pub fn delete(part: &mut Part, destination: &ServerName, lane: Lane, number: u64) {
    let key = row_key(destination, lane, number);
    part.uncount(tally::outbound(destination), key.clone());
    part.delete(key);
}

/// A lane's last number, as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// The lane.
    pub lane: Lane,
    value: Value,
}

/// Forgets a lane's last number, so that its next row is number 1 again; the part fails when the lane
/// has got a row since.
pub fn delete_tail(part: &mut Part, destination: &ServerName, tail: &Tail) {
    let key = tail_key(destination, tail.lane);
    part.require(Precondition::Equals(key.clone(), tail.value.clone()));
    part.delete(key);
}

/// Up to `limit` rows of one lane with numbers from `from` on, oldest first.
pub async fn lane(
    store: &Store,
    destination: &ServerName,
    lane: Lane,
    from: u64,
    limit: usize,
) -> Result<Vec<WaitingRow>, StoreError> {
    let prefix = lane_prefix(destination, lane);
    let entries = store
        .range(
            &row_key(destination, lane, from),
            &prefix_end(&prefix),
            limit,
            Order::Ascending,
        )
        .await?;
    entries
        .into_iter()
        .map(|(key, value)| waiting_row(&key, &value))
        .collect()
}

/// Up to `limit` rows of one destination, lane by lane, that lie after this lane and number (`None`:
/// from the start); fewer when they are long, and none only at the end.
pub async fn rows_after(
    store: &Store,
    destination: &ServerName,
    after: Option<(Lane, u64)>,
    limit: usize,
) -> Result<Vec<WaitingRow>, StoreError> {
    let entries = entries_after(store, destination, after, limit).await?;
    entries
        .into_iter()
        .map(|(key, value)| waiting_row(&key, &value))
        .collect()
}

async fn entries_after(
    store: &Store,
    destination: &ServerName,
    after: Option<(Lane, u64)>,
    limit: usize,
) -> Result<Vec<(Key, Value)>, StoreError> {
    let prefix = destination_prefix(ROW, destination);
    let from = match after {
        None => prefix.clone(),
        Some((lane, number)) => row_key(destination, lane, number.saturating_add(1)),
    };
    let end = prefix_end(&prefix);
    store
        .range_within(&from, &end, limit, PAGE_BYTES_MAX, Order::Ascending)
        .await
}

/// The places of rows of one destination that do not decode.
pub async fn undecodable(
    store: &Store,
    destination: &ServerName,
) -> Result<Vec<(Lane, u64)>, StoreError> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let entries = entries_after(store, destination, after, PAGE_ROWS).await?;
        let Some((last, _)) = entries.last() else {
            return Ok(found);
        };
        after = Some(split_row_key(last)?);
        for (key, value) in &entries {
            if decode::<OutboxRow>(FAMILY, VERSION, value).is_err() {
                found.push(split_row_key(key)?);
            }
        }
        tokio::task::yield_now().await;
    }
}

/// The first lane with mail after `after` (`None`: from the start).
pub async fn next_lane(
    store: &Store,
    destination: &ServerName,
    after: Option<Lane>,
) -> Result<Option<Lane>, StoreError> {
    let prefix = destination_prefix(ROW, destination);
    let from = after.map_or_else(
        || prefix.clone(),
        |lane| prefix_end(&lane_prefix(destination, lane)),
    );
    let keys = store
        .keys(&from, &prefix_end(&prefix), 1, Order::Ascending)
        .await?;
    keys.first()
        .map(|key| Ok(split_row_key(key)?.0))
        .transpose()
}

/// The number of the last row that waits in a lane; 0 when none does.
pub async fn last_waiting(
    store: &Store,
    destination: &ServerName,
    lane: Lane,
) -> Result<u64, StoreError> {
    let prefix = lane_prefix(destination, lane);
    let entries = store
        .range(&prefix, &prefix_end(&prefix), 1, Order::Descending)
        .await?;
    match entries.first() {
        Some((key, _)) => Ok(split_row_key(key)?.1),
        None => Ok(0),
    }
}

/// The last numbers of up to `limit` lanes of one destination.
pub async fn tails(
    store: &Store,
    destination: &ServerName,
    limit: usize,
) -> Result<Vec<Tail>, StoreError> {
    let prefix = destination_prefix(TAIL, destination);
    let entries = store
        .range(&prefix, &prefix_end(&prefix), limit, Order::Ascending)
        .await?;
    entries
        .into_iter()
        .map(|(key, value)| {
            let lane = key
                .get(prefix.len()..)
                .and_then(|lane| lane.try_into().ok());
            let lane = lane.map(Lane::from_bytes);
            let lane = lane.ok_or(StoreError::Corrupt { family: FAMILY })?;
            Ok(Tail { lane, value })
        })
        .collect()
}

/// Every destination with mail, by name.
pub async fn destinations(store: &Store) -> Result<Vec<ServerName>, StoreError> {
    let mut found = Vec::new();
    let end = prefix_end(&[ROW]);
    let mut from: Key = vec![ROW].into();
    while let Some(key) = store.keys(&from, &end, 1, Order::Ascending).await?.first() {
        let name = destination_of(key);
        let name = name.ok_or(StoreError::Corrupt { family: FAMILY })?;
        from = prefix_end(&destination_prefix(ROW, &name));
        found.push(name);
    }
    found.sort();
    Ok(found)
}

fn destination_of(key: &Key) -> Option<ServerName> {
    let length = key.get(1)?;
    let name = key.get(2..2 + usize::from(*length))?;
    std::str::from_utf8(name).ok()?.parse().ok()
}

fn destination_prefix(family: u8, destination: &ServerName) -> Key {
    let name = destination.as_str().as_bytes();
    // A server name has at most 253 bytes.
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    [&[family, length], name].concat().into()
}

fn lane_prefix(destination: &ServerName, lane: Lane) -> Key {
    [
        destination_prefix(ROW, destination).as_ref(),
        lane.as_bytes(),
    ]
    .concat()
    .into()
}

fn tail_key(destination: &ServerName, lane: Lane) -> Key {
    [
        destination_prefix(TAIL, destination).as_ref(),
        lane.as_bytes(),
    ]
    .concat()
    .into()
}

fn row_key(destination: &ServerName, lane: Lane, number: u64) -> Key {
    [
        lane_prefix(destination, lane).as_ref(),
        &number.to_be_bytes(),
    ]
    .concat()
    .into()
}

fn split_row_key(key: &Key) -> Result<(Lane, u64), StoreError> {
    let corrupt = StoreError::Corrupt { family: FAMILY };
    let parts = key
        .len()
        .checked_sub(LANE_BYTES + NUMBER_BYTES)
        .and_then(|start| key.get(start..))
        .and_then(|end| end.split_at_checked(LANE_BYTES))
        .and_then(|(lane, number)| Some((lane.try_into().ok()?, number.try_into().ok()?)));
    let (lane, number): ([u8; LANE_BYTES], [u8; NUMBER_BYTES]) = parts.ok_or(corrupt)?;
    Ok((Lane::from_bytes(lane), u64::from_be_bytes(number)))
}

fn waiting_row(key: &Key, value: &Value) -> Result<WaitingRow, StoreError> {
    let (lane, number) = split_row_key(key)?;
    Ok(WaitingRow {
        lane,
        number,
        row: decode(FAMILY, VERSION, value)?,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::engine::memory::MemoryEngine;

    fn row(text: &'static str) -> OutboxRow {
        OutboxRow {
            kind: Kind::Message,
            payload: Bytes::from_static(text.as_bytes()),
            created_ms: 5,
            expires_ms: 9,
            sender: None,
            origin: None,
        }
    }

    /// Goal: lanes number themselves from 1 each, and destinations whose names start alike keep
    /// apart, and what waits is counted; by appending to two lanes of `a.example` and one of
    /// `a.example2`, and taking out.
    #[tokio::test]
    async fn lanes_and_destinations_keep_apart() {
        let store = Store::new(Arc::new(MemoryEngine::default())).unwrap();
        let a: ServerName = "a.example".parse().unwrap();
        let a2: ServerName = "a.example2".parse().unwrap();
        let (one, two) = (Lane::from_bytes([1; 16]), Lane::from_bytes([0xff; 16]));
        let mut part = Part::default();
        append(&mut part, &a, one, value(&row("first")).unwrap());
        append(&mut part, &a, one, value(&row("second")).unwrap());
        append(&mut part, &a, two, value(&row("other lane")).unwrap());
        append(&mut part, &a2, one, value(&row("other server")).unwrap());
        store.commit(part).await.unwrap();

        let waits = tally::get(&store, &tally::outbound(&a)).await.unwrap();
        let length = |text| value(&row(text)).unwrap().len();
        let bytes = length("first") + length("second") + length("other lane");
        assert_eq!(
            (waits.entries, waits.bytes),
            (3, u64::try_from(bytes).unwrap())
        );

        let all = rows_after(&store, &a, None, 10).await.unwrap();
        let places: Vec<_> = all.iter().map(|w| (w.lane, w.number)).collect();
        assert_eq!(places, [(one, 1), (one, 2), (two, 1)]);
        assert_eq!(lane(&store, &a, one, 2, 10).await.unwrap().len(), 1);
        assert_eq!(next_lane(&store, &a, None).await.unwrap(), Some(one));
        assert_eq!(next_lane(&store, &a, Some(one)).await.unwrap(), Some(two));
        assert_eq!(next_lane(&store, &a, Some(two)).await.unwrap(), None);
        let known = tails(&store, &a, 10).await.unwrap();
        assert_eq!(known.iter().map(|t| t.lane).collect::<Vec<_>>(), [one, two]);
        assert_eq!(destinations(&store).await.unwrap(), [a.clone(), a2]);

        let mut part = Part::default();
        delete(&mut part, &a, one, 1);
        append(&mut part, &a, one, value(&row("third")).unwrap());
        store.commit(part).await.unwrap();
        let numbers: Vec<_> = lane(&store, &a, one, 1, 10).await.unwrap();
        assert_eq!(numbers.iter().map(|w| w.number).collect::<Vec<_>>(), [2, 3]);

        // Whatever is taken out, twice or replaced before, the tally is what is there.
        let mut part = Part::default();
        replace(&mut part, &a, one, 2, &row("much longer than before")).unwrap();
        delete(&mut part, &a, two, 1);
        delete(&mut part, &a, two, 1);
        store.commit(part).await.unwrap();
        let waits = tally::get(&store, &tally::outbound(&a)).await.unwrap();
        let bytes = length("much longer than before") + length("third");
        assert_eq!(
            (waits.entries, waits.bytes),
            (2, u64::try_from(bytes).unwrap())
        );
        let mut part = Part::default();
        delete(&mut part, &a, one, 2);
        delete(&mut part, &a, one, 3);
        store.commit(part).await.unwrap();
        assert_eq!(store.get(&tally::outbound(&a)).await.unwrap(), None);
    }

    /// Goal: the stored form of a row never changes unseen; by comparing with fixed bytes.
    #[test]
    fn stored_form() {
        let value = encode(FAMILY, VERSION, &row("x")).unwrap();
        assert_eq!(value.as_ref(), [1, 0, 1, b'x', 5, 9, 0, 0]);
    }
}
