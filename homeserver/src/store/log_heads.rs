//! `J`: heads of device logs between us and a peer: how long ours was when the peer was told last, and the
//! newest of its own that has grown from the one before.

use bytes::Bytes;
use federation_proto::codec::Wire;
use federation_proto::device_log::SignedHead;
use federation_proto::ids::ServerName;
use serde::{Deserialize, Serialize};

use super::record::{decode, encode};
use super::{Key, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "log heads";
const VERSION: u8 = 1;
const TOLD: &[u8] = b"Jt";
const KNOWN: &[u8] = b"Jk";

/// What a peer was told of our log last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Told {
    /// How long it was.
    pub size: u64,
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// What is known of a peer's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its newest head that has grown from the one before.
    pub head: SignedHead,
    /// A larger one, of which it has not been shown yet that it has grown from that.
    pub heard: Option<SignedHead>,
    /// When it was last seen to have forked or gone back, milliseconds since the Unix epoch.
    pub fault_ms: Option<u64>,
}

impl Known {
    /// Nothing was known before this head.
    pub fn first(head: SignedHead) -> Self {
        Self {
            head,
            heard: None,
            fault_ms: None,
        }
    }

    /// The log has grown to this head.
    pub fn grow(&mut self, head: SignedHead) {
        let size = head.claims().size;
        self.heard.take_if(|heard| heard.claims().size <= size);
        self.head = head;
    }

    /// The newest head, grown from the one before or not.
    pub fn newest(&self) -> &SignedHead {
        self.heard.as_ref().unwrap_or(&self.head)
    }
}

#[derive(Serialize, Deserialize)]
struct StoredKnown {
    head: Bytes,
    heard: Option<Bytes>,
    fault_ms: Option<u64>,
}

/// What the peer was told last, and its stored bytes (for [`put_told`]).
pub async fn told(store: &Store, peer: &ServerName) -> Result<(Told, Option<Value>), StoreError> {
    match store.get(&key(TOLD, peer)).await? {
        Some(value) => Ok((decode(FAMILY, VERSION, &value)?, Some(value))),
        None => Ok((Told::default(), None)),
    }
}

/// Notes what the peer is told; the part fails when it is no longer what was read.
pub fn put_told(
    part: &mut Part,
    peer: &ServerName,
    told: Told,
    read: Option<Value>,
) -> Result<(), StoreError> {
    let key = key(TOLD, peer);
    part.require(Precondition::unchanged(key.clone(), read));
    part.put(key, encode(FAMILY, VERSION, &told)?);
    Ok(())
}

/// What is known of the peer's log, and its stored bytes (for [`put_known`]).
pub async fn known(store: &Store, peer: &ServerName) -> Result<Option<(Known, Value)>, StoreError> {
    let Some(value) = store.get(&key(KNOWN, peer)).await? else {
        return Ok(None);
    };
    let stored: StoredKnown = decode(FAMILY, VERSION, &value)?;
    let read =
        |bytes| SignedHead::from_bytes(bytes).map_err(|_| StoreError::Corrupt { family: FAMILY });
    let known = Known {
        head: read(stored.head)?,
        heard: stored.heard.map(read).transpose()?,
        fault_ms: stored.fault_ms,
    };
    Ok(Some((known, value)))
}

/// Notes what is known of the peer's log; the part fails when it is no longer what was read.
pub fn put_known(
    part: &mut Part,
    peer: &ServerName,
    known: &Known,
    read: Option<Value>,
) -> Result<(), StoreError> {
    let corrupt = |_| StoreError::Corrupt { family: FAMILY };
    let stored = StoredKnown {
        head: known.head.to_bytes().map_err(corrupt)?,
        heard: known
            .heard
            .as_ref()
            .map(Wire::to_bytes)
            .transpose()
            .map_err(corrupt)?,
        fault_ms: known.fault_ms,
    };
    let key = key(KNOWN, peer);
    part.require(Precondition::unchanged(key.clone(), read));
    part.put(key, encode(FAMILY, VERSION, &stored)?);
    Ok(())
}

fn key(kind: &[u8], peer: &ServerName) -> Key {
    [kind, peer.as_str().as_bytes()].concat().into()
}
