//! A second server that follows the first one, and takes its place when that is gone.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::program::Programs;
use crate::{Error, Server, own_folder, system, text};

/// What the primary calls its standby.
const STANDBY: &str = "standby";
/// How long the two may take until they agree.
const FOLLOWING_MAX: Duration = Duration::from_secs(20);

impl Server {
    /// Starts a standby: a copy of this server that gets all that is written here. Commits don't wait for it.
    /// It has this one's certificate, and further lines of configuration.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn standby(&self, lines: &[&str]) -> Result<Self, Error> {
        let programs = Programs::find()?;
        let (folder, keeper) = own_folder(&programs)?;
        for name in ["root.crt", "server.crt", "server.key"] {
            fs::copy(self.folder.join(name), folder.join(name)).map_err(system(name))?;
        }
        programs.give(&folder)?;
        let (data, port) = (folder.join("data"), self.port.to_string());
        programs.run(
            "pg_basebackup",
            &[
                "--no-sync",
                "--checkpoint=fast",
                "--wal-method=stream",
                "--username=postgres",
                "--host",
                text(&self.folder),
                "--port",
                &port,
                "--pgdata",
                text(&data),
            ],
        )?;
        fs::write(data.join("standby.signal"), "").map_err(system("standby.signal"))?;
        let follows = format!(
            "primary_conninfo = 'host={} port={port} user=postgres application_name={STANDBY}'",
            text(&self.folder)
        );
        let lines: Vec<&str> = lines.iter().copied().chain([follows.as_str()]).collect();
        let standby = Self::launch(programs, folder, keeper, &lines)?;
        self.wait_for("streaming", "state")?;
        Ok(standby)
    }

    /// From now on each commit here is confirmed when the standby has it on its disk.
    ///
    /// # Errors
    /// When the standby does not answer.
    pub fn wait_for_standby(&self) -> Result<(), Error> {
        self.set("synchronous_standby_names", STANDBY)?;
        self.wait_for("sync", "sync_state")
    }

    /// From now on this standby gets nothing more, as if the network to the primary were cut.
    ///
    /// # Errors
    /// When it refuses.
    pub fn stop_following(&self) -> Result<(), Error> {
        self.set("primary_conninfo", "")?;
        let deadline = Instant::now() + FOLLOWING_MAX;
        let receivers = "SELECT count(*) FROM pg_stat_wal_receiver";
        while self.query("postgres", receivers)?.trim() != "0" {
            not_after(deadline, "it still follows")?;
        }
        Ok(())
    }

    /// The standby becomes the primary; it waits for nobody.
    ///
    /// # Errors
    /// When it is none.
    pub fn promote(&self) -> Result<(), Error> {
        self.programs.control(&self.folder, &["promote"])
    }

    fn set(&self, setting: &str, value: &str) -> Result<(), Error> {
        self.query(
            "postgres",
            &format!("ALTER SYSTEM SET {setting} = '{value}'"),
        )?;
        self.query("postgres", "SELECT pg_reload_conf()").map(drop)
    }

    /// Until the primary says this of its standby.
    fn wait_for(&self, wanted: &str, column: &str) -> Result<(), Error> {
        let deadline = Instant::now() + FOLLOWING_MAX;
        let asked = format!(
            "SELECT {column} FROM pg_stat_replication WHERE application_name = '{STANDBY}'"
        );
        while self.query("postgres", &asked)?.trim() != wanted {
            not_after(deadline, &format!("its standby is not `{wanted}`"))?;
        }
        Ok(())
    }
}

/// A moment's pause, unless it has been too long.
fn not_after(deadline: Instant, why: &str) -> Result<(), Error> {
    if Instant::now() > deadline {
        return Err(Error::Failed {
            program: "postgres".to_owned(),
            said: format!("{why} after {FOLLOWING_MAX:?}"),
        });
    }
    thread::sleep(Duration::from_millis(20));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what a primary has confirmed is there when it is killed and its standby takes its place, and that one takes
    /// writes alone; what was confirmed without waiting for a standby that gets nothing is not. Method: a row while
    /// the standby follows, one that nobody waits for while it does not, a kill, a promotion.
    #[test]
    fn a_standby_takes_over() {
        let primary = Server::start().unwrap();
        primary.create_database("one").unwrap();
        let rows = |server: &Server| server.query("one", "SELECT number FROM kept").unwrap();
        let standby = primary.standby(&[]).unwrap();
        primary.wait_for_standby().unwrap();
        primary
            .query("one", "CREATE TABLE kept AS SELECT 7 AS number")
            .unwrap();
        assert_eq!(rows(&primary).trim(), "7");
        assert!(standby.query("one", "INSERT INTO kept VALUES (8)").is_err());
        standby.stop_following().unwrap();
        let unsafely = "SET synchronous_commit = local; INSERT INTO kept VALUES (9)";
        primary.query("one", unsafely).unwrap();

        primary.kill().unwrap();
        assert!(primary.query("one", "SELECT 1").is_err());
        standby.promote().unwrap();
        assert_eq!(rows(&standby).trim(), "7");
        standby
            .query("one", "INSERT INTO kept VALUES (10)")
            .unwrap();
        let folder = primary.socket_folder().to_owned();
        drop(primary);
        assert!(!folder.exists());
    }
}
