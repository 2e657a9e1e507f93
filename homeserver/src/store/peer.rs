//! `G`: peers, and where the agreement with each stands.
//!
//! Every change writes the next serial (`g`, see [`super::agreement_serial`]) in the same part.

use std::collections::BTreeMap;

use bytes::Bytes;
use federation_proto::agreement::{Record, Term};
use federation_proto::ids::ServerName;
use serde::{Deserialize, Serialize};

use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Precondition, Store, StoreError, Value, agreement_serial};

const FAMILY: &str = "peer";
const VERSION: u8 = 1;
const PEER: u8 = b'G';
/// Records read at a time.
const PAGE: usize = 256;

/// A peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct PeerRecord {
    /// Grows with every change.
    pub serial: u64,
    /// The agreement that both signed, or what became of it.
    pub current: Option<Record>,
    /// An offer or acceptance under way; once it is signed by both it takes the current one's place.
    pub ceremony: Option<Record>,
    /// The epoch of our numbering towards the peer; 0 before there was an agreement.
    pub link_epoch: u64,
    /// Whether that epoch was begun with mail waiting: lanes start where [`super::lane_base`] says.
    pub renumbered: bool,
    /// The newest key manifest ever known, kept when an agreement ends: the next one must not go back
    /// behind it.
    pub manifest: Option<StoredManifest>,
    /// Whether our countersignature has yet to reach the peer.
    pub to_deliver: bool,
    /// Documents that have yet to reach the peer, in their order.
    pub outgoing: Vec<OutgoingDocument>,
    /// Of which end of the agreement warnings were given, milliseconds since the Unix epoch, and how many
    /// days before it the last one was.
    pub warned: Option<(u64, u16)>,
    /// How far the agreement is with the charter that renews it; `None`: none does.
    pub renewal: Option<Renewal>,
    /// The terms that an administrator here has narrowed, each with when that was last, milliseconds since the Unix
    /// epoch.
    pub narrowed: BTreeMap<Term, u64>,
}

/// An agreement that followed from a charter goes on by a later one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// Counts the consortium's charters: which of them.
    pub serial: u64,
    /// When the charter ends, milliseconds since the Unix epoch.
    pub expires_ms: u64,
    /// Where our half stands.
    pub ours: OurHalf,
    /// Whether we have consented to the partner's half.
    pub theirs: bool,
}

/// Our statement as the charter has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OurHalf {
    /// It has yet to be made.
    Due,
    /// The amendment with this SHA-256 waits for the partner's consent.
    Proposed([u8; 32]),
    /// It is in force.
    InForce,
    /// The partner's administrator did not consent.
    Refused,
}

/// A signed document on its way to the peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutgoingDocument {
    /// Which.
    pub kind: OutgoingKind,
    /// Its bytes.
    pub bytes: Bytes,
}

/// What is delivered to a peer while an agreement stands, or as its last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutgoingKind {
    /// An amendment of ours.
    Amendment,
    /// Our consent to an amendment of the peer's.
    Consent,
    /// What we have decided.
    Declaration,
}

/// A manifest that was checked when it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredManifest {
    /// Its bytes.
    pub bytes: Bytes,
    /// When it was checked, milliseconds since the Unix epoch.
    pub taken_ms: u64,
}

/// The peer, and its stored bytes (for [`put`]).
pub async fn get(
    store: &Store,
    server: &ServerName,
) -> Result<Option<(PeerRecord, Value)>, StoreError> {
    match store.get(&key(server)).await? {
        Some(value) => Ok(Some((decode(FAMILY, VERSION, &value)?, value))),
        None => Ok(None),
    }
}

/// Writes the peer with its next serial; the part fails when it is no longer what was read.
pub fn put(
    part: &mut Part,
    server: &ServerName,
    mut record: PeerRecord,
    read: Option<Value>,
) -> Result<(), StoreError> {
    record.serial = record
        .serial
        .checked_add(1)
        .ok_or(StoreError::Corrupt { family: FAMILY })?;
    let key = key(server);
    part.require(Precondition::unchanged(key.clone(), read));
    part.put(key, encode(FAMILY, VERSION, &record)?);
    agreement_serial::put(part, server, record.serial);
    Ok(())
}

/// All peers, by name.
pub async fn all(store: &Store) -> Result<Vec<(ServerName, PeerRecord)>, StoreError> {
    let (peers, damaged) = readable(store).await?;
    match damaged {
        0 => Ok(peers),
        _ => Err(StoreError::Corrupt { family: FAMILY }),
    }
}

/// All peers whose records decode, by name, and how many others there are.
pub async fn readable(store: &Store) -> Result<(Vec<(ServerName, PeerRecord)>, usize), StoreError> {
    let mut peers = Vec::new();
    let mut damaged = 0_usize;
    let mut from = Key::from_static(&[PEER]);
    loop {
        let page = store
            .range(&from, &prefix_end(&[PEER]), PAGE, Order::Ascending)
            .await?;
        for (key, value) in &page {
            let name: Option<ServerName> = key
                .get(1..)
                .and_then(|name| std::str::from_utf8(name).ok()?.parse().ok());
            match (name, decode(FAMILY, VERSION, value)) {
                (Some(name), Ok(record)) => peers.push((name, record)),
                (None, _) | (_, Err(_)) => damaged = damaged.saturating_add(1),
            }
        }
        match page.last() {
            Some((last, _)) if page.len() == PAGE => {
                from = [last.as_ref(), &[0]].concat().into();
            }
            Some(_) | None => return Ok((peers, damaged)),
        }
    }
}

fn key(server: &ServerName) -> Key {
    [&[PEER], server.as_str().as_bytes()].concat().into()
}
