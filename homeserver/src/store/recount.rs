//! What waits in the outbox, counted row by row: to hold the tallies of peers and accounts to it, and to mend those of accounts
//! after a row was given up of which nobody can tell any more whose it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::sealed::{self, KeyRing};
use super::tally::{self, Tally};
use super::{
    Key, Order, Part, PartOutcome, Precondition, Range, Read, Store, StoreError, Value, outbox,
};

/// Entries read at once.
const CHUNK: usize = 1000;
/// Bytes of contents read at once, but for the last entry.
const CHUNK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How often it is begun again when mail comes and goes meanwhile.
const ATTEMPTS_MAX: usize = 8;

/// What rows come to, by the keys of the tallies that count them.
#[derive(Debug, Default)]
pub struct Counted {
    tallies: BTreeMap<Key, Tally>,
}

impl Counted {
    /// Counts the content at `key` in, if it is a row. Fails on one that does not decode.
    pub fn add(&mut self, key: &Key, content: &Value) -> Result<(), StoreError> {
        let Some(row) = outbox::read(key, content) else {
            return Ok(());
        };
        let (destination, row) = row?;
        let bytes = u64::try_from(content.len()).unwrap_or(u64::MAX);
        let account = outbox::account_of(&row).map(tally::sent);
        for key in [Some(tally::outbound(&destination)), account]
            .into_iter()
            .flatten()
        {
            let of_key = self.tallies.entry(key).or_default();
            *of_key = of_key.with(bytes);
        }
        Ok(())
    }

    fn of(&self, key: &Key) -> Tally {
        self.tallies.get(key).copied().unwrap_or_default()
    }

    /// Holds the tallies that there are to what was counted.
    pub fn compare(&self, there: &BTreeMap<Key, Tally>) -> Result<(), StoreError> {
        for key in there.keys().chain(self.tallies.keys()) {
            let (counted, found) = (there.get(key).copied().unwrap_or_default(), self.of(key));
            if counted != found {
                return Err(StoreError::MiscountedMail {
                    whose: tally::whose(key),
                    counted: counted.entries,
                    counted_bytes: counted.bytes,
                    found: found.entries,
                    found_bytes: found.bytes,
                });
            }
        }
        Ok(())
    }
}

/// Sets the tallies of accounts to what waits of their mail. Rows that do not decode are nobody's.
pub async fn mend_accounts(store: &Store) -> Result<(), StoreError> {
    for _ in 0..ATTEMPTS_MAX {
        let moment = Moment::of(store).await?;
        let mut found = Counted::default();
        let (from, to) = outbox::all_rows();
        moment
            .each((&from, &to), |key, content| {
                // One that does not decode is given up where it is met.
                let _ = found.add(key, content);
                Ok(())
            })
            .await?;
        let mut part = Part::default();
        let (from, to) = tally::all_sent();
        let mut there = BTreeMap::new();
        moment
            .each((&from, &to), |key, value| {
                there.insert(key.clone(), value.clone());
                Ok(())
            })
            .await?;
        let accounts = found.tallies.keys().filter(|key| tally::is_sent(key));
        for key in there.keys().chain(accounts) {
            let (read, right) = (there.get(key), found.of(key).value());
            if read == right.as_ref() {
                continue;
            }
            part.require(Precondition::unchanged(key.clone(), read.cloned()));
            match right {
                Some(value) => part.put(key.clone(), value),
                None => part.delete(key.clone()),
            };
        }
        if part.writes.is_empty() || store.commit(part).await? == PartOutcome::Committed {
            return Ok(());
        }
    }
    Ok(())
}

/// One moment of a store, and what opens it.
struct Moment {
    read: Box<dyn Read>,
    ring: Option<Arc<KeyRing>>,
}

impl Moment {
    async fn of(store: &Store) -> Result<Self, StoreError> {
        Ok(match store.seals() {
            Some(seals) => {
                let (read, ring) = seals.moment().await?;
                let ring = Some(ring);
                Self { read, ring }
            }
            None => Self {
                read: store.snapshot().await?,
                ring: None,
            },
        })
    }

    /// Shows each entry between two keys, opened.
    async fn each(
        &self,
        (from, to): (&Key, &Key),
        mut shown: impl FnMut(&Key, &Value) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut from = from.clone();
        loop {
            let range = Range {
                from: &from,
                to: to.as_ref(),
                limit: CHUNK,
                bytes_max: CHUNK_BYTES_MAX,
                order: Order::Ascending,
            };
            let entries = match &self.ring {
                Some(ring) if sealed::is_content(&from) => {
                    sealed::contents_in(&*self.read, ring, range).await?
                }
                _ => self.read.range(range).await?,
            };
            let Some((last, _)) = entries.last() else {
                return Ok(());
            };
            for (key, content) in &entries {
                shown(key, content)?;
            }
            from = [last.as_ref(), &[0]].concat().into();
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use federation_proto::envelope::{Kind, Lane};
    use federation_proto::ids::{AccountId, DeviceId, RoomId, ServerName};

    use super::*;
    use crate::store::engine::memory::MemoryEngine;
    use crate::store::outbox::{OutboxRow, SenderRef};
    use crate::store::{check, schema};

    /// Goal: what waits is what is counted of it, by peer and by account, mail alone by account; a tally that is off is told, and one of an
    /// account is mended. Method: rows of two kinds that come and go; then tallies that count too much, for somebody with mail and
    /// somebody without.
    #[tokio::test]
    async fn tallies_are_what_waits() {
        let store = Store::new(Arc::new(MemoryEngine::default())).unwrap();
        let to: ServerName = "b.example".parse().unwrap();
        let account = |n| AccountId::from_bytes([n; 16]);
        let row = |kind, n| OutboxRow {
            kind,
            payload: Bytes::from_static(b"words"),
            created_ms: 5,
            expires_ms: 9,
            sender: Some(SenderRef {
                account: account(n),
                device: DeviceId::from_bytes([3; 16]),
                room: RoomId::from_bytes([4; 16]),
                counter: 1,
            }),
            origin: None,
        };
        let mut part = Part::default();
        schema::put(&mut part);
        for (kind, n) in [(Kind::Message, 1), (Kind::Handshake, 1), (Kind::Message, 2)] {
            let row = row(kind, n);
            let value = outbox::value(&row).unwrap();
            outbox::count_in(&mut part, &row, value.len());
            outbox::append(&mut part, &to, Lane::CONTROL, value);
        }
        store.commit(part).await.unwrap();
        check::check(&store).await.unwrap();
        let sent = async |n| {
            tally::get(&store, &tally::sent(account(n)))
                .await
                .unwrap()
                .entries
        };
        assert_eq!((sent(1).await, sent(2).await), (1, 1));
        let waits = outbox::lane(&store, &to, Lane::CONTROL, 3, 1)
            .await
            .unwrap();
        let mut part = Part::default();
        outbox::count_out(&mut part, &to, &waits[0]);
        outbox::delete(&mut part, &to, Lane::CONTROL, 3);
        store.commit(part).await.unwrap();
        check::check(&store).await.unwrap();

        let mut part = Part::default();
        part.count(tally::sent(account(1)), 7);
        part.count(tally::sent(account(2)), 8);
        store.commit(part).await.unwrap();
        let error = check::check(&store).await.unwrap_err().to_string();
        assert!(error.contains("2 messages"), "{error}");
        mend_accounts(&store).await.unwrap();
        check::check(&store).await.unwrap();
        assert_eq!((sent(1).await, sent(2).await), (1, 0));

        let mut part = Part::default();
        part.count(tally::outbound(&to), 7);
        store.commit(part).await.unwrap();
        let error = check::check(&store).await.unwrap_err().to_string();
        assert!(error.contains("b.example"), "{error}");
    }
}
