//! What waits for one peer, in the order in which it goes out.
//!
//! The store's outbox is the truth. Of it, this keeps each lane's first numbers in a
//! [`link::Sender`], which decides whose turn it is, and the contents of what goes out next. A lane
//! never waits for another one: a deferred lane keeps its numbers here and costs nothing else.
//!
//! Rows have numbers, envelopes have sequences: the same, but in a link epoch that was begun with mail
//! waiting, where each lane's sequences are counted from its base. Only this file knows both.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use federation_proto::envelope::{HashedPayload, Kind, Lane, Outgoing};
use federation_proto::ids::ServerName;
use federation_proto::limits::TRANSACTION_BYTES_MAX;
use federation_proto::link::{self, Batch, BatchLimits, Item, Settled};
use federation_proto::receipt::Receipt;
use federation_proto::transaction::SignedTransaction;

use super::links::News;
use crate::cluster::Fence;
use crate::delivery::outbox::OutboxItem;
use crate::federation::peers::PeerView;
use crate::store::lane_base::{self, LaneBase};
use crate::store::outbox::{self, WaitingRow};
use crate::store::{Part, PartOutcome, Store, StoreError};

/// Numbers of one lane that are kept here.
const LANE_ITEMS_MAX: usize = 1024;
/// Lanes that are kept here, unless more of them have mail.
const LANES_KNOWN_MAX: usize = 16 * 1024;
/// Rows read from one lane before the next lane has its turn.
const LANE_ROWS_READ: usize = 256;
/// Rows read in one go.
const ROWS_READ_MAX: usize = 1024;
/// Numbers of all lanes that are kept here.
const ITEMS_MAX: usize = 65_536;
/// Bytes of contents that are kept here.
const CACHE_BYTES_MAX: usize = TRANSACTION_BYTES_MAX;
/// What a header adds to a payload, at most.
const HEADER_BYTES: usize = 640;

/// The sending side of the link to one peer.
pub(super) struct Queue {
    destination: ServerName,
    sender: link::Sender,
    /// The highest number of each lane that `sender` knows, and how many of them wait.
    lanes: HashMap<Lane, Known>,
    items: usize,
    cache: HashMap<(Lane, u64), OutboxItem>,
    cache_bytes: usize,
    /// The lane that was read last; the next reading starts after it.
    cursor: Option<Lane>,
    /// Whether any lane may hold rows that were not read yet.
    unread: bool,
    /// Lanes that hold such rows.
    news: BTreeSet<Lane>,
    /// Nothing beyond these numbers is read, and of no other lane.
    only: Option<Arc<HashMap<Lane, u64>>>,
    /// The lease of whoever reads this.
    fence: Option<Fence>,
}

#[derive(Default)]
struct Known {
    tail: u64,
    waiting: usize,
    /// The number before the one whose sequence is 1; `None`: not read or decided yet.
    base: Option<u64>,
}

/// What goes into one transaction.
pub(super) struct Load {
    pub(super) batch: Batch,
    pub(super) rows: Vec<WaitingRow>,
}

impl Load {
    /// How large it is, as [`BatchLimits::bytes_max`] counts.
    pub(super) fn bytes(&self) -> usize {
        let items = self.batch.items().iter();
        items.fold(0_usize, |sum, item| sum.saturating_add(item.item.bytes))
    }

    /// The envelopes, in the batch's order.
    pub(super) fn envelopes(&self) -> Vec<Outgoing> {
        self.rows
            .iter()
            .zip(self.batch.items())
            .map(|(waits, item)| Outgoing {
                kind: waits.row.kind,
                lane: waits.lane,
                sequence: item.item.sequence,
                created_ms: waits.row.created_ms,
                expires_ms: waits.row.expires_ms,
                payload: HashedPayload::new(waits.row.payload.clone()),
            })
            .collect()
    }
}

/// What a reading of the outbox found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// No row that was not known.
    Nothing,
    /// New rows.
    Something,
    /// Rows that don't follow the known ones: somebody else works on this outbox too.
    OutOfStep,
}

struct LaneRead {
    rows: usize,
    more: bool,
    out_of_step: bool,
}

/// What can be sent now.
pub(super) enum Next {
    /// This.
    Load(Load),
    /// Nothing.
    Nothing,
    /// Rows are gone that should be there: somebody else works on this outbox too.
    OutOfStep,
}

impl Queue {
    /// An empty queue in this link epoch, which has read nothing yet.
    pub(super) fn new(destination: ServerName, link_epoch: u64) -> Self {
        Self {
            destination,
            sender: link::Sender::new(link_epoch),
            lanes: HashMap::new(),
            items: 0,
            cache: HashMap::new(),
            cache_bytes: 0,
            cursor: None,
            unread: true,
            news: BTreeSet::new(),
            only: None,
            fence: None,
        }
    }

    /// What is noted of the lanes is written under this.
    pub(super) fn under(mut self, fence: Option<Fence>) -> Self {
        self.fence = fence;
        self
    }

    /// Nothing beyond these numbers is to be read, and of no other lane.
    pub(super) fn only_up_to(&mut self, last: Arc<HashMap<Lane, u64>>) {
        self.only = Some(last);
    }

    /// The epoch of the numbering.
    pub(super) const fn link_epoch(&self) -> u64 {
        self.sender.link_epoch()
    }

    /// When the next deferred lane may be tried again, milliseconds since the Unix epoch.
    pub(super) fn next_lane_ms(&self) -> Option<u64> {
        self.sender.poll_timeout()
    }

    /// How many rows could be sent now, as far as `max`.
    pub(super) fn ready_items(&self, max: usize) -> usize {
        self.sender.ready_items(max)
    }

    /// Whether the row is in a transaction that is not answered.
    pub(super) fn is_in_flight(&self, lane: Lane, number: u64) -> bool {
        let sequence = number.saturating_sub(self.base(lane));
        self.sender.is_in_flight(lane, sequence)
    }

    fn base(&self, lane: Lane) -> u64 {
        self.lanes
            .get(&lane)
            .and_then(|known| known.base)
            .unwrap_or(0)
    }

    /// There may be new rows.
    pub(super) fn mail(&mut self, news: News) {
        match news {
            News::In(lanes) => self.news.extend(lanes),
            News::Anywhere => self.unread = true,
        }
    }

    /// Reads rows that are not known yet, the lanes taking turns.
    pub(super) async fn fill(
        &mut self,
        store: &Store,
        peer: &PeerView,
    ) -> Result<Filled, StoreError> {
        if self.unread {
            self.fill_from_all(store, peer).await
        } else {
            self.fill_from_news(store, peer).await
        }
    }

    async fn fill_from_news(
        &mut self,
        store: &Store,
        peer: &PeerView,
    ) -> Result<Filled, StoreError> {
        let mut filled = Filled::Nothing;
        let mut room = ROWS_READ_MAX;
        let mut again = BTreeSet::new();
        while room > 0
            && self.items < ITEMS_MAX
            && let Some(lane) = self.next_with_news()
        {
            self.cursor = Some(lane);
            let read = self.read_lane(store, peer, lane, room).await?;
            if read.out_of_step {
                return Ok(Filled::OutOfStep);
            }
            if read.rows > 0 {
                filled = Filled::Something;
            }
            if read.more {
                again.insert(lane);
            }
            room = room.saturating_sub(read.rows);
        }
        self.news.append(&mut again);
        Ok(filled)
    }

    /// The lane with news after the one that was read last, so that each has its turn.
    fn next_with_news(&mut self) -> Option<Lane> {
        let after = self.cursor.and_then(|last| {
            let mut after = self.news.range((Bound::Excluded(last), Bound::Unbounded));
            after.next().copied()
        });
        let lane = after.or_else(|| self.news.first().copied())?;
        self.news.take(&lane)
    }

    async fn fill_from_all(
        &mut self,
        store: &Store,
        peer: &PeerView,
    ) -> Result<Filled, StoreError> {
        let mut filled = Filled::Nothing;
        let start = self.cursor;
        let mut wrapped = start.is_none();
        let mut more = false;
        let mut room = ROWS_READ_MAX;
        while room > 0 && self.items < ITEMS_MAX {
            let lane = outbox::next_lane(store, &self.destination, self.cursor).await?;
            let lane = lane.filter(|lane| !wrapped || start.is_none_or(|start| *lane <= start));
            let Some(lane) = lane else {
                if wrapped {
                    self.cursor = start;
                    self.unread = more;
                    return Ok(filled);
                }
                wrapped = true;
                self.cursor = None;
                continue;
            };
            self.cursor = Some(lane);
            let read = self.read_lane(store, peer, lane, room).await?;
            if read.out_of_step {
                return Ok(Filled::OutOfStep);
            }
            if read.rows > 0 {
                filled = Filled::Something;
            }
            room = room.saturating_sub(read.rows);
            more |= read.more;
        }
        Ok(filled)
    }

    async fn read_lane(
        &mut self,
        store: &Store,
        peer: &PeerView,
        lane: Lane,
        room: usize,
    ) -> Result<LaneRead, StoreError> {
        let known = self.lanes.entry(lane).or_default();
        let limit = LANE_ROWS_READ
            .min(room)
            .min(LANE_ITEMS_MAX.saturating_sub(known.waiting));
        let from = known.tail.saturating_add(1);
        let mut rows = outbox::lane(store, &self.destination, lane, from, limit).await?;
        if let Some(only) = &self.only {
            let last = only.get(&lane).copied().unwrap_or(0);
            rows.retain(|waits| waits.number <= last);
        }
        let mut read = LaneRead {
            rows: rows.len(),
            more: rows.len() == limit,
            out_of_step: false,
        };
        let Some(first) = rows.first() else {
            return Ok(read);
        };
        let base = match known.base {
            Some(base) => base,
            None => match base_of(store, peer, (lane, first.number), self.fence.as_ref()).await? {
                Some(base) => *known.base.insert(base),
                None => {
                    read.out_of_step = true;
                    return Ok(read);
                }
            },
        };
        for waits in rows {
            let item = item_of(&waits.row, waits.number.saturating_sub(base));
            if self.sender.enqueue(lane, item).is_err() {
                read.out_of_step = true;
                return Ok(read);
            }
            known.tail = waits.number;
            known.waiting += 1;
            self.items += 1;
            if self.cache_bytes < CACHE_BYTES_MAX {
                self.cache_bytes += waits.row.payload.len();
                self.cache.insert((lane, waits.number), waits.row);
            }
        }
        Ok(read)
    }

    /// What goes out next.
    pub(super) async fn next(
        &mut self,
        store: &Store,
        now_ms: u64,
        limits: BatchLimits,
    ) -> Result<Next, StoreError> {
        let Some(batch) = self.sender.poll_batch(now_ms, limits) else {
            return Ok(Next::Nothing);
        };
        let mut rows = Vec::with_capacity(batch.items().len());
        for item in batch.items() {
            let lane = item.lane;
            let number = item.item.sequence.saturating_add(self.base(lane));
            let row = match self.cache.remove(&(lane, number)) {
                Some(row) => {
                    self.cache_bytes = self.cache_bytes.saturating_sub(row.payload.len());
                    Some(row)
                }
                None => outbox::lane(store, &self.destination, lane, number, 1)
                    .await?
                    .pop()
                    .filter(|waits| waits.number == number)
                    .map(|waits| waits.row),
            };
            let Some(row) = row else {
                self.sender.handle_failure(batch);
                return Ok(Next::OutOfStep);
            };
            rows.push(WaitingRow { lane, number, row });
        }
        Ok(Next::Load(Load { batch, rows }))
    }

    /// The load's fate is unknown, or it was not sent at all: its rows wait as before.
    pub(super) fn put_back(&mut self, load: Load) {
        self.sender.handle_failure(load.batch);
        for waits in load.rows {
            self.cache_bytes += waits.row.payload.len();
            self.cache.insert((waits.lane, waits.number), waits.row);
        }
    }

    /// These rows of a load that was put back are tombstones now.
    pub(super) fn buried(&mut self, rows: Vec<WaitingRow>) -> Result<(), link::QueueError> {
        for waits in rows {
            let sequence = waits.number.saturating_sub(self.base(waits.lane));
            let item = item_of(&waits.row, sequence);
            self.sender.replace_by_tombstone(waits.lane, item)?;
            if let Some(old) = self.cache.insert((waits.lane, waits.number), waits.row) {
                self.cache_bytes = self.cache_bytes.saturating_sub(old.payload.len());
            }
        }
        Ok(())
    }

    /// The lanes of a load in which the peer says to have positions that were not read here, and the
    /// numbers of their rows.
    pub(super) fn ahead(&self, load: &Load, receipt: &Receipt) -> Vec<(Lane, u64)> {
        let ahead = self.sender.ahead(&load.batch, receipt).into_iter();
        ahead
            .map(|(lane, theirs)| (lane, theirs.saturating_add(self.base(lane))))
            .collect()
    }

    /// The outbox has rows of this number or higher.
    pub(super) fn note_given_out(&mut self, lane: Lane, number: u64) {
        let sequence = number.saturating_sub(self.base(lane));
        self.sender.note_given_out(lane, sequence);
    }

    /// The peer answered the load: what that settles, by the rows' numbers, and the rows it is about.
    pub(super) fn answered(
        &mut self,
        load: Load,
        sent: &SignedTransaction,
        receipt: &Receipt,
        (now_ms, random): (u64, u32),
    ) -> Result<(Settled, Vec<WaitingRow>), link::ReceiptError> {
        let Load { batch, rows } = load;
        let mut settled = self
            .sender
            .handle_receipt(batch, sent, receipt, now_ms, random)?;
        let gone = settled
            .done
            .iter()
            .chain(settled.refused.iter().map(|(item, _)| item));
        for item in gone {
            self.items = self.items.saturating_sub(1);
            if let Some(known) = self.lanes.get_mut(&item.lane) {
                known.waiting = known.waiting.saturating_sub(1);
            }
        }
        let done = settled.done.iter_mut();
        for item in done.chain(settled.refused.iter_mut().map(|(item, _)| item)) {
            let base = self.base(item.lane);
            item.item.sequence = item.item.sequence.saturating_add(base);
        }
        if self.lanes.len() > LANES_KNOWN_MAX {
            // Their next rows are read from the start of the lane.
            self.lanes.retain(|_, known| known.waiting > 0);
        }
        Ok((settled, rows))
    }
}

/// Where the sequences of a lane are counted from, whose first row that waits has this number: noted
/// before anything of the lane is sent. `None`: the agreement is not what it was.
async fn base_of(
    store: &Store,
    peer: &PeerView,
    (lane, first): (Lane, u64),
    fence: Option<&Fence>,
) -> Result<Option<u64>, StoreError> {
    if !peer.renumbered {
        return Ok(Some(0));
    }
    let link_epoch = peer.link_epoch;
    let (known, read) = lane_base::get(store, &peer.server, lane).await?.unzip();
    if let Some(known) = known.filter(|known| known.link_epoch == link_epoch) {
        return Ok(Some(known.base));
    }
    let base = first.saturating_sub(1);
    let record = LaneBase { link_epoch, base };
    let mut part = Part::default();
    part.require(peer.unchanged());
    if let Some(fence) = fence {
        fence.require(&mut part);
    }
    lane_base::put(&mut part, &peer.server, lane, &record, read)?;
    let written = store.commit(part).await? == PartOutcome::Committed;
    Ok(written.then_some(base))
}

fn item_of(row: &OutboxItem, sequence: u64) -> Item {
    Item {
        sequence,
        count: 1,
        tombstone: row.kind == Kind::Tombstone,
        bytes: row.payload.len() + HEADER_BYTES,
    }
}
