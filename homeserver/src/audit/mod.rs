//! The audit log: refusals, administrators' acts, membership, devices, dead letters.
//!
//! An event is written in the same store transaction as the act it records; after the commit a
//! sequencer moves it into the log, numbered without holes, under a Merkle tree (RFC 9162) that grows in the same part,
//! and with pseudonyms for people. Deliberately absent: message contents, and accepted messages (an audit of every
//! message would be a social graph).
//!
//! - `numbering`: numbering, and pages of the log.
//! - `people`: what stands for people, and how they are forgotten.
//! - `search`: looking for entries.
//! - `syslog`: entries as a log server takes them.
//! - `proofs`: heads, and what shows that an entry is in the log and that the log has only grown.

mod from_peers;
mod numbering;
mod people;
mod proofs;
mod repeated;
mod search;
pub mod syslog;

use std::fmt;

use federation_proto::audit_log::SignedAuditHead;
use federation_proto::codec::Wire as _;
use federation_proto::device_log::SignedHead;
use federation_proto::ids::{DeviceId, Handle, ServerName};
use federation_proto::limits::AUDIT_TEXT_BYTES_MAX;

use crate::store::audit::{self as store, AuditRecord};
use crate::store::{Key, Part, Precondition};

pub use from_peers::{FromPeers, Noted, PeerEvent};
#[cfg(test)]
pub(crate) use numbering::round;
pub use numbering::{check, page, run_sequencer};
pub use people::{Erased, erase};
pub use proofs::{Proof, Signer, entry_proof, growth, root_of, signed_head};
pub use repeated::Repeated;
pub use search::{Filter, search};

const SUBJECT_BYTES_MAX: usize = 512;
/// A signed head of a log fits, as text.
const DETAIL_BYTES_MAX: usize = 8 * 1024;

const _: () = assert!(SignedHead::BYTES_MAX / 3 * 4 < DETAIL_BYTES_MAX);
const _: () = assert!(SignedAuditHead::BYTES_MAX / 3 * 4 < DETAIL_BYTES_MAX);
const _: () = assert!(SUBJECT_BYTES_MAX < AUDIT_TEXT_BYTES_MAX);
const _: () = assert!(DETAIL_BYTES_MAX < AUDIT_TEXT_BYTES_MAX);

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// An administrator over the network.
    Admin(Handle),
    /// Whoever opened the admin socket, by user id.
    Local(u32),
    /// A device.
    Device(DeviceId),
    /// A peer.
    Peer(ServerName),
    /// The homeserver itself.
    System,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin(name) => write!(f, "admin:{}", name.as_str()),
            Self::Local(uid) => write!(f, "local:{uid}"),
            Self::Device(device) => write!(f, "device:{device}"),
            Self::Peer(server) => write!(f, "peer:{server}"),
            Self::System => f.write_str("system"),
        }
    }
}

/// Something to be remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Who.
    pub actor: Actor,
    /// What: a stable name such as `user.created`.
    pub action: &'static str,
    /// On what: an address, a server name, a room.
    pub subject: String,
    /// More, in words; never message content.
    pub detail: String,
}

/// Adds `event` to the act's part: both are written or neither.
pub fn record(part: &mut Part, event: &Event) {
    let record = AuditRecord {
        at_ms: event.at_ms,
        actor: event.actor.to_string(),
        action: event.action.to_owned(),
        subject: shortened(&event.subject, SUBJECT_BYTES_MAX),
        detail: shortened(&event.detail, DETAIL_BYTES_MAX),
    };
    if let Err(error) = store::put_pending(part, &record) {
        // Strings and a number always encode; were it otherwise, the act must not happen unrecorded.
        tracing::error!(%error, "an audit event does not encode");
        let never = Key::from_static(b"");
        part.require(Precondition::Present(never));
    }
}

fn shortened(text: &str, bytes_max: usize) -> String {
    text.get(..text.floor_char_boundary(bytes_max))
        .unwrap_or(text)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::testing;
    use crate::store::PartOutcome;

    /// Goal: an act that is refused leaves no entry; by a failed precondition.
    #[tokio::test]
    async fn a_refused_act_is_not_recorded() {
        let (node, _) = testing::node("a.example");
        let mut part = Part::default();
        let event = Event {
            at_ms: 1,
            actor: Actor::System,
            action: "test.happened",
            subject: "subject".to_owned(),
            detail: String::new(),
        };
        record(&mut part, &event);
        part.require(Precondition::Present(Key::from_static(b"never")));
        assert_eq!(
            node.store.commit(part).await.unwrap(),
            PartOutcome::Conflict
        );
        let log = page(&node.store, node.random.as_ref(), 0, 9).await.unwrap();
        assert!(log.entries.is_empty());
    }

    /// Goal: a hostile name can't swell the log; by an endless one that ends within a character.
    #[test]
    fn long_texts_are_shortened() {
        assert_eq!(shortened("abc", 5), "abc");
        assert_eq!(shortened("abcä", 4), "abc");
    }
}
