//! `[store_keys]`: what the keys of the store lie under, and where.

use std::path::{Path, PathBuf};

use super::server::absolute_path;
use super::settings::Section;

/// `[store_keys]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreKeysConfig {
    /// The folder of generation keys; `None`: `generations` in the data folder.
    pub folder: Option<PathBuf>,
    /// Where the master key comes from.
    pub master: MasterKeyConfig,
}

/// Where the master key comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum MasterKeyConfig {
    /// The file that `homeserver init` has made beside the organisation's keys.
    #[default]
    Made,
    /// A file.
    File(PathBuf),
    /// A credential that systemd hands over, by its name.
    Credential(String),
    /// What a program prints: its absolute path, and its arguments.
    Command(Vec<String>),
}

impl StoreKeysConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        const MASTERS: [&str; 3] = ["master_file", "master_credential", "master_command"];
        let folder = section.optional("folder", absolute_path);
        let file = section.optional("master_file", absolute_path);
        let credential = section.optional("master_credential", credential);
        let command = section.list("master_command", |part| Ok(part.to_owned()));
        let set = MASTERS.iter().filter(|key| section.is_set(key)).count();
        if set > 1 {
            let problem = "there is one master key: set one of master_file, master_credential and master_command";
            section.blame(&MASTERS, problem.to_owned());
        }
        let program = command.as_ref().map(|command| command.first());
        if program.is_some_and(|program| !program.is_some_and(|path| Path::new(path).is_absolute()))
        {
            let problem = "a program is named by its absolute path, and its arguments follow: [\"/usr/bin/cat\", \"/key\"]";
            section.blame(&["master_command"], problem.to_owned());
        }
        let master = match (file, credential, command) {
            (Some(file), _, _) => MasterKeyConfig::File(file),
            (_, Some(name), _) => MasterKeyConfig::Credential(name),
            (_, _, Some(command)) => MasterKeyConfig::Command(command),
            (None, None, None) => MasterKeyConfig::Made,
        };
        Self { folder, master }
    }
}

fn credential(name: &str) -> Result<String, String> {
    let is_name = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    if !is_name {
        return Err(format!(
            "`{name}` is no name of a credential: write it as in LoadCredential=NAME:…"
        ));
    }
    Ok(name.to_owned())
}
