//! `backup`: all that the homeserver keeps, sealed by the homeserver, into a file here.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use homeserver_api::admin::BackupRequest;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::{ask_new_password, read_file, read_password};
use crate::cli::BackupArguments;
use crate::connection::Admin;
use crate::failure::Failure;
use crate::output::Format;
use crate::values::size;

/// What a file that is not whole yet ends in.
const UNFINISHED: &str = "part";
/// Progress is told each time that so many more bytes are there.
const TOLD_EVERY_BYTES: u64 = 16 * 1024 * 1024;

/// `POST /admin/v1/backups`.
pub(super) async fn run(
    admin: &Admin,
    arguments: &BackupArguments,
    format: Format,
) -> Result<(), Failure> {
    let request = request(arguments)?;
    let mut file = Unfinished::create(&arguments.to)?;
    let mut progress = Progress::new(format);
    let mut take = |bytes: &[u8]| -> Result<(), Failure> {
        file.write(bytes)?;
        progress.tell(file.bytes);
        Ok(())
    };
    let path = "/admin/v1/backups";
    let made = tokio::select! {
        made = admin.post_for_stream(path, &request, &mut take) => made,
        ended = interrupted() => ended,
    };
    progress.end();
    made?;
    let bytes = file.finish()?;
    let name = arguments.to.display().to_string();
    format.show(&json!({ "path": name, "bytes": bytes }), |_| {
        format!(
            "Written to {name}: {}. Try it with `homeserver restore --check --from {name}`.",
            size(bytes)
        )
    })
}

/// Resolves, with a failure, when the process is asked to end: so that what is not whole does not stay.
async fn interrupted() -> Result<(), Failure> {
    let handled = |error: io::Error| Failure::Other(format!("signals can't be handled: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(handled)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(handled)?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Err(Failure::Other(
        "interrupted: there is no backup, and nothing of it was left".to_owned(),
    ))
}

fn request(arguments: &BackupArguments) -> Result<BackupRequest, Failure> {
    if let Some(file) = &arguments.public_key {
        return Ok(BackupRequest {
            passphrase: None,
            public_key: Some(read_file(file)?),
        });
    }
    let passphrase = match &arguments.passphrase_file {
        Some(file) => read_password(file)?,
        None => ask_new_password()?,
    };
    Ok(BackupRequest {
        passphrase: Some(passphrase),
        public_key: None,
    })
}

/// A backup that is not whole yet: under another name, and gone when it does not become whole.
struct Unfinished {
    path: PathBuf,
    to: PathBuf,
    file: File,
    bytes: u64,
    is_whole: bool,
}

impl Unfinished {
    fn create(to: &Path) -> Result<Self, Failure> {
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
                    "{} is there: another backup to this file is being made, or one was cut off; in that case remove it",
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

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| cannot_write(&self.path, &error))?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(length);
        Ok(())
    }

    /// Gives it its name, once it is on the disk, unless another file has got that meanwhile; how long it is.
    fn finish(mut self) -> Result<u64, Failure> {
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
            // Whoever finds half a backup might trust in it.
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
        "{} can't be written: {error}. There is no backup of it",
        path.display()
    ))
}

/// How far it is, for whoever watches a terminal.
struct Progress {
    shown: bool,
    told: u64,
}

impl Progress {
    fn new(format: Format) -> Self {
        Self {
            shown: format == Format::Human && io::stderr().is_terminal(),
            told: 0,
        }
    }

    fn tell(&mut self, bytes: u64) {
        if self.shown && bytes >= self.told.saturating_add(TOLD_EVERY_BYTES) {
            self.told = bytes;
            let _ = write!(io::stderr().lock(), "\r{} written   ", size(bytes));
        }
    }

    fn end(&self) {
        if self.told > 0 {
            let _ = writeln!(io::stderr().lock());
        }
    }
}
