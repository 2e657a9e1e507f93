//! What only this engine has: a server that others use too, that may refuse, break and come back.
//!
//! One server serves all tests, each with a database of its own; a test that changes the server has one to
//! itself.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use postgresql_server::{PASSWORD, ROLE, Server};
use tokio_postgres::NoTls;

use super::*;
use crate::clock::SystemClock;
use crate::store::Order;
use crate::store::engine::Engine;
use crate::tls;

/// Ends by itself with this process.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start().unwrap())
}

/// A database of its own.
pub(crate) struct InDatabase {
    server: &'static Server,
    name: String,
}

impl InDatabase {
    pub(crate) fn new() -> Self {
        Self::of(server())
    }

    /// On a server that nobody else uses.
    pub(crate) fn alone() -> Self {
        Self::of(Box::leak(Box::new(Server::start().unwrap())))
    }

    fn of(server: &'static Server) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        server.create_database(&name).unwrap();
        Self { server, name }
    }

    /// Over the network, as in production.
    fn access(&self) -> Access {
        let roots = std::fs::read_to_string(self.server.root_certificate()).unwrap();
        Access {
            hosts: vec![("localhost".to_owned(), self.server.port())],
            tls: Some(tls::rooted_client(&roots, Arc::new(SystemClock)).unwrap()),
            ..self.socket_access()
        }
    }

    fn socket_access(&self) -> Access {
        let folder = self.server.socket_folder().to_str().unwrap();
        Access {
            hosts: vec![(folder.to_owned(), self.server.port())],
            database: self.name.clone(),
            user: ROLE.to_owned(),
            password: Some(PASSWORD.to_owned().into()),
            tls: None,
            connections_max: 4,
        }
    }

    pub(crate) async fn open(&self) -> Result<PostgresqlEngine, StoreError> {
        PostgresqlEngine::open(self.access()).await
    }

    /// Where the server has put all that it was given: the database's tables, and the log of all of them.
    pub(crate) fn written_folders(&self) -> [PathBuf; 2] {
        self.query("CHECKPOINT");
        let of = self.query("SELECT oid FROM pg_database WHERE datname = current_database()");
        let data = self.server.socket_folder().join("data");
        [data.join("base").join(of.trim()), data.join("pg_wal")]
    }

    fn query(&self, statements: &str) -> String {
        self.server
            .query(&self.name, statements)
            .unwrap()
            .trim()
            .to_owned()
    }

    /// A session of the superuser that lasts.
    async fn session(&self) -> tokio_postgres::Client {
        let mut config = tokio_postgres::Config::new();
        config.host(self.server.socket_folder().to_str().unwrap());
        config.port(self.server.port());
        config.user("postgres").dbname(&self.name);
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Asks until `statement` gives a row, and gives its number.
    async fn until(&self, session: &tokio_postgres::Client, statement: &str) -> i32 {
        loop {
            if let Some(row) = session.query_opt(statement, &[]).await.unwrap() {
                return row.get(0);
            }
        }
    }
}

fn append(value: &'static str) -> Part {
    let mut part = Part::default();
    let (tail, entry) = (Key::from_static(b"tail"), Key::from_static(b"entry"));
    part.append(tail, entry, Value::from_static(value.as_bytes()));
    part
}

/// The numbers of what was appended.
async fn numbers(engine: &PostgresqlEngine) -> Vec<u64> {
    let range = Range {
        from: b"entry",
        to: b"entrz",
        limit: usize::MAX,
        bytes_max: usize::MAX,
        order: Order::Ascending,
    };
    let entries = engine.range(range).await.unwrap();
    let number = |(key, _): &(Key, Value)| u64::from_be_bytes(key[5..].try_into().unwrap());
    entries.iter().map(number).collect()
}

/// Who waits for the lock of batches, in this database.
const WAITING: &str = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
/// Whose commit waits for a standby, in this database.
const COMMITTING: &str = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' \
     AND datname = current_database()";

/// Goal: a server of this machine is reached by its socket, without TLS. Method: a part written and read.
#[tokio::test]
async fn a_socket_needs_no_tls() {
    let place = InDatabase::new();
    let engine = PostgresqlEngine::open(place.socket_access()).await.unwrap();
    engine.apply(&[append("a")]).await.unwrap();
    assert_eq!(numbers(&engine).await, [1]);
}

/// Goal: over the network nobody is believed who can't prove to be the named host. Method: a root that has
/// not signed the server's certificate, and a host that the certificate does not name.
#[tokio::test]
async fn the_server_proves_who_it_is() {
    let place = InDatabase::new();
    let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let roots = stranger.cert.pem();
    let other_root = Access {
        tls: Some(tls::rooted_client(&roots, Arc::new(SystemClock)).unwrap()),
        ..place.access()
    };
    let other_host = Access {
        hosts: vec![("127.0.0.1".to_owned(), place.server.port())],
        ..place.access()
    };
    for access in [other_root, other_host] {
        assert!(PostgresqlEngine::look(&access).await.is_err());
        let refused = PostgresqlEngine::open(access).await.err().unwrap();
        let said = refused.to_string();
        assert!(said.contains("can't connect to PostgreSQL"), "{said}");
        assert!(said.contains("certificate"), "{said}");
    }
    PostgresqlEngine::look(&place.access()).await.unwrap();
}

/// Goal: a database whose settings let go what was confirmed is refused, by the name of the setting. Method:
/// each value of `synchronous_commit`, then one that changes under a store that is open.
#[tokio::test]
async fn commits_that_may_be_lost_are_refused() {
    let place = InDatabase::new();
    let name = &place.name;
    for (value, refused) in [
        ("off", true),
        ("local", true),
        ("remote_write", true),
        ("on", false),
        ("remote_apply", false),
    ] {
        place.query(&format!(
            "ALTER DATABASE {name} SET synchronous_commit = {value}"
        ));
        match place.open().await {
            Ok(_) => assert!(!refused, "{value}"),
            Err(error) => {
                assert!(refused, "{value}: {error}");
                let setting = format!("`synchronous_commit = {value}`");
                assert!(error.to_string().contains(&setting), "{error}");
            }
        }
    }
    let engine = place.open().await.unwrap();
    place.query(&format!(
        "ALTER DATABASE {name} SET synchronous_commit = off"
    ));
    place.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE application_name = 'entente' AND datname = current_database()",
    );
    let error = engine.apply(&[append("a")]).await.unwrap_err();
    assert!(error.to_string().contains("synchronous_commit"), "{error}");
    let stopped = engine.apply(&[append("a")]).await.unwrap_err();
    assert!(matches!(stopped, StoreError::Stopped), "{stopped}");
}

/// Goal: a server that does not sync is refused, by the name of the setting. Method: one that was started so.
#[tokio::test]
async fn a_server_without_fsync_is_refused() {
    let server: &'static Server =
        Box::leak(Box::new(Server::start_with(&["fsync = off"]).unwrap()));
    let error = InDatabase::of(server).open().await.err().unwrap();
    assert!(error.to_string().contains("`fsync = off`"), "{error}");
}

/// Goal: batches of several processes come one after the other, and none is lost or numbered twice. Method:
/// two engines append at once.
#[tokio::test]
async fn processes_share_a_sequence() {
    const EACH: u64 = 40;
    let place = InDatabase::new();
    let (one, other) = (place.open().await.unwrap(), place.open().await.unwrap());
    let write = async |engine: &PostgresqlEngine| {
        for _ in 0..EACH {
            engine.apply(&[append("a")]).await.unwrap();
        }
    };
    futures_util::future::join(write(&one), write(&other)).await;
    let expected: Vec<u64> = (1..=2 * EACH).collect();
    assert_eq!(numbers(&one).await, expected);
}

/// Goal: a batch waits for the lock, and one whose connection breaks meanwhile is written once. Method: a
/// session that holds the lock ends that of the batch twice, then lets it go.
#[tokio::test]
async fn a_batch_outlives_its_connection() {
    let place = InDatabase::new();
    let engine = place.open().await.unwrap();
    let session = place.session().await;
    let lock: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&batch::LOCK];
    session
        .query("SELECT pg_advisory_lock($1)", &lock)
        .await
        .unwrap();
    let disturb = async {
        for _ in 0..2 {
            let pid = place.until(&session, WAITING).await;
            session
                .query("SELECT pg_terminate_backend($1, 5000)", &[&pid])
                .await
                .unwrap();
        }
        place.until(&session, WAITING).await;
        session
            .query("SELECT pg_advisory_unlock($1)", &lock)
            .await
            .unwrap();
    };
    let batch = [append("a")];
    let (outcomes, ()) = futures_util::future::join(engine.apply(&batch), disturb).await;
    assert_eq!(outcomes.unwrap(), [PartOutcome::Committed]);
    assert_eq!(numbers(&engine).await, [1]);
}

async fn commit_for_ever(session: &tokio_postgres::Client) -> i32 {
    loop {
        let insert = session.execute("INSERT INTO probe VALUES (1)", &[]);
        insert.await.unwrap();
    }
}

/// Goal: a commit that was durable but whose answer was lost is found, not repeated; it is answered only
/// when a standby has it too, and nobody reads it before. Method: a standby that never comes holds up the
/// commit, the session is ended, then the server is told to do without the standby.
#[tokio::test]
async fn an_unheard_commit_is_found() {
    let server: &'static Server = Box::leak(Box::new(Server::start().unwrap()));
    let place = InDatabase::of(server);
    let engine = place.open().await.unwrap();
    engine.apply(&[append("a")]).await.unwrap();
    place.query("CREATE TABLE probe (number int)");
    place.query("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    place.query("SELECT pg_reload_conf()");
    let session = place.session().await;
    // The server takes the setting up when it comes to it: when somebody's commit waits.
    let probe = place.session().await;
    let pid = tokio::select! {
        pid = place.until(&session, COMMITTING) => pid,
        never = commit_for_ever(&probe) => never,
    };
    session
        .query("SELECT pg_terminate_backend($1, 5000)", &[&pid])
        .await
        .unwrap();
    let disturb = async {
        let pid = place.until(&session, COMMITTING).await;
        assert_eq!(numbers(&engine).await, [1], "read before it was durable");
        session
            .query("SELECT pg_terminate_backend($1, 5000)", &[&pid])
            .await
            .unwrap();
        let again = place.until(&session, COMMITTING).await;
        assert_ne!(again, pid);
        place.query("ALTER SYSTEM RESET synchronous_standby_names");
        place.query("SELECT pg_reload_conf()");
    };
    let mut refused = append("never");
    refused.require(crate::store::Precondition::Present(Key::from_static(b"no")));
    let batch = [append("b"), refused];
    let (outcomes, ()) = futures_util::future::join(engine.apply(&batch), disturb).await;
    assert_eq!(
        outcomes.unwrap(),
        [PartOutcome::Committed, PartOutcome::Conflict]
    );
    assert_eq!(numbers(&engine).await, [1, 2]);
}

/// Goal: a server that fails and comes back interrupts, and ends nothing: all that was answered is there
/// once. Method: batches and reads go on while the server is stopped hard and recovers.
#[tokio::test]
async fn a_crash_of_the_server_is_an_interruption() {
    let server: &'static Server = Box::leak(Box::new(Server::start().unwrap()));
    let place = InDatabase::of(server);
    let engine = place.open().await.unwrap();
    let crash = tokio::task::spawn_blocking(|| server.crash().and_then(|()| server.start_again()));
    let mut answered = 0;
    while !crash.is_finished() {
        engine.apply(&[append("a")]).await.unwrap();
        answered += 1;
        assert!(engine.get(b"tail").await.unwrap().is_some());
    }
    crash.await.unwrap().unwrap();
    engine.apply(&[append("a")]).await.unwrap();
    answered += 1;
    let expected: Vec<u64> = (1..=answered).collect();
    assert_eq!(numbers(&engine).await, expected);
}

/// Goal: the writer's sessions have the time limits that commits need, whatever the operator has set for the
/// role. Method: a database with others.
#[tokio::test]
async fn time_limits_of_the_operator_do_not_reach_commits() {
    let place = InDatabase::new();
    for setting in ["statement_timeout", "lock_timeout"] {
        place.query(&format!(
            "ALTER DATABASE {} SET {setting} = 1000",
            place.name
        ));
    }
    let engine = place.open().await.unwrap();
    let writer = engine.writer.get().await.unwrap();
    for (setting, expected) in [
        ("statement_timeout", "0"),
        ("lock_timeout", "0"),
        ("idle_in_transaction_session_timeout", "5s"),
        ("tcp_user_timeout", "5000"),
    ] {
        let row = writer
            .query_one("SELECT current_setting($1)", &[&setting])
            .await
            .unwrap();
        assert_eq!(row.get::<_, &str>(0), expected, "{setting}");
    }
}

/// Goal: once the writer has a new connection, nothing is read over older ones: they may lead to a server that has been
/// replaced. Method: the writer's session is ended, and the sessions of readers are compared.
#[tokio::test]
async fn readers_are_renewed_with_the_writer() {
    let place = InDatabase::new();
    let engine = place.open().await.unwrap();
    engine.apply(&[append("a")]).await.unwrap();
    let reader = async || -> i32 {
        let client = engine.readers.connection().await.unwrap();
        let row = client.query_one("SELECT pg_backend_pid()", &[]).await;
        row.unwrap().get(0)
    };
    let before = reader().await;
    assert_eq!(reader().await, before);
    let writer = engine.writer.get().await.unwrap();
    let row = writer.query_one("SELECT pg_backend_pid()", &[]).await;
    let pid: i32 = row.unwrap().get(0);
    drop(writer);
    let session = place.session().await;
    session
        .query("SELECT pg_terminate_backend($1, 5000)", &[&pid])
        .await
        .unwrap();
    engine.apply(&[append("b")]).await.unwrap();
    assert_ne!(reader().await, before);
    assert_eq!(numbers(&engine).await, [1, 2]);
}

/// Goal: a store that a newer version has written is refused. Method: a migration that is not known here.
#[tokio::test]
async fn newer_tables_are_refused() {
    let place = InDatabase::new();
    drop(place.open().await.unwrap());
    place.query(
        "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) \
         SELECT 99, 'newer', applied_on, checksum FROM refinery_schema_history",
    );
    let error = place.open().await.err().unwrap();
    assert!(error.to_string().contains("brought up to date"), "{error}");
}

/// Goal: a snapshot's connection goes back to the pool as one without a transaction. Method: a pool of one,
/// read from before and after a batch.
#[tokio::test]
async fn a_snapshot_gives_its_connection_back() {
    let place = InDatabase::new();
    let access = Access {
        connections_max: 1,
        ..place.access()
    };
    let engine = PostgresqlEngine::open(access).await.unwrap();
    let moment = engine.snapshot().await.unwrap();
    assert!(moment.get(b"tail").await.unwrap().is_none());
    drop(moment);
    engine.apply(&[append("a")]).await.unwrap();
    assert_eq!(numbers(&engine).await, [1]);
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
         AND state = 'idle in transaction'";
    assert_eq!(place.query(open), "0");
}
