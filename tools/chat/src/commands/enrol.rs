//! `chat enrol`.

use std::cell::Cell;

use entente_sdk::{Client, Enrolment, Waiting};
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde_json::json;

use crate::cli::{Common, Enrol};
use crate::device;
use crate::failure::{Failure, Result};
use crate::show::output::Output;

pub(super) async fn run(common: &Common, arguments: &Enrol, output: &Output) -> Result {
    let folder = device::folder(common)?;
    let address = arguments.address.to_string();
    let password = device::password(arguments.password_file.as_deref(), &address)?;
    let key = device::new_key(common)?;
    if let Some(parent) = folder.parent() {
        std::fs::create_dir_all(parent).map_err(|error| {
            Failure::new("file", format!("Can't make {}: {error}.", parent.display()))
        })?;
    }
    let enrolment = Enrolment {
        server_endpoint: arguments.server.clone(),
        address: arguments.address.clone(),
        password,
        root_sha256: arguments.root_sha256.clone(),
        device_name: arguments.device_name.clone(),
        reset: arguments.reset,
    };
    let waited = Cell::new(false);
    let told = |waiting: &Waiting| {
        waited.set(true);
        // Nobody hears of it when the output has gone; the device waits all the same.
        let _ = tell(waiting, output);
    };
    let client = Client::enrol_with(&folder, key, enrolment, told).await?;
    output.object(&json!({
        "type": "enrolled",
        "address": client.address(),
        "member": client.member(),
        "dir": folder.display().to_string(),
    }))?;
    output.line(&format!(
        "This is now a device of {address}. Its messages and keys are in {}.",
        folder.display()
    ))?;
    for line in next_steps(&address, arguments.reset, waited.get()) {
        output.line(&line)?;
    }
    device::close(&client, output).await;
    Ok(())
}

/// What a person may want to do now: where his messages are, and how the device comes into conversations.
fn next_steps(address: &str, reset: bool, waited: bool) -> Vec<String> {
    let mut lines = vec!["Say hello to somebody: chat talk ADDRESS".to_owned()];
    if waited || reset {
        lines.insert(
            0,
            format!(
                "Conversations: this device is in those to which somebody who is in them adds it, such as another device of \
                 yours (chat add ROOM {address})."
            ),
        );
    }
    if waited {
        lines.insert(
            0,
            "Messages: your other device sends them (chat devices send-history), if it was not told to already; chat history \
             shows them."
                .to_owned(),
        );
    }
    if reset {
        lines.insert(
            0,
            "Messages: if you have a backup, chat restore FILE. People who wrote with you are asked to confirm this device: tell \
             them that it is yours."
                .to_owned(),
        );
    }
    lines
}

/// What a person carries to a device of his.
fn tell(waiting: &Waiting, output: &Output) -> Result {
    output.object(&json!({
        "type": "waits-for-approval",
        "code": waiting.code,
        "qr": waiting.qr,
        "until_ms": waiting.until_ms,
    }))?;
    output.line(
        "Your account has devices already: one of them has to approve this one. There, type (or scan):",
    )?;
    output.line(&format!(
        "  chat devices approve {}",
        output.paint.strong(&waiting.code)
    ))?;
    if let Ok(code) = QrCode::with_error_correction_level(&waiting.qr, EcLevel::L) {
        let picture = code.render::<Dense1x2>().build();
        picture.lines().try_for_each(|line| output.line(line))?;
    }
    output.line(&format!(
        "Waiting until {}. Without any other device: chat enrol --reset",
        output.clock.date_and_time(waiting.until_ms)
    ))
}
