//! `m`: peers with whom a restored homeserver has yet to find out what they have had, and how far the lanes to each had come
//! in the backup.

use std::collections::HashMap;

use federation_proto::envelope::Lane;
use federation_proto::ids::ServerName;

use super::record::prefix_end;
use super::{Key, Order, Part, Store, StoreError, Value};

const FAMILY: &str = "reconciliation";
const PEER: &[u8] = b"mt";
/// Lanes read at once.
const PAGE: usize = 1024;

/// Adds the peer; its lanes with [`put_lane`].
pub fn put(part: &mut Part, peer: &ServerName) {
    part.put(prefix(peer), Value::new());
}

/// The rows of the lane up to this number were in the backup.
pub fn put_lane(part: &mut Part, peer: &ServerName, lane: Lane, number: u64) {
    let key = [prefix(peer).as_ref(), lane.as_bytes()].concat();
    part.put(key.into(), Value::copy_from_slice(&number.to_be_bytes()));
}

/// Whether something is left to find out.
pub async fn is_due(store: &Store, peer: &ServerName) -> Result<bool, StoreError> {
    Ok(store.get(&prefix(peer)).await?.is_some())
}

/// The last numbers of the lanes that had rows in the backup; `None`: nothing is left to find out.
pub async fn lanes(
    store: &Store,
    peer: &ServerName,
) -> Result<Option<HashMap<Lane, u64>>, StoreError> {
    if !is_due(store, peer).await? {
        return Ok(None);
    }
    let (prefix, mut lanes) = (prefix(peer), HashMap::new());
    let mut from = [prefix.as_ref(), &[0]].concat();
    loop {
        let end = prefix_end(&prefix);
        let page = store.range(&from, &end, PAGE, Order::Ascending).await?;
        let Some((last, _)) = page.last() else {
            return Ok(Some(lanes));
        };
        from = [last.as_ref(), &[0]].concat();
        for (key, value) in &page {
            let corrupt = || StoreError::Corrupt { family: FAMILY };
            let lane = key.get(prefix.len()..).unwrap_or_default();
            let lane = lane.try_into().map_err(|_| corrupt())?;
            let number = value.as_ref().try_into().map_err(|_| corrupt())?;
            lanes.insert(Lane::from_bytes(lane), u64::from_be_bytes(number));
        }
    }
}

/// Adds the deletion of up to `limit` of the peer's records, itself last; how many.
pub async fn delete_some(
    store: &Store,
    part: &mut Part,
    peer: &ServerName,
    limit: usize,
) -> Result<usize, StoreError> {
    let prefix = prefix(peer);
    let from = [prefix.as_ref(), &[0]].concat();
    let end = prefix_end(&prefix);
    let page = store.range(&from, &end, limit, Order::Ascending).await?;
    let count = page.len();
    for (key, _) in page {
        part.delete(key);
    }
    if count < limit {
        part.delete(prefix);
    }
    Ok(count)
}

fn prefix(peer: &ServerName) -> Key {
    let name = peer.as_str().as_bytes();
    // A server name has at most 253 bytes; the length comes first, so that no other name begins with this one.
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    [PEER, &[length], name].concat().into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::engine::memory::MemoryEngine;

    /// Goal: what is left to find out is each peer's own, and is gone when it was deleted a part at a time. Method: two peers, one
    /// name of which begins like the other.
    #[tokio::test]
    async fn each_peer_has_its_own() {
        let store = Store::new(Arc::new(MemoryEngine::default())).unwrap();
        let [a, b]: [ServerName; 2] = ["a.example", "a.example2"].map(|name| name.parse().unwrap());
        let lane = |n| Lane::from_bytes([n; 16]);
        assert_eq!(lanes(&store, &a).await.unwrap(), None);
        let mut part = Part::default();
        put(&mut part, &a);
        put(&mut part, &b);
        // A lane of zeros, the control lane, is one too.
        for n in 0..5 {
            put_lane(&mut part, &a, lane(n), u64::from(n) + 7);
        }
        store.commit(part).await.unwrap();
        let expected = (0..5).map(|n| (lane(n), u64::from(n) + 7)).collect();
        assert_eq!(lanes(&store, &a).await.unwrap(), Some(expected));
        assert_eq!(lanes(&store, &b).await.unwrap(), Some(HashMap::new()));
        for left in [true, true, false] {
            let mut part = Part::default();
            delete_some(&store, &mut part, &a, 2).await.unwrap();
            store.commit(part).await.unwrap();
            assert_eq!(is_due(&store, &a).await.unwrap(), left);
        }
        assert!(is_due(&store, &b).await.unwrap());
    }
}
