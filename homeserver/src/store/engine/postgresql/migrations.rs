//! The tables, and how they came to be what they are: a version that is out is never changed, only
//! followed.

use refinery::{Migration, Runner};

use super::connect::failed;
use super::failure::told;
use crate::store::StoreError;

/// Held while tables are made: of processes that start together, one makes them.
const LOCK: i64 = 0x656e_7465_6e74_6531;

/// Values are ciphertext, which does not compress; a queue's table is vacuumed early, for its dead rows
/// lie where the next reader begins. `batch` has a row for each process, overwritten in place.
const ENTRIES: &str = "\
CREATE TABLE entry (
    key bytea PRIMARY KEY,
    value bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE entry ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE TABLE batch (
    node bytea PRIMARY KEY,
    number bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
";

/// Brings the tables up to date.
pub(super) async fn run(client: &mut tokio_postgres::Client) -> Result<(), StoreError> {
    client
        .query_one("SELECT pg_advisory_lock($1)", &[&LOCK])
        .await
        .map_err(failed)?;
    let made = migrate(client).await;
    client
        .query_one("SELECT pg_advisory_unlock($1)", &[&LOCK])
        .await
        .map_err(failed)?;
    made
}

async fn migrate(client: &mut tokio_postgres::Client) -> Result<(), StoreError> {
    let wrong = |error: refinery::Error| {
        StoreError::Engine(format!(
            "the tables of the store can't be brought up to date: {}",
            told(&error)
        ))
    };
    let entries = Migration::unapplied("V1__entries", ENTRIES).map_err(wrong)?;
    Runner::new(&[entries])
        .run_async(client)
        .await
        .map(drop)
        .map_err(wrong)
}
