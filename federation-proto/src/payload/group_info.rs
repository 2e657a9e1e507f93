//! A room's newest group info, for a device that has fallen out of its room's step.

use bytes::Bytes;

use super::{Sender, read_result, read_room, read_sender, write_result, write_sender};
use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::ids::{DeviceId, RequestId, RoomId};
use crate::limits::{GROUP_INFO_BYTES_MAX, SMALL_FIELDS_BYTES_MAX};
use crate::refusal::Refusal;

/// A request for a room's newest group info, follower → hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupInfoRequest {
    /// Chosen by the requesting device.
    pub request: RequestId,
    /// The room.
    pub room: RoomId,
    /// The device of the origin's that asks: a member of the room.
    pub requester: Sender,
}

/// The answer to a [`GroupInfoRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupInfoResponse {
    /// The request's id.
    pub request: RequestId,
    /// The room.
    pub room: RoomId,
    /// The requesting device.
    pub device: DeviceId,
    /// The group info, or why not.
    pub result: Result<GroupInfo, Refusal>,
}

/// What lets a member come back into its room by a commit of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupInfo {
    /// The epoch that it describes.
    pub epoch: u64,
    /// The MLS GroupInfo, with the ratchet tree.
    pub group_info: Bytes,
}

impl Wire for GroupInfoRequest {
    const BYTES_MAX: usize = 4 * 16;
    const NAME: &'static str = "group info request payload";

    fn write(&self, writer: &mut Writer) {
        writer.fixed(self.request.as_bytes());
        writer.fixed(self.room.as_bytes());
        write_sender(writer, &self.requester);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            request: reader.fixed("request").map(RequestId::from_bytes)?,
            room: read_room(reader)?,
            requester: read_sender(reader)?,
        })
    }
}

impl Wire for GroupInfoResponse {
    const BYTES_MAX: usize = GROUP_INFO_BYTES_MAX + SMALL_FIELDS_BYTES_MAX;
    const NAME: &'static str = "group info payload";

    fn write(&self, writer: &mut Writer) {
        writer.fixed(self.request.as_bytes());
        writer.fixed(self.room.as_bytes());
        writer.fixed(self.device.as_bytes());
        write_result(writer, &self.result, |writer, newest| {
            writer.u64(newest.epoch);
            writer.opaque32("group info", GROUP_INFO_BYTES_MAX, &newest.group_info);
        });
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            request: reader.fixed("request").map(RequestId::from_bytes)?,
            room: read_room(reader)?,
            device: reader.fixed("device").map(DeviceId::from_bytes)?,
            result: read_result(reader, |reader| {
                Ok(GroupInfo {
                    epoch: reader.u64("epoch")?,
                    group_info: reader.opaque32("group info", GROUP_INFO_BYTES_MAX)?,
                })
            })?,
        })
    }
}
