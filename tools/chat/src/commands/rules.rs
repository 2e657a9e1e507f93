//! `chat agree`, `chat sign-in` and `chat rules`: what the organisation asks for, and what its people want tighter.

use entente_sdk::{DeviceReset, DirectoryListing, OutsideContacts, OwnRules};
use serde_json::json;

use crate::cli::{Agree, Common, Rules, SignIn};
use crate::commands::in_time;
use crate::device;
use crate::failure::Result;
use crate::show::output::Output;
use crate::show::safe;

/// Shows the organisation's notice and agrees to it. Needs no session: there is none before.
pub(super) async fn agree(common: &Common, arguments: &Agree, output: &Output) -> Result {
    let client = device::open(common).await?;
    let outcome = async {
        let account = in_time(common, "Asking your homeserver", client.account()).await?;
        let Some(notice) = &account.policy.clients.banner else {
            output.object(&json!({"type": "no-notice"}))?;
            return output.line("Your organisation has no notice to agree to.");
        };
        output.object(&json!({"type": "notice", "text": notice}))?;
        for line in safe::lines(notice) {
            output.line(&line)?;
        }
        if !arguments.yes {
            device::confirm("Do you agree to this notice of your organisation?", "--yes")?;
        }
        in_time(common, "Agreeing", client.agree(&account)).await?;
        output.object(&json!({"type": "agreed"}))?;
        output.line("You have agreed to the notice.")
    }
    .await;
    device::close(&client, output).await;
    outcome
}

/// Types the password again. Needs no session: there is none before.
pub(super) async fn sign_in(common: &Common, arguments: &SignIn, output: &Output) -> Result {
    let client = device::open(common).await?;
    let outcome = async {
        let address = client.address().to_string();
        let password = device::password(arguments.password_file.as_deref(), &address)?;
        let signing_in = client.sign_in_again(password);
        in_time(common, "Signing in", signing_in).await?;
        output.object(&json!({"type": "signed-in", "address": address}))?;
        output.line("This device is signed in again.")
    }
    .await;
    device::close(&client, output).await;
    outcome
}

/// Sets what the user wants tighter than the organisation does.
pub(super) async fn set(common: &Common, arguments: &Rules, output: &Output) -> Result {
    let client = device::open(common).await?;
    let outcome = async {
        let own = OwnRules {
            ttl_seconds_max: arguments.ttl_max,
            burn_seconds_min: arguments.burn_min,
            directory: arguments.hidden.then_some(DirectoryListing::Hidden),
            outside_contacts: arguments.ask.then_some(OutsideContacts::Ask),
            device_reset: arguments.no_reset.then_some(DeviceReset::Administrator),
            ..OwnRules::default()
        };
        in_time(common, "Setting your rules", client.set_own_rules(&own)).await?;
        output.object(&json!({"type": "rules-set", "rules": own}))?;
        output.line("Your rules are set; chat account shows what holds.")
    }
    .await;
    device::close(&client, output).await;
    outcome
}
