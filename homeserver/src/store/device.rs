//! `D`: devices by account; `d`: the account of a device; `k`: the device of a token's hash.

use federation_proto::ids::{AccountId, DeviceId};
use serde::{Deserialize, Serialize};

use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "device";
const VERSION: u8 = 1;
const DEVICE: u8 = b'D';
const BY_ID: u8 = b'd';
const TOKEN: u8 = b'k';
/// More devices than any user type may allow an account.
pub const DEVICES_MAX: usize = 1000;

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// What its user calls it.
    pub name: String,
    /// When it was enrolled, milliseconds since the Unix epoch.
    pub enrolled_ms: u64,
    /// Its Ed25519 public key.
    pub public_key: [u8; 32],
    /// The end of its certificate's validity, milliseconds since the Unix epoch.
    pub not_after_ms: u64,
    /// SHA-256 of its bearer token.
    pub token_sha256: [u8; 32],
}

/// A device as others name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceOf {
    /// Its account.
    pub account: AccountId,
    /// The device.
    pub device: DeviceId,
}

/// Where a device lies.
pub fn key(of: DeviceOf) -> Key {
    [&[DEVICE][..], of.account.as_bytes(), of.device.as_bytes()]
        .concat()
        .into()
}

/// The device and its stored bytes (for a precondition).
pub async fn get(store: &Store, of: DeviceOf) -> Result<Option<(DeviceRecord, Value)>, StoreError> {
    match store.get(&key(of)).await? {
        Some(value) => Ok(Some((decode(FAMILY, VERSION, &value)?, value))),
        None => Ok(None),
    }
}

/// Every device of an account.
pub async fn of_account(
    store: &Store,
    account: AccountId,
) -> Result<Vec<(DeviceId, DeviceRecord)>, StoreError> {
    let prefix = [&[DEVICE][..], account.as_bytes()].concat();
    store
        .range(&prefix, &prefix_end(&prefix), DEVICES_MAX, Order::Ascending)
        .await?
        .iter()
        .map(|(key, value)| {
            let device = key
                .get(prefix.len()..)
                .and_then(|id| id.try_into().ok())
                .map(DeviceId::from_bytes)
                .ok_or(StoreError::Corrupt { family: FAMILY })?;
            Ok((device, decode(FAMILY, VERSION, value)?))
        })
        .collect()
}

/// The account of a device that exists.
pub async fn account_of(store: &Store, device: DeviceId) -> Result<Option<AccountId>, StoreError> {
    match store.get(&by_id_key(device)).await? {
        Some(value) => versioned_ids::<16>(&value).map(|id| Some(AccountId::from_bytes(id))),
        None => Ok(None),
    }
}

/// Up to `limit` devices of all accounts in the order of their ids, after this one (`None`: from the start).
pub async fn ids_after(
    store: &Store,
    after: Option<DeviceId>,
    limit: usize,
) -> Result<Vec<DeviceId>, StoreError> {
    let from = match after {
        Some(after) => [by_id_key(after).as_ref(), &[0]].concat(),
        None => vec![BY_ID],
    };
    let end = prefix_end(&[BY_ID]);
    let keys = store.keys(&from, &end, limit, Order::Ascending).await?;
    keys.iter()
        .map(|key| {
            key.get(1..)
                .and_then(|id| id.try_into().ok())
                .map(DeviceId::from_bytes)
                .ok_or(StoreError::Corrupt { family: FAMILY })
        })
        .collect()
}

/// The device whose token has this hash.
pub async fn by_token(
    store: &Store,
    token_sha256: &[u8; 32],
) -> Result<Option<DeviceOf>, StoreError> {
    let Some(value) = store.get(&token_key(token_sha256)).await? else {
        return Ok(None);
    };
    let ids = versioned_ids::<32>(&value)?;
    let half = |bytes: &[u8]| -> Result<[u8; 16], StoreError> {
        bytes
            .try_into()
            .map_err(|_| StoreError::Corrupt { family: FAMILY })
    };
    let (account, device) = ids.split_at(16);
    Ok(Some(DeviceOf {
        account: AccountId::from_bytes(half(account)?),
        device: DeviceId::from_bytes(half(device)?),
    }))
}

/// Writes a new device with its indexes; the part fails when the id is taken.
pub fn create(part: &mut Part, of: DeviceOf, record: &DeviceRecord) -> Result<(), StoreError> {
    part.require(Precondition::Absent(by_id_key(of.device)));
    part.put(
        by_id_key(of.device),
        [&[VERSION][..], of.account.as_bytes()].concat().into(),
    );
    part.put(
        token_key(&record.token_sha256),
        [&[VERSION][..], of.account.as_bytes(), of.device.as_bytes()]
            .concat()
            .into(),
    );
    put(part, of, record)
}

/// Writes a changed device.
pub fn put(part: &mut Part, of: DeviceOf, record: &DeviceRecord) -> Result<(), StoreError> {
    part.put(key(of), encode(FAMILY, VERSION, record)?);
    Ok(())
}

/// Deletes a device with its indexes.
pub fn delete(part: &mut Part, of: DeviceOf, record: &DeviceRecord) {
    part.delete(key(of));
    part.delete(by_id_key(of.device));
    part.delete(token_key(&record.token_sha256));
}

fn by_id_key(device: DeviceId) -> Key {
    [&[BY_ID][..], device.as_bytes()].concat().into()
}

fn token_key(token_sha256: &[u8; 32]) -> Key {
    [&[TOKEN][..], token_sha256].concat().into()
}

fn versioned_ids<const N: usize>(value: &Value) -> Result<[u8; N], StoreError> {
    match value.split_first() {
        Some((&VERSION, ids)) => ids
            .try_into()
            .map_err(|_| StoreError::Corrupt { family: FAMILY }),
        _ => Err(StoreError::Corrupt { family: FAMILY }),
    }
}
