//! `A`: accounts; `H`: who has, or had, a handle. A handle's entry outlives its account, so that a
//! handle is never given to somebody else.

use federation_proto::ids::{AccountId, Handle, HandlePrefix};
use homeserver_api::policy::OwnRules;
use serde::{Deserialize, Serialize};

use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "account";
const VERSION: u8 = 3;
const ACCOUNT: u8 = b'A';
const HANDLE: u8 = b'H';

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRecord {
    /// Its handle.
    pub handle: Handle,
    /// Its user type's name.
    pub user_type: String,
    /// Whether it is suspended.
    pub suspended: bool,
    /// Argon2id hash of its password (PHC string).
    pub password_hash: String,
    /// How many devices it has: changes with each enrolment, so that two at once can't both be the last.
    pub devices: u32,
    /// How many statements the device log has about it: changes with each device that comes or goes.
    pub statements: u64,
    /// When it was created, milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// What its owner rules beyond its user type.
    pub own: OwnRules,
}

/// Where an account lies.
pub fn key(account: AccountId) -> Key {
    [&[ACCOUNT][..], account.as_bytes()].concat().into()
}

/// The account and its stored bytes (for a precondition).
pub async fn get(
    store: &Store,
    account: AccountId,
) -> Result<Option<(AccountRecord, Value)>, StoreError> {
    match store.get(&key(account)).await? {
        Some(value) => Ok(Some((decode(FAMILY, VERSION, &value)?, value))),
        None => Ok(None),
    }
}

/// Writes the account.
pub fn put(part: &mut Part, account: AccountId, record: &AccountRecord) -> Result<(), StoreError> {
    part.put(key(account), encode(FAMILY, VERSION, record)?);
    Ok(())
}

/// Gives the handle to the account for ever; the part fails when anyone ever had it.
pub fn take_handle(part: &mut Part, handle: &Handle, account: AccountId) {
    let key = handle_key(handle);
    part.require(Precondition::Absent(key.clone()));
    part.put(key, [&[VERSION][..], account.as_bytes()].concat().into());
}

/// The account that has or had the handle.
pub async fn by_handle(store: &Store, handle: &Handle) -> Result<Option<AccountId>, StoreError> {
    store
        .get(&handle_key(handle))
        .await?
        .map(|value| account_id(&value))
        .transpose()
}

/// Up to `limit` handles after `after`, by name, gone accounts' too.
pub async fn handles(
    store: &Store,
    after: Option<&Handle>,
    limit: usize,
) -> Result<Vec<(Handle, AccountId)>, StoreError> {
    let mut from = after
        .map_or_else(|| Key::from_static(&[HANDLE]), handle_key)
        .to_vec();
    if after.is_some() {
        from.push(0);
    }
    range(store, &from, &prefix_end(&[HANDLE]), limit).await
}

/// Up to `limit` handles that begin like this, by name, gone accounts' too.
pub async fn handles_with(
    store: &Store,
    beginning: &HandlePrefix,
    limit: usize,
) -> Result<Vec<(Handle, AccountId)>, StoreError> {
    let from = [&[HANDLE][..], beginning.as_str().as_bytes()].concat();
    range(store, &from, &prefix_end(&from), limit).await
}

async fn range(
    store: &Store,
    from: &[u8],
    to: &[u8],
    limit: usize,
) -> Result<Vec<(Handle, AccountId)>, StoreError> {
    let corrupt = StoreError::Corrupt { family: "handle" };
    store
        .range(from, to, limit, Order::Ascending)
        .await?
        .iter()
        .map(|(key, value)| {
            let handle = key
                .get(1..)
                .and_then(|name| std::str::from_utf8(name).ok()?.parse().ok())
                .ok_or_else(|| corrupt.clone())?;
            Ok((handle, account_id(value)?))
        })
        .collect()
}

fn handle_key(handle: &Handle) -> Key {
    [&[HANDLE][..], handle.as_str().as_bytes()].concat().into()
}

fn account_id(value: &Value) -> Result<AccountId, StoreError> {
    match value.split_first() {
        Some((&VERSION, id)) => id
            .try_into()
            .map(AccountId::from_bytes)
            .map_err(|_| StoreError::Corrupt { family: "handle" }),
        _ => Err(StoreError::Corrupt { family: "handle" }),
    }
}
