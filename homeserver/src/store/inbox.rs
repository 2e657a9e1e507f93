//! `Q`: what waits for each device, numbered in commit order; `T`: the last number of each inbox.

use bytes::Bytes;
use federation_proto::ids::{Address, DeviceId, RequestId, RoomId, ServerName};
use federation_proto::refusal::Refusal;
use homeserver_api::contacts::ContactChange;
use homeserver_api::session::{GroupInfo, KeyMaterial, Listing};
use serde::{Deserialize, Serialize};

use super::payload::PayloadId;
use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Store, StoreError, Value, tally};
use crate::ciphertext::Ciphertext;

const FAMILY: &str = "inbox";
const VERSION: u8 = 1;
const ITEM: u8 = b'Q';
const TAIL: u8 = b'T';

/// One waiting item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxRecord {
    /// From when on it is never delivered, milliseconds since the Unix epoch.
    pub expires_ms: u64,
    /// The peer that brought it, in whose tally it is counted ([`super::tally::inbound`]); `None`: it
    /// came from here.
    pub source: Option<ServerName>,
    /// What waits.
    pub body: InboxBody,
}

/// Ciphertext of an item: here, or in a payload that several devices wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Here.
    Inline(Ciphertext),
    /// In a payload.
    Shared(PayloadId),
}

/// What waits for a device; see [`homeserver_api::session::DeliveryBody`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum InboxBody {
    /// An application message.
    Message {
        /// The room.
        room: RoomId,
        /// The origin's durable acceptance.
        accepted_ms: u64,
        /// The message.
        content: Content,
    },
    /// An ordered commit.
    Commit {
        /// The room.
        room: RoomId,
        /// The epoch that it ends.
        epoch: u64,
        /// The hub's stamp.
        accepted_ms: u64,
        /// The commit.
        content: Content,
    },
    /// An addition to a room.
    Welcome {
        /// The room.
        room: RoomId,
        /// Its hub.
        hub: ServerName,
        /// The hub's stamp.
        accepted_ms: u64,
        /// The welcome.
        content: Content,
    },
    /// An answer to a claim of keys.
    KeyMaterial {
        /// The request.
        request: RequestId,
        /// The devices and key packages, or why not.
        result: Result<KeyMaterial, Refusal>,
    },
    /// The hub did not take a commit.
    CommitRefused {
        /// The room.
        room: RoomId,
        /// The submission's counter.
        counter: u64,
        /// Why.
        refusal: Refusal,
    },
    /// An accepted message came back.
    Returned {
        /// The room.
        room: RoomId,
        /// The submission's counter.
        counter: u64,
        /// Where it could not be delivered.
        server: ServerName,
        /// Why.
        refusal: Refusal,
    },
    /// An answer to a look-up.
    Directory {
        /// The request.
        request: RequestId,
        /// Who was found, or why nobody was looked for.
        result: Result<Listing, Refusal>,
    },
    /// A report could not be passed on.
    ReportReturned {
        /// The room.
        room: RoomId,
        /// Who did not take it.
        server: ServerName,
        /// Why.
        refusal: Refusal,
    },
    /// An answer to a request for a group info.
    GroupInfo {
        /// The request.
        request: RequestId,
        /// The room.
        room: RoomId,
        /// The group info, or why not.
        result: Result<GroupInfo, Refusal>,
    },
    /// A room is over for everybody here: there is no agreement any more with whoever orders it, or this side has ended
    /// the one with another organisation in it.
    RoomClosed {
        /// The room.
        room: RoomId,
        /// With whom the agreement has ended.
        server: ServerName,
    },
    /// An answer to a request for a consent to a room.
    RoomConsent {
        /// The request.
        request: RequestId,
        /// The room.
        room: RoomId,
        /// The signed consent, or why not.
        result: Result<Bytes, Refusal>,
    },
    /// Something was asked or decided with somebody of another organisation.
    Contact {
        /// Who.
        address: Address,
        /// What has changed.
        change: ContactChange,
        /// His words, or why something could not be delivered.
        text: String,
    },
    /// Removals that a room's hub has ordered.
    Removals {
        /// The room.
        room: RoomId,
        /// The epoch that they are for.
        epoch: u64,
        /// The hub's stamp.
        accepted_ms: u64,
        /// The MLS proposals.
        proposals: Vec<Bytes>,
    },
    /// There was no room for something that a room's hub has ordered.
    OutOfStep {
        /// The room.
        room: RoomId,
        /// The epoch that it led to, or was ordered in.
        epoch: u64,
    },
}

impl InboxBody {
    /// The payload that the item refers to.
    pub const fn payload(&self) -> Option<PayloadId> {
        match self {
            Self::Message { content, .. }
            | Self::Commit { content, .. }
            | Self::Welcome { content, .. } => match content {
                Content::Shared(id) => Some(*id),
                Content::Inline(_) => None,
            },
            Self::KeyMaterial { .. }
            | Self::CommitRefused { .. }
            | Self::Returned { .. }
            | Self::Contact { .. }
            | Self::Directory { .. }
            | Self::GroupInfo { .. }
            | Self::RoomConsent { .. }
            | Self::RoomClosed { .. }
            | Self::Removals { .. }
            | Self::OutOfStep { .. }
            | Self::ReportReturned { .. } => None,
        }
    }
}

/// The stored form of an item.
pub fn value(record: &InboxRecord) -> Result<Value, StoreError> {
    encode(FAMILY, VERSION, record)
}

/// Adds an item (its [`value`]) to the device's inbox.
pub fn append(part: &mut Part, device: DeviceId, source: Option<&ServerName>, value: Value) {
    if let Some(source) = source {
        part.count(tally::inbound(source), value.len());
    }
    part.append(tail_key(device), prefix(device), value);
}

/// Up to `limit` items with numbers from `from` on, oldest first, with their stored lengths.
pub async fn range(
    store: &Store,
    device: DeviceId,
    from: u64,
    limit: usize,
) -> Result<Vec<(u64, InboxRecord, usize)>, StoreError> {
    let corrupt = || StoreError::Corrupt { family: FAMILY };
    let prefix = prefix(device);
    store
        .range(
            &item_key(device, from),
            &prefix_end(&prefix),
            limit,
            Order::Ascending,
        )
        .await?
        .iter()
        .map(|(key, value)| {
            let number = key
                .get(prefix.len()..)
                .and_then(|number| number.try_into().ok())
                .map(u64::from_be_bytes)
                .ok_or_else(corrupt)?;
            Ok((number, decode(FAMILY, VERSION, value)?, value.len()))
        })
        .collect()
}

/// Deletes one item, which has this source.
pub fn delete(part: &mut Part, device: DeviceId, number: u64, source: Option<&ServerName>) {
    let key = item_key(device, number);
    if let Some(source) = source {
        part.uncount(tally::inbound(source), key.clone());
    }
    part.delete(key);
}

/// Deletes what remembers a removed device's last number.
pub fn delete_tail(part: &mut Part, device: DeviceId) {
    part.delete(tail_key(device));
}

/// Lets the inbox of a device that may have been given them already leave out `by` numbers, whether it was ever given one here
/// or not.
pub async fn leave_out_numbers(
    store: &Store,
    part: &mut Part,
    device: DeviceId,
    by: u64,
) -> Result<(), StoreError> {
    let key = tail_key(device);
    let number = match store.get(&key).await? {
        Some(value) => {
            let number = value.as_ref().try_into();
            u64::from_be_bytes(number.map_err(|_| StoreError::Corrupt { family: FAMILY })?)
        }
        None => 0,
    };
    let number = number.saturating_add(by);
    part.put(key, Value::copy_from_slice(&number.to_be_bytes()));
    Ok(())
}

fn prefix(device: DeviceId) -> Key {
    [&[ITEM][..], device.as_bytes()].concat().into()
}

fn item_key(device: DeviceId, number: u64) -> Key {
    [prefix(device).as_ref(), &number.to_be_bytes()]
        .concat()
        .into()
}

fn tail_key(device: DeviceId) -> Key {
    [&[TAIL][..], device.as_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// Goal: the stored form of an item never changes unseen; by comparing with fixed bytes.
    #[test]
    fn stored_form() {
        let record = InboxRecord {
            expires_ms: 7,
            source: None,
            body: InboxBody::Message {
                room: RoomId::from_bytes([2; 16]),
                accepted_ms: 5,
                content: Content::Inline(Bytes::from_static(b"x").into()),
            },
        };
        let mut expected = vec![1, 7, 0, 0];
        expected.extend([2; 16]);
        expected.extend([5, 0, 1, b'x']);
        assert_eq!(value(&record).unwrap().as_ref(), expected);
    }
}
