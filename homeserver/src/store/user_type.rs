//! `U`: user types, by name.

use homeserver_api::policy::UserTypePolicy;

use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Store, StoreError};

const FAMILY: &str = "user type";
const VERSION: u8 = 4;
const USER_TYPE: u8 = b'U';
/// More user types than anyone administers.
pub const USER_TYPES_MAX: usize = 1000;

/// The user type with this name.
pub async fn get(store: &Store, name: &str) -> Result<Option<UserTypePolicy>, StoreError> {
    store
        .get(&key(name))
        .await?
        .map(|value| decode(FAMILY, VERSION, &value))
        .transpose()
}

/// Writes a user type.
pub fn put(part: &mut Part, name: &str, policy: &UserTypePolicy) -> Result<(), StoreError> {
    part.put(key(name), encode(FAMILY, VERSION, policy)?);
    Ok(())
}

/// Deletes a user type.
pub fn delete(part: &mut Part, name: &str) {
    part.delete(key(name));
}

/// Every user type, by name.
pub async fn all(store: &Store) -> Result<Vec<(String, UserTypePolicy)>, StoreError> {
    store
        .range(
            &[USER_TYPE],
            &prefix_end(&[USER_TYPE]),
            USER_TYPES_MAX,
            Order::Ascending,
        )
        .await?
        .iter()
        .map(|(key, value)| {
            let name = key
                .get(1..)
                .and_then(|name| String::from_utf8(name.to_vec()).ok())
                .ok_or(StoreError::Corrupt { family: FAMILY })?;
            Ok((name, decode(FAMILY, VERSION, value)?))
        })
        .collect()
}

fn key(name: &str) -> Key {
    [&[USER_TYPE][..], name.as_bytes()].concat().into()
}
