//! A room that the fake peer hubs, with one person of the server under test in it.

use crate::agreement::now_ms;
use crate::mls;
use crate::wire::Encoder;

/// Kinds of envelopes.
pub(crate) const MESSAGE: u8 = 1;
pub(crate) const WELCOME: u8 = 3;
/// How long messages live, in seconds.
const TTL_SECONDS: u32 = 86_400;
/// The epoch that the added device starts in.
const EPOCH: u64 = 1;
/// Bytes of a message's sealed content.
const CONTENT_BYTES: usize = 300;

/// A device, without its server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Device {
    pub(crate) account: [u8; 16],
    pub(crate) device: [u8; 16],
}

/// The room.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    pub(crate) id: [u8; 16],
    /// The fake peer's server name.
    pub(crate) hub: String,
    /// The server under test.
    pub(crate) guest_server: String,
    /// Its person's device.
    pub(crate) guest: Device,
}

impl Room {
    /// Who writes: a device of the fake peer's.
    const WRITER: Device = Device {
        account: [3; 16],
        device: [4; 16],
    };

    /// The payload that adds the guest.
    pub(crate) fn welcome(&self) -> Vec<u8> {
        let member = |server: &str, of: Device| {
            Encoder::new()
                .vector(1, server.as_bytes())
                .fixed(&of.account)
                .fixed(&of.device)
                .finish()
        };
        let members = [
            member(&self.hub, Self::WRITER),
            member(&self.guest_server, self.guest),
        ];
        Encoder::new()
            .fixed(&self.id)
            .vector(1, self.hub.as_bytes())
            .u64(EPOCH)
            .fixed(&member(&self.hub, Self::WRITER))
            .vector(4, &members.concat())
            .vector(4, &self.guest.device)
            .vector(4, &mls::welcome())
            .u64(now_ms())
            .finish()
    }

    /// The payload of a message.
    pub(crate) fn message(&self, reference: u64) -> Vec<u8> {
        let mut content = vec![0; CONTENT_BYTES];
        for (to, from) in content.iter_mut().zip(reference.to_be_bytes()) {
            *to = from;
        }
        Encoder::new()
            .fixed(&self.id)
            .fixed(&Self::WRITER.account)
            .fixed(&Self::WRITER.device)
            .u64(reference)
            .vector(4, &mls::application(&self.id, EPOCH, TTL_SECONDS, &content))
            .finish()
    }
}
