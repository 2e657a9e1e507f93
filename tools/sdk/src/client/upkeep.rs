//! What a device does beside its session: its policy, the roots, key packages, its certificate.
//!
//! Each step may fail alone; the next session tries again.

use std::sync::Arc;

use homeserver_api::Base64;
use homeserver_api::client::{
    AccountInfo, AgreeRequest, Anchors, KeyPackageCount, KeyPackages, RenewRequest, RenewResponse,
    RoomCertificate, SignInAgainRequest,
};
use homeserver_api::password::{ChangePasswordRequest, Password};
use homeserver_api::policy::OwnRules;
use http::Method;

use super::devices;
use super::shared::Shared;
use crate::core::Core;
use crate::error::Error;
use crate::requests;

/// How many single-use key packages wait at the homeserver after a refill.
const KEY_PACKAGES_TARGET: usize = 40;
/// Fewer than this are refilled.
const KEY_PACKAGES_LOW: usize = 20;
/// After this many joined rooms the homeserver is asked how many are left.
pub(super) const REFILL_AFTER_USED: usize = 10;

/// Everything, when a session begins.
pub(super) async fn if_due(shared: Arc<Shared>) {
    log("the account", account_now(&shared).await);
    // The certificate first: with a new one the homeserver takes all key packages back.
    log("the certificate", certificate_now(&shared).await);
    log("key packages", key_packages_now(&shared).await);
    log("old keys", shared.run(Core::tidy).await);
}

/// The account's policy and the roots, when they changed.
pub(super) async fn account(shared: Arc<Shared>) {
    log("the account", account_now(&shared).await);
}

/// Key packages, when some were used.
pub(super) async fn key_packages(shared: Arc<Shared>) {
    log("key packages", key_packages_now(&shared).await);
}

fn log(what: &str, done: Result<(), Error>) {
    if let Err(error) = done {
        tracing::debug!(%error, "{what} could not be looked after");
    }
}

/// Everything that a new device needs before others can write to it.
pub(super) async fn first(shared: &Arc<Shared>) -> Result<(), Error> {
    account_now(shared).await?;
    key_packages_now(shared).await
}

/// The account as the homeserver shows it.
pub(super) async fn account_info(shared: &Arc<Shared>) -> Result<AccountInfo, Error> {
    requests::get(
        &shared.endpoint,
        Some(&shared.identity.token),
        "/v1/account",
    )
    .await
}

/// Gives the account another password.
pub(super) async fn change_password(
    shared: &Arc<Shared>,
    old: Password,
    new: Password,
) -> Result<(), Error> {
    let request = ChangePasswordRequest { old, new };
    let token = &shared.identity.token;
    let path = "/v1/account/password";
    requests::act(&shared.endpoint, token, Method::POST, path, Some(&request)).await
}

/// Agrees to the notice that the account's rules have.
pub(super) async fn agree(shared: &Arc<Shared>, account: &AccountInfo) -> Result<(), Error> {
    let Some(banner_sha256) = account.banner_sha256.clone() else {
        return Ok(());
    };
    let request = AgreeRequest { banner_sha256 };
    let token = &shared.identity.token;
    let path = "/v1/account/banner";
    requests::act(&shared.endpoint, token, Method::POST, path, Some(&request)).await
}

/// Types the password again.
pub(super) async fn sign_in_again(shared: &Arc<Shared>, password: Password) -> Result<(), Error> {
    let request = SignInAgainRequest { password };
    let token = &shared.identity.token;
    let path = "/v1/account/sign-in";
    requests::act(&shared.endpoint, token, Method::POST, path, Some(&request)).await
}

/// Sets what the account's owner has chosen.
pub(super) async fn set_own_rules(shared: &Arc<Shared>, own: &OwnRules) -> Result<(), Error> {
    let token = &shared.identity.token;
    let path = "/v1/account/rules";
    requests::act(&shared.endpoint, token, Method::PUT, path, Some(own)).await
}

/// Removes this device from the account.
pub(super) async fn remove_device(shared: &Arc<Shared>) -> Result<(), Error> {
    let token = &shared.identity.token;
    let path = format!("/v1/devices/{}", shared.identity.member.device);
    let removed = requests::act(&shared.endpoint, token, Method::DELETE, &path, None::<&()>).await;
    match removed {
        // Removed already, by an administrator or by a request whose answer was lost.
        Err(Error::Problem(problem)) if matches!(problem.status, 401 | 404) => Ok(()),
        removed => removed,
    }
}

async fn account_now(shared: &Arc<Shared>) -> Result<(), Error> {
    let info = account_info(shared).await?;
    shared
        .run(move |core| {
            core.set_policy(info.policy);
            Ok(())
        })
        .await?;
    anchors(shared).await?;
    // With the newest roots: who answers is held to them.
    devices::own_history(shared).await?;
    devices::read_log(shared).await?;
    room_certificate(shared).await
}

/// Fetches what names the homeserver as the hub of new rooms.
async fn room_certificate(shared: &Arc<Shared>) -> Result<(), Error> {
    let token = Some(shared.identity.token.as_str());
    let RoomCertificate { chain } =
        requests::get(&shared.endpoint, token, "/v1/room-certificate").await?;
    let chain = chain.into_iter().map(|der| der.0).collect();
    shared.run(move |core| core.set_hub_chain(chain)).await
}

/// Fetches the roots.
pub(super) async fn anchors(shared: &Arc<Shared>) -> Result<(), Error> {
    let Anchors { anchors, ended } = requests::get(
        &shared.endpoint,
        Some(&shared.identity.token),
        "/v1/anchors",
    )
    .await?;
    let pin = shared
        .run(move |core| {
            let pin = core.set_anchors(&anchors)?;
            core.set_former_partners(&ended)?;
            for anchor in anchors {
                if let Some(head) = anchor.log_head {
                    core.hear_head(&anchor.server, &head.0)?;
                }
            }
            Ok(pin)
        })
        .await?;
    if let Some(pin) = pin {
        shared.endpoint.repin(pin);
    }
    Ok(())
}

async fn key_packages_now(shared: &Arc<Shared>) -> Result<(), Error> {
    let _one_at_a_time = shared.upkeep.lock().await;
    let token = Some(shared.identity.token.as_str());
    let count: KeyPackageCount = requests::get(&shared.endpoint, token, "/v1/key-packages").await?;
    if count.single_use >= KEY_PACKAGES_LOW && count.last_resort {
        return shared
            .run(|core| {
                core.key_packages_refilled();
                Ok(())
            })
            .await;
    }
    upload(
        shared,
        KEY_PACKAGES_TARGET.saturating_sub(count.single_use),
        !count.last_resort,
    )
    .await
}

/// Their private halves are durable here before anyone can claim them.
async fn upload(shared: &Arc<Shared>, single_use: usize, last_resort: bool) -> Result<(), Error> {
    let (single_use, last_resort) = shared
        .run(move |core| {
            Ok((
                core.make_key_packages(single_use, false)?,
                core.make_key_packages(usize::from(last_resort), true)?,
            ))
        })
        .await?;
    let body = KeyPackages {
        single_use: single_use.into_iter().map(Base64).collect(),
        last_resort: last_resort.into_iter().next().map(Base64),
    };
    let _: KeyPackageCount = requests::send(
        &shared.endpoint,
        Some(&shared.identity.token),
        Method::PUT,
        "/v1/key-packages",
        &body,
    )
    .await?;
    shared
        .run(|core| {
            core.key_packages_refilled();
            Ok(())
        })
        .await
}

/// Renews the certificate when it is time. Key packages that carry the old one are gone from the
/// homeserver then, and none may be put while this device still has the old one here.
async fn certificate_now(shared: &Arc<Shared>) -> Result<(), Error> {
    let _one_at_a_time = shared.upkeep.lock().await;
    let Some(csr) = shared.run(|core| core.renewal_request()).await? else {
        return Ok(());
    };
    let renewed: RenewResponse = requests::send(
        &shared.endpoint,
        Some(&shared.identity.token),
        Method::POST,
        "/v1/certificate",
        &RenewRequest { csr: csr.into() },
    )
    .await?;
    let chain = renewed.chain.into_iter().map(|der| der.0).collect();
    shared.run(move |core| core.renewed(chain)).await
}
