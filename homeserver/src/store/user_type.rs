//! `U`: user types, by name.

use homeserver_api::policy::{Bounds, DirectoryListing, ExternalScope, UserTypePolicy};
use serde::Deserialize;

use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Store, StoreError, Value};

const FAMILY: &str = "user type";
const VERSION: u8 = 2;
/// The version before user types said who is found in the directory.
const VERSION_1: u8 = 1;
const USER_TYPE: u8 = b'U';
/// More user types than anyone administers.
pub const USER_TYPES_MAX: usize = 1000;

/// A user type of version 1.
#[derive(Deserialize)]
struct PolicyVersion1 {
    ttl: Bounds,
    burn: Bounds,
    external: ExternalScope,
    files: bool,
    file_bytes_max: u64,
    devices_max: u32,
}

/// The user type with this name.
pub async fn get(store: &Store, name: &str) -> Result<Option<UserTypePolicy>, StoreError> {
    store
        .get(&key(name))
        .await?
        .map(|value| read(&value))
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
            Ok((name, read(value)?))
        })
        .collect()
}

fn read(value: &Value) -> Result<UserTypePolicy, StoreError> {
    if value.first() != Some(&VERSION_1) {
        return decode(FAMILY, VERSION, value);
    }
    let former: PolicyVersion1 = decode(FAMILY, VERSION_1, value)?;
    Ok(UserTypePolicy {
        ttl: former.ttl,
        burn: former.burn,
        external: former.external,
        files: former.files,
        file_bytes_max: former.file_bytes_max,
        devices_max: former.devices_max,
        directory: DirectoryListing::default(),
    })
}

fn key(name: &str) -> Key {
    [&[USER_TYPE][..], name.as_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a user type is read as it was written, and one of the version before as one whose people are
    /// found by their whole handle; by the bytes of both versions.
    #[test]
    fn versions() {
        let policy = UserTypePolicy {
            directory: DirectoryListing::Listed,
            ..UserTypePolicy::default()
        };
        let value = encode(FAMILY, VERSION, &policy).unwrap();
        assert_eq!(read(&value).unwrap(), policy);
        // Version 1 ended before the directory's byte.
        let former = [&[VERSION_1], &value[1..value.len() - 1]].concat();
        assert_eq!(read(&former.into()).unwrap(), UserTypePolicy::default());
        assert!(read(&value.slice(..value.len() - 1)).is_err());
    }
}
