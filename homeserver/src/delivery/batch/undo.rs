//! An item that is not taken leaves nothing behind: neither in the part nor in what the batch keeps beside it.

use std::sync::Arc;

use federation_proto::ids::{AccountId, DeviceId, RoomId, ServerName};

use super::Batch;
use crate::delivery::mailboxes::Item;
use crate::delivery::waiting;
use crate::store::Key;
use crate::store::allowance::{Purpose, Used, Whose};
use crate::store::contacts::Contacts;
use crate::store::group_info::GroupInfoRecord;
use crate::store::key_claims::{Claimer, KeyClaims};
use crate::store::relayed;
use crate::store::room::RoomRecord;

/// One change of what a batch keeps beside its part: what was there before.
pub(super) enum Undo {
    Room {
        id: RoomId,
        now: Option<Arc<RoomRecord>>,
        changed: bool,
        group_info: Option<GroupInfoRecord>,
    },
    Relayed {
        place: (RoomId, ServerName),
        last: Option<relayed::Last>,
    },
    Claims {
        place: (DeviceId, Claimer),
        claims: KeyClaims,
        changed: bool,
    },
    Allowance {
        place: (Purpose, Whose),
        used: Used,
        changed: bool,
    },
    Contacts {
        account: AccountId,
        now: Contacts,
        changed: bool,
    },
    Taken(Key),
    Fill(DeviceId, Item),
    Followed(ServerName, u64),
}

/// How far a batch had come before an item; see [`Batch::roll_back`].
pub(in crate::delivery) struct Mark {
    writes: usize,
    filled: usize,
    turns: usize,
    events: usize,
    refused_answers: usize,
    room_events: usize,
    bytes: usize,
    waiting: waiting::Mark,
}

impl Batch<'_> {
    /// Where the batch stands now. What came before can't be taken back any more.
    pub(in crate::delivery) fn mark(&mut self) -> Mark {
        self.undo.clear();
        Mark {
            bytes: self.part_bytes(),
            writes: self.part.writes.len(),
            filled: self.filled.len(),
            turns: self.turns.len(),
            events: self.events.len(),
            refused_answers: self.refused_answers,
            room_events: self.room_events.len(),
            waiting: self.waiting.mark(),
        }
    }

    /// Takes back what an item has changed since. What it was judged by still holds, and it may have an inbox swept, or
    /// wake somebody, for nothing.
    pub(in crate::delivery) fn roll_back(&mut self, mark: &Mark) {
        self.part.writes.truncate(mark.writes);
        self.weighed = (mark.writes, mark.bytes);
        self.filled.truncate(mark.filled);
        self.turns.truncate(mark.turns);
        self.events.truncate(mark.events);
        self.refused_answers = mark.refused_answers;
        self.room_events.truncate(mark.room_events);
        self.waiting.roll_back(mark.waiting);
        // The newest first: what is there at the end was there before.
        while let Some(undo) = self.undo.pop() {
            self.take_back(undo);
        }
    }

    fn take_back(&mut self, undo: Undo) {
        match undo {
            Undo::Room {
                id,
                now,
                changed,
                group_info,
            } => {
                if let Some(tracked) = self.rooms.get_mut(&id) {
                    (tracked.now, tracked.changed) = (now, changed);
                    tracked.group_info = group_info;
                }
            }
            Undo::Relayed { place, last } => {
                if let Some((_, now)) = self.relayed.get_mut(&place) {
                    *now = last;
                }
            }
            Undo::Claims {
                place,
                claims,
                changed,
            } => {
                if let Some((_, now, is_changed)) = self.claims.get_mut(&place) {
                    (*now, *is_changed) = (claims, changed);
                }
            }
            Undo::Allowance {
                place,
                used,
                changed,
            } => {
                if let Some((_, now, is_changed)) = self.allowances.get_mut(&place) {
                    (*now, *is_changed) = (used, changed);
                }
            }
            Undo::Contacts {
                account,
                now,
                changed,
            } => {
                if let Some(tracked) = self.contacts.get_mut(&account) {
                    (tracked.now, tracked.changed) = (now, changed);
                }
            }
            Undo::Taken(key) => {
                self.taken.remove(&key);
            }
            Undo::Fill(device, item) => {
                if let Some(fill) = self.fills.get_mut(&device) {
                    fill.subtract(&item);
                }
            }
            Undo::Followed(hub, bytes) => self.followed.take_back(&hub, bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::mailboxes::Class;
    use crate::node::testing::node;

    const ROOM: RoomId = RoomId::from_bytes([5; 16]);
    const DEVICE: DeviceId = DeviceId::from_bytes([6; 16]);
    const ACCOUNT: AccountId = AccountId::from_bytes([7; 16]);
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;

    /// Goal: what an item has changed beside the part is taken back with it, and what the items before have changed stays,
    /// however often the item changed it. Method: inboxes, relays, claims, allowances and rows are changed once by one item and
    /// twice by the next.
    #[tokio::test]
    async fn only_the_last_item() {
        let (node, _) = node("a.example");
        let peer: ServerName = "b.example".parse().unwrap();
        let whose = Whose::Account(ACCOUNT);
        let mut batch = Batch::open(&node).await.unwrap();
        let last = |sequence| relayed::Last {
            link_epoch: 1,
            sequence,
        };
        let key = |byte: u8| -> Key { vec![byte].into() };
        let item = || Item::new(Class::Message, Some(peer.clone()), 10);
        batch.fill(DEVICE).await.unwrap();
        batch.relayed(ROOM, &peer).await.unwrap();
        let by = Claimer::Peer(peer.clone());
        assert!(batch.may_claim(DEVICE, &by).await.unwrap());
        let allows = batch.allows(Purpose::LookUp, &whose, 9, DAY_MS).await;
        allows.unwrap().unwrap();
        let change = |batch: &mut Batch<'_>, n: u8| {
            batch.note_filled(DEVICE, item(), 10, 1);
            batch.set_relayed(ROOM, &peer, last(u64::from(n)));
            batch.note_claim(DEVICE, &by);
            batch.use_up(Purpose::LookUp, &whose, 1, 9);
            assert!(batch.take(key(n)));
        };

        batch.mark();
        change(&mut batch, 1);
        let mark = batch.mark();
        for n in [2, 3] {
            change(&mut batch, n);
        }
        batch.roll_back(&mark);

        let fill = batch.fill(DEVICE).await.unwrap();
        let (all, brought) = fill.of(Class::Message, Some(&peer));
        assert_eq!((all.items, brought.items), (1, 1));
        assert_eq!(batch.relayed(ROOM, &peer).await.unwrap(), Some(last(1)));
        let claims = batch.claims[&(DEVICE, by.clone())].1;
        assert_eq!(claims.count, 1);
        let place = (Purpose::LookUp, whose.clone());
        assert_eq!(batch.allowances[&place].1.units, 1);
        assert!(batch.has_taken(&key(1)) && !batch.has_taken(&key(2)));
        assert!(batch.take(key(3)));
        assert_eq!(batch.filled.len(), 1);
    }
}
