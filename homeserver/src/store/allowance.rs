//! `a`: what somebody has used up lately of what is allowed within a time: look-ups, reports, asks, downloads.

use federation_proto::ids::{AccountId, ServerName};
use serde::{Deserialize, Serialize};

use super::record::{decode, encode};
use super::{Key, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "allowance";
const VERSION: u8 = 1;
const ALLOWANCE: u8 = b'a';

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Questions to the directory, and what they were told.
    LookUp,
    /// Reports of abuse.
    Report,
    /// Asks for consent to contact somebody.
    Ask,
    /// Downloads of files, in KiB.
    Download,
}

/// Whose use is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Whose {
    /// An own account's.
    Account(AccountId),
    /// A peer's, all its people together.
    Peer(ServerName),
}

/// What was used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Used {
    /// When counting began, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// How much since then.
    pub units: u32,
}

/// What was used up, and its stored bytes (for [`put`]).
pub async fn get(
    store: &Store,
    purpose: Purpose,
    whose: &Whose,
) -> Result<Option<(Used, Value)>, StoreError> {
    match store.get(&key(purpose, whose)).await? {
        Some(value) => Ok(Some((decode(FAMILY, VERSION, &value)?, value))),
        None => Ok(None),
    }
}

/// Writes what was used up; the part fails when it is no longer what was read.
pub fn put(
    part: &mut Part,
    purpose: Purpose,
    whose: &Whose,
    used: Used,
    read: Option<Value>,
) -> Result<(), StoreError> {
    let key = key(purpose, whose);
    part.require(Precondition::unchanged(key.clone(), read));
    part.put(key, encode(FAMILY, VERSION, &used)?);
    Ok(())
}

/// Deletes what is known of an account that goes.
pub fn delete_account(part: &mut Part, account: AccountId) {
    for purpose in [
        Purpose::LookUp,
        Purpose::Report,
        Purpose::Ask,
        Purpose::Download,
    ] {
        part.delete(key(purpose, &Whose::Account(account)));
    }
}

fn key(purpose: Purpose, whose: &Whose) -> Key {
    let purpose = match purpose {
        Purpose::LookUp => b'l',
        Purpose::Report => b'r',
        Purpose::Ask => b'c',
        Purpose::Download => b'd',
    };
    let (kind, id): (u8, &[u8]) = match whose {
        Whose::Account(account) => (b'a', account.as_bytes()),
        Whose::Peer(server) => (b'p', server.as_str().as_bytes()),
    };
    [&[ALLOWANCE, purpose, kind], id].concat().into()
}
