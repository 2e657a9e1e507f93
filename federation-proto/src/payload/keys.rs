//! Key packages of an account's devices, and what proves the devices to be its own.

use bytes::Bytes;

use super::{
    Sender, read_handle, read_member, read_result, read_sender, write_handle, write_member,
    write_result, write_sender,
};
use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::device_log::DeviceHistory;
use crate::ids::{AccountId, DeviceId, Handle, Member, RequestId};
use crate::limits::{
    CLAIMED_DEVICES_MAX, KEY_PACKAGE_BYTES_MAX, LOG_SIZES_KNOWN_MAX, MEMBER_WIRE_BYTES_MAX,
    SMALL_FIELDS_BYTES_MAX,
};
use crate::refusal::Refusal;

/// A question about an account's devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRequest {
    /// Chosen by the requesting device.
    pub request: RequestId,
    /// The device of the origin's that asks.
    pub requester: Sender,
    /// The handle of its account.
    pub requester_handle: Handle,
    /// Whose devices, and what for.
    pub of: KeysOf,
    /// Sizes of the destination's device log that are known at the origin.
    pub known: Vec<u64>,
}

/// What a [`KeyRequest`] asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeysOf {
    /// A key package of each device, and the devices' history.
    Handle(Handle),
    /// The devices' history alone, of somebody with whom the asking device is in a room. Who knows the
    /// opaque id has met the account.
    Account(AccountId),
}

/// The answer to a [`KeyRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyResponse {
    /// The request's id.
    pub request: RequestId,
    /// The requesting device.
    pub device: DeviceId,
    /// What was asked for, or why not.
    pub result: Result<KeyMaterial, Refusal>,
}

/// What there is to know of an account's devices, and key packages to add them with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyMaterial {
    /// A key package of each device that can be added now; none when they were not asked for.
    pub keys: Vec<ClaimedKey>,
    /// What proves the devices.
    pub history: DeviceHistory,
}

/// One device and a key package to add it with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedKey {
    /// The device.
    pub member: Member,
    /// Its MLS key package.
    pub key_package: Bytes,
}

const OF_HANDLE: u8 = 1;
const OF_ACCOUNT: u8 = 2;

impl Wire for KeyRequest {
    const BYTES_MAX: usize = SMALL_FIELDS_BYTES_MAX + 4 + LOG_SIZES_KNOWN_MAX * 8;
    const NAME: &'static str = "key request payload";

    fn write(&self, writer: &mut Writer) {
        writer.fixed(self.request.as_bytes());
        write_sender(writer, &self.requester);
        write_handle(writer, &self.requester_handle);
        match &self.of {
            KeysOf::Handle(handle) => {
                writer.u8(OF_HANDLE);
                write_handle(writer, handle);
            }
            KeysOf::Account(account) => {
                writer.u8(OF_ACCOUNT);
                writer.fixed(account.as_bytes());
            }
        }
        writer.list(
            "known sizes",
            LOG_SIZES_KNOWN_MAX,
            &self.known,
            |writer, size| {
                writer.u64(*size);
            },
        );
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            request: reader.fixed("request").map(RequestId::from_bytes)?,
            requester: read_sender(reader)?,
            requester_handle: read_handle(reader)?,
            of: match reader.u8("what keys are asked for")? {
                OF_HANDLE => KeysOf::Handle(read_handle(reader)?),
                OF_ACCOUNT => KeysOf::Account(reader.fixed("account").map(AccountId::from_bytes)?),
                value => {
                    return Err(DecodeError::UnknownValue {
                        what: "kind of key request",
                        value: value.into(),
                    });
                }
            },
            // Ascending, so that equal questions have equal bytes.
            known: reader.ascending_list("known sizes", LOG_SIZES_KNOWN_MAX, |reader| {
                reader.u64("known size")
            })?,
        })
    }
}

impl Wire for KeyResponse {
    // The length of each key package is counted with its member.
    const BYTES_MAX: usize = CLAIMED_DEVICES_MAX
        * (MEMBER_WIRE_BYTES_MAX + 4 + KEY_PACKAGE_BYTES_MAX)
        + DeviceHistory::BYTES_MAX
        + SMALL_FIELDS_BYTES_MAX;
    const NAME: &'static str = "key response payload";

    fn write(&self, writer: &mut Writer) {
        writer.fixed(self.request.as_bytes());
        writer.fixed(self.device.as_bytes());
        write_result(writer, &self.result, |writer, found| {
            writer.list("keys", CLAIMED_DEVICES_MAX, &found.keys, |writer, key| {
                write_member(writer, &key.member);
                writer.opaque16("key package", KEY_PACKAGE_BYTES_MAX, &key.key_package);
            });
            found.history.write(writer);
        });
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            request: reader.fixed("request").map(RequestId::from_bytes)?,
            device: reader.fixed("device").map(DeviceId::from_bytes)?,
            result: read_result(reader, |reader| {
                Ok(KeyMaterial {
                    keys: reader.list("keys", CLAIMED_DEVICES_MAX, |reader| {
                        Ok(ClaimedKey {
                            member: read_member(reader)?,
                            key_package: reader.opaque16("key package", KEY_PACKAGE_BYTES_MAX)?,
                        })
                    })?,
                    history: DeviceHistory::read(reader)?,
                })
            })?,
        })
    }
}
