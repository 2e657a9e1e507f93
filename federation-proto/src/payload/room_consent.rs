//! What an organisation lets a room do, asked for by whoever brings its people into the room.

use std::collections::BTreeSet;

use super::{Sender, read_result, read_room, read_sender, write_result, write_sender};
use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::ids::{DeviceId, RequestId, RoomId, ServerName};
use crate::limits::{
    REFUSAL_WIRE_BYTES_MAX, ROOM_DOMAINS_MAX, SERVER_NAME_WIRE_BYTES_MAX, SMALL_FIELDS_BYTES_MAX,
};
use crate::refusal::Refusal;
use crate::room_consent::SignedRoomConsent;

/// A request for the destination's consent to a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomConsentRequest {
    /// Chosen by the requesting device.
    pub request: RequestId,
    /// The room, which need not stand yet.
    pub room: RoomId,
    /// The device of the origin's that asks.
    pub requester: Sender,
    /// The organisations that are to be in the room.
    pub domains: BTreeSet<ServerName>,
}

/// The answer to a [`RoomConsentRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomConsentResponse {
    /// The request's id.
    pub request: RequestId,
    /// The room.
    pub room: RoomId,
    /// The requesting device.
    pub device: DeviceId,
    /// The consent, or why not.
    pub result: Result<SignedRoomConsent, Refusal>,
}

impl Wire for RoomConsentRequest {
    const BYTES_MAX: usize = ROOM_DOMAINS_MAX * SERVER_NAME_WIRE_BYTES_MAX + SMALL_FIELDS_BYTES_MAX;
    const NAME: &'static str = "room consent request payload";

    fn write(&self, writer: &mut Writer) {
        writer.fixed(self.request.as_bytes());
        writer.fixed(self.room.as_bytes());
        write_sender(writer, &self.requester);
        let domains: Vec<_> = self.domains.iter().collect();
        writer.list("domains", ROOM_DOMAINS_MAX, &domains, |writer, server| {
            writer.server_name(server);
        });
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            request: reader.fixed("request").map(RequestId::from_bytes)?,
            room: read_room(reader)?,
            requester: read_sender(reader)?,
            domains: reader
                .ascending_list("domains", ROOM_DOMAINS_MAX, |reader| {
                    reader.server_name("domain")
                })?
                .into_iter()
                .collect(),
        })
    }
}

impl Wire for RoomConsentResponse {
    const BYTES_MAX: usize =
        SignedRoomConsent::BYTES_MAX + REFUSAL_WIRE_BYTES_MAX + SMALL_FIELDS_BYTES_MAX;
    const NAME: &'static str = "room consent payload";

    fn write(&self, writer: &mut Writer) {
        writer.fixed(self.request.as_bytes());
        writer.fixed(self.room.as_bytes());
        writer.fixed(self.device.as_bytes());
        write_result(writer, &self.result, |writer, consent| {
            consent.write(writer);
        });
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            request: reader.fixed("request").map(RequestId::from_bytes)?,
            room: read_room(reader)?,
            device: reader.fixed("device").map(DeviceId::from_bytes)?,
            result: read_result(reader, SignedRoomConsent::read)?,
        })
    }
}
