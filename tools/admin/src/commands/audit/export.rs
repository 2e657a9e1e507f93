//! `audit export`: the whole log into a file, for whoever holds it to what was signed.

use std::path::Path;

use homeserver_api::admin::{AuditExport, AuditHead, AuditPage, PAGE_ENTRIES_MAX};
use serde::Serialize;
use serde_json::json;

use super::super::unfinished::Unfinished;
use super::PATH;
use crate::connection::Admin;
use crate::failure::Failure;
use crate::output::{Format, print, to_json};

/// Where lines go.
enum Destination {
    Output,
    File(Unfinished),
}

impl Destination {
    fn write<T: Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        let mut line = to_json(value)?;
        match self {
            Self::Output => print(&line),
            Self::File(file) => {
                line.push('\n');
                file.write(line.as_bytes())
            }
        }
    }
}

/// The head first, then the entries that it is of.
pub(super) async fn run(admin: &Admin, file: Option<&Path>, format: Format) -> Result<(), Failure> {
    let mut destination = match file.filter(|file| *file != Path::new("-")) {
        Some(file) => Destination::File(Unfinished::create(file)?),
        None => Destination::Output,
    };
    let head: AuditHead = admin.get(&format!("{PATH}/head")).await?;
    let size = head.size;
    destination.write(&AuditExport {
        audit_export: AuditExport::VERSION,
        head,
    })?;
    let mut after = 0;
    while after < size {
        let path = format!("{PATH}?limit={PAGE_ENTRIES_MAX}&after={after}");
        let page: AuditPage = admin.get(&path).await?;
        if page.entries.is_empty() {
            return Err(Failure::Other(format!(
                "the log ends with entry {after}, and its head is of {size}: run `homeserver store check`"
            )));
        }
        for entry in page.entries.iter().take_while(|entry| entry.number <= size) {
            destination.write(entry)?;
            after = entry.number;
        }
    }
    match (destination, file) {
        (Destination::File(written), Some(file)) => {
            let (bytes, name) = (written.finish()?, file.display().to_string());
            format.show(
                &json!({ "path": name, "entries": size, "bytes": bytes }),
                |_| {
                    format!(
                        "Written to {name}: {size} entries. Whoever has the organisation's root certificate checks it with \
                         `hsctl --root FILE audit verify {name}`."
                    )
                },
            )
        }
        _ => Ok(()),
    }
}
