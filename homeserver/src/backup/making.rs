//! A backup in the making: sealed chunks, one after the other, as fast as whoever asked takes them.
//!
//! What is made is never in memory as a whole: the store is read from one snapshot, half a mebibyte at a time. Keys of contents
//! are wrapped anew on the way, under a key of the backup's own: it needs no generation, and has none in it.

use std::sync::Arc;

use bytes::Bytes;
use ring::rand::SecureRandom;
use tokio::sync::OwnedSemaphorePermit;
use zeroize::Zeroizing;

use super::contents::{ContentsError, Opening, Piece, put_entry};
use super::sealing::{Recipient, SealError, Sealer};
use crate::audit::{self, Actor, Event};
use crate::node::Node;
use crate::organisation::key_files;
use crate::store::everything::{Everything, Sum, Summing};
use crate::store::sealed::{KeyRing, WrappingKey};
use crate::store::{Part, Store, StoreError, Value};

/// About how much is read and sealed at once: others are served in between.
const STEP_BYTES: usize = 512 * 1024;

/// Why a backup was not made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Somebody else makes one.
    #[error("another backup is being made: wait until it is done")]
    Busy,
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It can't be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// An entry fits into no backup.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// Nobody takes it.
    #[error("nobody took the next piece of the backup for a minute: it is given up")]
    Stalled,
    /// The runtime ends.
    #[error("the homeserver ends")]
    Ending,
}

/// A backup in the making.
pub struct Making {
    node: Arc<Node>,
    actor: Actor,
    all: Everything,
    wrapping: Wrapping,
    /// `None`: the last chunk was made.
    sealer: Option<Sealer>,
    /// What goes out before any entry.
    start: Option<Vec<u8>>,
    summing: Summing,
    _alone: OwnedSemaphorePermit,
}

/// Begins a backup of the store as it is now; that it was asked for is in the audit log before.
pub async fn begin(
    node: &Arc<Node>,
    actor: &Actor,
    recipient: Recipient,
) -> Result<Making, BackupError> {
    let alone = Arc::clone(&node.backups).try_acquire_owned();
    let alone = alone.map_err(|_| BackupError::Busy)?;
    let random = Arc::clone(&node.random);
    // A passphrase takes a while.
    let sealing = tokio::task::spawn_blocking(move || Sealer::new(&recipient, random.as_ref()));
    let (mut start, mut sealer) = sealing.await.map_err(|_| BackupError::Ending)??;
    note(node, actor, "backup.begun", String::new()).await?;
    let (all, wrapping) = moment(&node.store, Arc::clone(&node.random)).await?;
    // After the snapshot: keys are never older than what the store says of them.
    let mut plain = Zeroizing::new(Vec::<u8>::new());
    let opening = Opening {
        server: node.server.clone(),
        made_ms: node.clock.now_ms(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
    };
    Piece::Opening(opening).encode(&mut plain)?;
    for (name, text) in key_files(&node.keys) {
        let name = name.to_owned();
        Piece::KeyFile { name, text }.encode(&mut plain)?;
    }
    let store_key = Zeroizing::new(*wrapping.key.bytes());
    Piece::StoreKey(store_key).encode(&mut plain)?;
    sealer.seal(&plain, &mut start)?;
    Ok(Making {
        node: Arc::clone(node),
        actor: actor.clone(),
        all: all.within(STEP_BYTES),
        wrapping,
        sealer: Some(sealer),
        start: Some(start),
        summing: Summing::default(),
        _alone: alone,
    })
}

impl Making {
    /// The next bytes of the file; none when it is whole.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BackupError> {
        if let Some(start) = self.start.take() {
            return Ok(Some(start.into()));
        }
        while let Some(sealer) = &mut self.sealer {
            let entries = self.all.next().await?;
            let is_end = entries.is_empty();
            let mut plain = Vec::with_capacity(2 * STEP_BYTES);
            for (key, value) in entries {
                let value = self.wrapping.kept(&key, value)?;
                self.summing.add(&key, &value);
                put_entry(&mut plain, &key, &value)?;
            }
            let mut sealed = Vec::with_capacity(plain.len().saturating_add(STEP_BYTES));
            sealer.seal(&plain, &mut sealed)?;
            if is_end {
                return self.finish(sealed).await.map(Some);
            }
            if !sealed.is_empty() {
                return Ok(Some(sealed.into()));
            }
        }
        Ok(None)
    }

    async fn finish(&mut self, mut sealed: Vec<u8>) -> Result<Bytes, BackupError> {
        let sum = self.summing.sum();
        let mut plain = Vec::new();
        Piece::End(sum).encode(&mut plain)?;
        if let Some(mut sealer) = self.sealer.take() {
            sealer.seal(&plain, &mut sealed)?;
            sealer.finish(&mut sealed)?;
        }
        let Sum { entries, bytes, .. } = sum;
        let detail = format!("{entries} entries, {bytes} bytes");
        note(&self.node, &self.actor, "backup.made", detail).await?;
        Ok(sealed.into())
    }
}

/// All that the store holds now, and what its keys are wrapped with on their way.
async fn moment(
    store: &Store,
    random: Arc<dyn SecureRandom + Send + Sync>,
) -> Result<(Everything, Wrapping), StoreError> {
    let (moment, ring) = match store.seals() {
        Some(seals) => {
            let (moment, ring) = seals.moment().await?;
            (moment, Some(ring))
        }
        None => (store.snapshot().await?, None),
    };
    let key = WrappingKey::draw(random.as_ref())?;
    Ok((moment.into(), Wrapping { ring, key, random }))
}

/// Wraps keys of contents for a backup.
struct Wrapping {
    /// What opens them; `None`: the store has none.
    ring: Option<Arc<KeyRing>>,
    /// The backup's own.
    key: WrappingKey,
    random: Arc<dyn SecureRandom + Send + Sync>,
}

impl Wrapping {
    /// What the backup has at `key`, where the store has `value`.
    fn kept(&self, key: &[u8], value: Value) -> Result<Value, StoreError> {
        match &self.ring {
            Some(ring) => ring.backed_up(key, value, &self.key, self.random.as_ref()),
            None => Ok(value),
        }
    }
}

async fn note(
    node: &Node,
    actor: &Actor,
    action: &'static str,
    detail: String,
) -> Result<(), StoreError> {
    let mut part = Part::default();
    let event = Event {
        at_ms: node.clock.now_ms(),
        actor: actor.clone(),
        action,
        subject: node.server.to_string(),
        detail,
    };
    audit::record(&mut part, &event);
    node.store.commit(part).await.map(drop)
}
