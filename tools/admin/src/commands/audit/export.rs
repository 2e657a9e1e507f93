//! `audit export`: the whole log into a file, for whoever holds it to what was signed.

use std::path::Path;

use homeserver_api::admin::{AuditExport, AuditHead, AuditPage, PAGE_ENTRIES_MAX, ServerStatus};
use homeserver_api::ocsf::Event;
use serde::Serialize;
use serde_json::json;

use super::super::unfinished::Unfinished;
use super::PATH;
use crate::cli::ExportForm;
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

/// The head first, then the entries that it is of; as events there is no head.
pub(super) async fn run(
    admin: &Admin,
    file: Option<&Path>,
    form: ExportForm,
    format: Format,
) -> Result<(), Failure> {
    let mut destination = match file.filter(|file| *file != Path::new("-")) {
        Some(file) => Destination::File(Unfinished::create(file)?),
        None => Destination::Output,
    };
    let head: AuditHead = admin.get(&format!("{PATH}/head")).await?;
    let (size, server) = (head.size, head.server.to_string());
    let mut software = String::new();
    match form {
        ExportForm::Log => destination.write(&AuditExport {
            audit_export: AuditExport::VERSION,
            head,
        })?,
        ExportForm::Ocsf => {
            let status: ServerStatus = admin.get("/admin/v1/server").await?;
            software = status.version;
        }
    }
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
            match form {
                ExportForm::Log => destination.write(entry)?,
                ExportForm::Ocsf => destination.write(&Event::of(entry, &server, &software))?,
            }
            after = entry.number;
        }
    }
    let (Destination::File(written), Some(file)) = (destination, file) else {
        return Ok(());
    };
    let (bytes, name) = (written.finish()?, file.display().to_string());
    let told = json!({ "path": name, "entries": size, "bytes": bytes });
    format.show(&told, |_| match form {
        ExportForm::Ocsf => format!("Written to {name}: {size} entries."),
        ExportForm::Log => format!(
            "Written to {name}: {size} entries. Whoever has the organisation's root certificate checks it with \
             `hsctl --root FILE audit verify {name}`."
        ),
    })
}
