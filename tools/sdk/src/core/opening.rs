//! Application messages: from MLS's bytes to what is inside.

use homeserver_api::attributes::MessageAttributes;
use homeserver_api::ids::RoomId;
use mls_rs::MlsMessageDescription;
use mls_rs::group::{ContentType, ReceivedMessage};

use super::rooms::{Leaf, leaf_at};
use crate::content::Content;
use crate::error::Error;
use crate::mls::{self, Group};

/// Decrypts an application message of a room, and says which leaf sent it.
pub(super) fn decrypt(
    group: &mut Group,
    room: RoomId,
    bytes: &[u8],
) -> Result<(Content, Leaf), Error> {
    let message = mls::parse(bytes)?;
    match message.description() {
        MlsMessageDescription::PrivateProtocolMessage {
            group_id,
            content_type: ContentType::Application,
            ..
        } if group_id == room.as_bytes() => {}
        _ => return Err(Error::Mls("it is no message of this room".to_owned())),
    }
    let received = mls::guarded(|| {
        let received = group.process_incoming_message(message);
        received.map_err(mls::error)
    })
    .map_err(unopened)?;
    let ReceivedMessage::ApplicationMessage(received) = received else {
        return Err(Error::Mls("it is no application message".to_owned()));
    };
    let attributes = MessageAttributes::decode(&received.authenticated_data)
        .map_err(|error| Error::Mls(error.to_string()))?;
    let content = Content::decode(received.data())?;
    if attributes != content.attributes() {
        return Err(Error::Mls(
            "what it says to the servers is not what its content says".to_owned(),
        ));
    }
    Ok((content, leaf_at(group, received.sender_index)?))
}

/// What a person can do about a message that the room's keys don't open.
fn unopened(error: Error) -> Error {
    match error {
        Error::Mls(reason) => Error::Mls(format!(
            "{reason}: it came before, was changed on its way, or its author is not in the same room any more \
             (compare `chat number` with him)"
        )),
        other => other,
    }
}

/// The epoch that an application message was encrypted in.
pub(super) fn epoch_of(bytes: &[u8]) -> Option<u64> {
    match mls::parse(bytes).ok()?.description() {
        MlsMessageDescription::PrivateProtocolMessage { epoch_id, .. } => Some(epoch_id),
        _ => None,
    }
}
