//! `M`: administrators who sign in over the network, and their sessions.
//!
//! A session is stored under the hash of its token: whoever reads the store can't use it.

use federation_proto::ids::Handle;
use serde::{Deserialize, Serialize};

use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "administrator";
const VERSION: u8 = 1;
const ACCOUNT: &[u8] = b"Ma";
const SESSION: &[u8] = b"Ms";
const PAGE_SESSIONS: usize = 256;

/// An administrator.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Administrator {
    /// The password's hash, in PHC form.
    pub password_hash: String,
    /// When the account was made, milliseconds since the Unix epoch.
    pub created_ms: u64,
}

/// An administrator's session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminSession {
    /// Who.
    pub name: Handle,
    /// When it ends, milliseconds since the Unix epoch.
    pub expires_ms: u64,
}

/// Adds an administrator; the part fails when there is one of this name already.
pub fn create(part: &mut Part, name: &Handle, record: &Administrator) -> Result<(), StoreError> {
    let key = account_key(name);
    part.require(Precondition::Absent(key.clone()));
    part.put(key, encode(FAMILY, VERSION, record)?);
    Ok(())
}

/// Writes an administrator whom nobody has changed since this was read.
pub fn replace(
    part: &mut Part,
    name: &Handle,
    read: Value,
    record: &Administrator,
) -> Result<(), StoreError> {
    require(part, name, read);
    part.put(account_key(name), encode(FAMILY, VERSION, record)?);
    Ok(())
}

/// The part fails when anybody has changed the administrator since this was read.
pub fn require(part: &mut Part, name: &Handle, read: Value) {
    part.require(Precondition::Equals(account_key(name), read));
}

/// The administrator of this name, and what was read.
pub async fn get(
    store: &Store,
    name: &Handle,
) -> Result<Option<(Administrator, Value)>, StoreError> {
    match store.get(&account_key(name)).await? {
        Some(value) => Ok(Some((decode(FAMILY, VERSION, &value)?, value))),
        None => Ok(None),
    }
}

/// Adds a session under its token's SHA-256.
pub fn put_session(
    part: &mut Part,
    token_sha256: &[u8; 32],
    session: &AdminSession,
) -> Result<(), StoreError> {
    part.put(session_key(token_sha256), encode(FAMILY, VERSION, session)?);
    Ok(())
}

/// The session of this token.
pub async fn session(
    store: &Store,
    token_sha256: &[u8; 32],
) -> Result<Option<AdminSession>, StoreError> {
    let value = store.get(&session_key(token_sha256)).await?;
    value
        .map(|value| decode(FAMILY, VERSION, &value))
        .transpose()
}

/// Adds the end of a session that lasts; the part fails when it has ended already.
pub fn end_session(part: &mut Part, token_sha256: &[u8; 32]) {
    let key = session_key(token_sha256);
    part.require(Precondition::Present(key.clone()));
    part.delete(key);
}

/// Adds the end of all sessions of this administrator but the one of this token; how many.
pub async fn end_other_sessions(
    store: &Store,
    part: &mut Part,
    name: &Handle,
    token_sha256: &[u8; 32],
) -> Result<u64, StoreError> {
    let kept = session_key(token_sha256);
    let mut from = Key::from_static(SESSION);
    let mut ended = 0;
    loop {
        let page = store
            .range(&from, &prefix_end(SESSION), PAGE_SESSIONS, Order::Ascending)
            .await?;
        let Some((last, _)) = page.last() else {
            return Ok(ended);
        };
        from = [last.as_ref(), &[0]].concat().into();
        for (key, value) in page {
            let session: AdminSession = decode(FAMILY, VERSION, &value)?;
            if session.name == *name && key != kept {
                part.delete(key);
                ended += 1;
            }
        }
    }
}

/// Adds the deletion of up to `limit` sessions that have ended.
pub async fn delete_ended_sessions(
    store: &Store,
    part: &mut Part,
    now_ms: u64,
    limit: usize,
) -> Result<(), StoreError> {
    let sessions = store
        .range(SESSION, &prefix_end(SESSION), limit, Order::Ascending)
        .await?;
    for (key, value) in sessions {
        let session: AdminSession = decode(FAMILY, VERSION, &value)?;
        if session.expires_ms <= now_ms {
            part.delete(key);
        }
    }
    Ok(())
}

fn account_key(name: &Handle) -> Key {
    [ACCOUNT, name.as_str().as_bytes()].concat().into()
}

fn session_key(token_sha256: &[u8; 32]) -> Key {
    [SESSION, token_sha256.as_slice()].concat().into()
}
