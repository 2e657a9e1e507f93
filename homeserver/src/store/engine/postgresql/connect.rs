//! How the database is reached, and what is asked of its server.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{
    Client, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};
use tokio::time::Instant;
use tokio_postgres::NoTls;
use tokio_postgres::config::{Config, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;
use zeroize::Zeroizing;

use super::failure::{Failure, told};
use crate::store::StoreError;

/// For one host to answer; with several of them the next is asked then.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// A host that has not acknowledged what it was sent for this long is taken for gone.
const SILENCE_TIME_MAX: Duration = Duration::from_secs(5);
/// For a connection of the pool to become free, or a new one to be ready.
const POOL_TIME_MAX: Duration = Duration::from_secs(10);
/// The oldest version that is supported upstream and here; what it can do is used.
const VERSION_MIN: i32 = 140_000;
/// What the server is told of the writer's sessions, whatever its operator has set for others:
/// - A process that stops in the middle of a batch keeps every other one waiting; so its session ends.
/// - A statement that times out while its commit waits for a synchronous standby would be reported as
///   committed, with no more than a warning.
/// - A process that stops while it is being sent what it has asked for is not idle: there is time for that as well.
const WRITER_OPTIONS: &str = "-c idle_in_transaction_session_timeout=5000 -c tcp_user_timeout=5000 \
     -c statement_timeout=0 -c lock_timeout=0";
/// Under which `pg_stat_activity` shows the sessions.
const APPLICATION: &str = "entente";

/// How a database is reached.
pub struct Access {
    /// Names, addresses or folders of sockets, each with its port. Of several, the one that takes writes
    /// is used.
    pub hosts: Vec<(String, u16)>,
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
    /// Its password, unless it signs in another way.
    pub password: Option<Zeroizing<String>>,
    /// What a server has to prove; none only over sockets of this machine.
    pub tls: Option<rustls::ClientConfig>,
    /// Most connections for reads; batches have one of their own.
    pub connections_max: usize,
}

/// The one connection for batches.
pub(super) fn writer(access: &Access) -> Result<Pool, StoreError> {
    pool(access, WRITER_OPTIONS, 1)
}

/// Connections for reads.
pub(super) struct Readers {
    pool: Pool,
    /// When the writer connected anew.
    renewed: Mutex<Option<Instant>>,
}

impl Readers {
    pub(super) fn of(access: &Access) -> Result<Self, StoreError> {
        Ok(Self {
            pool: pool(access, "", access.connections_max)?,
            renewed: Mutex::new(None),
        })
    }

    /// The writer has a new connection, perhaps to another server: what older ones lead to may have been replaced, and show
    /// for ever what was there before.
    pub(super) fn renew(&self) {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// A connection for reads.
    pub(super) async fn connection(&self) -> Result<Client, Failure> {
        loop {
            let client = self.pool.get().await?;
            let renewed = *self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
            let age = Object::metrics(&client).age();
            if renewed.is_none_or(|renewed| age <= renewed.elapsed()) {
                return Ok(client);
            }
            drop(Object::take(client));
        }
    }
}

fn pool(access: &Access, options: &str, size: usize) -> Result<Pool, StoreError> {
    let mut config = Config::new();
    for (host, port) in &access.hosts {
        config.host(host).port(*port);
    }
    config
        .dbname(&access.database)
        .user(&access.user)
        .application_name(APPLICATION)
        .options(options)
        .connect_timeout(CONNECT_TIME_MAX)
        .tcp_user_timeout(SILENCE_TIME_MAX)
        .keepalives_idle(SILENCE_TIME_MAX)
        .target_session_attrs(TargetSessionAttrs::ReadWrite);
    if let Some(password) = &access.password {
        config.password(password.as_bytes());
    }
    // What is wrong with a connection shows in its next use, which is tried again.
    let recycled = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = match &access.tls {
        Some(tls) => {
            config.ssl_mode(SslMode::Require);
            Manager::from_config(config, MakeRustlsConnect::new(tls.clone()), recycled)
        }
        None => {
            config.ssl_mode(SslMode::Disable);
            Manager::from_config(config, NoTls, recycled)
        }
    };
    Pool::builder(manager)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(POOL_TIME_MAX))
        .create_timeout(Some(POOL_TIME_MAX))
        .build()
        .map_err(|error| StoreError::Engine(told(&error)))
}

/// What a failed first connection is told as.
pub(super) fn refused(error: PoolError) -> StoreError {
    let reason = match Failure::from(error) {
        Failure::Again(reason) | Failure::Final(StoreError::Engine(reason)) => reason,
        Failure::Final(error) => error.to_string(),
    };
    StoreError::Engine(format!("can't connect to PostgreSQL: {reason}"))
}

/// The connection for batches.
pub(super) async fn connection(writer: &Pool, readers: &Readers) -> Result<Client, Failure> {
    let client = writer.get().await?;
    if Object::metrics(&client).recycle_count == 0 {
        readers.renew();
    }
    Ok(client)
}

/// A connection that failed is closed, not used again.
pub(super) fn give_back<T>(client: Client, result: Result<T, Failure>) -> Result<T, Failure> {
    if result.is_err() {
        drop(Object::take(client));
    }
    result
}

/// Whether the server is one that keeps what it has confirmed.
pub(super) async fn check_server(client: &Client) -> Result<(), StoreError> {
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int4, current_setting('fsync'), \
             current_setting('synchronous_commit')",
            &[],
        )
        .await
        .map_err(failed)?;
    let version: i32 = row.try_get(0).map_err(failed)?;
    if version < VERSION_MIN {
        return Err(StoreError::Engine(format!(
            "the PostgreSQL server has version {}, but at least {} is needed",
            version / 10_000,
            VERSION_MIN / 10_000
        )));
    }
    let (fsync, commit): (&str, &str) = (
        row.try_get(1).map_err(failed)?,
        row.try_get(2).map_err(failed)?,
    );
    check_durability(fsync, commit)
}

/// Refuses settings under which a commit may be confirmed and lost.
pub(super) fn check_durability(fsync: &str, synchronous_commit: &str) -> Result<(), StoreError> {
    if fsync != "on" {
        return Err(StoreError::Engine(format!(
            "the PostgreSQL server has `fsync = {fsync}`: what it confirms may be lost; set it to on"
        )));
    }
    if !matches!(synchronous_commit, "on" | "remote_apply") {
        return Err(StoreError::Engine(format!(
            "the PostgreSQL server has `synchronous_commit = {synchronous_commit}` for this role and \
             database: what it confirms may be lost; set it to on or remote_apply"
        )));
    }
    Ok(())
}

/// An error of the database in what is not tried again.
pub(super) fn failed(error: tokio_postgres::Error) -> StoreError {
    Failure::from(error).into_error()
}
