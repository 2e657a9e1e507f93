//! `m`: peers with whom a restored homeserver has yet to find out what they have had, and how far the lanes to each had come
//! in the backup; then, that none of them has answered in the new numbering yet.

use std::collections::HashMap;

use federation_proto::envelope::Lane;
use federation_proto::ids::ServerName;

use super::record::prefix_end;
use super::{Key, Order, Part, Store, StoreError, Value};

const FAMILY: &str = "reconciliation";
const PEER: &[u8] = b"mt";
/// The peer's record once everything is numbered anew; before it is empty.
const NUMBERED: &[u8] = &[1];
/// Lanes read at once.
const PAGE: usize = 1024;

/// What is left to do with a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// It has to be found out what it has had of the rows that were in the backup: the last numbers of the lanes that had any.
    Asking(HashMap<Lane, u64>),
    /// Everything is numbered anew. The peer may know a higher numbering than this all the same, and then does not take it.
    Numbered,
}

/// Adds the peer; its lanes with [`put_lane`].
pub fn put(part: &mut Part, peer: &ServerName) {
    part.put(prefix(peer), Value::new());
}

/// The rows of the lane up to this number were in the backup.
pub fn put_lane(part: &mut Part, peer: &ServerName, lane: Lane, number: u64) {
    let key = [prefix(peer).as_ref(), lane.as_bytes()].concat();
    part.put(key.into(), Value::copy_from_slice(&number.to_be_bytes()));
}

/// What was to be found out is: everything is numbered anew, and the peer has not answered in that numbering yet.
pub fn put_numbered(part: &mut Part, peer: &ServerName) {
    part.put(prefix(peer), Value::from_static(NUMBERED));
}

/// The peer has answered in the new numbering: nothing is left to do.
pub fn delete_numbered(part: &mut Part, peer: &ServerName) {
    part.delete(prefix(peer));
}

/// Whether it is left to find out what the peer has had.
pub async fn is_due(store: &Store, peer: &ServerName) -> Result<bool, StoreError> {
    Ok(store
        .get(&prefix(peer))
        .await?
        .is_some_and(|value| value.is_empty()))
}

/// What is left to do with the peer; `None`: nothing.
pub async fn left(store: &Store, peer: &ServerName) -> Result<Option<Left>, StoreError> {
    match store.get(&prefix(peer)).await? {
        None => return Ok(None),
        Some(value) if value.as_ref() == NUMBERED => return Ok(Some(Left::Numbered)),
        Some(value) if value.is_empty() => {}
        Some(_) => return Err(StoreError::Corrupt { family: FAMILY }),
    }
    let (prefix, mut lanes) = (prefix(peer), HashMap::new());
    let mut from = [prefix.as_ref(), &[0]].concat();
    loop {
        let end = prefix_end(&prefix);
        let page = store.range(&from, &end, PAGE, Order::Ascending).await?;
        let Some((last, _)) = page.last() else {
            return Ok(Some(Left::Asking(lanes)));
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

/// Adds the deletion of up to `limit` of the peer's records, itself last; how many. Fewer than `limit`: none is left then.
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
    let mut count = page.len();
    for (key, _) in page {
        part.delete(key);
    }
    if count < limit && store.get(&prefix).await?.is_some() {
        part.delete(prefix);
        count = count.saturating_add(1);
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
        assert_eq!(left(&store, &a).await.unwrap(), None);
        let mut part = Part::default();
        put(&mut part, &a);
        put(&mut part, &b);
        // A lane of zeros, the control lane, is one too.
        for n in 0..5 {
            put_lane(&mut part, &a, lane(n), u64::from(n) + 7);
        }
        store.commit(part).await.unwrap();
        let expected = (0..5).map(|n| (lane(n), u64::from(n) + 7)).collect();
        let asking = |lanes| Some(Left::Asking(lanes));
        assert_eq!(left(&store, &a).await.unwrap(), asking(expected));
        assert_eq!(left(&store, &b).await.unwrap(), asking(HashMap::new()));
        for (deleted, is_left) in [(2, true), (2, true), (2, false), (0, false)] {
            let mut part = Part::default();
            let some = delete_some(&store, &mut part, &a, 2).await.unwrap();
            assert_eq!(some, deleted);
            store.commit(part).await.unwrap();
            assert_eq!(is_due(&store, &a).await.unwrap(), is_left);
        }
        assert!(is_due(&store, &b).await.unwrap());
        let mut part = Part::default();
        put_numbered(&mut part, &b);
        store.commit(part).await.unwrap();
        assert!(!is_due(&store, &b).await.unwrap());
        assert_eq!(left(&store, &b).await.unwrap(), Some(Left::Numbered));
        let mut part = Part::default();
        delete_numbered(&mut part, &b);
        store.commit(part).await.unwrap();
        assert_eq!(left(&store, &b).await.unwrap(), None);
    }
}
