//! `chat devices`, `chat confirm` and `chat safety`: whose devices are whose.

use entente_sdk::ids::{Address, DeviceId};
use entente_sdk::{Came, Client};
use serde_json::json;

use crate::cli::{Common, Devices, DevicesCommand};
use crate::commands::{in_time, with_session};
use crate::device;
use crate::failure::{Failure, Result};
use crate::show::output::Output;
use crate::show::safe;

const ASKING: &str = "Asking your homeserver";
/// Words or groups of a safety number in a line.
const IN_A_LINE: usize = 6;

pub(super) async fn run(common: &Common, arguments: &Devices, output: &Output) -> Result {
    // Before anything is begun, so that nothing waits for the answer.
    let with_history = match &arguments.what {
        Some(DevicesCommand::Approve {
            history,
            no_history,
            ..
        }) => {
            *history
                || !no_history
                    && device::says_yes(
                        "Send the new device the messages that this one has, too? They go encrypted from device to device.",
                    )?
        }
        _ => false,
    };
    if let Some(DevicesCommand::Remove { device, yes: false }) = &arguments.what {
        device::confirm(&format!("Sign the device {device} out, for good?"), "--yes")?;
    }
    with_session(common, output, async |client| match &arguments.what {
        None => list(common, client, output).await,
        Some(DevicesCommand::SendHistory { device }) => {
            send_history(common, client, *device, output).await
        }
        Some(DevicesCommand::Approve { code, .. }) => {
            let approved = in_time(common, ASKING, client.approve_device(code)).await?;
            output.object(&json!({"type": "device-approved", "device": approved}))?;
            let name = safe::one_line(&approved.name);
            output.line(&format!("{name} is one of your devices now."))?;
            if with_history {
                return send_history(common, client, approved.device, output).await;
            }
            output.line(&format!(
                "To give it the messages that this device has: chat devices send-history {}",
                approved.device
            ))
        }
        Some(DevicesCommand::Decline { which }) => {
            let declined = in_time(common, ASKING, client.decline_device(which)).await?;
            output.object(&json!({"type": "device-declined", "device": declined}))?;
            output.line(&format!(
                "{} is turned away.",
                safe::one_line(&declined.name)
            ))
        }
        Some(DevicesCommand::Remove { device, .. }) => {
            in_time(common, ASKING, client.remove_device(*device)).await?;
            output.object(&json!({"type": "device-removed", "device": device}))?;
            output.line(&format!("The device {device} is signed out."))
        }
    })
    .await
}

/// Sends another own device what this one has.
async fn send_history(
    common: &Common,
    client: &Client,
    device: DeviceId,
    output: &Output,
) -> Result {
    let sending = client.send_history(device);
    let Ok(sent) = tokio::time::timeout(device::timeout(common), sending).await else {
        return Err(Failure::not_now(
            "history-waits",
            format!(
                "The messages could not all be sent within {} s. What was taken in goes out by itself; to begin again: chat \
                 devices send-history {device}",
                common.timeout
            ),
        ));
    };
    let sent = sent?;
    output.object(&json!({
        "type": "history-sent",
        "device": device,
        "messages": sent.messages,
        "left_out": sent.left_out,
    }))?;
    output.line(&format!(
        "{} messages are on their way to it, encrypted; they keep their time of expiry.",
        sent.messages
    ))?;
    if sent.left_out > 0 {
        output.line(&format!(
            "{} older ones were too many, and stay here alone.",
            sent.left_out
        ))?;
    }
    Ok(())
}

async fn list(common: &Common, client: &Client, output: &Output) -> Result {
    let account = in_time(common, ASKING, client.account()).await?;
    let logged = in_time(common, ASKING, client.logged_devices()).await?;
    let own = client.member().device;
    for device in &account.devices {
        let (here, is_logged) = (device.device == own, logged.contains(&device.device));
        output.object(
            &json!({"type": "device", "this": here, "logged": is_logged, "device": device}),
        )?;
        output.line(&format!(
            "{}  {}  since {}, certificate until {}, {}{}",
            device.device,
            output.paint.strong(&safe::one_line(&device.name)),
            output.clock.date_and_time(device.enrolled_ms),
            output.clock.date_and_time(device.not_after_ms),
            came(&device.came),
            if here { "  (this one)" } else { "" },
        ))?;
        if !is_logged {
            output.warning(&format!(
                "The device log does not have {}: nobody's device writes to it. Ask your administrator.",
                device.device
            ));
        }
    }
    let is_listed = |id: &DeviceId| account.devices.iter().any(|device| device.device == *id);
    for missing in logged.iter().filter(|id| !is_listed(id)) {
        output.object(&json!({"type": "device-unlisted", "device": missing}))?;
        output.warning(&format!(
            "The device log has {missing}, which your homeserver does not list: others write to it. If it is not yours, \
             chat devices remove {missing}, and ask your administrator.",
        ));
    }
    for waiting in &account.waiting {
        output.object(&json!({"type": "device-waits", "device": waiting}))?;
        output.line(&format!(
            "{}  {}  waits for approval until {}: chat devices approve CODE, with the code that it shows. If it is \
             not yours: chat devices decline {}; somebody knows your password, change it (chat password).",
            waiting.device,
            output.paint.strong(&safe::one_line(&waiting.name)),
            output.clock.date_and_time(waiting.until_ms),
            waiting.device,
        ))?;
    }
    Ok(())
}

/// How a device came to the account.
fn came(came: &Came) -> String {
    match came {
        Came::First => "the first".to_owned(),
        Came::Approved { by } => format!("approved by {by}"),
        Came::Reset => "by a reset".to_owned(),
    }
}

pub(super) async fn confirm(common: &Common, address: &Address, output: &Output) -> Result {
    with_session(common, output, async |client| {
        in_time(common, ASKING, client.confirm(address)).await?;
        output.object(&json!({"type": "confirmed", "address": address}))?;
        output.line(&format!(
            "{address}'s devices, and another address that they may have, are taken for theirs. What waited is being sent."
        ))
    })
    .await
}

pub(super) async fn safety(common: &Common, address: &Address, output: &Output) -> Result {
    with_session(common, output, async |client| {
        let number = in_time(common, ASKING, client.safety(address)).await?;
        output.object(&json!({
            "type": "safety",
            "address": address,
            "digits": number.digits,
            "words": number.words,
            "unconfirmed": number.unconfirmed,
            "newest": number.newest,
        }))?;
        output.line(&format!(
            "Compare this with {address} by another way, such as the telephone. Either form will do; if it differs, \
             somebody stands between you, or one of you has not heard of a new device yet."
        ))?;
        let groups: Vec<&str> = number.digits.split(' ').collect();
        for line in groups.chunks(IN_A_LINE).chain(number.words.chunks(IN_A_LINE)) {
            output.line(&format!("  {}", line.join(" ")))?;
        }
        if !number.newest {
            output.line(&format!(
                "{address}'s homeserver has not answered: this is by the devices that were known before."
            ))?;
        }
        if number.unconfirmed > 0 {
            output.line(&format!(
                "{address} has {} new devices that nobody has confirmed here: chat confirm {address}",
                number.unconfirmed
            ))?;
        }
        Ok(())
    })
    .await
}
