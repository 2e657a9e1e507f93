//! `chat password`.

use serde_json::json;

use crate::cli::{Common, Password};
use crate::commands::in_time;
use crate::device;
use crate::failure::Result;
use crate::show::output::Output;

pub(super) async fn run(common: &Common, arguments: &Password, output: &Output) -> Result {
    let client = device::open(common).await?;
    let outcome = async {
        let address = client.address().to_string();
        let old = device::password(arguments.password_file.as_deref(), &address)?;
        let new = device::new_password(arguments.new_password_file.as_deref())?;
        let changing = client.change_password(old, new);
        in_time(common, "Changing your password", changing).await?;
        output.object(&json!({"type": "password-changed", "address": address}))?;
        output.line(&format!(
            "{address} has its new password. Your devices stay signed in."
        ))
    }
    .await;
    device::close(&client, output).await;
    outcome
}
