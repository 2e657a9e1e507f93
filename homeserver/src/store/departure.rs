//! `n`: accounts and devices of this homeserver that are to leave every room.
//!
//! An entry is written in the part that takes the account or the device away, and deleted when the hub of each of its
//! rooms has been asked, or an envelope that asks it lies in the outbox.

use federation_proto::ids::{AccountId, DeviceId};

use super::record::prefix_end;
use super::{Key, Order, Part, Store, StoreError};

const FAMILY: &str = "departure";
const DEPARTURE: u8 = b'n';
const ID_BYTES: usize = 16;

/// Who is to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departure {
    /// The account.
    pub account: AccountId,
    /// The one device of it that goes; `None`: the account goes, with all of its devices.
    pub device: Option<DeviceId>,
}

/// Has it leave every room.
pub fn put(part: &mut Part, departure: Departure) {
    part.put(key(departure), Key::from_static(&[1]));
}

/// It has been asked for everywhere.
pub fn delete(part: &mut Part, departure: Departure) {
    part.delete(key(departure));
}

/// Up to `limit` of those who are to leave.
pub async fn waiting(store: &Store, limit: usize) -> Result<Vec<Departure>, StoreError> {
    let prefix = [DEPARTURE];
    let entries = store
        .range(&prefix, &prefix_end(&prefix), limit, Order::Ascending)
        .await?;
    entries
        .iter()
        .map(|(key, _)| read(key).ok_or(StoreError::Corrupt { family: FAMILY }))
        .collect()
}

fn read(key: &[u8]) -> Option<Departure> {
    let ids = key.get(1..)?;
    let (account, device) = ids.split_first_chunk::<ID_BYTES>()?;
    let device = match device {
        [] => None,
        device => Some(DeviceId::from_bytes(device.try_into().ok()?)),
    };
    Some(Departure {
        account: AccountId::from_bytes(*account),
        device,
    })
}

fn key(departure: Departure) -> Key {
    let device = departure
        .device
        .as_ref()
        .map_or(&[][..], |device| &device.as_bytes()[..]);
    [&[DEPARTURE][..], departure.account.as_bytes(), device]
        .concat()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a key is read as what it was written of, and nothing else is one; by both kinds and every cut.
    #[test]
    fn keys() {
        let account = AccountId::from_bytes([1; 16]);
        for device in [None, Some(DeviceId::from_bytes([2; 16]))] {
            let departure = Departure { account, device };
            let key = key(departure);
            assert_eq!(read(&key), Some(departure));
            for end in 0..key.len() {
                assert!(
                    read(&key[..end]).is_none_or(|read| read.device.is_none()),
                    "{end}"
                );
            }
        }
    }
}
