//! One batch: one transaction under the lock.

use std::collections::HashMap;

use deadpool_postgres::{Client, Pool, Transaction};
use futures_util::future::try_join3;
use tokio::time::Instant;
use tokio_postgres::{IsolationLevel, Row};

use super::connect::{Readers, check_durability, connection, failed, give_back};
use super::failure::{Failure, in_time};
use crate::store::engine::changes::{Changes, keys_measured, keys_read};
use crate::store::{Key, Part, PartOutcome, StoreError, Value};

/// What keys have, or are to have; `None`: no value.
type Values = HashMap<Key, Option<Value>>;

/// How long the values at keys are, of which only that is asked for.
type Lengths = HashMap<Key, usize>;

/// The lock of all batches of a database.
pub(super) const LOCK: i64 = 0x656e_7465_6e74_6532;

/// Takes the lock, for as long as the transaction lasts and until it is durable.
const TAKE_LOCK: &str = "SELECT pg_advisory_xact_lock($1::bigint), current_setting('fsync'), \
     current_setting('synchronous_commit')";
const READ: &str = "SELECT key, value FROM entry WHERE key = ANY($1::bytea[])";
/// What is only counted out may be long, and others wait while it travels.
const MEASURE: &str = "SELECT key, octet_length(value) FROM entry WHERE key = ANY($1::bytea[])";
const PUT: &str = "INSERT INTO entry (key, value) \
     SELECT * FROM unnest($1::bytea[], $2::bytea[]) \
     ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value";
const DELETE: &str = "DELETE FROM entry WHERE key = ANY($1::bytea[])";
const NOTE: &str = "INSERT INTO batch (node, number) VALUES ($1, $2) \
     ON CONFLICT (node) DO UPDATE SET number = EXCLUDED.number, at = now()";
/// Finds a noted batch. That it writes is on purpose: its own commit then waits for the disk and the
/// standby, also where the noted one had stopped waiting because its connection broke.
const CONFIRM: &str =
    "UPDATE batch SET at = now() WHERE node = $1 AND number = $2 RETURNING number";
/// Rows of processes that are long gone; one that lives and has written nothing for as long gets its row
/// back with its next batch.
const FORGET: &str = "DELETE FROM batch WHERE at < now() - interval '1 day'";
const REGISTER: &str =
    "INSERT INTO batch (node, number) VALUES (uuid_send(gen_random_uuid()), 0) RETURNING node";

/// A new name under which a process notes its batches.
pub(super) async fn register(client: &Client) -> Result<Vec<u8>, StoreError> {
    client.execute(FORGET, &[]).await.map_err(failed)?;
    let row = client.query_one(REGISTER, &[]).await.map_err(failed)?;
    row.try_get(0).map_err(failed)
}

/// A batch, over all attempts at it.
pub(super) struct Batch<'a> {
    node: &'a [u8],
    number: i64,
    parts: &'a [Part],
    /// What the last attempt would have answered, had it heard of its commit.
    unconfirmed: Option<Vec<PartOutcome>>,
}

impl<'a> Batch<'a> {
    pub(super) const fn new(node: &'a [u8], number: i64, parts: &'a [Part]) -> Self {
        Self {
            node,
            number,
            parts,
            unconfirmed: None,
        }
    }

    /// Tries to write the batch, or finds that an earlier attempt has.
    pub(super) async fn attempt(
        &mut self,
        (writer, readers): (&Pool, &Readers),
        ends: Instant,
    ) -> Result<Vec<PartOutcome>, Failure> {
        let mut client = in_time(ends, connection(writer, readers)).await?;
        let result = in_time(ends, self.write(&mut client)).await;
        // Whatever a failed connection is in the middle of, the next attempt has a new one.
        give_back(client, result)
    }

    async fn write(&mut self, client: &mut Client) -> Result<Vec<PartOutcome>, Failure> {
        let keys = each_once(self.parts.iter().flat_map(keys_read));
        let mut lengths = each_once(self.parts.iter().flat_map(keys_measured));
        lengths.retain(|key| keys.binary_search(key).is_err());
        let take_lock = client.prepare_cached(TAKE_LOCK).await?;
        let read = client.prepare_cached(READ).await?;
        let measure = client.prepare_cached(MEASURE).await?;
        // Each statement has to see what was committed before it: a snapshot of the whole transaction
        // would be older than the lock.
        let transaction = client
            .build_transaction()
            .isolation_level(IsolationLevel::ReadCommitted)
            .start()
            .await?;
        // Sent together; the server takes one after the other.
        let measuring = async {
            match lengths.is_empty() {
                true => Ok(Vec::new()),
                false => transaction.query(&measure, &[&lengths]).await,
            }
        };
        let (locked, found, measured) = try_join3(
            transaction.query_one(&take_lock, &[&LOCK]),
            transaction.query(&read, &[&keys]),
            measuring,
        )
        .await?;
        check_durability(locked.try_get(1)?, locked.try_get(2)?)?;
        if let Some(outcomes) = &self.unconfirmed {
            // Under the lock no earlier attempt is under way any more.
            let noted = transaction
                .query_opt(CONFIRM, &[&self.node, &self.number])
                .await?;
            if noted.is_some() {
                transaction.commit().await?;
                return Ok(outcomes.clone());
            }
        }
        let (outcomes, changed) =
            judge(self.parts, &stored(&keys, &found)?, &lengths_of(&measured)?)?;
        if changed.is_empty() {
            transaction.rollback().await?;
            return Ok(outcomes);
        }
        self.note_and_change(&transaction, &changed).await?;
        self.unconfirmed = Some(outcomes.clone());
        transaction.commit().await?;
        Ok(outcomes)
    }

    async fn note_and_change(
        &self,
        transaction: &Transaction<'_>,
        changed: &Values,
    ) -> Result<(), Failure> {
        let (mut put, mut values) = (Vec::<&[u8]>::new(), Vec::<&[u8]>::new());
        let mut gone = Vec::<&[u8]>::new();
        for (key, value) in changed {
            match value {
                Some(value) => {
                    put.push(key);
                    values.push(value);
                }
                None => gone.push(key),
            }
        }
        let note_statement = transaction.prepare_cached(NOTE).await?;
        let put_statement = transaction.prepare_cached(PUT).await?;
        let delete_statement = transaction.prepare_cached(DELETE).await?;
        try_join3(
            transaction.execute(&note_statement, &[&self.node, &self.number]),
            transaction.execute(&put_statement, &[&put, &values]),
            transaction.execute(&delete_statement, &[&gone]),
        )
        .await?;
        Ok(())
    }
}

/// What is stored at `keys`, of which `found` have a value.
fn stored(keys: &[&[u8]], found: &[Row]) -> Result<Values, Failure> {
    let none = keys.iter().map(|key| (Key::copy_from_slice(key), None));
    let mut stored: Values = none.collect();
    for row in found {
        let (key, value): (&[u8], &[u8]) = (row.try_get(0)?, row.try_get(1)?);
        stored.insert(
            Key::copy_from_slice(key),
            Some(Value::copy_from_slice(value)),
        );
    }
    Ok(stored)
}

/// Each key once, ascending.
fn each_once<'a>(keys: impl Iterator<Item = &'a Key>) -> Vec<&'a [u8]> {
    let mut keys: Vec<&[u8]> = keys.map(AsRef::as_ref).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// How long the values are that there are.
fn lengths_of(measured: &[Row]) -> Result<Lengths, Failure> {
    let mut lengths = Lengths::with_capacity(measured.len());
    for row in measured {
        let (key, length): (&[u8], i32) = (row.try_get(0)?, row.try_get(1)?);
        let length = usize::try_from(length).unwrap_or_default();
        lengths.insert(Key::copy_from_slice(key), length);
    }
    Ok(lengths)
}

/// What becomes of each part, and what the batch changes.
fn judge(
    parts: &[Part],
    values: &Values,
    lengths: &Lengths,
) -> Result<(Vec<PartOutcome>, Values), StoreError> {
    let measured = |key: &[u8]| -> Result<Option<usize>, StoreError> {
        let of_value = values.get(key).map(|value| value.as_ref().map(Value::len));
        Ok(of_value.unwrap_or_else(|| lengths.get(key).copied()))
    };
    let stored = |key: &[u8]| {
        values.get(key).cloned().ok_or_else(|| {
            StoreError::Engine("a part depends on a key that it does not name".to_owned())
        })
    };
    let mut changes = Changes::measuring(&stored, &measured);
    let outcomes = parts
        .iter()
        .map(|part| changes.take_up(part))
        .collect::<Result<_, _>>()?;
    Ok((outcomes, changes.into_inner()))
}
