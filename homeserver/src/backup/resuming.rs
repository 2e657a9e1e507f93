//! What happens once before a restored homeserver serves anybody: what it may have told devices and peers after the backup was
//! made, and knows nothing of, must not be mistaken for what it tells them now.

use federation_proto::ids::ServerName;

use crate::audit::{self, Actor, Event};
use crate::node::Node;
use crate::store::restored::{self, RestoredRecord};
use crate::store::{
    Key, Part, Store, StoreError, device, inbox, key_package, outbox, peer, reconcile,
};

/// Numbers that each inbox leaves out: more than any had been given since, and a small part of all there are.
const NUMBERS_LEFT_OUT: u64 = 1 << 40;
/// Rows changed in one part.
const ROWS_AT_ONCE: usize = 1000;

/// Does what has to be done after a restore, if that has not been done yet. Cut off, it is done again from the start, which
/// harms nothing.
pub async fn resume(node: &Node) -> Result<(), StoreError> {
    let Some(record) = restored::get(&node.store).await? else {
        return Ok(());
    };
    if record.is_ready {
        return Ok(());
    }
    tracing::warn!(
        backup_ms = record.made_ms,
        "this homeserver was restored from a backup: what was answered after that is lost"
    );
    leave_out_numbers(&node.store).await?;
    void_key_packages(&node.store).await?;
    for (server, known) in peer::all(&node.store).await? {
        // What a restore before this one has left to find out is of the numbers that were given then: rows that have come since
        // were never sent under them.
        if known.current.is_some() && !reconcile::is_due(&node.store, &server).await? {
            note_lanes(&node.store, &server).await?;
        }
    }
    let mut part = Part::default();
    let event = Event {
        at_ms: node.clock.now_ms(),
        actor: Actor::System,
        action: "server.restored",
        subject: node.server.to_string(),
        detail: format!(
            "from a backup of {} s before, when it was restored: what was answered in between is lost",
            record.restored_ms.saturating_sub(record.made_ms) / 1000
        ),
    };
    audit::record(&mut part, &event);
    let ready = RestoredRecord {
        is_ready: true,
        ..record
    };
    restored::put(&mut part, &ready)?;
    node.store.commit(part).await.map(drop)
}

/// Devices pass over deliveries with numbers that they have had. Also those that had none in the backup: their first ones may
/// have come after it.
async fn leave_out_numbers(store: &Store) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let devices = device::ids_after(store, after, ROWS_AT_ONCE).await?;
        let Some(last) = devices.last() else {
            return Ok(());
        };
        after = Some(*last);
        let mut part = Part::default();
        for device in devices {
            inbox::leave_out_numbers(store, &mut part, device, NUMBERS_LEFT_OUT).await?;
        }
        store.commit(part).await?;
    }
}

/// Any may have been given away since. Devices publish new ones when they find that few are left.
async fn void_key_packages(store: &Store) -> Result<(), StoreError> {
    let mut from: Option<Key> = None;
    loop {
        let mut part = Part::default();
        from = key_package::void(store, &mut part, from, ROWS_AT_ONCE).await?;
        if from.is_none() {
            return Ok(());
        }
        if !part.writes.is_empty() {
            store.commit(part).await?;
        }
    }
}

/// What waits for the peer was in the backup: so far the old numbers hold.
async fn note_lanes(store: &Store, server: &ServerName) -> Result<(), StoreError> {
    let mut part = Part::default();
    let mut after = None;
    while let Some(lane) = outbox::next_lane(store, server, after).await? {
        after = Some(lane);
        let last = outbox::last_waiting(store, server, lane).await?;
        reconcile::put_lane(&mut part, server, lane, last);
        if part.writes.len() >= ROWS_AT_ONCE {
            store.commit(std::mem::take(&mut part)).await?;
        }
    }
    reconcile::put(&mut part, server);
    store.commit(part).await.map(drop)
}
