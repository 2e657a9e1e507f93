//! One store part for many items: what they read is read once, what they change is changed together.
//!
//! Each item is judged before it writes anything, sees what the items before it did, and is taken or
//! refused alone. The part holds only while everything that it was judged by is unchanged: the
//! policy's serial, the agreements' serials, the rooms. Sessions and links wake after the commit.

mod allowances;
mod contacts;
mod events;
mod evidence;
mod followed;
mod sending;
mod turns;
mod undo;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use federation_proto::envelope::{Kind, Lane};
use federation_proto::ids::{AccountId, DeviceId, RoomId, ServerName};
use federation_proto::refusal::{Refusal, RefusalCode};
use federation_proto::transaction::VerifiedEnvelope;

pub use self::evidence::Happened;
pub(super) use self::evidence::RoomEvent;
use self::followed::Followed;
use self::undo::Undo;
use super::inbox;
use super::limits::{KEY_PACKAGES_SHARE_MAX, KEY_PACKAGES_SHARE_MS};
use super::mailboxes::{Fill, Item, Ring};
use super::waiting::Waiting;
use crate::audit::{Actor, PeerEvent};
use crate::federation::peers::PeerView;
use crate::identity::LocalAccount;
use crate::node::{Hint, Node};
use crate::policy::Link;
use crate::rooms::pace::Turn;
use crate::store::allowance::{self, Purpose, Used, Whose};
use crate::store::barriers::BarriersRecord;
use crate::store::contacts::{self as stored_contacts, Contacts};
use crate::store::expiry::{self, Place};
use crate::store::group_info::{self, GroupInfoRecord};
use crate::store::key_claims::{self, Claimer, KeyClaims};
use crate::store::relayed;
use crate::store::room::{self, RoomRecord};
use crate::store::{
    Key, Part, PartOutcome, Precondition, StoreError, Value, agreement_serial, policy_serial,
};

/// Why an item was not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotTaken {
    /// It may not be: its sender is told.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Not now: its sender is asked to send it again.
    #[error("{code}: not now")]
    Deferred {
        /// Why.
        code: RefusalCode,
        /// Milliseconds to wait.
        retry_after_ms: u32,
    },
    /// The store failed: nobody is told anything, for nothing is known.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl NotTaken {
    /// A refusal, as an error.
    pub fn refused(code: RefusalCode, reason: impl Into<String>) -> Self {
        Self::Refused(Refusal::new(code, reason))
    }
}

/// The refusal of an item, apart from failures of the store.
pub fn settle<T>(result: Result<T, NotTaken>) -> Result<Result<T, Refusal>, StoreError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(NotTaken::Refused(refusal)) => Ok(Err(refusal)),
        // Who can't ask to wait refuses.
        Err(NotTaken::Deferred { code, .. }) => Ok(Err(Refusal::new(code, "try again later"))),
        Err(NotTaken::Store(error)) => Err(error),
    }
}

/// A room as read, and as the batch has changed it.
struct Tracked {
    read: Option<Value>,
    /// Who orders it by what was read.
    hub: Option<ServerName>,
    now: Option<Arc<RoomRecord>>,
    changed: bool,
    /// The group info of the epoch that a commit of the batch has begun.
    group_info: Option<GroupInfoRecord>,
}

/// The contacts of an account as read, and as the batch has changed them.
struct TrackedContacts {
    read: Option<Value>,
    now: Contacts,
    changed: bool,
}

/// A part in the making.
pub struct Batch<'n> {
    /// The node.
    pub node: &'n Node,
    /// When the items are judged, milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// What is going to be written; see [`Batch::commit`].
    pub part: Part,
    /// Rows that items of the batch have used up already.
    taken: HashSet<Key>,
    policy_serial: u64,
    rooms: HashMap<RoomId, Tracked>,
    peers: HashMap<ServerName, Option<Arc<PeerView>>>,
    relayed: HashMap<(RoomId, ServerName), (Option<Value>, Option<relayed::Last>)>,
    claims: HashMap<(DeviceId, Claimer), (Option<Value>, KeyClaims, bool)>,
    allowances: HashMap<(Purpose, Whose), (Option<Value>, Used, bool)>,
    contacts: HashMap<AccountId, TrackedContacts>,
    fills: HashMap<DeviceId, Fill>,
    filled: Vec<(DeviceId, Item)>,
    /// Turns in rooms that items of the batch take.
    turns: Vec<Turn>,
    sweeps: BTreeSet<(u64, DeviceId)>,
    woken_peers: BTreeMap<ServerName, BTreeSet<Lane>>,
    waiting: Waiting,
    followed: Followed,
    /// What peers have brought about. Whether each is written is decided last: what is taken back is not
    /// counted either.
    events: Vec<PeerEvent>,
    refused_answers: usize,
    /// What has happened to devices of this homeserver in rooms.
    room_events: Vec<RoomEvent>,
    /// The envelope whose effect is written at present.
    bringing: Option<VerifiedEnvelope>,
    /// What the present item has changed beside the part.
    undo: Vec<Undo>,
    /// So many writes of the part have so many bytes.
    weighed: (usize, usize),
}

impl<'n> Batch<'n> {
    /// An empty part, bound to the policy as it is now.
    pub async fn open(node: &'n Node) -> Result<Self, StoreError> {
        let serial = policy_serial::get(&node.store).await?;
        let mut part = Part::default();
        let policy_serial = policy_serial::number(serial.as_ref())?;
        policy_serial::require(&mut part, serial);
        Ok(Self {
            node,
            now_ms: node.clock.now_ms(),
            part,
            taken: HashSet::new(),
            policy_serial,
            rooms: HashMap::new(),
            peers: HashMap::new(),
            relayed: HashMap::new(),
            claims: HashMap::new(),
            allowances: HashMap::new(),
            contacts: HashMap::new(),
            fills: HashMap::new(),
            filled: Vec::new(),
            turns: Vec::new(),
            sweeps: BTreeSet::new(),
            woken_peers: BTreeMap::new(),
            waiting: Waiting::default(),
            followed: Followed::default(),
            events: Vec::new(),
            refused_answers: 0,
            room_events: Vec::new(),
            bringing: None,
            undo: Vec::new(),
            weighed: (0, 0),
        })
    }

    /// An own account and its rules.
    pub async fn account(
        &self,
        account: AccountId,
    ) -> Result<Option<Arc<LocalAccount>>, StoreError> {
        let node = self.node;
        node.accounts
            .get(&node.store, account, self.policy_serial)
            .await
    }

    /// Segments and the rules between them.
    pub async fn barriers(&self) -> Result<Arc<BarriersRecord>, StoreError> {
        let node = self.node;
        node.accounts
            .barriers(&node.store, self.policy_serial)
            .await
    }

    /// The account of an own device that exists.
    pub async fn account_of(&self, device: DeviceId) -> Result<Option<AccountId>, StoreError> {
        let node = self.node;
        node.accounts
            .account_of(&node.store, device, self.policy_serial)
            .await
    }

    /// The agreement with `server`, to which the part is bound from now on.
    pub fn peer(&mut self, server: &ServerName) -> Option<Arc<PeerView>> {
        if let Some(view) = self.peers.get(server) {
            return view.clone();
        }
        let view = self.node.peers.get(server);
        match &view {
            Some(view) => {
                self.part.require(view.unchanged());
            }
            None => agreement_serial::require(&mut self.part, server, None),
        }
        self.peers.insert(server.clone(), view.clone());
        view
    }

    /// The agreements with `servers`, without this homeserver itself.
    pub fn links<'a>(
        &mut self,
        servers: impl IntoIterator<Item = &'a ServerName>,
    ) -> Vec<(&'a ServerName, Option<Arc<PeerView>>)> {
        servers
            .into_iter()
            .filter(|server| **server != self.node.server)
            .map(|server| (server, self.peer(server)))
            .collect()
    }

    /// The room as of now, to which the part is bound from now on.
    pub async fn room(&mut self, id: RoomId) -> Result<Option<Arc<RoomRecord>>, StoreError> {
        if !self.rooms.contains_key(&id) {
            let (now, read) = room::get(&self.node.store, id).await?.unzip();
            let tracked = Tracked {
                read,
                hub: now.as_ref().map(|room| room.hub.clone()),
                now: now.map(Arc::new),
                changed: false,
                group_info: None,
            };
            self.rooms.insert(id, tracked);
        }
        Ok(self.rooms.get(&id).and_then(|room| room.now.clone()))
    }

    /// The room is from now on as given (`None`: no member is left here). Read it before.
    pub fn set_room(&mut self, id: RoomId, record: Option<RoomRecord>) {
        if let Some(tracked) = self.rooms.get_mut(&id) {
            self.undo.push(Undo::Room {
                id,
                now: tracked.now.take(),
                changed: tracked.changed,
                group_info: tracked.group_info.clone(),
            });
            tracked.now = record.map(Arc::new);
            tracked.changed = true;
        }
    }

    /// The group info of the epoch that the room is in, as far as one is kept here.
    pub async fn group_info(&mut self, id: RoomId) -> Result<Option<GroupInfoRecord>, StoreError> {
        let Some(room) = self.room(id).await? else {
            return Ok(None);
        };
        let begun = self.rooms.get(&id).and_then(|room| room.group_info.clone());
        let newest = match begun {
            Some(begun) => Some(begun),
            None => group_info::get(&self.node.store, id).await?,
        };
        Ok(newest.filter(|newest| newest.epoch == room.epoch))
    }

    /// The room's newest group info is this from now on. Set the room before.
    pub fn set_group_info(&mut self, id: RoomId, record: GroupInfoRecord) {
        if let Some(tracked) = self.rooms.get_mut(&id) {
            tracked.group_info = Some(record);
        }
    }

    /// What the batch takes from now on was brought by this peer: what of it waits here is counted, and
    /// held to the agreement by [`Batch::may_bring`].
    pub(super) async fn brought_by(&mut self, view: &PeerView) -> Result<(), StoreError> {
        let bytes_max = view
            .waiting
            .map_or(u64::MAX, |bounds| bounds.inbound_bytes_max);
        self.waiting
            .begin(&self.node.store, &view.server, bytes_max)
            .await
    }

    /// The peer that brought what the batch takes; `None`: it comes from here.
    pub(crate) fn source(&self) -> Option<&ServerName> {
        self.waiting.source()
    }

    /// Whether the agreement lets an envelope of this kind and length wait here too.
    pub(super) fn may_bring(&mut self, kind: Kind, bytes: usize) -> bool {
        self.waiting.may_bring(kind, bytes)
    }

    /// Notes what the part stores of what was brought, beside the items in inboxes.
    pub(super) fn note_brought(&mut self, bytes: usize) {
        self.waiting.brought(bytes);
    }

    /// How far the room's hub has come with relaying what `origin` wrote.
    pub(super) async fn relayed(
        &mut self,
        room: RoomId,
        origin: &ServerName,
    ) -> Result<Option<relayed::Last>, StoreError> {
        let place = (room, origin.clone());
        if let Some((_, Some(last))) = self.relayed.get(&place) {
            return Ok(Some(*last));
        }
        let (last, read) = relayed::get(&self.node.store, room, origin).await?.unzip();
        self.relayed.entry(place).or_insert((read, None));
        Ok(last)
    }

    /// The hub has come this far. Ask [`Batch::relayed`] before.
    pub(super) fn set_relayed(&mut self, room: RoomId, origin: &ServerName, last: relayed::Last) {
        let place = (room, origin.clone());
        if let Some((_, now)) = self.relayed.get_mut(&place) {
            let last = now.replace(last);
            self.undo.push(Undo::Relayed { place, last });
        }
    }

    /// Whether somebody may be given another single-use key package of `device`.
    pub async fn may_claim(&mut self, device: DeviceId, by: &Claimer) -> Result<bool, StoreError> {
        let place = (device, by.clone());
        if !self.claims.contains_key(&place) {
            let stored = key_claims::get(&self.node.store, device, by).await?;
            let (claims, read) = stored.unzip();
            let ends_ms =
                |claims: &KeyClaims| claims.since_ms.saturating_add(KEY_PACKAGES_SHARE_MS);
            let counting = claims.filter(|claims| self.now_ms < ends_ms(claims));
            let claims = counting.unwrap_or(KeyClaims {
                since_ms: self.now_ms,
                count: 0,
            });
            self.claims.insert(place.clone(), (read, claims, false));
        }
        let claims = self.claims.get(&place);
        Ok(claims.is_some_and(|(_, claims, _)| claims.count < KEY_PACKAGES_SHARE_MAX))
    }

    /// They are given one. Ask [`Batch::may_claim`] before.
    pub fn note_claim(&mut self, device: DeviceId, by: &Claimer) {
        let place = (device, by.clone());
        if let Some((_, claims, changed)) = self.claims.get_mut(&place) {
            self.undo.push(Undo::Claims {
                place,
                claims: *claims,
                changed: *changed,
            });
            *changed = true;
            claims.count = claims.count.saturating_add(1);
            if claims.count == KEY_PACKAGES_SHARE_MAX {
                let mut detail = format!(
                    "{KEY_PACKAGES_SHARE_MAX} key packages within a day: until then the last-resort one is handed out"
                );
                let actor = match by {
                    Claimer::Peer(peer) => Actor::Peer(peer.clone()),
                    Claimer::Own(account) => {
                        detail = format!("account {account} was given {detail}");
                        Actor::System
                    }
                };
                self.audit(actor, "keys.limited", device, detail);
            }
        }
    }

    /// Whether an item of the batch has used up this row.
    pub fn has_taken(&self, key: &Key) -> bool {
        self.taken.contains(key)
    }

    /// How many rows the batch has used up.
    pub fn taken_count(&self) -> usize {
        self.taken.len()
    }

    /// Uses up a row; `false`: an item before has.
    pub fn take(&mut self, key: Key) -> bool {
        let is_new = self.taken.insert(key.clone());
        if is_new {
            self.undo.push(Undo::Taken(key));
        }
        is_new
    }

    /// How full the device's inbox is, with what the batch puts there.
    pub async fn fill(&mut self, device: DeviceId) -> Result<&Fill, StoreError> {
        Ok(match self.fills.entry(device) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(inbox::fill(self.node, device).await?),
        })
    }

    /// How full the device's inbox is when it is counted again, with what the batch puts there; `None`: that was done
    /// lately.
    pub(super) async fn recount(&mut self, device: DeviceId) -> Result<Option<&Fill>, StoreError> {
        let Some(mut fill) = inbox::recount(self.node, device).await? else {
            return Ok(None);
        };
        let own = self.filled.iter().filter(|(of, _)| *of == device);
        own.for_each(|(_, item)| fill.add(item));
        self.fills.insert(device, fill);
        Ok(self.fills.get(&device))
    }

    /// Notes an item that the part puts into an inbox.
    pub(super) fn note_filled(
        &mut self,
        device: DeviceId,
        item: Item,
        bytes: usize,
        expires_ms: u64,
    ) {
        if let Some(fill) = self.fills.get_mut(&device) {
            fill.add(&item);
            self.undo.push(Undo::Fill(device, item.clone()));
        }
        self.filled.push((device, item));
        self.waiting.brought(bytes);
        self.sweeps
            .insert((expiry::sweep_ms(self.now_ms, expires_ms), device));
    }

    /// Writes the part durably, then wakes whom it concerns. On a conflict nothing has happened:
    /// open a new batch and decide anew.
    pub async fn commit(mut self) -> Result<PartOutcome, StoreError> {
        for (id, tracked) in std::mem::take(&mut self.rooms) {
            let unchanged = Precondition::unchanged(room::key(id), tracked.read);
            self.part.require(unchanged);
            if tracked.changed {
                match &tracked.now {
                    Some(record) => {
                        room::put(&mut self.part, id, tracked.hub.as_ref(), record)?;
                        if let Some(newest) = &tracked.group_info {
                            group_info::put(&mut self.part, id, newest)?;
                        }
                    }
                    None => {
                        group_info::delete(&mut self.part, id);
                        relayed::delete_room(&self.node.store, &mut self.part, id).await?;
                        if let Some(hub) = &tracked.hub {
                            room::delete(&mut self.part, id, hub);
                        }
                    }
                }
            }
        }
        for ((room, origin), (read, last)) in std::mem::take(&mut self.relayed) {
            if let Some(last) = last {
                relayed::put(&mut self.part, room, &origin, read, last)?;
            }
        }
        for ((device, by), (read, claims, changed)) in std::mem::take(&mut self.claims) {
            if changed {
                key_claims::put(&mut self.part, device, &by, claims, read)?;
            }
        }
        for ((purpose, whose), (read, used, changed)) in std::mem::take(&mut self.allowances) {
            if changed {
                allowance::put(&mut self.part, purpose, &whose, used, read)?;
            }
        }
        for (account, tracked) in std::mem::take(&mut self.contacts) {
            stored_contacts::require(&mut self.part, account, tracked.read);
            if tracked.changed {
                stored_contacts::put(&mut self.part, account, &tracked.now)?;
            }
        }
        self.waiting.require(&mut self.part);
        self.followed.require(&mut self.part);
        for (at_ms, device) in &self.sweeps {
            expiry::put(&mut self.part, *at_ms, Place::Inbox(*device));
        }
        let node = self.node;
        let events = std::mem::take(&mut self.room_events);
        let told = super::evidence::write(node, &mut self.part, self.now_ms, events).await?;
        let evidence = told.then(|| node.hinting(Hint::Departed));
        let from_peers = &node.from_peers;
        let events = std::mem::take(&mut self.events).into_iter();
        let noted: Vec<_> = events
            .map(|event| from_peers.record(&mut self.part, event))
            .collect();
        let (mailboxes, links) = (
            Arc::clone(&self.node.mailboxes),
            Arc::clone(&self.node.links),
        );
        let (filled, woken_peers) = (self.filled, self.woken_peers);
        let (paces, turns, now_ms) = (Arc::clone(&node.paces), self.turns, self.now_ms);
        let wake = move || {
            for turn in turns {
                paces.take(turn, now_ms);
            }
            for (device, item) in &filled {
                mailboxes.filled(*device, item);
            }
            mailboxes.ring(filled.iter().map(|(device, _)| *device), Ring::Mail);
            for (server, lanes) in woken_peers {
                links.mail(&server, lanes);
            }
            if let Some(hint) = evidence {
                hint();
            }
        };
        let outcome = node.store.commit_then(self.part, wake).await?;
        if outcome == PartOutcome::Conflict {
            from_peers.take_back(noted);
        }
        Ok(outcome)
    }
}

/// When an item was accepted, and when it is given up (0: never).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The origin's durable acceptance, milliseconds since the Unix epoch.
    pub accepted_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub expires_ms: u64,
}

/// Links as policy reads them.
pub fn policy_links<'a>(links: &'a [(&'a ServerName, Option<Arc<PeerView>>)]) -> Vec<Link<'a>> {
    links
        .iter()
        .map(|(server, view)| Link {
            server,
            agreement: view.as_ref().map(|view| &view.agreement),
        })
        .collect()
}
