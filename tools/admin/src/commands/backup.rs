//! `backup`: all that the homeserver keeps, sealed by the homeserver, into a file here.

use std::io::{self, IsTerminal, Write};

use homeserver_api::admin::BackupRequest;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::unfinished::Unfinished;
use super::{ask_new_password, read_file, read_password};
use crate::cli::BackupArguments;
use crate::connection::Admin;
use crate::failure::Failure;
use crate::output::Format;
use crate::values::size;

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
        progress.tell(file.bytes());
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
