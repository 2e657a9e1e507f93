//! Numbers what was recorded, and reads it in pages.

use std::sync::Arc;
use std::time::Duration;

use federation_proto::audit_log::Entry;
use federation_proto::codec::EncodeError;
use federation_proto::hash::Digest;
use federation_proto::merkle::{Frontier, Place};
use homeserver_api::admin::{AuditEntry, AuditPage, PAGE_ENTRIES_MAX};
use ring::rand::SecureRandom;

use super::people::{self, People};
use super::{FromPeers, Repeated, record};
use crate::clock::Clock;
use crate::store::audit::{self as rows, AuditRecord, StoredEntry};
use crate::store::{Part, Store, StoreError};

/// How long an event may wait for its number while nobody reads the log.
const SEQUENCE_INTERVAL: Duration = Duration::from_secs(1);
/// Most events numbered in one part.
const SEQUENCE_ENTRIES_MAX: usize = 1024;
/// Most such parts that whoever reads the log waits for; what is left has its number a moment later.
pub(super) const PAGE_PARTS_MAX: usize = 64;

const BROKEN: StoreError = StoreError::Corrupt {
    family: "audit log",
};

/// Up to `limit` entries after the number `after`, oldest first. All that was recorded before the call is
/// numbered by the last page.
pub async fn page(
    store: &Store,
    random: &(dyn SecureRandom + Send + Sync),
    after: u64,
    limit: usize,
) -> Result<AuditPage, StoreError> {
    let limit = limit.clamp(1, PAGE_ENTRIES_MAX);
    // One more than asked for tells whether there is another page.
    let mut entries = rows::entries(store, after, limit + 1).await?;
    let mut all_numbered = true;
    if entries.len() <= limit {
        all_numbered = sequence(store, random, PAGE_PARTS_MAX).await?;
        entries = rows::entries(store, after, limit + 1).await?;
    }
    let more = entries.len() > limit || !all_numbered;
    entries.truncate(limit);
    let next_after = entries.last().map(|(number, _)| *number).filter(|_| more);
    let entries = entries.into_iter().map(shown).collect();
    with_people(store, entries, next_after).await
}

/// A page of these entries.
pub(super) async fn with_people(
    store: &Store,
    entries: Vec<AuditEntry>,
    next_after: Option<u64>,
) -> Result<AuditPage, StoreError> {
    let texts = entries
        .iter()
        .flat_map(|entry| [entry.subject.as_str(), entry.detail.as_str()]);
    let people = people::named(store, texts).await?;
    Ok(AuditPage {
        entries,
        people,
        next_after,
    })
}

/// The entry as the API shows it.
pub(super) fn shown((number, entry): (u64, StoredEntry)) -> AuditEntry {
    AuditEntry {
        number,
        at_ms: entry.record.at_ms,
        actor: entry.record.actor,
        action: entry.record.action,
        subject: entry.record.subject,
        detail: entry.record.detail,
        hash: entry.leaf.to_string(),
    }
}

/// Reads the whole log: how many entries it has, when each is its leaf, and the tree is the one over them.
pub async fn check(store: &Store) -> Result<u64, StoreError> {
    let (head, _) = rows::head(store).await?;
    let mut tree = Frontier::default();
    loop {
        let entries = rows::entries(store, tree.size(), SEQUENCE_ENTRIES_MAX).await?;
        if entries.is_empty() {
            break;
        }
        let mut complete = Vec::new();
        for (found, entry) in entries {
            let number = tree.size().saturating_add(1);
            let leaf = leaf_of(number, &entry.record).map_err(|_| BROKEN)?;
            if found != number || entry.leaf != leaf {
                return Err(BROKEN);
            }
            tree.push_noting(leaf, |place, hash| complete.push((place, hash)));
        }
        check_nodes(store, complete).await?;
    }
    if tree == head {
        Ok(tree.size())
    } else {
        Err(BROKEN)
    }
}

/// Holds the nodes that are stored to those that the entries make: each level in one read.
async fn check_nodes(store: &Store, mut complete: Vec<(Place, Digest)>) -> Result<(), StoreError> {
    complete.sort_unstable_by_key(|(place, _)| *place);
    for level in complete.chunk_by(|(one, _), (next, _)| one.level == next.level) {
        let Some((first, _)) = level.first() else {
            continue;
        };
        let found = rows::nodes(store, *first, level.len()).await?;
        let expected = level.iter().map(|(place, hash)| (place.index, *hash));
        if !expected.eq(found) {
            return Err(BROKEN);
        }
    }
    Ok(())
}

/// Numbers what was recorded, and writes the counts of what was not written each, for as long as the
/// process lives.
pub async fn run_sequencer(
    (store, random): (Store, Arc<dyn SecureRandom + Send + Sync>),
    clock: Arc<dyn Clock>,
    counted: (Arc<Repeated>, Arc<FromPeers>),
) {
    loop {
        let counted = (&*counted.0, &*counted.1);
        if let Err(error) = round(&store, random.as_ref(), clock.now_ms(), counted).await {
            tracing::error!(%error, "the audit log can't be continued; trying again");
        }
        tokio::time::sleep(SEQUENCE_INTERVAL).await;
    }
}

/// One turn of [`run_sequencer`].
pub(crate) async fn round(
    store: &Store,
    random: &(dyn SecureRandom + Send + Sync),
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
    sequence(store, random, usize::MAX).await?;
    Ok(())
}

/// Moves what was recorded before the call into the log, in `parts_max` parts at most; whether that was
/// all. The log's end is a precondition: of two who do this at once on two nodes one has to begin again,
/// and no event is numbered twice.
pub(super) async fn sequence(
    store: &Store,
    random: &(dyn SecureRandom + Send + Sync),
    parts_max: usize,
) -> Result<bool, StoreError> {
    let newest = rows::newest_pending(store).await?;
    for _ in 0..parts_max {
        // Here they take turns: of many readers of the log one at a time works at it, and not in vain.
        let _turn = store.numbering().await;
        // The end is read first: what is numbered between the reads makes the part fail.
        let (mut head, unchanged) = rows::head(store).await?;
        let passed = rows::passed(store).await?;
        if passed >= newest {
            return Ok(true);
        }
        let pending = rows::pending(store, passed, SEQUENCE_ENTRIES_MAX).await?;
        let Some((last, _, _)) = pending.last() else {
            return Ok(true);
        };
        let mut part = Part::default();
        part.require(unchanged);
        rows::put_passed(&mut part, *last);
        let mut people = People::new(store, random);
        for (_, key, event) in pending {
            let record = people.hide(event).await?;
            let number = head.size().saturating_add(1);
            let leaf = leaf_of(number, &record).map_err(|error| {
                StoreError::Engine(format!("an audit event does not encode: {error}"))
            })?;
            head.push_noting(leaf, |place, hash| {
                rows::put_node(&mut part, place, &hash);
            });
            rows::put_entry(&mut part, number, &StoredEntry { record, leaf })?;
            part.delete(key);
        }
        people.put(&mut part);
        rows::put_head(&mut part, &head)?;
        store.commit(part).await?;
    }
    Ok(false)
}

/// The leaf of an entry. Everything in it stands in [`AuditEntry`], so that whoever reads the log can make it again.
fn leaf_of(number: u64, record: &AuditRecord) -> Result<Digest, EncodeError> {
    let entry = Entry {
        number,
        at_ms: record.at_ms,
        actor: &record.actor,
        action: &record.action,
        subject: &record.subject,
        detail: &record.detail,
    };
    entry.leaf()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Actor, Event};
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

    /// Makes the tree from the API's entries alone, as an auditor would.
    fn tree_of(entries: &[AuditEntry]) -> Frontier {
        let mut tree = Frontier::default();
        for (number, entry) in (1..).zip(entries) {
            assert_eq!(entry.number, number);
            let leaf = entry.leaf().unwrap();
            assert_eq!(entry.hash, leaf.to_string());
            tree.push(leaf);
        }
        tree
    }

    async fn check_tree(store: &Store, entries: &[AuditEntry]) {
        let (tree, _) = rows::head(store).await.unwrap();
        assert_eq!(tree_of(entries), tree);
    }

    /// Goal: everything recorded is in the log once, in order, without holes, under its tree, and read in
    /// pages; by recording and paging.
    #[tokio::test]
    async fn recorded_is_numbered_once() {
        let (node, _) = testing::node("a.example");
        for number in 0..5 {
            act(&node.store, number).await;
        }
        let first = page(&node.store, node.random.as_ref(), 0, 3).await.unwrap();
        assert_eq!(first.next_after, Some(3));
        act(&node.store, 5).await;
        let second = page(&node.store, node.random.as_ref(), 3, 3).await.unwrap();
        assert_eq!(second.next_after, None);
        let entries = [first.entries, second.entries].concat();
        check_tree(&node.store, &entries).await;
        let times: Vec<_> = entries.iter().map(|entry| entry.at_ms).collect();
        assert_eq!(times, [0, 1, 2, 3, 4, 5]);
        assert!(
            page(&node.store, node.random.as_ref(), 6, 3)
                .await
                .unwrap()
                .entries
                .is_empty()
        );
        assert_eq!(check(&node.store).await.unwrap(), 6);
    }

    /// Goal: an entry that was changed, removed or added afterwards is noticed; by doing so.
    #[tokio::test]
    async fn a_changed_log_is_noticed() {
        let (node, _) = testing::node("a.example");
        for number in 0..3 {
            act(&node.store, number).await;
        }
        page(&node.store, node.random.as_ref(), 0, 9).await.unwrap();
        let entries = rows::entries(&node.store, 0, 9).await.unwrap();
        let (_, second) = &entries[1];
        let mut changed = second.clone();
        changed.record.detail = "nothing happened".to_owned();
        for (number, entry) in [(2, &changed), (3, second), (4, second)] {
            let mut part = Part::default();
            rows::put_entry(&mut part, number, entry).unwrap();
            node.store.commit(part).await.unwrap();
            assert!(check(&node.store).await.is_err(), "{number}");
            let mut part = Part::default();
            match entries.iter().find(|(original, _)| *original == number) {
                Some((_, original)) => rows::put_entry(&mut part, number, original).unwrap(),
                None => {
                    part.delete([b"Ve".as_slice(), &number.to_be_bytes()].concat().into());
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
                let (store, random) = (node.store.clone(), node.random.clone());
                tokio::spawn(async move {
                    for number in 0..20 {
                        act(&store, task * 100 + number).await;
                        sequence(&store, random.as_ref(), usize::MAX).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let all = page(&node.store, node.random.as_ref(), 0, PAGE_ENTRIES_MAX)
            .await
            .unwrap();
        assert_eq!(all.entries.len(), 8 * 20);
        check_tree(&node.store, &all.entries).await;
    }

    /// Goal: whoever numbers does not read again what was numbered, which takes ever longer where a store keeps
    /// the traces of what it deleted; by an event that turns up among those.
    #[tokio::test]
    async fn numbered_events_are_passed_over() {
        let (node, _) = testing::node("a.example");
        for number in 0..3 {
            act(&node.store, number).await;
        }
        page(&node.store, node.random.as_ref(), 0, 9).await.unwrap();
        assert_eq!(rows::passed(&node.store).await.unwrap(), 3);
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
        assert_eq!(
            page(&node.store, node.random.as_ref(), 0, 9)
                .await
                .unwrap()
                .entries
                .len(),
            4
        );
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
        let first = page(&node.store, node.random.as_ref(), 0, 1).await.unwrap();
        assert_eq!(first.next_after, Some(1));
        let left = rows::pending(&node.store, 0, many).await.unwrap();
        assert_eq!(left.len(), SEQUENCE_ENTRIES_MAX);
        // A page that is there already makes nobody wait for more.
        page(&node.store, node.random.as_ref(), 1, 1).await.unwrap();
        let left = rows::pending(&node.store, 0, many).await.unwrap();
        assert_eq!(left.len(), SEQUENCE_ENTRIES_MAX);
        let end = u64::try_from(many).unwrap();
        let last = page(&node.store, node.random.as_ref(), end - 2, 9)
            .await
            .unwrap();
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
            let (store, random) = (node.store.clone(), node.random.clone());
            tokio::spawn(async move {
                for number in 0..20 {
                    act(&store, task * 100 + number).await;
                    page(&store, random.as_ref(), 0, PAGE_ENTRIES_MAX)
                        .await
                        .unwrap();
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
}
