//! Consent of and to people of other organisations, as the homeserver keeps it.

use std::sync::Arc;

use homeserver_api::contacts::{ContactAct, ContactInfo, ContactRequest, Contacts};
use homeserver_api::ids::{AccountId, Address};
use http::Method;

use super::shared::Shared;
use crate::error::Error;
use crate::requests;

pub(super) async fn list(shared: &Arc<Shared>) -> Result<Vec<ContactInfo>, Error> {
    let token = Some(shared.identity.token.as_str());
    let Contacts { contacts } = requests::get(&shared.endpoint, token, "/v1/contacts").await?;
    Ok(contacts)
}

pub(super) async fn act(
    shared: &Arc<Shared>,
    address: &Address,
    act: ContactAct,
    text: &str,
) -> Result<ContactInfo, Error> {
    let account = match act {
        ContactAct::Block => known_account(shared, address).await?,
        ContactAct::Ask | ContactAct::Allow => None,
    };
    let request = ContactRequest {
        act,
        text: (!text.is_empty()).then(|| text.to_owned()),
        account,
    };
    let (token, path) = (Some(shared.identity.token.as_str()), path(address));
    requests::send(&shared.endpoint, token, Method::PUT, &path, &request).await
}

pub(super) async fn remove(shared: &Arc<Shared>, address: &Address) -> Result<(), Error> {
    let (token, path) = (&shared.identity.token, path(address));
    requests::act(&shared.endpoint, token, Method::DELETE, &path, None::<&()>).await
}

/// Addresses are of characters that stand in a path as they are.
fn path(address: &Address) -> String {
    format!("/v1/contacts/{address}")
}

/// The account behind an address, as certified in a room that both are in.
async fn known_account(
    shared: &Arc<Shared>,
    address: &Address,
) -> Result<Option<AccountId>, Error> {
    let rooms = shared.run(crate::core::Core::rooms).await?;
    let members = rooms.into_iter().flat_map(|room| room.members);
    let found = members
        .into_iter()
        .find(|member| member.address == *address);
    Ok(found.map(|member| member.member.account))
}
