//! Looking people up: a question about handles, and the handles that may be told.
//!
//! An answer names handles of its origin's and nothing else, so that no server can speak of another's people.

use serde::{Deserialize, Serialize};

use super::{Sender, read_handle, read_result, read_sender, write_result, write_sender};
use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::ids::{DeviceId, Handle, HandlePrefix, RequestId};
use crate::limits::{
    DIRECTORY_HANDLES_MAX, HANDLE_BYTES_MAX, REFUSAL_WIRE_BYTES_MAX, SMALL_FIELDS_BYTES_MAX,
};
use crate::refusal::Refusal;

/// Whom somebody looks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Sought {
    /// Whoever has exactly this handle.
    Handle(Handle),
    /// Everybody whose handle begins like this and who lets himself be listed.
    Prefix(HandlePrefix),
}

impl Sought {
    /// Whether a handle is one that was asked for.
    #[must_use]
    pub fn includes(&self, handle: &Handle) -> bool {
        match self {
            Self::Handle(sought) => sought == handle,
            Self::Prefix(prefix) => handle.as_str().starts_with(prefix.as_str()),
        }
    }
}

/// A question about the destination's people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryQuery {
    /// Chosen by the device that asks.
    pub request: RequestId,
    /// The device of the origin's that asks.
    pub requester: Sender,
    /// Whom it looks for.
    pub sought: Sought,
}

/// The handles that were found and may be told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Strictly ascending.
    pub handles: Vec<Handle>,
    /// Whether there are more than an answer holds: ask for a longer beginning.
    pub more: bool,
}

/// The answer to a [`DirectoryQuery`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryAnswer {
    /// The question's id.
    pub request: RequestId,
    /// The device that asked.
    pub device: DeviceId,
    /// Who was found (perhaps nobody), or why nobody was looked for.
    pub result: Result<Found, Refusal>,
}

impl Wire for DirectoryQuery {
    const BYTES_MAX: usize = SMALL_FIELDS_BYTES_MAX;
    const NAME: &'static str = "directory query payload";

    fn write(&self, writer: &mut Writer) {
        writer.fixed(self.request.as_bytes());
        write_sender(writer, &self.requester);
        let (number, text) = match &self.sought {
            Sought::Handle(handle) => (1, handle.as_str()),
            Sought::Prefix(prefix) => (2, prefix.as_str()),
        };
        writer.u8(number);
        writer.opaque8("handle", HANDLE_BYTES_MAX, text.as_bytes());
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            request: reader.fixed("request").map(RequestId::from_bytes)?,
            requester: read_sender(reader)?,
            sought: match reader.u8("match")? {
                1 => Sought::Handle(read_handle(reader)?),
                2 => Sought::Prefix(
                    HandlePrefix::new(read_handle(reader)?)
                        .map_err(|_| DecodeError::Invalid("beginning of a handle"))?,
                ),
                value => {
                    return Err(DecodeError::UnknownValue {
                        what: "match",
                        value: value.into(),
                    });
                }
            },
        })
    }
}

impl Wire for DirectoryAnswer {
    const BYTES_MAX: usize = DIRECTORY_HANDLES_MAX * (1 + HANDLE_BYTES_MAX)
        + REFUSAL_WIRE_BYTES_MAX
        + SMALL_FIELDS_BYTES_MAX;
    const NAME: &'static str = "directory answer payload";

    fn write(&self, writer: &mut Writer) {
        writer.fixed(self.request.as_bytes());
        writer.fixed(self.device.as_bytes());
        write_result(writer, &self.result, |writer, found| {
            writer.list(
                "handles",
                DIRECTORY_HANDLES_MAX,
                &found.handles,
                |writer, handle| {
                    writer.opaque8("handle", HANDLE_BYTES_MAX, handle.as_str().as_bytes());
                },
            );
            writer.u8(u8::from(found.more));
        });
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            request: reader.fixed("request").map(RequestId::from_bytes)?,
            device: reader.fixed("device").map(DeviceId::from_bytes)?,
            result: read_result(reader, |reader| {
                Ok(Found {
                    handles: reader.ascending_list(
                        "handles",
                        DIRECTORY_HANDLES_MAX,
                        read_handle,
                    )?,
                    more: reader.optional("more", |_| Ok(()))?.is_some(),
                })
            })?,
        })
    }
}
