//! Sessions of `hsctl login`, kept in one file that only its owner may read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::sessions::{self, FILE_BYTES_MAX, SavedSession, Sessions};
use crate::failure::Failure;

/// The file, by its path; it need not exist.
pub(crate) struct SessionFile {
    path: PathBuf,
}

impl SessionFile {
    /// The named file, else `entente/hsctl.json` in the user's configuration folder.
    pub(crate) fn open(named: Option<&Path>) -> Result<Self, Failure> {
        let folder = || {
            let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
            variable("XDG_CONFIG_HOME")
                .map(PathBuf::from)
                .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".config")))
        };
        let path = match named {
            Some(path) => path.to_owned(),
            None => folder()
                .map(|folder| folder.join("entente").join("hsctl.json"))
                .ok_or_else(|| {
                    Failure::Configuration(
                        "neither HOME nor XDG_CONFIG_HOME is set: name a file for the session with --session"
                            .to_owned(),
                    )
                })?,
        };
        Ok(Self { path })
    }

    /// The session with the homeserver at `url`.
    pub(crate) fn get(&self, url: &str) -> Result<Option<SavedSession>, Failure> {
        Ok(self.read()?.remove(url))
    }

    /// Keeps a session.
    pub(crate) fn put(&self, url: &str, session: SavedSession) -> Result<(), Failure> {
        let mut sessions = self.read()?;
        sessions.insert(url.to_owned(), session);
        self.write(&sessions)
    }

    /// Forgets a session; whether there was one.
    pub(crate) fn remove(&self, url: &str) -> Result<bool, Failure> {
        let mut sessions = self.read()?;
        let removed = sessions.remove(url).is_some();
        if removed {
            self.write(&sessions)?;
        }
        Ok(removed)
    }

    fn read(&self) -> Result<Sessions, Failure> {
        let name = self.path.display();
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Sessions::new()),
            opened => opened.map_err(|error| self.unreadable(&error))?,
        };
        let mode = file
            .metadata()
            .map_err(|error| self.unreadable(&error))?
            .permissions()
            .mode();
        if mode & 0o077 != 0 {
            return Err(Failure::Configuration(format!(
                "{name} holds an administrator's token and others may read it: run `chmod 600 {name}`, and sign in \
                 again if somebody may have"
            )));
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX)
            .read_to_end(&mut bytes)
            .map_err(|error| self.unreadable(&error))?;
        sessions::read(&bytes).map_err(|error| {
            Failure::Configuration(format!(
                "{name} is damaged ({error}): delete it and sign in again"
            ))
        })
    }

    fn write(&self, sessions: &Sessions) -> Result<(), Failure> {
        let failed = |error: io::Error| {
            Failure::Configuration(format!("{} can't be written: {error}", self.path.display()))
        };
        if let Some(folder) = self
            .path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(failed)?;
        }
        let bytes = sessions::write(sessions)
            .map_err(|error| Failure::Other(format!("the session can't be written: {error}")))?;
        // Another file, renamed over the old one: nobody ever reads half of it.
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{}", std::process::id()));
        let new = PathBuf::from(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)
            .map_err(failed)?;
        let written = file
            .write_all(&bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&new, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written.map_err(failed)
    }

    fn unreadable(&self, error: &io::Error) -> Failure {
        Failure::Configuration(format!("{} can't be read: {error}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> SavedSession {
        SavedSession {
            server_name: "a.example".parse().expect("a name"),
            root_sha256: "ab".repeat(32),
            name: "admin".parse().expect("a handle"),
            token: "secret".to_owned(),
            expires_ms: 1,
        }
    }

    /// Goal: a session is kept and forgotten, in a file that only its owner may read; a file that
    /// others may read is refused.
    #[test]
    fn kept_in_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new").join("hsctl.json");
        let file = SessionFile::open(Some(&path)).expect("opens");
        assert!(file.get("https://h:1").expect("reads").is_none());
        file.put("https://h:1", session()).expect("writes");
        file.put("https://h:2", session()).expect("writes over");
        assert!(file.get("https://h:1").expect("reads") == Some(session()));
        let mode = fs::metadata(&path).expect("exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(file.remove("https://h:1").expect("removes"));
        assert!(!file.remove("https://h:1").expect("removes once"));
        assert!(file.get("https://h:2").expect("reads").is_some());

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(matches!(
            file.get("https://h:2"),
            Err(Failure::Configuration(_))
        ));
    }
}
