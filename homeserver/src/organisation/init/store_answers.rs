//! What the store of a new organisation stands on, as it goes into the configuration.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::{path_value, value};

/// Keys of `[store]` and `[postgresql]`; what nobody said keeps its default.
#[derive(Debug, Clone, Default)]
pub struct StoreAnswers {
    /// The engine's name.
    pub engine: Option<String>,
    /// Servers of the database, or the folders of their sockets.
    pub hosts: Vec<String>,
    /// The database.
    pub database: Option<String>,
    /// The role.
    pub user: Option<String>,
    /// The file that holds its password.
    pub password_file: Option<PathBuf>,
    /// The file of root certificates under which the servers' have to stand.
    pub root_certificates: Option<PathBuf>,
}

impl StoreAnswers {
    /// The sections, as far as anything was said.
    pub(super) fn sections(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        if let Some(engine) = &self.engine {
            let _ = writeln!(text, "\n[store]\nengine = {}", value(engine));
        }
        let hosts: Vec<_> = self.hosts.iter().map(|host| value(host)).collect();
        let hosts = (!hosts.is_empty()).then(|| format!("[{}]", hosts.join(", ")));
        let paths = |path: &Option<PathBuf>| path.as_deref().map(path_value);
        let lines: Vec<_> = [
            ("hosts", hosts),
            ("database", self.database.as_deref().map(value)),
            ("user", self.user.as_deref().map(value)),
            ("password_file", paths(&self.password_file)),
            ("root_certificates", paths(&self.root_certificates)),
        ]
        .into_iter()
        .filter_map(|(key, said)| Some(format!("{key} = {}\n", said?)))
        .collect();
        if !lines.is_empty() {
            let _ = write!(text, "\n[postgresql]\n{}", lines.concat());
        }
        text
    }
}
