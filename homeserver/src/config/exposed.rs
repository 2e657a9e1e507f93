//! What of the configuration every user of the machine could change: no mistake, but worth a warning.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Config, MasterKeyConfig, StoreConfig};

/// The permission of everybody to write.
const OTHERS_WRITE: u32 = 0o002;
/// The permission of everybody to read.
const OTHERS_READ: u32 = 0o004;

/// A warning for each file and folder that everybody may change: the configuration's files, their folder `conf.d/`,
/// the data folder, the folder of generation keys, a program that prints the master key, and what proves the database, a log
/// server, the other nodes and this homeserver to each other; and for a password or a secret that everybody may read.
pub fn exposed(path: &Path, config: &Config) -> Vec<String> {
    let folder = path.with_file_name("conf.d");
    let mut places = vec![path.to_owned()];
    if let Ok(entries) = std::fs::read_dir(&folder) {
        let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut files: Vec<PathBuf> = files
            .filter(|file| file.extension().is_some_and(|end| end == "toml"))
            .collect();
        files.sort();
        places.push(folder);
        places.extend(files);
    }
    places.push(config.server.data_dir.clone());
    places.extend(config.store_keys.folder.clone());
    if let MasterKeyConfig::Command(command) = &config.store_keys.master {
        places.extend(command.first().map(PathBuf::from));
    }
    let mut secrets = Vec::new();
    if let StoreConfig::Postgresql(database) = &config.store {
        secrets.extend(database.password_file.as_deref());
        places.extend(database.password_file.clone());
        places.extend(database.root_certificates.clone());
    }
    if let Some(cluster) = &config.cluster {
        secrets.push(cluster.key_file.as_path());
        places.push(cluster.key_file.clone());
    }
    let log_server = config.audit.syslog.as_ref();
    places.extend(log_server.map(|server| server.root_certificates.clone()));
    let changed = places
        .iter()
        .filter(|place| allows(place, OTHERS_WRITE))
        .map(|place| {
            let place = place.display();
            format!("{place}: every user of this machine can change it: chmod o-w {place}")
        });
    let read = secrets
        .into_iter()
        .filter(|place| allows(place, OTHERS_READ))
        .map(|place| {
            let place = place.display();
            format!("{place}: every user of this machine can read it: chmod o-r {place}")
        });
    changed.chain(read).collect()
}

fn allows(place: &Path, permission: u32) -> bool {
    std::fs::metadata(place).is_ok_and(|about| about.permissions().mode() & permission != 0)
}
