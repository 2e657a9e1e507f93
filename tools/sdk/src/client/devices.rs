//! The account's devices: who waits, who is approved, who goes; and whom a person confirms.

use std::sync::Arc;
use std::time::Duration;

use homeserver_api::client::{
    AccountHistory, ApproveRequest, LogHead, LogStatements, WaitingDevice,
};
use homeserver_api::ids::{Address, DeviceId};
use http::Method;
use tokio::time::{Instant, sleep_until};

use super::shared::{Link, Shared};
use super::upkeep;
use crate::core::{SafetyNumber, device_code, read_code};
use crate::error::Error;
use crate::requests;

/// How long a safety number waits for the partner's newest devices.
const NEWEST_WITHIN: Duration = Duration::from_secs(10);

/// Looks at the own account's devices in the device log, by the newest roots.
async fn newest_own_history(shared: &Arc<Shared>) -> Result<(), Error> {
    upkeep::anchors(shared).await?;
    own_history(shared).await
}

/// Looks at the own account's devices in the device log.
pub(super) async fn own_history(shared: &Arc<Shared>) -> Result<(), Error> {
    let named = shared.run(|core| Ok(core.own_log_sizes())).await?;
    let sizes: Vec<String> = match named.is_empty() {
        true => vec!["0".to_owned()],
        false => named.iter().map(u64::to_string).collect(),
    };
    let account = shared.identity.member.account;
    let path = format!("/v1/device-log/accounts/{account}/{}", sizes.join(","));
    let token = Some(shared.identity.token.as_str());
    let AccountHistory { history } = requests::get(&shared.endpoint, token, &path).await?;
    shared
        .run(move |core| core.take_own_history(&history.0, &named))
        .await
}

/// Reads on in the own organisation's log, for what its homeserver keeps from the own account's history.
pub(super) async fn read_log(shared: &Arc<Shared>) -> Result<(), Error> {
    // Two at once would each take the other's end for another log.
    let _one_at_a_time = shared.upkeep.lock().await;
    let Some(from) = shared.run(|core| Ok(core.log_read_to())).await? else {
        return Ok(());
    };
    let token = Some(shared.identity.token.as_str());
    let path = format!("/v1/device-log/head/{from}");
    let LogHead { head, .. } = requests::get(&shared.endpoint, token, &path).await?;
    let begun = shared.run(move |core| core.begin_reading(&head.0)).await?;
    let Some(mut reading) = begun else {
        return Ok(());
    };
    while let Some(after) = reading.after() {
        let path = format!("/v1/device-log/statements/{after}");
        let LogStatements { statements } = requests::get(&shared.endpoint, token, &path).await?;
        reading.take(statements.into_iter().map(|statement| statement.0))?;
    }
    if reading.names_own() {
        own_history(shared).await?;
    }
    shared.run(move |core| core.end_reading(reading)).await
}

/// Approves the waiting device that shows this code; which one.
pub(super) async fn approve(shared: &Arc<Shared>, typed: &str) -> Result<WaitingDevice, Error> {
    let waiting = with_code(shared, typed).await?;
    let key: [u8; 32] = waiting
        .public_key
        .0
        .as_slice()
        .try_into()
        .map_err(|_| Error::Protocol("a waiting device's key has another length".to_owned()))?;
    newest_own_history(shared).await?;
    let device = waiting.device;
    let statement = shared.run(move |core| core.approval(device, key)).await?;
    let request = ApproveRequest {
        statement: statement.into(),
    };
    let (token, path) = (
        shared.identity.token.as_str(),
        format!("/v1/devices/waiting/{device}"),
    );
    requests::act(&shared.endpoint, token, Method::POST, &path, Some(&request)).await?;
    own_history(shared).await?;
    Ok(waiting)
}

/// Turns away the waiting device of this id, or that shows this code; which one.
pub(super) async fn decline(shared: &Arc<Shared>, typed: &str) -> Result<WaitingDevice, Error> {
    let waiting = match typed.trim().parse::<DeviceId>() {
        Ok(id) => {
            let waiting = upkeep::account_info(shared).await?.waiting;
            let found = waiting.into_iter().find(|device| device.device == id);
            found.ok_or_else(|| {
                Error::InvalidArgument(format!("no device {id} waits for approval"))
            })?
        }
        Err(_) => with_code(shared, typed).await?,
    };
    let (token, path) = (
        shared.identity.token.as_str(),
        format!("/v1/devices/waiting/{}", waiting.device),
    );
    requests::act(&shared.endpoint, token, Method::DELETE, &path, None::<&()>).await?;
    Ok(waiting)
}

/// The devices that the account has by the device log, as it is now.
pub(super) async fn logged(shared: &Arc<Shared>) -> Result<Vec<DeviceId>, Error> {
    newest_own_history(shared).await?;
    shared.run(|core| Ok(core.own_devices())).await
}

/// Removes a device of the account: it is signed out wherever it is.
pub(super) async fn remove(shared: &Arc<Shared>, device: DeviceId) -> Result<(), Error> {
    let (token, path) = (
        shared.identity.token.as_str(),
        format!("/v1/devices/{device}"),
    );
    requests::act(&shared.endpoint, token, Method::DELETE, &path, None::<&()>).await?;
    newest_own_history(shared).await
}

/// The waiting device with this code. The code is of its key: a homeserver that shows another key than the new
/// device's finds no match here.
async fn with_code(shared: &Arc<Shared>, typed: &str) -> Result<WaitingDevice, Error> {
    let code = read_code(typed).ok_or_else(|| {
        Error::InvalidArgument(
            "that is no code: it has three groups of four characters, as the new device shows it"
                .to_owned(),
        )
    })?;
    let waiting = upkeep::account_info(shared).await?.waiting;
    let address = shared.identity.address.clone();
    let found = tokio::task::spawn_blocking(move || {
        waiting
            .into_iter()
            .find(|device| device_code(&device.public_key.0, &address) == code)
    });
    found
        .await
        .map_err(|e| Error::Store(e.to_string()))?
        .ok_or_else(|| {
            Error::InvalidArgument(
                "no device that waits for approval shows that code: compare it with the new device, and \
                 approve no other one"
                    .to_owned(),
            )
        })
}

/// The safety number with somebody, by the newest devices of both as far as they can be had now.
pub(super) async fn safety(shared: &Arc<Shared>, address: &Address) -> Result<SafetyNumber, Error> {
    let mut newest = false;
    if matches!(*shared.link.borrow(), Link::Up | Link::CaughtUp) {
        newest_own_history(shared).await?;
        let until = Instant::now() + NEWEST_WITHIN;
        // What was asked before may have been answered before, too.
        if is_answered(shared, address, until).await? {
            let of = address.clone();
            shared.run(move |core| core.ask_about(&of)).await?;
            newest = is_answered(shared, address, until).await?;
        }
    }
    let of = address.clone();
    let number = shared.run(move |core| core.safety(&of)).await?;
    Ok(SafetyNumber { newest, ..number })
}

/// Waits until no question about an address is open; whether that came in time.
async fn is_answered(
    shared: &Arc<Shared>,
    address: &Address,
    until: Instant,
) -> Result<bool, Error> {
    let mut events = shared.events();
    loop {
        let of = address.clone();
        if !shared.run(move |core| Ok(core.is_asked(&of))).await? {
            return Ok(true);
        }
        tokio::select! {
            event = events.next() => if event.is_none() { return Ok(false) },
            () = shared.answered.notified() => {}
            () = sleep_until(until) => return Ok(false),
        }
    }
}
