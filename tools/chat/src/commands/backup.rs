//! `chat backup` and `chat restore`.

use std::path::Path;

use entente_sdk::{BackupOf, Client, Error, read_backup};
use serde_json::json;

use crate::cli::{Backup, Common, Restore};
use crate::device;
use crate::failure::{Failure, Result};
use crate::show::output::Output;

pub(super) async fn make(common: &Common, arguments: &Backup, output: &Output) -> Result {
    let path = &arguments.path;
    // Before anybody is asked for a passphrase.
    if path.exists() {
        return Err(Failure::new(
            "exists",
            format!("{} exists already: name another file.", path.display()),
        ));
    }
    let client = device::open(common).await?;
    let made = client.backup(path).await;
    device::close(&client, output).await;
    let made = made?;
    output.object(&json!({
        "type": "backup",
        "path": path.display().to_string(),
        "code": made.code.to_string(),
        "messages": made.messages,
        "people": made.people,
        "left_out": made.left_out,
    }))?;
    output.line(&format!(
        "{} has {} messages and {} people. This recovery code opens it, and nothing else does:",
        path.display(),
        made.messages,
        made.people
    ))?;
    output.line(&format!(
        "  {}",
        output.paint.strong(&made.code.to_string())
    ))?;
    output.line(
        "It is not shown again. Write it down and keep it apart from the file. Messages that burn after reading are not in \
         the backup; the others are read back until they expire.",
    )?;
    if made.left_out > 0 {
        output.line(&format!(
            "{} older messages were too many and are not in it.",
            made.left_out
        ))?;
    }
    Ok(())
}

pub(super) async fn restore(common: &Common, arguments: &Restore, output: &Output) -> Result {
    let path = &arguments.path;
    if !path.is_file() {
        return Err(Failure::new(
            "file",
            format!("{} is not a file.", path.display()),
        ));
    }
    let code_file = arguments.code_file.as_deref();
    if !Client::is_enrolled(device::folder(common)?) {
        let code = device::recovery_code(code_file)?;
        return Err(enrol_first(path, &read_backup(path, &code).await?));
    }
    let client = device::open(common).await?;
    let outcome = async {
        let code = device::recovery_code(code_file)?;
        let of = read_backup(path, &code).await?;
        let restored = client.restore(path, &code).await?;
        output.object(&json!({
            "type": "restored",
            "path": path.display().to_string(),
            "made_ms": of.made_ms,
            "messages": restored.messages,
            "passed_over": restored.passed_over,
            "people": restored.people,
        }))?;
        output.line(&format!(
            "{} messages are back, {} were here already or are over; more is known of {} people. chat history shows them.",
            restored.messages, restored.passed_over, restored.people
        ))?;
        output.line(&format!(
            "To go on in a conversation, have somebody who is in it add you: chat add ROOM {}",
            of.address
        ))
    }
    .await;
    device::close(&client, output).await;
    outcome
}

/// What to type on a computer that is no device yet.
fn enrol_first(path: &Path, of: &BackupOf) -> Failure {
    let BackupOf {
        address,
        endpoint,
        root_sha256,
        ..
    } = of;
    let code = Error::NotEnrolled(path.to_owned()).code().to_owned();
    Failure::new(
        code,
        format!(
            "This is a backup of {address}, and there is no device here yet. First: chat enrol {address} --server {endpoint} \
             --root-sha256 {root_sha256} (with --reset when you have no other device any more). Then: chat restore {}",
            path.display()
        ),
    )
}
