//! Envelopes for other servers: queued in the part, within what may wait there.

use federation_proto::envelope::Lane;
use federation_proto::ids::{RoomId, ServerName};
use federation_proto::payload::Payload;
use federation_proto::refusal::RefusalCode;

use super::{Batch, NotTaken, Times};
use crate::delivery::outbox::{OriginRef, OutboxItem, SenderRef};
use crate::delivery::waiting;
use crate::store::outbox;
use crate::store::tally::Tally;

impl Batch<'_> {
    /// Queues an envelope for another server, in the room's lane or (`None`) the control lane, unless as
    /// much waits for that as the agreement allows.
    pub async fn send(
        &mut self,
        destination: &ServerName,
        room: Option<RoomId>,
        payload: &Payload,
        times: Times,
        sender: Option<SenderRef>,
    ) -> Result<(), NotTaken> {
        self.send_for(destination, room, payload, times, (sender, None))
            .await
    }

    /// As [`Batch::send`], also for a device of another server.
    pub async fn send_for(
        &mut self,
        destination: &ServerName,
        room: Option<RoomId>,
        payload: &Payload,
        times: Times,
        senders: (Option<SenderRef>, Option<OriginRef>),
    ) -> Result<(), NotTaken> {
        let place = (destination, room);
        self.queue(place, payload, times, senders, true).await
    }

    /// As [`Batch::send`], however much waits there: for what says that something else won't come.
    pub async fn send_unbounded(
        &mut self,
        destination: &ServerName,
        room: Option<RoomId>,
        payload: &Payload,
        times: Times,
    ) -> Result<(), NotTaken> {
        let (place, senders) = ((destination, room), (None, None));
        self.queue(place, payload, times, senders, false).await
    }

    async fn queue(
        &mut self,
        (destination, room): (&ServerName, Option<RoomId>),
        payload: &Payload,
        times: Times,
        (sender, origin): (Option<SenderRef>, Option<OriginRef>),
        bounded: bool,
    ) -> Result<(), NotTaken> {
        let encoded = payload.encode().map_err(|error| {
            NotTaken::refused(RefusalCode::TooLarge, format!("{error}: send less at once"))
        })?;
        let item = OutboxItem {
            kind: payload.kind(),
            payload: encoded,
            created_ms: times.accepted_ms,
            expires_ms: times.expires_ms,
            sender,
            origin,
        };
        #[cfg(feature = "faults")]
        if crate::faults::forgets_mail() {
            return Ok(());
        }
        let lane = room.map_or(Lane::CONTROL, Lane::from);
        let value = outbox::value(&item)?;
        let account = outbox::account_of(&item);
        if let Some(account) = account.filter(|_| bounded) {
            let limits = &self.node.config.limits;
            let most = Tally {
                entries: limits.account_outbox_messages_max,
                bytes: limits.account_outbox_bytes_max,
            };
            let (store, bytes) = (&self.node.store, value.len());
            self.waiting.send_of(store, account, bytes, most).await?;
        }
        // Before there is an agreement, and after it, nothing is sent; then nothing is bounded.
        if let Some(bounds) = self.peer(destination).and_then(|view| view.waiting) {
            // The peer states how much waits for it; how much it costs us is not for it to say.
            let own_max = self.node.config.limits.peer_outbox_bytes_max;
            let bound = match bounded {
                true => waiting::outbound_bound(item.kind, bounds.outbound_bytes_max, own_max),
                false => u64::MAX,
            };
            let (store, bytes) = (&self.node.store, value.len());
            self.waiting.send(store, destination, bytes, bound).await?;
        }
        outbox::count_in(&mut self.part, &item, value.len());
        outbox::append(&mut self.part, destination, lane, value);
        let woken = self.woken_peers.entry(destination.clone());
        woken.or_default().insert(lane);
        Ok(())
    }
}
