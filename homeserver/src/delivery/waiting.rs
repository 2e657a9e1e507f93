//! How much a part makes wait for peers, and how much of what one peer brought: held to what the
//! agreements allow, exactly. What was read is judged here; that it still holds when the part is written
//! is a precondition of the part.

use std::collections::HashMap;

use federation_proto::envelope::Kind;
use federation_proto::ids::{AccountId, ServerName};
use federation_proto::refusal::{Refusal, RefusalCode};

use super::batch::NotTaken;
use super::limits::{
    WAITING_ANSWERS_FACTOR, WAITING_HANDSHAKE_BYTES_MIN, WAITING_HANDSHAKE_FACTOR,
};
use crate::store::tally::{self, Tally};
use crate::store::{Part, Precondition, Store, StoreError};

/// What an envelope is to the bounds. Each class may fill a tally further than the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// What rooms can do without for a while.
    Mail,
    /// What the peer asked for, or is told of what it sent: how much there is of that is up to the peer.
    Answer,
    /// Without it rooms break.
    Room,
    /// What says that something will not come: always let in.
    Tombstone,
}

const fn class(kind: Kind) -> Class {
    match kind {
        Kind::Message
        | Kind::Relay
        | Kind::KeyRequest
        | Kind::DirectoryQuery
        | Kind::AbuseReport
        | Kind::Contact
        | Kind::LogHead
        | Kind::AuditHead => Class::Mail,
        Kind::KeyResponse
        | Kind::DirectoryAnswer
        | Kind::GroupInfo
        | Kind::RoomConsent
        | Kind::AuditSighting
        | Kind::Notice => Class::Answer,
        Kind::Handshake
        | Kind::Welcome
        | Kind::GroupInfoRequest
        | Kind::RoomConsentRequest
        | Kind::RemovalRequest
        | Kind::Removals => Class::Room,
        Kind::Tombstone => Class::Tombstone,
    }
}

/// How much may wait for a peer for an envelope of this kind to be let in beside it: `agreed` is what the peer states,
/// `own_max` what we bear. What the peer takes and what it asks for is its own affair; by neither may it keep a
/// room that others are in from changing, so that what rooms need is held to our own bound alone.
pub(super) fn outbound_bound(kind: Kind, agreed: u64, own_max: u64) -> u64 {
    let answers = |bytes: u64| bytes.saturating_mul(WAITING_ANSWERS_FACTOR);
    match class(kind) {
        Class::Mail => agreed.min(own_max),
        Class::Answer => answers(agreed)
            .max(WAITING_HANDSHAKE_BYTES_MIN)
            .min(answers(own_max)),
        Class::Room => own_max.saturating_mul(WAITING_HANDSHAKE_FACTOR),
        Class::Tombstone => u64::MAX,
    }
}

/// How much of a peer's may wait here for an envelope of this kind to be let in beside it, by what we state.
fn inbound_bound(kind: Kind, stated: u64) -> u64 {
    match class(kind) {
        Class::Mail => stated,
        Class::Answer | Class::Room => stated
            .saturating_mul(WAITING_HANDSHAKE_FACTOR)
            .max(WAITING_HANDSHAKE_BYTES_MIN),
        Class::Tombstone => u64::MAX,
    }
}

/// One tally, and what the part adds to it.
#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    /// As it was read.
    before: u64,
    /// What the part adds.
    added: u64,
    /// How full the tally may be, before the part, for everything that was added to have been let in.
    before_max: u64,
}

impl Usage {
    fn of(before: u64) -> Self {
        Self {
            before,
            added: 0,
            before_max: u64::MAX,
        }
    }

    const fn total(&self) -> u64 {
        self.before.saturating_add(self.added)
    }

    /// Adds what may be there up to `bound` in all.
    fn add(&mut self, bytes: u64, bound: u64) {
        self.added = self.added.saturating_add(bytes);
        self.before_max = self.before_max.min(bound.saturating_sub(self.added));
    }
}

/// What a part makes wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    outbound: HashMap<ServerName, Usage>,
    /// Every addition to an outbox, in their order, so that they can be taken back.
    sent: Vec<(ServerName, u64, u64)>,
    /// What accounts here have waiting in all outboxes, with what the part adds.
    of_accounts: HashMap<AccountId, Tally>,
    /// Every addition to those, in their order, so that they can be taken back.
    sent_by: Vec<(AccountId, u64)>,
    source: Option<Source>,
}

/// The peer whose transaction the part takes.
#[derive(Debug)]
struct Source {
    server: ServerName,
    bytes_max: u64,
    usage: Usage,
}

/// How far a part had come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    sent: usize,
    sent_by: usize,
    brought: u64,
}

impl Waiting {
    /// Everything from now on was brought by `server`, of which this much may wait here.
    pub(super) async fn begin(
        &mut self,
        store: &Store,
        server: &ServerName,
        bytes_max: u64,
    ) -> Result<(), StoreError> {
        let before = tally::get(store, &tally::inbound(server)).await?.bytes;
        self.source = Some(Source {
            server: server.clone(),
            bytes_max,
            usage: Usage::of(before),
        });
        Ok(())
    }

    /// Who brought what the part takes; `None`: it comes from here.
    pub(super) fn source(&self) -> Option<&ServerName> {
        self.source.as_ref().map(|source| &source.server)
    }

    /// Whether an envelope of this kind and length may be taken from the source.
    pub(super) fn may_bring(&mut self, kind: Kind, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let Some(Source {
            bytes_max, usage, ..
        }) = &mut self.source
        else {
            return true;
        };
        let bound = inbound_bound(kind, *bytes_max);
        let may = usage.total().saturating_add(bytes) <= bound;
        if may {
            let free = bound.saturating_sub(usage.added).saturating_sub(bytes);
            usage.before_max = usage.before_max.min(free);
        }
        may
    }

    /// The part puts so many bytes of the source's into inboxes.
    pub(super) fn brought(&mut self, bytes: usize) {
        if let Some(source) = &mut self.source {
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            source.usage.added = source.usage.added.saturating_add(bytes);
        }
    }

    /// Lets a row of `bytes` into the outbox for `server`, up to `bound` in all, or says why not.
    pub(super) async fn send(
        &mut self,
        store: &Store,
        server: &ServerName,
        bytes: usize,
        bound: u64,
    ) -> Result<(), NotTaken> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let mut usage = match self.outbound.get(server) {
            Some(usage) => *usage,
            None => Usage::of(tally::get(store, &tally::outbound(server)).await?.bytes),
        };
        if usage.total().saturating_add(bytes) > bound {
            self.outbound.insert(server.clone(), usage);
            return Err(full(server).into());
        }
        usage.add(bytes, bound);
        self.outbound.insert(server.clone(), usage);
        self.sent.push((server.clone(), bytes, bound));
        Ok(())
    }

    /// Lets a row of `bytes` of an account here into an outbox, up to `most` in all, or says why not. It is not held to by the
    /// part: devices of one account that send at the same moment may come a little beyond.
    pub(super) async fn send_of(
        &mut self,
        store: &Store,
        account: AccountId,
        bytes: usize,
        most: Tally,
    ) -> Result<(), NotTaken> {
        let before = match self.of_accounts.get(&account) {
            Some(known) => *known,
            None => tally::get(store, &tally::sent(account)).await?,
        };
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let after = before.with(bytes);
        if after.entries > most.entries || after.bytes > most.bytes {
            self.of_accounts.insert(account, before);
            return Err(sent_enough(before, most).into());
        }
        self.of_accounts.insert(account, after);
        self.sent_by.push((account, bytes));
        Ok(())
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            sent: self.sent.len(),
            sent_by: self.sent_by.len(),
            brought: self.source.as_ref().map_or(0, |source| source.usage.added),
        }
    }

    /// Takes back what was added since.
    pub(super) fn roll_back(&mut self, mark: Mark) {
        for (server, bytes, _) in self.sent.drain(mark.sent..) {
            if let Some(usage) = self.outbound.get_mut(&server) {
                usage.added = usage.added.saturating_sub(bytes);
            }
        }
        for (account, bytes) in self.sent_by.drain(mark.sent_by..) {
            if let Some(tally) = self.of_accounts.get_mut(&account) {
                *tally = tally.without(bytes);
            }
        }
        if let Some(source) = &mut self.source {
            source.usage.added = mark.brought;
        }
    }

    /// The part holds only while nobody else has used up what was judged to be free.
    pub(super) fn require(&self, part: &mut Part) {
        let mut usages: HashMap<&ServerName, Usage> = HashMap::new();
        for (server, bytes, bound) in &self.sent {
            let usage = usages.entry(server).or_insert_with(|| Usage::of(0));
            usage.add(*bytes, *bound);
        }
        for (server, usage) in usages {
            part.require(Precondition::Within(
                tally::outbound(server),
                usage.before_max,
            ));
        }
        if let Some(Source { server, usage, .. }) = &self.source
            && usage.added > 0
        {
            // Several transactions of one peer may be taken at once, and together use up what each
            // found free: the later one is judged again. What was there before is no reason.
            let tally = tally::inbound(server);
            let bytes = usage.before_max.max(usage.before);
            part.require(Precondition::Within(tally, bytes));
        }
    }
}

/// What a sender is told of whose own mail as much waits as may.
fn sent_enough(waits: Tally, most: Tally) -> Refusal {
    Refusal::new(
        RefusalCode::Quota,
        format!(
            "{} of at most {} of your messages ({} of {} bytes) wait for other organisations: send again when they \
             have taken some",
            waits.entries, most.entries, waits.bytes, most.bytes
        ),
    )
}

/// What a sender is told when too much waits for a peer.
fn full(server: &ServerName) -> Refusal {
    Refusal::new(
        RefusalCode::Quota,
        format!(
            "as much waits for {server} as may: send again when it has taken \
             some; if that goes on, ask your administrator what keeps it away"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::engine::memory::MemoryEngine;
    use crate::store::outbox;

    /// Goal: what bounds an account is what the tally of its mail counts. Method: every kind.
    #[test]
    fn mail_is_what_is_counted_as_mail() {
        for kind in Kind::ALL {
            assert_eq!(
                class(kind) == Class::Mail,
                outbox::is_mail(kind),
                "{kind:?}"
            );
        }
    }

    /// Goal: an item that is refused takes nothing from what its sender may have waiting. Method: a bound of two; one item, one that is
    /// taken back, and two more.
    #[tokio::test]
    async fn what_is_taken_back_is_not_counted() {
        let store = Store::new(std::sync::Arc::new(MemoryEngine::default())).unwrap();
        let (mut waiting, account) = (Waiting::default(), AccountId::from_bytes([1; 16]));
        let most = Tally {
            entries: 2,
            bytes: 100,
        };
        assert!(waiting.send_of(&store, account, 40, most).await.is_ok());
        let mark = waiting.mark();
        assert!(waiting.send_of(&store, account, 60, most).await.is_ok());
        assert!(waiting.send_of(&store, account, 0, most).await.is_err());
        waiting.roll_back(mark);
        assert!(waiting.send_of(&store, account, 60, most).await.is_ok());
        assert!(waiting.send_of(&store, account, 0, most).await.is_err());
    }
}
