//! Who leaves a room: asked of its hub by the leaver's own server, and ordered by the hub for everybody in it.

use bytes::Bytes;

use super::{read_member, read_room, write_member};
use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::ids::{AccountId, DeviceId, Member, RoomId};
use crate::limits::{PAYLOAD_BYTES_MAX, REMOVAL_BYTES_MAX, ROOM_DEVICES_MAX};

/// A request to remove somebody of the origin's from a room, follower → hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovalRequest {
    /// The room.
    pub room: RoomId,
    /// The account of the origin's.
    pub account: AccountId,
    /// The one device of it that goes; `None`: the account goes, with all of its devices.
    pub device: Option<DeviceId>,
}

/// Removals that the hub has ordered, hub → follower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removals {
    /// The room.
    pub room: RoomId,
    /// The epoch that they are for.
    pub epoch: u64,
    /// The hub's stamp, milliseconds since the Unix epoch.
    pub stamp_ms: u64,
    /// None: the room has gone on, and something that was ordered won't come.
    pub removals: Vec<Removal>,
}

/// One device that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The device.
    pub member: Member,
    /// The hub's MLS proposal to remove it.
    pub proposal: Bytes,
}

impl Wire for RemovalRequest {
    const BYTES_MAX: usize = 4 * 16;
    const NAME: &'static str = "removal request payload";

    fn write(&self, writer: &mut Writer) {
        writer.fixed(self.room.as_bytes());
        writer.fixed(self.account.as_bytes());
        writer.optional(self.device.as_ref(), |writer, device| {
            writer.fixed(device.as_bytes());
        });
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            room: read_room(reader)?,
            account: reader.fixed("account").map(AccountId::from_bytes)?,
            device: reader.optional("device", |reader| {
                reader.fixed("device").map(DeviceId::from_bytes)
            })?,
        })
    }
}

impl Wire for Removals {
    const BYTES_MAX: usize = PAYLOAD_BYTES_MAX;
    const NAME: &'static str = "removals payload";

    fn write(&self, writer: &mut Writer) {
        writer.fixed(self.room.as_bytes());
        writer.u64(self.epoch);
        writer.u64(self.stamp_ms);
        let max = ROOM_DEVICES_MAX;
        writer.list("removals", max, &self.removals, |writer, removal| {
            write_member(writer, &removal.member);
            writer.opaque16("proposal", REMOVAL_BYTES_MAX, &removal.proposal);
        });
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            room: read_room(reader)?,
            epoch: reader.u64("epoch")?,
            stamp_ms: reader.u64("stamp")?,
            removals: reader.list("removals", ROOM_DEVICES_MAX, |reader| {
                Ok(Removal {
                    member: read_member(reader)?,
                    proposal: reader.opaque16("proposal", REMOVAL_BYTES_MAX)?,
                })
            })?,
        })
    }
}
