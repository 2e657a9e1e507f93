//! The engine that the configuration names.

use std::fs::{DirBuilder, File};
use std::io::Read as _;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::clock::SystemClock;
use crate::config::{Config, PostgresqlConfig, PostgresqlHost, StoreConfig};
use crate::store::engine::open_embedded;
use crate::store::engine::postgresql::{Access, PostgresqlEngine};
#[cfg(feature = "sled")]
use crate::store::engine::sled::SledEngine;
use crate::store::{Engine, StoreError};
use crate::tls;

/// Largest file of a password or of root certificates.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Opens the store's engine, inside the runtime that it will be used in.
pub async fn open(config: &Config) -> Result<Arc<dyn Engine>, StoreError> {
    let engine = open_named(config).await?;
    #[cfg(feature = "faults")]
    if crate::faults::is_on("answer-before-sync") {
        return Ok(Arc::new(crate::faults::BufferedEngine::over(engine).await?));
    }
    Ok(engine)
}

async fn open_named(config: &Config) -> Result<Arc<dyn Engine>, StoreError> {
    let engine: Arc<dyn Engine> = match &config.store {
        StoreConfig::Fjall { commit_log } => {
            open_embedded(&config.server.store_dir(), *commit_log)?
        }
        StoreConfig::Postgresql(database) => {
            Arc::new(PostgresqlEngine::open(access(database)?).await?)
        }
        #[cfg(feature = "sled")]
        StoreConfig::Sled => Arc::new(SledEngine::open(&config.server.store_dir())?),
        #[cfg(not(feature = "sled"))]
        StoreConfig::Sled => {
            return Err(StoreError::Engine(
                "this homeserver was built without sled".to_owned(),
            ));
        }
    };
    Ok(engine)
}

/// Makes the folder that the configuration's store lies in, and those above it, durably and for this user alone. Does
/// nothing when they are there, or for a database.
pub fn make_folder(config: &Config) -> Result<(), StoreError> {
    if matches!(config.store, StoreConfig::Postgresql(_)) {
        return Ok(());
    }
    let folder = config.server.store_dir();
    let missing: Vec<&Path> = folder
        .ancestors()
        .take_while(|folder| !folder.is_dir())
        .collect();
    for folder in missing.into_iter().rev() {
        let made = DirBuilder::new().mode(0o700).create(folder);
        let above = folder.parent().unwrap_or(folder);
        made.and_then(|()| File::open(above)?.sync_all())
            .map_err(|error| StoreError::Engine(format!("{}: {error}", folder.display())))?;
    }
    Ok(())
}

/// Tells whether the database that the configuration names, if it does, could hold the store; changes nothing, so it
/// may be asked while a homeserver runs.
pub async fn look(config: &Config) -> Result<(), StoreError> {
    match &config.store {
        StoreConfig::Postgresql(database) => PostgresqlEngine::look(&access(database)?).await,
        StoreConfig::Fjall { .. } | StoreConfig::Sled => Ok(()),
    }
}

fn access(config: &PostgresqlConfig) -> Result<Access, StoreError> {
    let password = config.password_file.as_deref().map(read).transpose()?;
    let password =
        password.map(|text| Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()));
    let tls = match config.root_certificates.as_deref() {
        Some(file) => {
            let roots = read(file)?;
            let made = tls::rooted_client(&roots, Arc::new(SystemClock));
            Some(made.map_err(|error| StoreError::Engine(format!("{}: {error}", file.display())))?)
        }
        None => None,
    };
    let host = |host: &PostgresqlHost| (host.name.clone(), host.port);
    Ok(Access {
        hosts: config.hosts.iter().map(host).collect(),
        database: config.database.clone(),
        user: config.user.clone(),
        password,
        tls: tls.filter(|_| !config.hosts.iter().any(PostgresqlHost::is_socket)),
        connections_max: config.connections_max,
    })
}

fn read(path: &Path) -> Result<Zeroizing<String>, StoreError> {
    let wrong = |error: std::io::Error| StoreError::Engine(format!("{}: {error}", path.display()));
    let mut text = Zeroizing::new(String::new());
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
        .map_err(wrong)?;
    Ok(text)
}
