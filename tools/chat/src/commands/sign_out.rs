//! `chat sign-out`.

use serde_json::json;

use crate::cli::{Common, SignOut};
use crate::commands::in_time;
use crate::device;
use crate::failure::Result;
use crate::show::output::Output;

pub(super) async fn run(common: &Common, arguments: &SignOut, output: &Output) -> Result {
    let client = device::open(common).await?;
    let outcome = async {
        let address = client.address();
        let member = client.member();
        if !arguments.yes {
            device::confirm(
                &format!(
                    "Sign this device of {address} out for good, and delete its messages and keys?"
                ),
                "--yes",
            )?;
        }
        in_time(common, "Signing out", client.sign_out()).await?;
        output.object(&json!({"type": "signed-out", "address": address, "member": member}))?;
        output.line(&format!(
            "This device is no longer one of {address}; its messages and keys are deleted."
        ))
    }
    .await;
    device::close(&client, output).await;
    outcome
}
