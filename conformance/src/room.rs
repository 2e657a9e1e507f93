//! A room that the fake peer hubs, with one person of the server under test in it.

use crate::agreement::now_ms;
use crate::mls;
use crate::wire::Encoder;

/// Kinds of envelopes.
pub(crate) const MESSAGE: u8 = 1;
pub(crate) const HANDSHAKE: u8 = 2;
pub(crate) const WELCOME: u8 = 3;
/// How long messages live, in seconds.
const TTL_SECONDS: u32 = 86_400;
/// The epoch that the added device starts in.
pub(crate) const EPOCH: u64 = 1;
/// Bytes of a message's sealed content.
const CONTENT_BYTES: usize = 300;

/// A device, without its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// Who writes: a device of the fake peer's.
    pub(crate) writer: Device,
    /// The server under test.
    pub(crate) guest_server: String,
    /// Its person's device.
    pub(crate) guest: Device,
}

impl Room {
    /// A device of the fake peer's.
    pub(crate) const WRITER: Device = Device {
        account: [3; 16],
        device: [4; 16],
    };

    fn member(server: &str, of: Device) -> Vec<u8> {
        Encoder::new()
            .vector(1, server.as_bytes())
            .fixed(&of.account)
            .fixed(&of.device)
            .finish()
    }

    /// The payload that adds the guest.
    pub(crate) fn welcome(&self) -> Vec<u8> {
        self.welcome_by(&self.hub, self.writer)
    }

    /// The same, by a commit of somebody.
    pub(crate) fn welcome_by(&self, server: &str, sender: Device) -> Vec<u8> {
        self.welcome_of(server, sender, &mls::welcome())
    }

    /// The same, with what MLS has made for the guest.
    pub(crate) fn welcome_of(&self, server: &str, sender: Device, welcome: &[u8]) -> Vec<u8> {
        let members = [
            Self::member(&self.hub, self.writer),
            Self::member(&self.guest_server, self.guest),
        ];
        Encoder::new()
            .fixed(&self.id)
            .vector(1, self.hub.as_bytes())
            .u64(EPOCH)
            .fixed(&Self::member(server, sender))
            .vector(4, &members.concat())
            .vector(4, &self.guest.device)
            .vector(4, welcome)
            .u64(now_ms())
            .finish()
    }

    /// The payload of a message in the epoch that the guest was added in.
    pub(crate) fn message(&self, reference: u64) -> Vec<u8> {
        self.message_in(EPOCH, reference)
    }

    /// The payload of a message.
    pub(crate) fn message_in(&self, epoch: u64, reference: u64) -> Vec<u8> {
        let mut content = vec![0; CONTENT_BYTES];
        for (to, from) in content.iter_mut().zip(reference.to_be_bytes()) {
            *to = from;
        }
        Encoder::new()
            .fixed(&self.id)
            .fixed(&self.writer.account)
            .fixed(&self.writer.device)
            .u64(reference)
            .vector(4, &mls::application(&self.id, epoch, TTL_SECONDS, &content))
            .finish()
    }

    /// The payload of a commit that the hub has ordered.
    pub(crate) fn ordered(&self, commit: &Ordered<'_>) -> Vec<u8> {
        let removes: Vec<u8> = commit
            .removes
            .iter()
            .flat_map(|of| Self::member(&self.hub, *of))
            .collect();
        Encoder::new()
            .fixed(&self.id)
            .vector(1, self.hub.as_bytes())
            .u64(EPOCH)
            .fixed(&Self::member(&self.hub, commit.sender))
            .u64(1)
            .vector(4, commit.commit)
            .vector(4, &[])
            .vector(4, &removes)
            .u8(0)
            .u8(0)
            .u64(now_ms())
            .finish()
    }
}

/// A commit of a device of the hub's, in the epoch that the guest was added in.
pub(crate) struct Ordered<'a> {
    pub(crate) sender: Device,
    pub(crate) commit: &'a [u8],
    /// Devices of the hub's.
    pub(crate) removes: &'a [Device],
}
