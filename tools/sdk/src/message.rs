//! Messages as the application sees them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use homeserver_api::ids::{Address, Member, RoomId, ServerName};
use homeserver_api::refusal::Refusal;
use homeserver_api::session::{AbuseReason, Telling};
use room_rules::settings::Role;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A message, chosen by its sender; 16 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId([u8; 16]);

impl MessageId {
    /// The identifier made of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The identifier's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({self})")
    }
}

impl FromStr for MessageId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut bytes = [0_u8; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| {
            Error::InvalidArgument("a message's id has 32 hexadecimal digits".to_owned())
        })?;
        Ok(Self(bytes))
    }
}

impl Serialize for MessageId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for MessageId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?
                .parse()
                .map_err(serde::de::Error::custom)
        } else {
            <[u8; 16]>::deserialize(deserializer).map(Self)
        }
    }
}

/// How a message is sent; what is absent is taken from the account's policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SendOptions {
    /// Seconds until the message is deleted everywhere, from its acceptance by the own homeserver.
    pub ttl_seconds: Option<u32>,
    /// Seconds from being shown to deletion on the device that showed it; 0 for never.
    pub burn_seconds: Option<u32>,
    /// Classification label; 0 for none.
    pub label: u8,
}

/// What is reported to the administrators, and disclosed to them by that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbuseReport {
    /// Messages of one person, whose texts are disclosed.
    pub messages: Vec<MessageId>,
    /// Who is reported; needed where there is no message.
    pub person: Option<Address>,
    /// Why.
    pub reason: AbuseReason,
    /// In the reporter's words.
    pub note: String,
    /// Who is told beside the own administrators.
    pub tell: Telling,
}

/// A room that this device is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// The room.
    pub room: RoomId,
    /// The homeserver that orders it.
    pub hub: ServerName,
    /// Its MLS epoch.
    pub epoch: u64,
    /// What its members call it; empty: it has no name.
    pub name: String,
    /// Who acts as an owner, because none is left.
    pub acting_owner: Option<Address>,
    /// Its members' addresses, one for each account, in order.
    pub addresses: Vec<Address>,
    /// Its members: every device.
    pub members: Vec<RoomMember>,
    /// What each of them may do.
    pub roles: BTreeMap<Address, Role>,
    /// Whether this device has fallen out of its step and is on its way back.
    pub out_of_step: bool,
    /// When this device was out of its step the last time.
    pub gap: Option<Gap>,
    /// The room that it says to continue.
    pub continues: Option<Continues>,
    /// Rooms that continue it, as far as this device believes them.
    pub continued_by: Vec<RoomId>,
}

/// What a room says to continue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continues {
    /// The former room.
    pub room: RoomId,
    /// Why that is not believed, in words; `None`: an owner or moderator of that room has said so.
    pub doubt: Option<String>,
}

/// A time of which messages may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Its beginning, milliseconds since the Unix epoch.
    pub from_ms: u64,
    /// Its end, milliseconds since the Unix epoch.
    pub until_ms: u64,
}

/// One device in a room, as its certificate names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomMember {
    /// The device.
    pub member: Member,
    /// The address that its account is known by here: the certified one when this device met it, or one that a person has confirmed since.
    pub address: Address,
}

/// What a message carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Body {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// A file, held encrypted by its sender's homeserver; [`crate::Client::save_file`] gets it.
    File {
        /// Its name, without folders.
        name: String,
        /// Its length in bytes.
        bytes: u64,
    },
}

/// Which way a message went, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Progress {
    /// From another device.
    Received,
    /// Own, not yet accepted by the own homeserver.
    Waiting,
    /// Own, durable on the own homeserver.
    Accepted,
    /// Own, refused by the own homeserver.
    Refused {
        /// Why.
        refusal: Refusal,
    },
    /// Own, accepted, and later given up for at least one homeserver.
    Returned {
        /// Which homeserver did not get it.
        server: ServerName,
        /// Why.
        refusal: Refusal,
    },
}

/// One message of a room's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its id, chosen by the sender.
    pub id: MessageId,
    /// Its place in this device's history: grows with each message, own ones too.
    pub number: u64,
    /// Its room.
    pub room: RoomId,
    /// Its sender's address, as this device knew the account when the message came.
    pub sender: Address,
    /// Its sender's device, authenticated by MLS.
    pub device: Member,
    /// What it carries.
    pub body: Body,
    /// The sender's clock when it was written, milliseconds since the Unix epoch.
    pub sent_ms: u64,
    /// The sender's homeserver's durable acceptance, milliseconds since the Unix epoch.
    pub accepted_ms: Option<u64>,
    /// When it is deleted, milliseconds since the Unix epoch; unknown until it is accepted.
    pub expires_ms: Option<u64>,
    /// Seconds from being shown to deletion; 0 for never.
    pub burn_seconds: u32,
    /// Classification label; 0 for none.
    pub label: u8,
    /// Which way it went, and how far it has come.
    pub progress: Progress,
    /// Whether it came with the history of another own device or a backup: that it is its author's is their word
    /// alone, and nothing of this device's own.
    pub from_history: bool,
}
