//! What of the configuration every user of the machine could change: no mistake, but worth a warning.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Config;

/// The permission of everybody to write.
const OTHERS_WRITE: u32 = 0o002;

/// A warning for each file and folder that everybody may change: the configuration's files, their folder `conf.d/`, and
/// the data folder.
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
    places
        .iter()
        .filter(|place| {
            std::fs::metadata(place)
                .is_ok_and(|about| about.permissions().mode() & OTHERS_WRITE != 0)
        })
        .map(|place| {
            let place = place.display();
            format!("{place}: every user of this machine can change it: chmod o-w {place}")
        })
        .collect()
}
