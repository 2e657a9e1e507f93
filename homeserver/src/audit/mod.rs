//! The audit log: refusals, administrators' acts, membership, devices, dead letters.
//!
//! An event is written in the same store transaction as the act it records; after the commit a
//! sequencer moves it into the log, numbered without holes and chained by hash. Deliberately absent:
//! message contents, and accepted messages (an audit of every message would be a social graph).

mod from_peers;
mod repeated;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use federation_proto::codec::Wire as _;
use federation_proto::device_log::SignedHead;
use federation_proto::ids::{DeviceId, Handle, ServerName};
use homeserver_api::admin::{AuditEntry, AuditPage, PAGE_ENTRIES_MAX};
use ring::digest::{Context, SHA256};

use crate::clock::Clock;
use crate::store::audit::{self as store, AuditRecord, StoredEntry};
use crate::store::{Key, Part, Precondition, Store, StoreError};

pub use from_peers::{FromPeers, Noted, PeerEvent};
pub use repeated::Repeated;

/// How long an event may wait for its number while nobody reads the log.
const SEQUENCE_INTERVAL: Duration = Duration::from_secs(1);
/// Most events numbered in one part.
const SEQUENCE_ENTRIES_MAX: usize = 1024;
/// Most such parts that whoever reads the log waits for; what is left has its number a moment later.
const PAGE_PARTS_MAX: usize = 64;
const SUBJECT_BYTES_MAX: usize = 512;
/// A signed head of a device log fits, as text.
const DETAIL_BYTES_MAX: usize = 8 * 1024;

const _: () = assert!(SignedHead::BYTES_MAX / 3 * 4 < DETAIL_BYTES_MAX);

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// An administrator over the network.
    Admin(Handle),
    /// Whoever opened the admin socket, by user id.
    Local(u32),
    /// A device.
    Device(DeviceId),
    /// A peer.
    Peer(ServerName),
    /// The homeserver itself.
    System,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin(name) => write!(f, "admin:{}", name.as_str()),
            Self::Local(uid) => write!(f, "local:{uid}"),
            Self::Device(device) => write!(f, "device:{device}"),
            Self::Peer(server) => write!(f, "peer:{server}"),
            Self::System => f.write_str("system"),
        }
    }
}

/// Something to be remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Who.
    pub actor: Actor,
    /// What: a stable name such as `user.created`.
    pub action: &'static str,
    /// On what: an address, a server name, a room.
    pub subject: String,
    /// More, in words; never message content.
    pub detail: String,
}

/// Adds `event` to the act's part: both are written or neither.
pub fn record(part: &mut Part, event: &Event) {
    let record = AuditRecord {
        at_ms: event.at_ms,
        actor: event.actor.to_string(),
        action: event.action.to_owned(),
        subject: shortened(&event.subject, SUBJECT_BYTES_MAX),
        detail: shortened(&event.detail, DETAIL_BYTES_MAX),
    };
    if let Err(error) = store::put_pending(part, &record) {
        // Strings and a number always encode; were it otherwise, the act must not happen unrecorded.
        tracing::error!(%error, "an audit event does not encode");
        let never = Key::from_static(b"");
        part.require(Precondition::Present(never));
    }
}

/// Up to `limit` entries after the number `after`, oldest first. All that was recorded before the call is
/// numbered by the last page.
pub async fn page(store: &Store, after: u64, limit: usize) -> Result<AuditPage, StoreError> {
    let limit = limit.clamp(1, PAGE_ENTRIES_MAX);
    // One more than asked for tells whether there is another page.
    let mut entries = store::entries(store, after, limit + 1).await?;
    let mut all_numbered = true;
    if entries.len() <= limit {
        all_numbered = sequence(store, PAGE_PARTS_MAX).await?;
        entries = store::entries(store, after, limit + 1).await?;
    }
    let more = entries.len() > limit || !all_numbered;
    entries.truncate(limit);
    let next_after = entries.last().map(|(number, _)| *number).filter(|_| more);
    let entries = entries.into_iter().map(|(number, entry)| AuditEntry {
        number,
        at_ms: entry.record.at_ms,
        actor: entry.record.actor,
        action: entry.record.action,
        subject: entry.record.subject,
        detail: entry.record.detail,
        hash: hex::encode(entry.hash),
    });
    Ok(AuditPage {
        entries: entries.collect(),
        next_after,
    })
}

/// Reads the whole log: how many entries it has, when its chain holds from the first to the last.
pub async fn check(store: &Store) -> Result<u64, StoreError> {
    let broken = StoreError::Corrupt {
        family: "audit log",
    };
    let (head, _) = store::head(store).await?;
    let (mut number, mut hash) = (0, [0; 32]);
    loop {
        let entries = store::entries(store, number, SEQUENCE_ENTRIES_MAX).await?;
        if entries.is_empty() {
            break;
        }
        for (found, entry) in entries {
            number += 1;
            hash = chained(&hash, number, &entry.record);
            if found != number || entry.hash != hash {
                return Err(broken);
            }
        }
    }
    if (number, hash) == (head.number, head.hash) {
        Ok(number)
    } else {
        Err(broken)
    }
}

/// Numbers what was recorded, and writes the counts of what was not written each, for as long as the
/// process lives.
pub async fn run_sequencer(
    store: Store,
    clock: Arc<dyn Clock>,
    counted: (Arc<Repeated>, Arc<FromPeers>),
) {
    loop {
        if let Err(error) = round(&store, clock.now_ms(), (&counted.0, &counted.1)).await {
            tracing::error!(%error, "the audit log can't be continued; trying again");
        }
        tokio::time::sleep(SEQUENCE_INTERVAL).await;
    }
}

/// One turn of [`run_sequencer`].
pub(crate) async fn round(
    store: &Store,
    now_ms: u64,
    (repeated, from_peers): (&Repeated, &FromPeers),
) -> Result<(), StoreError> {
    let mut part = Part::default();
    for event in repeated
        .ended(now_ms)
        .iter()
        .chain(&from_peers.ended(now_ms))
    {
        record(&mut part, event);
    }
    if !part.writes.is_empty() {
        store.commit(part).await?;
    }
    sequence(store, usize::MAX).await?;
    Ok(())
}

/// Moves what was recorded before the call into the log, in `parts_max` parts at most; whether that was
/// all. The log's end is a precondition: of two who do this at once on two nodes one has to begin again,
/// and no event is numbered twice.
async fn sequence(store: &Store, parts_max: usize) -> Result<bool, StoreError> {
    let newest = store::newest_pending(store).await?;
    for _ in 0..parts_max {
        // Here they take turns: of many readers of the log one at a time works at it, and not in vain.
        let _turn = store.numbering().await;
        // The end is read first: what is numbered between the reads makes the part fail.
        let (mut head, unchanged) = store::head(store).await?;
        let passed = store::passed(store).await?;
        if passed >= newest {
            return Ok(true);
        }
        let pending = store::pending(store, passed, SEQUENCE_ENTRIES_MAX).await?;
        let Some((last, _, _)) = pending.last() else {
            return Ok(true);
        };
        let mut part = Part::default();
        part.require(unchanged);
        store::put_passed(&mut part, *last);
        for (_, key, record) in pending {
            head.number = head.number.saturating_add(1);
            head.hash = chained(&head.hash, head.number, &record);
            let entry = StoredEntry {
                record,
                hash: head.hash,
            };
            store::put_entry(&mut part, head.number, &entry)?;
            part.delete(key);
        }
        store::put_head(&mut part, &head)?;
        store.commit(part).await?;
    }
    Ok(false)
}

/// SHA-256 over the previous hash (32 bytes), the number and the time (8 bytes each, big-endian), then
/// actor, action, subject and detail, each as its length in bytes (4 bytes, big-endian) and its UTF-8.
/// Everything in it stands in [`AuditEntry`], so that whoever reads the log can check it.
fn chained(previous: &[u8; 32], number: u64, record: &AuditRecord) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(previous);
    context.update(&number.to_be_bytes());
    context.update(&record.at_ms.to_be_bytes());
    for text in [
        &record.actor,
        &record.action,
        &record.subject,
        &record.detail,
    ] {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        context.update(&length.to_be_bytes());
        context.update(text.as_bytes());
    }
    let mut hash = [0; 32];
    for (to, from) in hash.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    hash
}

fn shortened(text: &str, bytes_max: usize) -> String {
    text.get(..text.floor_char_boundary(bytes_max))
        .unwrap_or(text)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::testing;
    use crate::store::PartOutcome;

    fn event(number: u64) -> Event {
        Event {
            at_ms: number,
            actor: Actor::System,
            action: "test.happened",
            subject: format!("subject {number}"),
            detail: String::new(),
        }
    }

    async fn act(store: &Store, number: u64) {
        let mut part = Part::default();
        record(&mut part, &event(number));
        assert_eq!(store.commit(part).await.unwrap(), PartOutcome::Committed);
    }

    /// Checks the chain from the API's entries alone, as an auditor would.
    fn check_chain(entries: &[AuditEntry]) {
        let mut previous = [0; 32];
        for (number, entry) in (1..).zip(entries) {
            assert_eq!(entry.number, number);
            let entry = entry.clone();
            let record = AuditRecord {
                at_ms: entry.at_ms,
                actor: entry.actor,
                action: entry.action,
                subject: entry.subject,
                detail: entry.detail,
            };
            previous = chained(&previous, number, &record);
            assert_eq!(entry.hash, hex::encode(previous));
        }
    }

    /// Goal: everything recorded is in the log once, in order, without holes, chained, and read in
    /// pages; by recording and paging.
    #[tokio::test]
    async fn recorded_is_numbered_once() {
        let (node, _) = testing::node("a.example");
        for number in 0..5 {
            act(&node.store, number).await;
        }
        let first = page(&node.store, 0, 3).await.unwrap();
        assert_eq!(first.next_after, Some(3));
        act(&node.store, 5).await;
        let second = page(&node.store, 3, 3).await.unwrap();
        assert_eq!(second.next_after, None);
        let entries = [first.entries, second.entries].concat();
        check_chain(&entries);
        let times: Vec<_> = entries.iter().map(|entry| entry.at_ms).collect();
        assert_eq!(times, [0, 1, 2, 3, 4, 5]);
        assert!(page(&node.store, 6, 3).await.unwrap().entries.is_empty());
        assert_eq!(check(&node.store).await.unwrap(), 6);
    }

    /// Goal: an entry that was changed, removed or added afterwards is noticed; by doing so.
    #[tokio::test]
    async fn a_changed_log_is_noticed() {
        let (node, _) = testing::node("a.example");
        for number in 0..3 {
            act(&node.store, number).await;
        }
        page(&node.store, 0, 9).await.unwrap();
        let entries = store::entries(&node.store, 0, 9).await.unwrap();
        let (_, second) = &entries[1];
        let mut changed = second.clone();
        changed.record.detail = "nothing happened".to_owned();
        for (number, entry) in [(2, &changed), (3, second), (4, second)] {
            let mut part = Part::default();
            store::put_entry(&mut part, number, entry).unwrap();
            node.store.commit(part).await.unwrap();
            assert!(check(&node.store).await.is_err(), "{number}");
            let mut part = Part::default();
            match entries.iter().find(|(original, _)| *original == number) {
                Some((_, original)) => store::put_entry(&mut part, number, original).unwrap(),
                None => {
                    part.delete([b"V".as_slice(), &number.to_be_bytes()].concat().into());
                }
            }
            node.store.commit(part).await.unwrap();
            assert_eq!(check(&node.store).await.unwrap(), 3, "mended");
        }
    }

    /// Goal: sequencers that race number nothing twice; by many at once while more is recorded.
    #[tokio::test]
    async fn racing_sequencers() {
        let (node, _) = testing::node("a.example");
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let store = node.store.clone();
                tokio::spawn(async move {
                    for number in 0..20 {
                        act(&store, task * 100 + number).await;
                        sequence(&store, usize::MAX).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let all = page(&node.store, 0, PAGE_ENTRIES_MAX).await.unwrap();
        assert_eq!(all.entries.len(), 8 * 20);
        check_chain(&all.entries);
    }

    /// Goal: whoever numbers does not read again what was numbered, which takes ever longer where a store keeps
    /// the traces of what it deleted; by an event that turns up among those.
    #[tokio::test]
    async fn numbered_events_are_passed_over() {
        let (node, _) = testing::node("a.example");
        for number in 0..3 {
            act(&node.store, number).await;
        }
        page(&node.store, 0, 9).await.unwrap();
        assert_eq!(store::passed(&node.store).await.unwrap(), 3);
        let record = AuditRecord {
            at_ms: 0,
            actor: String::new(),
            action: String::new(),
            subject: String::new(),
            detail: String::new(),
        };
        let mut part = Part::default();
        let (tail, prefix) = (b"other".to_vec().into(), b"We".to_vec().into());
        let value = crate::store::record::encode("audit", 1, &record).unwrap();
        part.append(tail, prefix, value);
        node.store.commit(part).await.unwrap();
        act(&node.store, 3).await;
        assert_eq!(page(&node.store, 0, 9).await.unwrap().entries.len(), 4);
    }

    /// Goal: whoever reads waits for a bounded number of parts alone, and is told that there is more. Method: more
    /// events than that, read from the beginning and then to the end.
    #[tokio::test]
    async fn reading_is_bounded() {
        let (node, _) = testing::node("a.example");
        let many = (PAGE_PARTS_MAX + 1) * SEQUENCE_ENTRIES_MAX;
        let mut part = Part::default();
        for number in 0..many {
            record(&mut part, &event(u64::try_from(number).unwrap()));
        }
        node.store.commit(part).await.unwrap();
        let first = page(&node.store, 0, 1).await.unwrap();
        assert_eq!(first.next_after, Some(1));
        let left = store::pending(&node.store, 0, many).await.unwrap();
        assert_eq!(left.len(), SEQUENCE_ENTRIES_MAX);
        // A page that is there already makes nobody wait for more.
        page(&node.store, 1, 1).await.unwrap();
        let left = store::pending(&node.store, 0, many).await.unwrap();
        assert_eq!(left.len(), SEQUENCE_ENTRIES_MAX);
        let end = u64::try_from(many).unwrap();
        let last = page(&node.store, end - 2, 9).await.unwrap();
        assert_eq!((last.entries.len(), last.next_after), (2, None));
        assert_eq!(check(&node.store).await.unwrap(), end);
    }

    /// Goal: many who read at once don't work against each other. Method: eight tasks number what each of them records,
    /// and no part of theirs meets a conflict.
    #[tokio::test]
    async fn readers_take_turns() {
        let (node, _) = testing::node("a.example");
        let mut registry = prometheus_client::registry::Registry::default();
        node.store.register_metrics(&mut registry);
        let tasks = (0..8).map(|task| {
            let store = node.store.clone();
            tokio::spawn(async move {
                for number in 0..20 {
                    act(&store, task * 100 + number).await;
                    page(&store, 0, PAGE_ENTRIES_MAX).await.unwrap();
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        let mut figures = String::new();
        prometheus_client::encoding::text::encode(&mut figures, &registry).unwrap();
        assert!(figures.contains("store_conflicts_total 0\n"), "{figures}");
    }

    /// Goal: an act that is refused leaves no entry; by a failed precondition.
    #[tokio::test]
    async fn a_refused_act_is_not_recorded() {
        let (node, _) = testing::node("a.example");
        let mut part = Part::default();
        record(&mut part, &event(1));
        part.require(Precondition::Present(Key::from_static(b"never")));
        assert_eq!(
            node.store.commit(part).await.unwrap(),
            PartOutcome::Conflict
        );
        assert!(page(&node.store, 0, 9).await.unwrap().entries.is_empty());
    }

    /// Goal: a hostile name can't swell the log; by an endless one that ends within a character.
    #[test]
    fn long_texts_are_shortened() {
        assert_eq!(shortened("abc", 5), "abc");
        assert_eq!(shortened("abcä", 4), "abc");
    }
}
