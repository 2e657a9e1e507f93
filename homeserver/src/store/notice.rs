//! `4|process|number`: what a node has lately told the other nodes of the cluster.
//!
//! A hint that is lost on its way costs a moment and nothing else: what was told stands here as well, written with
//! the node's next sign of life, and is read by whoever sees that sign.

use federation_proto::envelope::Lane;
use federation_proto::ids::{DeviceId, ServerName};
use serde::{Deserialize, Serialize};

use super::node_row::Incarnation;
use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Store, StoreError};

const FAMILY: &str = "notices";
const VERSION: u8 = 1;
const NOTICES: u8 = b'4';

/// Something that happened at a node and that others may be waiting for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Notice {
    /// Anything: more has happened than was noted.
    Everything,
    /// A device's inbox has something new.
    Mail(DeviceId),
    /// A device's account, its devices or its user type may have changed.
    Rules(DeviceId),
    /// A user type has changed.
    EveryonesRules,
    /// A device has come to the account of this one, has left it, or waits to come.
    Devices(DeviceId),
    /// A session of this device has opened.
    Opened(DeviceId),
    /// Agreements or keys have changed.
    Peers,
    /// An account or a device is to leave its rooms.
    Departed,
    /// Something new waits for this peer in this lane.
    Outbox(ServerName, Lane),
    /// Whatever waits for this peer is to be tried now.
    Retry(ServerName),
    /// This peer has talked to us.
    Heard(ServerName),
    /// This peer signs with a key that its known manifest does not list.
    Manifest(ServerName),
}

impl Notice {
    /// Whether it is worth being written down: who misses one of the others waits a little longer, or holds on to a
    /// session that its device has left.
    pub const fn is_kept(&self) -> bool {
        !matches!(self, Self::Opened(_) | Self::Heard(_))
    }
}

/// Writes what a node tells under the next number.
pub fn put(
    part: &mut Part,
    of: Incarnation,
    number: u64,
    notices: &[Notice],
) -> Result<(), StoreError> {
    part.put(key(of, number), encode(FAMILY, VERSION, &notices)?);
    Ok(())
}

/// What a node has told from this number on, up to and without `to`.
pub async fn read(
    store: &Store,
    of: Incarnation,
    (from, to): (u64, u64),
) -> Result<Vec<(u64, Vec<Notice>)>, StoreError> {
    let corrupt = || StoreError::Corrupt { family: FAMILY };
    let limit = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
    let rows = store
        .range(&key(of, from), &key(of, to), limit, Order::Ascending)
        .await?;
    rows.into_iter()
        .map(|(key, value)| {
            let number = key.last_chunk::<8>().ok_or_else(corrupt)?;
            let notices = decode(FAMILY, VERSION, &value)?;
            Ok((u64::from_be_bytes(*number), notices))
        })
        .collect()
}

/// Deletes what a node has told under this number.
pub fn delete(part: &mut Part, of: Incarnation, number: u64) {
    part.delete(key(of, number));
}

/// Deletes up to `limit` of all that a node has told; whether that was the rest.
pub async fn delete_all(
    store: &Store,
    part: &mut Part,
    of: Incarnation,
    limit: usize,
) -> Result<bool, StoreError> {
    let prefix = prefix(of);
    let rows = store
        .range(&prefix, &prefix_end(&prefix), limit, Order::Ascending)
        .await?;
    let is_rest = rows.len() < limit;
    for (key, _) in rows {
        part.delete(key);
    }
    Ok(is_rest)
}

fn prefix(of: Incarnation) -> Vec<u8> {
    [&[NOTICES][..], &of.0].concat()
}

fn key(of: Incarnation, number: u64) -> Key {
    [prefix(of).as_slice(), &number.to_be_bytes()]
        .concat()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the stored form never changes unseen; by comparing each kind with fixed bytes.
    #[test]
    fn stored_form() {
        let device = DeviceId::from_bytes([7; 16]);
        let server: ServerName = "b.example".parse().unwrap();
        let notices = [
            Notice::Everything,
            Notice::Mail(device),
            Notice::Rules(device),
            Notice::EveryonesRules,
            Notice::Devices(device),
            Notice::Opened(device),
            Notice::Peers,
            Notice::Departed,
            Notice::Outbox(server.clone(), Lane::CONTROL),
            Notice::Retry(server.clone()),
            Notice::Heard(server.clone()),
            Notice::Manifest(server),
        ];
        for (number, notice) in notices.iter().enumerate() {
            let value = encode(FAMILY, VERSION, &std::slice::from_ref(notice)).unwrap();
            let start = [1, 1, u8::try_from(number).unwrap()];
            assert_eq!(value[..3], start, "{notice:?}");
            let again: Vec<Notice> = decode(FAMILY, VERSION, &value).unwrap();
            assert_eq!(again, std::slice::from_ref(notice));
        }
        let mail = encode(FAMILY, VERSION, &std::slice::from_ref(&notices[1])).unwrap();
        assert_eq!(mail.len(), 19, "{mail:?}");
    }
}
