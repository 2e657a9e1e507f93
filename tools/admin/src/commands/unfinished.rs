//! Long files, which are there as a whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// What a file that is not whole yet ends in.
const UNFINISHED: &str = "part";

/// A file that is not whole yet: under another name, and gone when it does not become whole.
pub(super) struct Unfinished {
    path: PathBuf,
    to: PathBuf,
    file: File,
    bytes: u64,
    is_whole: bool,
}

impl Unfinished {
    /// A file that will have this name, which nothing has yet.
    pub(super) fn create(to: &Path) -> Result<Self, Failure> {
        if fs::symlink_metadata(to).is_ok() {
            return Err(Failure::Other(format!(
                "{} exists already: nothing is overwritten; name another file",
                to.display()
            )));
        }
        let mut name = to.as_os_str().to_owned();
        name.push(".");
        name.push(UNFINISHED);
        let path = PathBuf::from(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => Failure::Other(format!(
                    "{} is there: this file is being made already, or that was cut off; in that case remove it",
                    path.display()
                )),
                _ => cannot_write(&path, &error),
            })?;
        Ok(Self {
            path,
            to: to.to_owned(),
            file,
            bytes: 0,
            is_whole: false,
        })
    }

    /// Writes on.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| cannot_write(&self.path, &error))?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(length);
        Ok(())
    }

    /// How long it is so far.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives it its name, once it is on the disk, unless another file has got that meanwhile; how long it is.
    pub(super) fn finish(mut self) -> Result<u64, Failure> {
        let named = self
            .file
            .sync_all()
            .and_then(|()| rename_to_new(&self.path, &self.to))
            .and_then(|()| sync_folder_of(&self.to));
        named.map_err(|error| cannot_write(&self.to, &error))?;
        self.is_whole = true;
        Ok(self.bytes)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_whole {
            // Whoever finds half of it might trust in it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Renames a file to a name that nothing has.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    // A link takes the place of nothing, as a renaming would.
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // There are file systems without links.
        Err(_) if fs::symlink_metadata(to).is_err() => fs::rename(from, to),
        Err(error) => Err(error),
    }
}

fn sync_folder_of(file: &Path) -> io::Result<()> {
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::Other(format!(
        "{} can't be written: {error}. Nothing is kept of it",
        path.display()
    ))
}
