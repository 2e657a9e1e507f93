//! `J`: heads of audit logs between us and a peer: what the peer was told of ours and has seen of it, and the newest of its
//! own that has grown from the one before.

use bytes::Bytes;
use federation_proto::audit_log::{SignedAuditHead, SignedSighting};
use federation_proto::codec::Wire;
use federation_proto::ids::ServerName;
use serde::{Deserialize, Serialize};

use super::record::{decode, encode};
use super::{Key, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "audit heads";
const VERSION: u8 = 1;
const TOLD: &[u8] = b"Ja";
const WITNESSED: &[u8] = b"Jw";

/// What a peer was told of our log last, and what it has said of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// How long the log was.
    pub size: u64,
    /// When the peer was told, milliseconds since the Unix epoch; 0: never.
    pub at_ms: u64,
    /// What the peer has seen last that is so.
    pub sighting: Option<SignedSighting>,
    /// What it has seen that our log never was, and when it said so first.
    pub contradiction: Option<(SignedSighting, u64)>,
}

/// What is known of a peer's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnessed {
    /// Its newest head that has grown from the one before.
    pub head: SignedAuditHead,
    /// When the peer was told last what is known, milliseconds since the Unix epoch; 0: never.
    pub answered_ms: u64,
    /// A head that has not grown from that one, and when it came last.
    pub fault: Option<(SignedAuditHead, u64)>,
}

impl Witnessed {
    /// Nothing was known before this head.
    pub fn first(head: SignedAuditHead) -> Self {
        Self {
            head,
            answered_ms: 0,
            fault: None,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct StoredTold {
    size: u64,
    at_ms: u64,
    sighting: Option<Bytes>,
    contradiction: Option<(Bytes, u64)>,
}

#[derive(Serialize, Deserialize)]
struct StoredWitnessed {
    head: Bytes,
    answered_ms: u64,
    fault: Option<(Bytes, u64)>,
}

/// What the peer was told, and its stored bytes (for [`put_told`]).
pub async fn told(store: &Store, peer: &ServerName) -> Result<(Told, Option<Value>), StoreError> {
    let Some(value) = store.get(&key(TOLD, peer)).await? else {
        return Ok((Told::default(), None));
    };
    let stored: StoredTold = decode(FAMILY, VERSION, &value)?;
    let told = Told {
        size: stored.size,
        at_ms: stored.at_ms,
        sighting: stored.sighting.map(read).transpose()?,
        contradiction: stored.contradiction.map(read_timed).transpose()?,
    };
    Ok((told, Some(value)))
}

/// Notes what the peer was told and has said; the part fails when it is no longer what was read.
pub fn put_told(
    part: &mut Part,
    peer: &ServerName,
    told: &Told,
    read: Option<Value>,
) -> Result<(), StoreError> {
    let stored = StoredTold {
        size: told.size,
        at_ms: told.at_ms,
        sighting: told.sighting.as_ref().map(written).transpose()?,
        contradiction: told.contradiction.as_ref().map(written_timed).transpose()?,
    };
    let key = key(TOLD, peer);
    part.require(Precondition::unchanged(key.clone(), read));
    part.put(key, encode(FAMILY, VERSION, &stored)?);
    Ok(())
}

/// What is known of the peer's log, and its stored bytes (for [`put_witnessed`]).
pub async fn witnessed(
    store: &Store,
    peer: &ServerName,
) -> Result<Option<(Witnessed, Value)>, StoreError> {
    let Some(value) = store.get(&key(WITNESSED, peer)).await? else {
        return Ok(None);
    };
    let stored: StoredWitnessed = decode(FAMILY, VERSION, &value)?;
    let witnessed = Witnessed {
        head: read(stored.head)?,
        answered_ms: stored.answered_ms,
        fault: stored.fault.map(read_timed).transpose()?,
    };
    Ok(Some((witnessed, value)))
}

/// Notes what is known of the peer's log; the part fails when it is no longer what was read.
pub fn put_witnessed(
    part: &mut Part,
    peer: &ServerName,
    witnessed: &Witnessed,
    read: Option<Value>,
) -> Result<(), StoreError> {
    let stored = StoredWitnessed {
        head: written(&witnessed.head)?,
        answered_ms: witnessed.answered_ms,
        fault: witnessed.fault.as_ref().map(written_timed).transpose()?,
    };
    let key = key(WITNESSED, peer);
    part.require(Precondition::unchanged(key.clone(), read));
    part.put(key, encode(FAMILY, VERSION, &stored)?);
    Ok(())
}

fn read<T: Wire>(bytes: Bytes) -> Result<T, StoreError> {
    T::from_bytes(bytes).map_err(|_| StoreError::Corrupt { family: FAMILY })
}

fn read_timed<T: Wire>((bytes, at_ms): (Bytes, u64)) -> Result<(T, u64), StoreError> {
    Ok((read(bytes)?, at_ms))
}

fn written<T: Wire>(value: &T) -> Result<Bytes, StoreError> {
    value
        .to_bytes()
        .map_err(|_| StoreError::Corrupt { family: FAMILY })
}

fn written_timed<T: Wire>((value, at_ms): &(T, u64)) -> Result<(Bytes, u64), StoreError> {
    Ok((written(value)?, *at_ms))
}

fn key(kind: &[u8], peer: &ServerName) -> Key {
    [kind, peer.as_str().as_bytes()].concat().into()
}
