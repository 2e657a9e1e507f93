//! Reads, each from one snapshot of the database.

use deadpool_postgres::Client;
use futures_util::FutureExt;
use tokio::time::Instant;
use tokio_postgres::Row;

use super::connect::{Readers, failed, give_back};
use super::failure::{Failure, attempt_ends, in_time};
use crate::store::engine::{Answer, Range, Read};
use crate::store::{Key, Order, StoreError, Value};

const GET: &str = "SELECT value FROM entry WHERE key = $1";
const ASCENDING: &str =
    "SELECT key, value FROM entry WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3";
const DESCENDING: &str =
    "SELECT key, value FROM entry WHERE key >= $1 AND key < $2 ORDER BY key DESC LIMIT $3";
/// As the ones above, but the server sends no entry once those before it fill the bytes. It knows a
/// value's length without fetching the value.
const ASCENDING_WITHIN: &str = "\
SELECT key, value FROM (
    SELECT key, value,
        sum(octet_length(value)) OVER (ORDER BY key ROWS UNBOUNDED PRECEDING)
            - octet_length(value) AS before
    FROM entry WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3
) AS counted WHERE before < $4 ORDER BY key";
const DESCENDING_WITHIN: &str = "\
SELECT key, value FROM (
    SELECT key, value,
        sum(octet_length(value)) OVER (ORDER BY key DESC ROWS UNBOUNDED PRECEDING)
            - octet_length(value) AS before
    FROM entry WHERE key >= $1 AND key < $2 ORDER BY key DESC LIMIT $3
) AS counted WHERE before < $4 ORDER BY key DESC";
/// The snapshot is taken by the first statement, not by the beginning.
const BEGIN_MOMENT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1";

/// Reads with a connection of the pool.
pub(super) async fn pooled_get(
    readers: &Readers,
    key: &[u8],
    ends: Instant,
) -> Result<Option<Value>, Failure> {
    let client = in_time(ends, readers.connection()).await?;
    let value = in_time(ends, get(&client, key)).await;
    give_back(client, value)
}

/// Reads with a connection of the pool.
pub(super) async fn pooled_range(
    readers: &Readers,
    wanted: Range<'_>,
    ends: Instant,
) -> Result<Vec<(Key, Value)>, Failure> {
    let client = in_time(ends, readers.connection()).await?;
    let entries = in_time(ends, range(&client, wanted)).await;
    give_back(client, entries)
}

async fn get(client: &Client, key: &[u8]) -> Result<Option<Value>, Failure> {
    let statement = client.prepare_cached(GET).await?;
    let Some(row) = client.query_opt(&statement, &[&key]).await? else {
        return Ok(None);
    };
    Ok(Some(Value::copy_from_slice(row.try_get(0)?)))
}

async fn range(client: &Client, wanted: Range<'_>) -> Result<Vec<(Key, Value)>, Failure> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let limit = i64::try_from(wanted.limit).unwrap_or(i64::MAX);
    let (from, to) = (wanted.from, wanted.to);
    let rows = if wanted.bytes_max == usize::MAX {
        let statement = match wanted.order {
            Order::Ascending => ASCENDING,
            Order::Descending => DESCENDING,
        };
        let statement = client.prepare_cached(statement).await?;
        client.query(&statement, &[&from, &to, &limit]).await?
    } else {
        let statement = match wanted.order {
            Order::Ascending => ASCENDING_WITHIN,
            Order::Descending => DESCENDING_WITHIN,
        };
        let statement = client.prepare_cached(statement).await?;
        // At least one entry, which has nothing before it.
        let bytes_max = i64::try_from(wanted.bytes_max).unwrap_or(i64::MAX).max(1);
        client
            .query(&statement, &[&from, &to, &limit, &bytes_max])
            .await?
    };
    Ok(wanted.take_from(rows.iter().map(entry))?)
}

fn entry(row: &Row) -> Result<(Key, Value), StoreError> {
    let key: &[u8] = row.try_get(0).map_err(failed)?;
    let value: &[u8] = row.try_get(1).map_err(failed)?;
    Ok((Key::copy_from_slice(key), Value::copy_from_slice(value)))
}

/// One moment of all keys: a transaction that stays open, on a connection of its own.
pub(super) struct Moment {
    client: Client,
}

impl Moment {
    /// This moment.
    pub(super) async fn take(readers: &Readers, ends: Instant) -> Result<Self, Failure> {
        let client = in_time(ends, readers.connection()).await?;
        let begun = in_time(ends, begin(&client)).await;
        match begun {
            Ok(()) => Ok(Self { client }),
            Err(failure) => give_back(client, Err(failure)),
        }
    }
}

async fn begin(client: &Client) -> Result<(), Failure> {
    Ok(client.batch_execute(BEGIN_MOMENT).await?)
}

impl Read for Moment {
    // Neither is tried again: on another connection it would be another moment.
    fn get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Value>> {
        Box::pin(async move {
            let value = in_time(attempt_ends(), get(&self.client, key)).await;
            value.map_err(Failure::into_error)
        })
    }

    fn range<'a>(&'a self, wanted: Range<'a>) -> Answer<'a, Vec<(Key, Value)>> {
        Box::pin(async move {
            let entries = in_time(attempt_ends(), range(&self.client, wanted)).await;
            entries.map_err(Failure::into_error)
        })
    }
}

impl Drop for Moment {
    /// Sends the end of the transaction before the connection goes back to the pool. Its answer is not
    /// waited for: whatever is sent next on that connection comes after it.
    fn drop(&mut self) {
        let _ = self.client.batch_execute("ROLLBACK").now_or_never();
    }
}
