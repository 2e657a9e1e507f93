//! Enrolment: a password becomes a device with a certified key and a store of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use homeserver_api::client::{DEVICE_NAME_BYTES_MAX, EnrolPending, EnrolRequest, EnrolResponse};
use homeserver_api::ids::Address;
use homeserver_api::password::Password;
use http::Method;
use serde::Deserialize;
use tokio::time::sleep;

use crate::certificate::{AnchorSet, Validity};
use crate::clock::Clock;
use crate::core::{Core, Identity, device_code};
use crate::error::Error;
use crate::mls::DeviceKey;
use crate::requests;
use crate::session::Endpoint;
use crate::store::{NewStore, StoreKey};
use crate::tls::RootPin;

/// What a person types to enrol a device.
#[derive(Clone)]
pub struct Enrolment {
    /// Where the homeserver is: `host:port`.
    pub server_endpoint: String,
    /// The account.
    pub address: Address,
    /// The account's password.
    pub password: Password,
    /// SHA-256 of the organisation's root certificate as its administrator gives it out: 64
    /// hexadecimal digits; spaces and colons between them don't matter.
    pub root_sha256: String,
    /// What the user calls the device.
    pub device_name: String,
    /// Whether it comes without the approval of another device of the account: people who wrote with it are asked to
    /// confirm it. Has no effect for the account's first device.
    pub reset: bool,
}

/// A new device that waits until another device of the account approves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// What the other device is given: `chat devices approve CODE`.
    pub code: String,
    /// The same for a camera, with the whole key: a text for a QR code.
    pub qr: String,
    /// Until when it waits, milliseconds since the Unix epoch.
    pub until_ms: u64,
}

/// How often a device that waits asks how it stands.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// The homeserver's answer: a device, or one that waits.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Now(EnrolResponse),
    Waits(EnrolPending),
}

impl std::fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Enrolment({}, {})", self.address, self.device_name)
    }
}

/// Makes the store, enrols with the homeserver, and fills the store. A password that is refused leaves
/// nothing, and a folder that can't be written to is noticed before the homeserver hears anything.
pub(super) async fn enrol(
    folder: &Path,
    key: StoreKey,
    enrolment: Enrolment,
    clock: Arc<dyn Clock>,
    waits: impl FnOnce(&Waiting),
) -> Result<Core, Error> {
    let name = &enrolment.device_name;
    if name.is_empty() || name.len() > DEVICE_NAME_BYTES_MAX {
        return Err(Error::InvalidArgument(format!(
            "a device's name has 1 to {DEVICE_NAME_BYTES_MAX} bytes"
        )));
    }
    let pin = RootPin::parse(&enrolment.root_sha256)?;
    let endpoint = Endpoint::pinned(
        enrolment.server_endpoint.clone(),
        enrolment.address.server.clone(),
        pin,
    )?;
    let device_key = DeviceKey::generate()?;
    let folder = folder.to_owned();
    let store_folder = folder.clone();
    // Deriving the key from a passphrase takes a while on purpose.
    let store = blocking(move || NewStore::create(&store_folder, &key)).await?;
    let request = EnrolRequest {
        handle: enrolment.address.handle.clone(),
        password: enrolment.password.clone(),
        csr: device_key
            .certificate_request(&enrolment.address.to_string())?
            .into(),
        device_name: enrolment.device_name.clone(),
        reset: enrolment.reset,
    };
    let answer: Answer =
        requests::send(&endpoint, None, Method::POST, "/v1/devices", &request).await?;
    let answer = match answer {
        Answer::Now(response) => response,
        Answer::Waits(pending) => {
            let key = device_key.public()?;
            waits(&waiting(&enrolment, &key, &pending));
            approved(&endpoint, pending).await?
        }
    };
    let now_ms = clock.now_ms();
    let (identity, anchors) = check(&enrolment, pin, device_key, answer, now_ms)?;
    blocking(move || Core::create(&folder, store, clock, &identity, &anchors)).await
}

/// What the new device shows.
fn waiting(enrolment: &Enrolment, key: &[u8], pending: &EnrolPending) -> Waiting {
    let Address { server, handle } = &enrolment.address;
    Waiting {
        code: device_code(key, &enrolment.address),
        qr: format!("entente://{server}/approve/{handle}/{}", hex::encode(key)),
        until_ms: pending.until_ms,
    }
}

/// Waits until a device of the account has approved this one.
async fn approved(endpoint: &Endpoint, pending: EnrolPending) -> Result<EnrolResponse, Error> {
    loop {
        match requests::post(endpoint, &pending.token, "/v1/devices/waiting").await {
            Ok(Answer::Now(response)) => return Ok(response),
            Ok(Answer::Waits(_)) | Err(Error::Unreachable { .. }) => sleep(ASK_EVERY).await,
            Err(error) => return Err(error),
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::Store(e.to_string()))?
}

/// Believes nothing in the answer that the pinned root does not vouch for.
fn check(
    enrolment: &Enrolment,
    pin: RootPin,
    key: DeviceKey,
    answer: EnrolResponse,
    now_ms: u64,
) -> Result<(Identity, AnchorSet), Error> {
    if !pin.matches(&answer.root.0) {
        return Err(Error::Untrusted(
            "the root in its answer is not the pinned one".to_owned(),
        ));
    }
    let server = enrolment.address.server.clone();
    let anchors = AnchorSet::own(server, answer.root.0);
    let chain: Vec<Vec<u8>> = answer.chain.into_iter().map(|der| der.0).collect();
    let device = anchors.verify(&chain, Validity::At(now_ms / 1000))?;
    let as_asked = device.address == enrolment.address
        && device.address == answer.address
        && device.member.account == answer.account
        && device.member.device == answer.device
        && device.public_key == key.public()?;
    if !as_asked {
        return Err(Error::Certificate(
            "it is not for the account, the device and the key that were asked for".to_owned(),
        ));
    }
    let identity = Identity {
        endpoint: enrolment.server_endpoint.clone(),
        root_sha256: pin.0,
        address: device.address,
        member: device.member,
        device_name: enrolment.device_name.clone(),
        token: answer.token,
        key,
        chain,
        not_after_ms: device.not_after.saturating_mul(1000),
        certified_ms: now_ms,
    };
    Ok((identity, anchors))
}
