//! Heads of the log, and what shows that an entry is in it and that it has only grown.
//!
//! Proofs are put together from nodes that the store holds and that never change, so they are of one size of the log
//! whatever is written meanwhile.

use std::ops::Range;

use bytes::Bytes;
use federation_proto::audit_log::SignedAuditHead;
use federation_proto::device_log::{Growth, Head};
use federation_proto::hash::Digest;
use federation_proto::ids::ServerName;
use federation_proto::keys::IssuingKey;
use federation_proto::merkle::{complete_in, growth_parts, join, path_parts};
use homeserver_api::admin::AuditEntry;
use ring::rand::SecureRandom;

use super::numbering::{sequence, shown};
use crate::store::audit as rows;
use crate::store::{Store, StoreError};

/// Parts that whoever asks for a head waits for: a head need not have what was recorded this moment.
const HEAD_PARTS_MAX: usize = 64;

/// Who signs heads.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    /// The organisation.
    pub server: &'a ServerName,
    /// Its issuing CA's certificate, which leads to the reader's root.
    pub issuing: &'a Bytes,
    /// The key.
    pub key: &'a IssuingKey,
}

/// An entry with what shows that it is in the log of a size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The entry.
    pub entry: AuditEntry,
    /// The hashes from its leaf to the root.
    pub path: Vec<Digest>,
}

/// The log's head as of now, with all that was recorded before the call.
pub async fn signed_head(
    store: &Store,
    random: &(dyn SecureRandom + Send + Sync),
    signer: Signer<'_>,
    now_ms: u64,
) -> Result<SignedAuditHead, StoreError> {
    sequence(store, random, HEAD_PARTS_MAX).await?;
    let (tree, _) = rows::head(store).await?;
    let head = Head {
        server: signer.server.clone(),
        size: tree.size(),
        root: tree.root(),
        at_ms: now_ms,
    };
    SignedAuditHead::sign(head, signer.issuing.clone(), signer.key, random).map_err(|error| {
        StoreError::Engine(format!("the audit log's head could not be signed: {error}"))
    })
}

/// The entry with this number and its path in the log of `size` entries, which has been that long; `None` when that one
/// has no such entry.
pub async fn entry_proof(
    store: &Store,
    number: u64,
    size: u64,
) -> Result<Option<Proof>, StoreError> {
    let Some(index) = number.checked_sub(1).filter(|index| *index < size) else {
        return Ok(None);
    };
    let Some(entry) = rows::entry(store, number).await? else {
        return Ok(None);
    };
    Ok(Some(Proof {
        entry: shown((number, entry)),
        path: roots(store, path_parts(index, size)).await?,
    }))
}

/// What shows that the log of `size` entries, which has been that long, has grown from its first `from`; `None` when it
/// was never shorter than that.
pub async fn growth(store: &Store, from: u64, size: u64) -> Result<Option<Growth>, StoreError> {
    if from >= size {
        return Ok(None);
    }
    let path = roots(store, growth_parts(from, size)).await?;
    Ok(Some(Growth { from, path }))
}

/// The root over the first `size` entries; `None` when the log was never that long.
pub async fn root_of(store: &Store, size: u64) -> Result<Option<Digest>, StoreError> {
    let (tree, _) = rows::head(store).await?;
    if size > tree.size() {
        return Ok(None);
    }
    let whole = std::iter::once(0..size).collect();
    let root = roots(store, whole).await?;
    Ok(root.first().copied())
}

async fn roots(store: &Store, parts: Vec<Range<u64>>) -> Result<Vec<Digest>, StoreError> {
    let mut roots = Vec::with_capacity(parts.len());
    for part in parts {
        let mut nodes = Vec::new();
        for place in complete_in(&part) {
            nodes.push(rows::node(store, place).await?);
        }
        roots.push(join(&nodes));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use federation_proto::merkle::{has_grown, root_from_path};

    use super::*;
    use crate::audit::{Actor, Event, record};
    use crate::node::testing;
    use crate::store::Part;

    /// Goal: every entry is proved in the log of every size that it was ever in, and each size to have grown from each
    /// smaller one, by the head that was signed then. Method: a log that grows by one and two entries at a time.
    #[tokio::test]
    async fn entries_and_growth_are_proved() {
        let (node, _) = testing::node("a.example");
        let (store, random) = (&node.store, node.random.as_ref());
        let issuing = Bytes::copy_from_slice(&node.keys.issuing());
        let (root, key) = (
            Bytes::copy_from_slice(&node.keys.root()),
            node.keys.issuing_key(),
        );
        let signer = Signer {
            server: &node.server,
            issuing: &issuing,
            key: &key,
        };
        let now_ms = node.clock.now_ms();
        let mut heads = Vec::new();
        for round in 0..12_u64 {
            let mut part = Part::default();
            for _ in 0..=round % 2 {
                let event = Event {
                    at_ms: round,
                    actor: Actor::System,
                    action: "test.happened",
                    subject: format!("subject {round}"),
                    detail: String::new(),
                };
                record(&mut part, &event);
            }
            store.commit(part).await.unwrap();
            let signed = signed_head(store, random, signer, now_ms).await.unwrap();
            let head = signed.verify(&node.server, &root, &[], now_ms).unwrap();
            heads.push((head.size, head.root));
        }
        assert_eq!(heads.last().map(|(size, _)| *size), Some(18));
        for (size, root) in &heads {
            for number in 1..=*size {
                let proof = entry_proof(store, number, *size).await.unwrap().unwrap();
                let leaf = proof.entry.leaf().unwrap();
                let found = root_from_path(leaf, number - 1, *size, &proof.path);
                assert_eq!(found, Some(*root), "{number} of {size}");
            }
            assert_eq!(root_of(store, *size).await.unwrap(), Some(*root));
            let beyond = entry_proof(store, size + 1, *size).await.unwrap();
            assert_eq!(beyond, None);
            for (earlier, earlier_root) in heads.iter().filter(|(earlier, _)| earlier < size) {
                let growth = growth(store, *earlier, *size).await.unwrap().unwrap();
                let (old, new) = ((*earlier, *earlier_root), (*size, *root));
                assert!(has_grown(old, new, &growth.path), "{earlier} to {size}");
            }
            assert_eq!(growth(store, *size, *size).await.unwrap(), None);
        }
        assert_eq!(root_of(store, 0).await.unwrap(), Some(Digest::ZERO));
        assert_eq!(root_of(store, 19).await.unwrap(), None);
        assert_eq!(entry_proof(store, 0, 18).await.unwrap(), None);
    }
}
