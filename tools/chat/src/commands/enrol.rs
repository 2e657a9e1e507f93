//! `chat enrol`.

use entente_sdk::{Client, Enrolment};
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
    };
    let client = Client::enrol(&folder, key, enrolment).await?;
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
    output.line("Say hello to somebody: chat talk ADDRESS")?;
    device::close(&client, output).await;
    Ok(())
}
