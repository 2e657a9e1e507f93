//! `p`: evidence of who was cut off, by its id, which begins with the time: what was cut, each room with what has
//! happened there, the rooms that are still waited for, the keys of the hubs whose word is in it; and by account, what is
//! not complete.
//!
//! It is kept for [`KEPT_MS`] after the cut, and longer only while something is waited for.

use bytes::Bytes;
use federation_proto::ids::{AccountId, DeviceId, EvidenceId, Handle, Member, RoomId, ServerName};
use serde::{Deserialize, Serialize};

use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Precondition, Store, StoreError, Value, report};

const FAMILY: &str = "evidence";
const VERSION: u8 = 1;
const HEAD: &[u8] = b"ph";
const ROOM: &[u8] = b"pr";
const WAITING: &[u8] = b"pw";
const KEYS: &[u8] = b"pk";
const OPEN: &[u8] = b"po";
const ID_BYTES: usize = 16;
/// How long evidence is kept after the cut: three years.
pub const KEPT_MS: u64 = 3 * 365 * 24 * 60 * 60 * 1000;

/// What was cut, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceRecord {
    /// The account.
    pub account: AccountId,
    /// Its handle then.
    pub handle: Handle,
    /// Why.
    pub reason: Reason,
    /// By whom.
    pub by: By,
    /// When, milliseconds since the Unix epoch.
    pub cut_ms: u64,
    /// The devices with their keys, ascending.
    pub devices: Vec<(DeviceId, [u8; 32])>,
    /// How many sessions were open then, once that is known.
    pub sessions: Option<u32>,
    /// When all of them had ended.
    pub sessions_ended_ms: Option<u64>,
    /// When every room had been looked through.
    pub listed_ms: Option<u64>,
    /// When nothing was left to wait for.
    pub completed_ms: Option<u64>,
}

/// Why devices were cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Their user was deleted.
    UserDeleted,
    /// Their user was suspended.
    UserSuspended,
    /// The device was removed.
    DeviceRemoved,
}

/// Who cut them off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum By {
    /// An administrator over the network.
    Administrator(Handle),
    /// Whoever opened the admin socket.
    Operator(u32),
    /// A device of the account.
    Device(DeviceId),
    /// The homeserver.
    System,
}

impl EvidenceRecord {
    /// Whether this device was cut off by it.
    pub fn has(&self, member: &Member) -> bool {
        member.account == self.account
            && self
                .devices
                .binary_search_by(|(device, _)| device.cmp(&member.device))
                .is_ok()
    }
}

/// A room that the devices were in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRow {
    /// Its hub.
    pub hub: ServerName,
    /// Those of the devices that were in it, ascending.
    pub devices: Vec<DeviceId>,
    /// What has happened, in its order.
    pub steps: Vec<StepRow>,
}

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRow {
    /// When it was known here, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Which devices it concerns, ascending.
    pub devices: Vec<DeviceId>,
    /// What.
    pub what: WhatRow,
}

/// What a step is; as `federation_proto::deprovisioning::What`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhatRow {
    /// The hub was asked.
    Asked,
    /// It has accepted that.
    Accepted,
    /// It has ordered the removals.
    Ordered(SaidRow),
    /// A commit has taken them out.
    Removed(SaidRow),
    /// The room is over here.
    Ended,
}

impl WhatRow {
    /// Whether the two are of one kind.
    pub fn is_as(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// The hub's signature.
    pub fn proof(&self) -> Option<&ProofRow> {
        match self {
            Self::Ordered(said) | Self::Removed(said) => said.proof.as_ref(),
            Self::Asked | Self::Accepted | Self::Ended => None,
        }
    }
}

/// What a hub has said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaidRow {
    /// The epoch.
    pub epoch: u64,
    /// The hub's stamp, milliseconds since the Unix epoch.
    pub stamp_ms: u64,
    /// Its signature.
    pub proof: Option<ProofRow>,
}

/// What a hub has signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofRow {
    /// SHA-256 of the manifest.
    pub manifest: [u8; 32],
    /// The proof, encoded.
    pub place: Bytes,
    /// The envelope.
    pub envelope: Bytes,
}

/// A hub's keys, as they were known when its word came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysRow {
    /// The hub.
    pub server: ServerName,
    /// Its root, DER.
    pub root: Bytes,
    /// Its manifest.
    pub manifest: Bytes,
}

impl RoomRow {
    /// Whether nothing is left to wait for.
    pub fn is_done(&self) -> bool {
        self.devices.iter().all(|device| {
            let is_over = |step: &&StepRow| {
                matches!(step.what, WhatRow::Removed(_) | WhatRow::Ended)
                    && step.devices.contains(device)
            };
            self.steps.iter().any(|step| is_over(&step))
        })
    }
}

/// An id for what is cut now.
pub fn id(at_ms: u64, random: [u8; ID_BYTES]) -> EvidenceId {
    EvidenceId::from_bytes(*report::id(at_ms, random).as_bytes())
}

/// Opens evidence, in the part of the act.
pub fn open(part: &mut Part, id: EvidenceId, record: &EvidenceRecord) -> Result<(), StoreError> {
    part.require(Precondition::Absent(head_key(id)));
    part.put(open_key(record.account, id), Key::from_static(&[1]));
    part.put(head_key(id), encode(FAMILY, VERSION, record)?);
    Ok(())
}

/// Changes it; the part fails when it is no longer as it was read.
pub fn replace(
    part: &mut Part,
    id: EvidenceId,
    record: &EvidenceRecord,
    read: Value,
) -> Result<(), StoreError> {
    part.require(Precondition::Equals(head_key(id), read));
    if record.completed_ms.is_some() {
        part.delete(open_key(record.account, id));
    }
    part.put(head_key(id), encode(FAMILY, VERSION, record)?);
    Ok(())
}

/// The evidence and its stored bytes (for [`replace`]).
pub async fn get(
    store: &Store,
    id: EvidenceId,
) -> Result<Option<(EvidenceRecord, Value)>, StoreError> {
    match store.get(&head_key(id)).await? {
        Some(value) => Ok(Some((decode(FAMILY, VERSION, &value)?, value))),
        None => Ok(None),
    }
}

/// It is as it was read.
pub fn require(part: &mut Part, id: EvidenceId, read: Value) {
    part.require(Precondition::Equals(head_key(id), read));
}

/// Up to `limit` before `before` (`None`: from the newest), newest first.
pub async fn before(
    store: &Store,
    before: Option<EvidenceId>,
    limit: usize,
) -> Result<Vec<(EvidenceId, EvidenceRecord)>, StoreError> {
    let end = before.map_or_else(|| prefix_end(HEAD), head_key);
    let entries = store.range(HEAD, &end, limit, Order::Descending).await?;
    heads(&entries)
}

/// Up to `limit` behind `after` that were cut so long ago that they are not kept, oldest first.
pub async fn old(
    store: &Store,
    after: Option<EvidenceId>,
    now_ms: u64,
    limit: usize,
) -> Result<Vec<(EvidenceId, EvidenceRecord)>, StoreError> {
    let from = after.map_or_else(|| Key::from_static(HEAD), |after| behind(&head_key(after)));
    let end = head_key(id(now_ms.saturating_sub(KEPT_MS), [0; ID_BYTES]));
    let entries = store.range(&from, &end, limit, Order::Ascending).await?;
    heads(&entries)
}

fn heads(entries: &[(Key, Value)]) -> Result<Vec<(EvidenceId, EvidenceRecord)>, StoreError> {
    entries
        .iter()
        .map(|(key, value)| {
            let id = EvidenceId::from_bytes(id_at(key, HEAD.len())?);
            Ok((id, decode(FAMILY, VERSION, value)?))
        })
        .collect()
}

/// Up to `limit` that are not complete, behind `after`; of one account, or of all.
pub async fn open_ones(
    store: &Store,
    account: Option<AccountId>,
    after: Option<(AccountId, EvidenceId)>,
    limit: usize,
) -> Result<Vec<(AccountId, EvidenceId)>, StoreError> {
    let prefix = match &account {
        Some(account) => [OPEN, account.as_bytes()].concat(),
        None => OPEN.to_vec(),
    };
    let from = match after {
        Some((account, id)) => behind(&open_key(account, id)),
        None => prefix.clone().into(),
    };
    store
        .range(&from, &prefix_end(&prefix), limit, Order::Ascending)
        .await?
        .iter()
        .map(|(key, _)| {
            let account = AccountId::from_bytes(id_at(key, OPEN.len())?);
            let id = EvidenceId::from_bytes(id_at(key, OPEN.len() + ID_BYTES)?);
            Ok((account, id))
        })
        .collect()
}

/// A room of it and its stored bytes.
pub async fn room(
    store: &Store,
    id: EvidenceId,
    room: RoomId,
) -> Result<Option<(RoomRow, Value)>, StoreError> {
    match store.get(&room_key(ROOM, id, room)).await? {
        Some(value) => Ok(Some((decode(FAMILY, VERSION, &value)?, value))),
        None => Ok(None),
    }
}

/// Writes a room of it; the part fails when it is no longer as it was read.
pub fn put_room(
    part: &mut Part,
    id: EvidenceId,
    room: RoomId,
    row: &RoomRow,
    read: Option<Value>,
) -> Result<(), StoreError> {
    let (key, waiting) = (room_key(ROOM, id, room), room_key(WAITING, id, room));
    part.require(Precondition::unchanged(key.clone(), read));
    match row.is_done() {
        true => part.delete(waiting),
        false => part.put(waiting, Key::from_static(&[1])),
    };
    part.put(key, encode(FAMILY, VERSION, row)?);
    Ok(())
}

/// Up to `limit` rooms of it behind `after`, ascending, each with the bytes of its record.
pub async fn rooms(
    store: &Store,
    id: EvidenceId,
    after: Option<RoomId>,
    limit: usize,
) -> Result<Vec<(RoomId, RoomRow, usize)>, StoreError> {
    let prefix = prefix(ROOM, id);
    let from = after.map_or_else(
        || prefix.clone(),
        |after| behind(&room_key(ROOM, id, after)),
    );
    store
        .range(&from, &prefix_end(&prefix), limit, Order::Ascending)
        .await?
        .iter()
        .map(|(key, value)| {
            let room = RoomId::from_bytes(id_at(key, prefix.len())?);
            Ok((room, decode(FAMILY, VERSION, value)?, value.len()))
        })
        .collect()
}

/// How many of its rooms are waited for, up to `limit`.
pub async fn waiting(store: &Store, id: EvidenceId, limit: usize) -> Result<usize, StoreError> {
    let prefix = prefix(WAITING, id);
    let entries = store
        .range(&prefix, &prefix_end(&prefix), limit, Order::Ascending)
        .await?;
    Ok(entries.len())
}

/// Keeps a hub's keys, under the SHA-256 of its manifest.
pub fn put_keys(
    part: &mut Part,
    id: EvidenceId,
    manifest: &[u8; 32],
    row: &KeysRow,
) -> Result<(), StoreError> {
    part.put(keys_key(id, manifest), encode(FAMILY, VERSION, row)?);
    Ok(())
}

/// A hub's keys.
pub async fn keys(
    store: &Store,
    id: EvidenceId,
    manifest: &[u8; 32],
) -> Result<Option<KeysRow>, StoreError> {
    match store.get(&keys_key(id, manifest)).await? {
        Some(value) => decode(FAMILY, VERSION, &value).map(Some),
        None => Ok(None),
    }
}

/// Adds the deletion of up to `limit` of its records, the head last; whether that is all.
pub async fn delete_some(
    store: &Store,
    part: &mut Part,
    id: EvidenceId,
    limit: usize,
) -> Result<bool, StoreError> {
    let mut left = limit;
    for family in [ROOM, WAITING, KEYS] {
        let prefix = prefix(family, id);
        let entries = store
            .range(&prefix, &prefix_end(&prefix), left, Order::Ascending)
            .await?;
        left = left.saturating_sub(entries.len());
        for (key, _) in entries {
            part.delete(key);
        }
    }
    if left > 0 {
        part.delete(head_key(id));
    }
    Ok(left > 0)
}

fn head_key(id: EvidenceId) -> Key {
    prefix(HEAD, id)
}

fn prefix(family: &[u8], id: EvidenceId) -> Key {
    [family, id.as_bytes()].concat().into()
}

fn room_key(family: &[u8], id: EvidenceId, room: RoomId) -> Key {
    [family, id.as_bytes(), room.as_bytes()].concat().into()
}

fn keys_key(id: EvidenceId, manifest: &[u8; 32]) -> Key {
    [KEYS, id.as_bytes(), manifest].concat().into()
}

fn open_key(account: AccountId, id: EvidenceId) -> Key {
    [OPEN, account.as_bytes(), id.as_bytes()].concat().into()
}

/// The first key behind this one.
fn behind(key: &Key) -> Key {
    [key.as_ref(), &[0]].concat().into()
}

/// The id that a key has from here on.
fn id_at(key: &Key, at: usize) -> Result<[u8; ID_BYTES], StoreError> {
    key.get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .ok_or(StoreError::Corrupt { family: FAMILY })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::engine::memory::MemoryEngine;

    const ACCOUNT: AccountId = AccountId::from_bytes([1; 16]);
    const DEVICE: DeviceId = DeviceId::from_bytes([2; 16]);
    const ROOM_ID: RoomId = RoomId::from_bytes([3; 16]);

    fn record(cut_ms: u64) -> EvidenceRecord {
        EvidenceRecord {
            account: ACCOUNT,
            handle: "bob".parse().unwrap(),
            reason: Reason::UserDeleted,
            by: By::Operator(7),
            cut_ms,
            devices: vec![(DEVICE, [9; 32])],
            sessions: Some(1),
            sessions_ended_ms: None,
            listed_ms: None,
            completed_ms: None,
        }
    }

    fn row(steps: Vec<WhatRow>) -> RoomRow {
        let step = |what| StepRow {
            at_ms: 5,
            devices: vec![DEVICE],
            what,
        };
        RoomRow {
            hub: "b.example".parse().unwrap(),
            devices: vec![DEVICE],
            steps: steps.into_iter().map(step).collect(),
        }
    }

    fn said() -> SaidRow {
        SaidRow {
            epoch: 4,
            stamp_ms: 6,
            proof: Some(ProofRow {
                manifest: [8; 32],
                place: Bytes::from_static(b"place"),
                envelope: Bytes::from_static(b"envelope"),
            }),
        }
    }

    /// Goal: a room is waited for until all of its devices are out, and evidence is open until it is complete; all of it goes
    /// when it is deleted, however many parts that takes, and nothing else. Method: two of them, one of two rooms.
    #[tokio::test]
    async fn waits_and_goes() {
        let store = Store::new(Arc::new(MemoryEngine::default())).unwrap();
        let now_ms = 1_795_000_000_000;
        let [old_id, new_id] = [now_ms - KEPT_MS - 1, now_ms].map(|at_ms| id(at_ms, [7; 16]));
        let mut part = Part::default();
        open(&mut part, old_id, &record(1)).unwrap();
        open(&mut part, new_id, &record(2)).unwrap();
        let waits = row(vec![WhatRow::Asked, WhatRow::Ordered(said())]);
        let done = row(vec![WhatRow::Removed(said())]);
        let other = RoomId::from_bytes([4; 16]);
        put_room(&mut part, old_id, ROOM_ID, &waits, None).unwrap();
        put_room(&mut part, old_id, other, &done, None).unwrap();
        let keys_row = KeysRow {
            server: "b.example".parse().unwrap(),
            root: Bytes::from_static(b"root"),
            manifest: Bytes::from_static(b"manifest"),
        };
        put_keys(&mut part, old_id, &[8; 32], &keys_row).unwrap();
        store.commit(part).await.unwrap();
        assert_eq!(waiting(&store, old_id, 9).await.unwrap(), 1);
        let open = open_ones(&store, Some(ACCOUNT), None, 9).await.unwrap();
        assert_eq!(open, [(ACCOUNT, old_id), (ACCOUNT, new_id)]);
        let second = open_ones(&store, None, Some(open[0]), 9).await.unwrap();
        assert_eq!(second, open[1..]);
        let found = keys(&store, old_id, &[8; 32]).await.unwrap();
        assert_eq!(found, Some(keys_row));
        let ids = |found: Vec<(EvidenceId, EvidenceRecord)>| -> Vec<_> {
            found.into_iter().map(|(id, _)| id).collect()
        };
        assert_eq!(ids(before(&store, None, 1).await.unwrap()), [new_id]);
        let older = before(&store, Some(new_id), 9).await.unwrap();
        assert_eq!(ids(older), [old_id]);
        assert_eq!(ids(old(&store, None, now_ms, 9).await.unwrap()), [old_id]);

        let (read_row, read) = room(&store, old_id, ROOM_ID).await.unwrap().unwrap();
        assert_eq!(read_row, waits);
        let (mut head, head_read) = get(&store, old_id).await.unwrap().unwrap();
        head.completed_ms = Some(3);
        let mut part = Part::default();
        put_room(&mut part, old_id, ROOM_ID, &done, Some(read)).unwrap();
        replace(&mut part, old_id, &head, head_read).unwrap();
        store.commit(part).await.unwrap();
        assert_eq!(waiting(&store, old_id, 9).await.unwrap(), 0);
        let open = open_ones(&store, None, None, 9).await.unwrap();
        assert_eq!(open, [(ACCOUNT, new_id)]);
        let all = rooms(&store, old_id, None, 9).await.unwrap();
        assert_eq!(all.len(), 2);
        let behind = rooms(&store, old_id, Some(ROOM_ID), 9).await.unwrap();
        assert_eq!(behind[0].0, other);

        for is_all in [false, true] {
            let mut part = Part::default();
            let deleted = delete_some(&store, &mut part, old_id, 3).await.unwrap();
            assert_eq!(deleted, is_all);
            store.commit(part).await.unwrap();
        }
        assert_eq!(get(&store, old_id).await.unwrap(), None);
        assert!(get(&store, new_id).await.unwrap().is_some());
    }

    /// Goal: the stored forms never change unseen; by fixed bytes.
    #[test]
    fn stored_forms() {
        let value = encode(FAMILY, VERSION, &record(5)).unwrap();
        let mut expected = vec![1];
        expected.extend([1; 16]);
        expected.extend(*b"\x03bob");
        expected.extend([0, 1, 7, 5, 1]);
        expected.extend([2; 16]);
        expected.extend([9; 32]);
        expected.extend([1, 1, 0, 0, 0]);
        assert_eq!(value.as_ref(), expected);

        let steps = vec![
            WhatRow::Asked,
            WhatRow::Accepted,
            WhatRow::Ordered(said()),
            WhatRow::Removed(SaidRow {
                proof: None,
                ..said()
            }),
            WhatRow::Ended,
        ];
        let value = encode(FAMILY, VERSION, &row(steps)).unwrap();
        let mut expected = vec![1];
        expected.extend(*b"\x09b.example");
        expected.push(1);
        expected.extend([2; 16]);
        expected.push(5);
        for (number, rest) in [
            (0, vec![]),
            (1, vec![]),
            (
                2,
                [&[4, 6, 1][..], &[8; 32], b"\x05place\x08envelope"].concat(),
            ),
            (3, vec![4, 6, 0]),
            (4, vec![]),
        ] {
            expected.extend([5, 1]);
            expected.extend([2; 16]);
            expected.push(number);
            expected.extend(rest);
        }
        assert_eq!(value.as_ref(), expected);
    }
}
