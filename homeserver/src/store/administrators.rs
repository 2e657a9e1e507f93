//! `M`: administrators who sign in over the network, and their sessions.
//!
//! A session is stored under the hash of its token: whoever reads the store can't use it.

use federation_proto::ids::Handle;
use serde::{Deserialize, Serialize};

use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Precondition, Store, StoreError};

const FAMILY: &str = "administrator";
const VERSION: u8 = 1;
const ACCOUNT: &[u8] = b"Ma";
const SESSION: &[u8] = b"Ms";

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

/// The administrator of this name.
pub async fn get(store: &Store, name: &Handle) -> Result<Option<Administrator>, StoreError> {
    let value = store.get(&account_key(name)).await?;
    value
        .map(|value| decode(FAMILY, VERSION, &value))
        .transpose()
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
