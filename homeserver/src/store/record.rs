//! How every record is written down: one version byte, then postcard, nothing after it.
//!
//! A record type that changes gets a new version; readers keep the old ones.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Key, StoreError, Value};

/// The value of a record in format `version`.
pub fn encode<T: Serialize>(
    family: &'static str,
    version: u8,
    record: &T,
) -> Result<Value, StoreError> {
    postcard::to_extend(record, vec![version])
        .map(Value::from)
        .map_err(|_| StoreError::Corrupt { family })
}

/// The record in `value`, which must be of format `version` and nothing more.
pub fn decode<T: DeserializeOwned>(
    family: &'static str,
    version: u8,
    value: &Value,
) -> Result<T, StoreError> {
    let corrupt = || StoreError::Corrupt { family };
    let (found, rest) = value.split_first().ok_or_else(corrupt)?;
    if *found != version {
        return Err(corrupt());
    }
    match postcard::take_from_bytes(rest) {
        Ok((record, [])) => Ok(record),
        Ok(_) | Err(_) => Err(corrupt()),
    }
}

/// The first key after every key that starts with `prefix`.
pub fn prefix_end(prefix: &[u8]) -> Key {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end.into();
        }
    }
    // No key family starts with 0xff, so an empty prefix or one of 0xff alone ends above them all.
    vec![u8::MAX].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a record comes back as it was; another version, a cut and a trailing byte are refused.
    #[test]
    fn round_trip() {
        let value = encode("test", 3, &(7_u32, "seven".to_owned())).unwrap();
        assert_eq!(
            decode::<(u32, String)>("test", 3, &value).unwrap(),
            (7, "seven".to_owned())
        );
        assert!(decode::<(u32, String)>("test", 2, &value).is_err());
        assert!(decode::<(u32, String)>("test", 3, &value.slice(..value.len() - 1)).is_err());
        let mut longer = value.to_vec();
        longer.push(0);
        assert!(decode::<(u32, String)>("test", 3, &longer.into()).is_err());
    }

    /// Goal: a prefix's end lies right after all its keys, also when its last byte is 0xff.
    #[test]
    fn prefix_ends() {
        assert_eq!(prefix_end(b"ab").as_ref(), b"ac");
        assert_eq!(prefix_end(&[b'a', 0xff]).as_ref(), b"b");
    }
}
