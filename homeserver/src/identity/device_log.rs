//! The organisation's device log, as it is shown: the tree over its statements, each account's history, the
//! signed head.
//!
//! Statements are written with the act that they tell of (`store::device_log`). What is here is read from
//! there, and read on before each answer: the memory only saves reading from the beginning.

use std::collections::HashMap;

use bytes::Bytes;
use federation_proto::device_log::{
    DeviceChain, DeviceHistory, DeviceStatement, Growth, Head, SignedHead,
};
use federation_proto::ids::{AccountId, ServerName};
use federation_proto::limits::{ACCOUNT_STATEMENTS_MAX, LOG_SIZES_KNOWN_MAX};
use federation_proto::merkle::Tree;
use tokio::sync::{Mutex, MutexGuard};

use crate::node::Node;
use crate::store::{Part, StoreError, device_log};

/// Statements read at a time.
const PAGE: usize = 1024;
/// A head is signed anew after this time, so that it shows that the log has not changed since.
const HEAD_MS_MAX: u64 = 60 * 60 * 1000;

/// Who looks at the log. While the organisation changes its root, partners go by different ones.
#[derive(Debug, Clone, Copy)]
pub enum Reader<'a> {
    /// A device of ours: it goes by the present root.
    Own,
    /// A partner: it goes by the root that its agreement pins.
    Peer(&'a ServerName),
}

impl Reader<'_> {
    /// The issuing CA's certificate that leads to the reader's root.
    pub(crate) fn issuing(self, node: &Node) -> Bytes {
        let pinned = match self {
            Self::Own => None,
            Self::Peer(peer) => node.peers.get(peer).and_then(|peer| peer.our_root.clone()),
        };
        let certificate = match pinned {
            Some(root) => node.keys.issuing_under(&root),
            None => node.keys.issuing(),
        };
        Bytes::copy_from_slice(&certificate)
    }
}

/// The log as far as it has been read.
pub struct DeviceLog(Mutex<State>);

struct State {
    tree: Tree,
    accounts: HashMap<AccountId, Account>,
    head: Option<(Bytes, SignedHead)>,
}

struct Account {
    chain: DeviceChain,
    /// Where its newest statement is.
    index: usize,
}

impl Default for DeviceLog {
    fn default() -> Self {
        Self(Mutex::new(State {
            tree: Tree::new(Vec::new()),
            accounts: HashMap::new(),
            head: None,
        }))
    }
}

impl DeviceLog {
    /// The account's devices by the log; without statements when it has never had one.
    pub async fn chain(&self, node: &Node, account: AccountId) -> Result<DeviceChain, StoreError> {
        let state = self.read_on(node).await?;
        let known = state.accounts.get(&account);
        Ok(known.map_or_else(|| DeviceChain::new(account), |known| known.chain.clone()))
    }

    /// The account's history with its proofs for `reader`, and the log's growth from each size in `known`; `None` when
    /// the account has never had a device.
    pub async fn history(
        &self,
        node: &Node,
        reader: Reader<'_>,
        account: AccountId,
        known: &[u64],
    ) -> Result<Option<DeviceHistory>, StoreError> {
        let mut state = self.read_on(node).await?;
        let head = state.head(node, reader)?;
        let Some(found) = state.accounts.get(&account) else {
            return Ok(None);
        };
        Ok(Some(DeviceHistory {
            statements: found.chain.statements().to_vec(),
            index: u64::try_from(found.index).unwrap_or(u64::MAX),
            path: state.tree.path(found.index),
            head,
            growth: known
                .iter()
                .take(LOG_SIZES_KNOWN_MAX)
                .filter_map(|from| state.growth(*from))
                .collect(),
        }))
    }

    /// The log's head for `reader`, and its growth from `from`, unless nothing has come since.
    pub async fn head(
        &self,
        node: &Node,
        reader: Reader<'_>,
        from: u64,
    ) -> Result<(SignedHead, Option<Growth>), StoreError> {
        let mut state = self.read_on(node).await?;
        Ok((state.head(node, reader)?, state.growth(from)))
    }

    /// Takes in what was written since.
    async fn read_on(&self, node: &Node) -> Result<MutexGuard<'_, State>, StoreError> {
        let mut state = self.0.lock().await;
        loop {
            let page = device_log::read(&node.store, state.size(), PAGE).await?;
            let full = page.len() == PAGE;
            for statement in page {
                state.take(statement)?;
            }
            if !full {
                return Ok(state);
            }
        }
    }
}

impl State {
    fn size(&self) -> u64 {
        u64::try_from(self.tree.size()).unwrap_or(u64::MAX)
    }

    fn take(&mut self, statement: DeviceStatement) -> Result<(), StoreError> {
        let index = self.tree.size();
        let account = statement.account;
        let known = self.accounts.entry(account).or_insert_with(|| Account {
            chain: DeviceChain::new(account),
            index,
        });
        known.chain.push(statement).map_err(|error| {
            tracing::error!(%error, %account, "the device log is damaged");
            StoreError::Corrupt {
                family: "device log",
            }
        })?;
        known.index = index;
        self.tree.push(known.chain.last_hash());
        Ok(())
    }

    fn growth(&self, from: u64) -> Option<Growth> {
        let at = usize::try_from(from)
            .ok()
            .filter(|at| *at < self.tree.size())?;
        Some(Growth {
            from,
            path: self.tree.consistency(at),
        })
    }

    fn head(&mut self, node: &Node, reader: Reader<'_>) -> Result<SignedHead, StoreError> {
        let now_ms = node.clock.now_ms();
        let issuing = reader.issuing(node);
        if let Some((by, signed)) = &self.head {
            let head = signed.claims();
            let fresh = now_ms.abs_diff(head.at_ms) < HEAD_MS_MAX;
            if head.size == self.size() && fresh && *by == issuing {
                return Ok(signed.clone());
            }
        }
        let head = Head {
            server: node.server.clone(),
            size: self.size(),
            root: self.tree.root(),
            at_ms: now_ms,
        };
        let signed = head
            .sign(
                issuing.clone(),
                &node.keys.issuing_key(),
                node.random.as_ref(),
            )
            .map_err(|error| {
                StoreError::Engine(format!(
                    "the device log's head could not be signed: {error}"
                ))
            })?;
        self.head = Some((issuing, signed.clone()));
        Ok(signed)
    }
}

/// Whether the account may have a further device: what comes has to be able to go, too.
pub(super) fn has_room(chain: &DeviceChain) -> bool {
    let statements = usize::try_from(chain.serial()).unwrap_or(usize::MAX);
    statements
        .saturating_add(chain.devices().len())
        .saturating_add(2)
        <= ACCOUNT_STATEMENTS_MAX
}

/// Writes the statement with the act that it tells of, as the next of its account: `written` is how many the
/// account's record counts, as it is changed by the same part.
pub(super) fn append(
    part: &mut Part,
    written: &mut u64,
    statement: &DeviceStatement,
) -> Result<(), StoreError> {
    // The log was read on after the account's record: what was written between makes the part fail.
    *written = statement.serial;
    device_log::append(part, statement)
}
