//! A PostgreSQL server for tests and trials: a real one, of the machine's own package, in a folder of its
//! own, with TLS and a password. It ends with whoever started it, however that ends.
//!
//! Deliberately absent: skipping. Where PostgreSQL is not installed, [`Server::start`] says what to do.

#![warn(missing_docs)]

mod keeper;
mod kill;
mod program;
mod standby;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use keeper::Keeper;
use program::Programs;

/// The role that owns every database of tests; it may do what the owner of a database may.
pub const ROLE: &str = "entente";
/// Its password.
pub const PASSWORD: &str = "correct horse battery staple";
/// Attempts at finding a free port: another process may take one between looking and listening.
const PORTS_MAX: usize = 5;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The package is missing.
    #[error("PostgreSQL is not installed: run `cargo xtask test`, which installs postgresql")]
    NotInstalled,
    /// A file or a program could not be used.
    #[error("{what}: {error}")]
    System {
        /// Which one.
        what: String,
        /// Why not.
        error: std::io::Error,
    },
    /// A program failed.
    #[error("{program} failed: {said}")]
    Failed {
        /// Which one.
        program: String,
        /// What it said.
        said: String,
    },
    /// No certificate could be made.
    #[error("a certificate could not be made: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// A running server.
pub struct Server {
    programs: Programs,
    folder: PathBuf,
    port: u16,
    /// Ends the server when it is dropped, or when this process is gone.
    _keeper: Keeper,
}

impl Server {
    /// Starts a server that listens on a Unix socket and, with TLS, on a port of the loopback interface.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub fn start() -> Result<Self, Error> {
        Self::start_with(&[])
    }

    /// As [`Server::start`], with further lines of configuration.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_with(lines: &[&str]) -> Result<Self, Error> {
        let programs = Programs::find()?;
        let (folder, keeper) = own_folder(&programs)?;
        fs::write(folder.join("password"), PASSWORD).map_err(system("the password"))?;
        certify(&folder)?;
        programs.give(&folder)?;
        let data = folder.join("data");
        let password = folder.join("password");
        programs.run(
            "initdb",
            &[
                "--no-sync",
                "--username=postgres",
                "--encoding=UTF8",
                "--no-locale",
                "--auth=trust",
                "--pwfile",
                text(&password),
                "--pgdata",
                text(&data),
            ],
        )?;
        let server = Self::launch(programs, folder, keeper, lines)?;
        server.make_role()?;
        Ok(server)
    }

    /// Starts it on a port that is free, with all that its folder holds.
    fn launch(
        programs: Programs,
        folder: PathBuf,
        keeper: Keeper,
        lines: &[&str],
    ) -> Result<Self, Error> {
        let mut last = Error::NotInstalled;
        for _ in 0..PORTS_MAX {
            let port = free_port()?;
            configure(&folder, port, lines)?;
            programs.give(&folder)?;
            match programs.control(&folder, &["start"]) {
                Ok(()) => {
                    return Ok(Self {
                        programs,
                        folder,
                        port,
                        _keeper: keeper,
                    });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The port, of the socket too.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the Unix socket.
    #[must_use]
    pub fn socket_folder(&self) -> &Path {
        &self.folder
    }

    /// The file of the root certificate under which the server's own stands, for `localhost` alone.
    #[must_use]
    pub fn root_certificate(&self) -> PathBuf {
        self.folder.join("root.crt")
    }

    /// Makes an empty database that the role owns.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create_database(&self, name: &str) -> Result<(), Error> {
        let statement = format!("CREATE DATABASE {name} OWNER {ROLE}");
        self.query("postgres", &statement).map(drop)
    }

    /// What statements of the superuser give: a line for each row, columns separated by `|`.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn query(&self, database: &str, statements: &str) -> Result<String, Error> {
        let port = self.port.to_string();
        self.programs.run(
            "psql",
            &[
                "--no-psqlrc",
                "--quiet",
                "--tuples-only",
                "--no-align",
                "--set=ON_ERROR_STOP=1",
                "--username=postgres",
                "--host",
                text(&self.folder),
                "--port",
                &port,
                "--dbname",
                database,
                "--command",
                statements,
            ],
        )
    }

    /// Ends the server at once, as if its machine had failed.
    ///
    /// # Errors
    /// When it does not run.
    pub fn crash(&self) -> Result<(), Error> {
        self.programs
            .control(&self.folder, &["--mode=immediate", "stop"])
    }

    /// Starts it again after a crash: it recovers from its log.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_again(&self) -> Result<(), Error> {
        self.programs.control(&self.folder, &["start"])
    }

    fn make_role(&self) -> Result<(), Error> {
        let statement = format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'");
        self.query("postgres", &statement).map(drop)
    }
}

/// A folder for one server, and who removes it in the end: started before there is anything to keep.
fn own_folder(programs: &Programs) -> Result<(PathBuf, Keeper), Error> {
    let folder = tempfile::Builder::new()
        .prefix("postgresql-")
        .tempdir()
        .map_err(system("a folder"))?
        .keep();
    let keeper = Keeper::start(programs, &folder)?;
    Ok((folder, keeper))
}

/// A root that is trusted by nobody, and the server's certificate under it.
fn certify(folder: &Path) -> Result<(), Error> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let server = CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &root)?;
    for (name, text) in [
        ("root.crt", root.pem()),
        ("server.crt", server.pem()),
        ("server.key", key.serialize_pem()),
    ] {
        let file = folder.join(name);
        fs::write(&file, text).map_err(system(name))?;
        // The server does not take a key that others may read.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).map_err(system(name))?;
    }
    Ok(())
}

fn configure(folder: &Path, port: u16, lines: &[&str]) -> Result<(), Error> {
    let path = text(folder);
    let settings = format!(
        "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{path}'\n\
         ssl = on\nssl_cert_file = '{path}/server.crt'\nssl_key_file = '{path}/server.key'\n\
         max_connections = 200\nshared_buffers = 32MB\nlog_line_prefix = '%m [%p] '\n{}\n",
        lines.join("\n")
    );
    // Over the network only with TLS and the password; the machine's own users may come as anybody.
    let access = "local all all trust\nlocal replication all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
    for (name, text) in [
        ("data/postgresql.conf", settings.as_str()),
        ("data/pg_hba.conf", access),
    ] {
        fs::write(folder.join(name), text).map_err(system(name))?;
    }
    Ok(())
}

fn free_port() -> Result<u16, Error> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(system("a port of this machine"))?;
    let address = listener.local_addr();
    Ok(address.map_err(system("a port of this machine"))?.port())
}

/// A path of ours, whose characters we have chosen.
fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.into();
    move |error| Error::System { what, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a server starts, answers, comes back after a crash with what it had confirmed, and is gone
    /// with its folder afterwards. Method: one of each.
    #[test]
    fn a_server_lives_and_ends() {
        let server = Server::start().unwrap();
        server.create_database("one").unwrap();
        server
            .query("one", "CREATE TABLE kept AS SELECT 7 AS number")
            .unwrap();
        server.crash().unwrap();
        assert!(server.query("one", "SELECT 1").is_err());
        server.start_again().unwrap();
        let kept = server.query("one", "SELECT number FROM kept").unwrap();
        assert_eq!(kept.trim(), "7");
        let folder = server.socket_folder().to_owned();
        drop(server);
        assert!(!folder.exists());
    }
}
