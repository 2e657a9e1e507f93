//! `h`: devices that have signed in and wait for a device of their account to approve them, by account; `t`: by
//! the hash of their token; `e`: an administrator's leave for one reset of an account's devices.

use federation_proto::ids::{AccountId, DeviceId};
use serde::{Deserialize, Serialize};

use super::device::DeviceOf;
use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "waiting device";
const GRANT_FAMILY: &str = "leave for a reset";
const VERSION: u8 = 1;
const WAITING: u8 = b'h';
const BY_TOKEN: u8 = b't';
const GRANT: u8 = b'e';
/// Most devices of one account that wait.
pub const WAITING_MAX: usize = 4;

/// A device that waits, or that has just been approved and has not fetched its certificate yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingRecord {
    /// What its user calls it.
    pub name: String,
    /// Its certificate request (PKCS#10, DER).
    pub csr: Vec<u8>,
    /// Its Ed25519 public key.
    pub public_key: [u8; 32],
    /// SHA-256 of the token with which it asks, and signs in once it is approved.
    pub token_sha256: [u8; 32],
    /// When it signed in, milliseconds since the Unix epoch.
    pub asked_ms: u64,
    /// Until when it waits, milliseconds since the Unix epoch.
    pub until_ms: u64,
    /// Its certificate and the issuing CA's, once it is approved.
    pub chain: Option<[Vec<u8>; 2]>,
}

/// An administrator's leave for one reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Until when it may be used, milliseconds since the Unix epoch.
    pub until_ms: u64,
}

/// Where a waiting device lies.
pub fn key(of: DeviceOf) -> Key {
    [&[WAITING][..], of.account.as_bytes(), of.device.as_bytes()]
        .concat()
        .into()
}

/// Writes a waiting device.
pub fn put(part: &mut Part, of: DeviceOf, record: &WaitingRecord) -> Result<(), StoreError> {
    part.put(key(of), encode(FAMILY, VERSION, record)?);
    let ids = [&[VERSION][..], of.account.as_bytes(), of.device.as_bytes()];
    part.put(token_key(&record.token_sha256), ids.concat().into());
    Ok(())
}

/// Deletes a waiting device.
pub fn delete(part: &mut Part, of: DeviceOf, record: &WaitingRecord) {
    part.delete(key(of));
    part.delete(token_key(&record.token_sha256));
}

/// A waiting device and its stored bytes (for a precondition).
pub async fn get(
    store: &Store,
    of: DeviceOf,
) -> Result<Option<(WaitingRecord, Value)>, StoreError> {
    match store.get(&key(of)).await? {
        Some(value) => Ok(Some((decode(FAMILY, VERSION, &value)?, value))),
        None => Ok(None),
    }
}

/// Every device of an account that waits, those whose time is over too.
pub async fn of_account(
    store: &Store,
    account: AccountId,
) -> Result<Vec<(DeviceId, WaitingRecord)>, StoreError> {
    let prefix = [&[WAITING][..], account.as_bytes()].concat();
    // The bound is kept by whoever writes: two at once may both have seen room.
    let limit = 2 * WAITING_MAX;
    store
        .range(&prefix, &prefix_end(&prefix), limit, Order::Ascending)
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

/// The waiting device whose token has this hash.
pub async fn by_token(
    store: &Store,
    token_sha256: &[u8; 32],
) -> Result<Option<DeviceOf>, StoreError> {
    let Some(value) = store.get(&token_key(token_sha256)).await? else {
        return Ok(None);
    };
    let ids = match value.split_first() {
        Some((&VERSION, ids)) => ids.split_first_chunk::<16>(),
        _ => None,
    };
    ids.and_then(|(account, device)| {
        Some(DeviceOf {
            account: AccountId::from_bytes(*account),
            device: DeviceId::from_bytes(device.try_into().ok()?),
        })
    })
    .map(Some)
    .ok_or(StoreError::Corrupt { family: FAMILY })
}

/// Gives leave for one reset.
pub fn put_grant(part: &mut Part, account: AccountId, grant: Grant) -> Result<(), StoreError> {
    part.put(grant_key(account), encode(GRANT_FAMILY, VERSION, &grant)?);
    Ok(())
}

/// The leave for a reset that there is, and its stored bytes (for [`use_grant`]).
pub async fn grant(
    store: &Store,
    account: AccountId,
) -> Result<Option<(Grant, Value)>, StoreError> {
    match store.get(&grant_key(account)).await? {
        Some(value) => Ok(Some((decode(GRANT_FAMILY, VERSION, &value)?, value))),
        None => Ok(None),
    }
}

/// Uses the leave up; the part fails when it was used meanwhile.
pub fn use_grant(part: &mut Part, account: AccountId, read: Value) {
    let key = grant_key(account);
    part.require(Precondition::Equals(key.clone(), read));
    part.delete(key);
}

/// Deletes what waits and what was granted, with an account.
pub async fn delete_account(
    store: &Store,
    part: &mut Part,
    account: AccountId,
) -> Result<(), StoreError> {
    part.delete(grant_key(account));
    for (device, record) in of_account(store, account).await? {
        delete(part, DeviceOf { account, device }, &record);
    }
    Ok(())
}

fn token_key(token_sha256: &[u8; 32]) -> Key {
    [&[BY_TOKEN][..], token_sha256].concat().into()
}

fn grant_key(account: AccountId) -> Key {
    [&[GRANT][..], account.as_bytes()].concat().into()
}
