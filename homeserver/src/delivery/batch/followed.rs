//! Rooms that other homeservers order: how many of one hub's, and how large ones, are kept here.
//!
//! A hub decides how many rooms there are and who is in them. Those that stand go on whatever they grow to, for by a
//! refused commit everybody here would lose the room; beyond the bounds no further one comes in (ROOM-040).

use std::collections::HashMap;

use federation_proto::ids::ServerName;
use federation_proto::refusal::RefusalCode;

use super::undo::Undo;
use super::{Batch, NotTaken};
use crate::delivery::limits::{ROOM_BYTES_OF_PEER_MAX, ROOMS_OF_PEER_MAX};
use crate::store::room::{self, RoomRecord};
use crate::store::tally::{self, Tally};
use crate::store::{Part, Precondition};

/// What a part lets in, by hub: as it was before, and what the part adds.
#[derive(Debug, Default)]
pub(super) struct Followed(HashMap<ServerName, (Tally, Tally)>);

impl Followed {
    /// A room was not let in after all.
    pub(super) fn take_back(&mut self, hub: &ServerName, bytes: u64) {
        if let Some((_, added)) = self.0.get_mut(hub) {
            *added = added.without(bytes);
        }
    }

    /// The part holds only while nobody else has used up what was judged to be free.
    pub(super) fn require(&self, part: &mut Part) {
        for (hub, (_, added)) in &self.0 {
            if added.entries > 0 {
                let entries = ROOMS_OF_PEER_MAX.saturating_sub(added.entries);
                let bytes = ROOM_BYTES_OF_PEER_MAX.saturating_sub(added.bytes);
                part.require(Precondition::WithinEntries(tally::rooms(hub), entries));
                part.require(Precondition::Within(tally::rooms(hub), bytes));
            }
        }
    }
}

impl Batch<'_> {
    /// Lets a room in that is new here and that another homeserver orders, unless as much is kept of that one's rooms as
    /// may be.
    pub async fn follow(&mut self, room: &RoomRecord) -> Result<(), NotTaken> {
        let (hub, bytes) = (&room.hub, room::stored_bytes(room)?);
        let (before, added) = match self.followed.0.get(hub) {
            Some(known) => *known,
            None => {
                let before = tally::get(&self.node.store, &tally::rooms(hub)).await?;
                (before, Tally::default())
            }
        };
        let added = added.with(bytes);
        let fits = before.entries.saturating_add(added.entries) <= ROOMS_OF_PEER_MAX
            && before.bytes.saturating_add(added.bytes) <= ROOM_BYTES_OF_PEER_MAX;
        if !fits {
            return Err(NotTaken::refused(
                RefusalCode::Quota,
                format!(
                    "as many rooms are kept here that {hub} orders as may be, or as large ones: leave some that are not \
                     needed, or let another homeserver order the new one"
                ),
            ));
        }
        self.followed.0.insert(hub.clone(), (before, added));
        self.undo.push(Undo::Followed(hub.clone(), bytes));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use federation_proto::ids::{AccountId, DeviceId, Member, RoomId};

    use super::*;
    use crate::node::Node;
    use crate::node::testing::node;
    use crate::store::{Key, PartOutcome};

    fn hub() -> ServerName {
        "b.example".parse().unwrap()
    }

    fn room() -> RoomRecord {
        let member = Member {
            server: "a.example".parse().unwrap(),
            account: AccountId::from_bytes([1; 16]),
            device: DeviceId::from_bytes([1; 16]),
        };
        RoomRecord::new(hub(), 1, 1, vec![member])
    }

    async fn count(node: &Node, entries: u64, bytes: u64) {
        let value = [entries.to_be_bytes(), bytes.to_be_bytes()].concat();
        let mut part = Part::default();
        part.put(tally::rooms(&hub()), value.into());
        node.store.commit(part).await.unwrap();
    }

    async fn follow(batch: &mut Batch<'_>, n: u8) -> Result<(), NotTaken> {
        let id = RoomId::from_bytes([n; 16]);
        batch.room(id).await?;
        batch.follow(&room()).await?;
        batch.set_room(id, Some(room()));
        Ok(())
    }

    /// Goal: what a hub may have kept here is used up to its end and no further, by rooms as by bytes, also by parts that
    /// are judged at the same time; and what was taken back is free again. By tallies with place for one room more.
    #[tokio::test]
    async fn bounds_are_exact() {
        let (node, _) = node("a.example");
        let bytes = room::stored_bytes(&room()).unwrap();
        let last = [
            (ROOMS_OF_PEER_MAX - 1, 1_000),
            (5, ROOM_BYTES_OF_PEER_MAX - bytes),
        ];
        let mut n = 0;
        for (rooms, used) in last {
            count(&node, rooms, used).await;
            let mut first = Batch::open(&node).await.unwrap();
            let mark = first.mark();
            follow(&mut first, n).await.unwrap();
            assert!(follow(&mut first, n + 1).await.is_err());
            first.roll_back(&mark);
            follow(&mut first, n + 2).await.unwrap();
            let mut second = Batch::open(&node).await.unwrap();
            follow(&mut second, n + 3).await.unwrap();
            assert_eq!(first.commit().await.unwrap(), PartOutcome::Committed);
            assert_eq!(second.commit().await.unwrap(), PartOutcome::Conflict);
            let key: Key = tally::rooms(&hub());
            let now = tally::get(&node.store, &key).await.unwrap();
            assert_eq!((now.entries, now.bytes), (rooms + 1, used + bytes));
            n += 10;
        }
    }
}
