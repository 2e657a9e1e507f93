//! An organisation's device log, as its homeserver keeps it, or as one that means ill would show it.

use std::collections::BTreeMap;

use homeserver_api::Digest;
use homeserver_api::IssuingKey;
use homeserver_api::device_log::{
    DeviceChain, DeviceHistory, DeviceStatement, Growth, Head, How, SignedHead,
};
use homeserver_api::ids::{AccountId, DeviceId, ServerName};
use homeserver_api::merkle::Tree;
use ring::rand::SystemRandom;

use super::Organisation;
use crate::mls::DeviceKey;

/// The log, with the keys that sign it.
#[derive(Clone)]
pub(crate) struct Log {
    server: ServerName,
    issuing: Vec<u8>,
    issuing_key: Vec<u8>,
    pub(crate) leaves: Vec<Digest>,
    pub(crate) statements: Vec<DeviceStatement>,
    /// Statements that are shown though they do not fit.
    unchecked: Vec<DeviceStatement>,
    pub(crate) accounts: BTreeMap<AccountId, DeviceChain>,
    pub(crate) at_ms: u64,
    /// Devices that can approve others.
    signers: BTreeMap<DeviceId, DeviceKey>,
}

impl Log {
    pub(crate) fn of(organisation: &Organisation, at_ms: u64) -> Self {
        let (issuing, issuing_key) = organisation.issuing();
        Self {
            server: organisation.server.clone(),
            issuing,
            issuing_key,
            leaves: Vec::new(),
            statements: Vec::new(),
            unchecked: Vec::new(),
            accounts: BTreeMap::new(),
            at_ms,
            signers: BTreeMap::new(),
        }
    }

    /// From now on this organisation's issuing CA signs the heads.
    pub(crate) fn sign_by(&mut self, organisation: &Organisation) {
        (self.issuing, self.issuing_key) = organisation.issuing();
    }

    pub(crate) fn is_of(&self, server: &ServerName) -> bool {
        self.server == *server
    }

    /// The account's devices so far.
    pub(crate) fn chain(&self, account: AccountId) -> DeviceChain {
        let known = self.accounts.get(&account).cloned();
        known.unwrap_or_else(|| DeviceChain::new(account))
    }

    /// Writes a statement that fits.
    pub(crate) fn write(&mut self, statement: DeviceStatement) {
        let mut chain = self.chain(statement.account);
        chain.push(statement.clone()).unwrap();
        self.statements.push(statement);
        self.leaves.push(chain.last_hash());
        self.accounts.insert(chain.account(), chain);
    }

    /// Writes a statement whether it fits or not, and stands by it.
    pub(crate) fn write_unchecked(&mut self, statement: DeviceStatement) {
        self.leaves.push(statement.hash().unwrap());
        self.unchecked.push(statement.clone());
        self.statements.push(statement);
    }

    /// A device comes: the account's first one, approved by one that can, or by a reset. Of one that is certified again
    /// the log says nothing.
    pub(crate) fn add(
        &mut self,
        account: AccountId,
        device: DeviceId,
        key: [u8; 32],
        signer: Option<&DeviceKey>,
    ) {
        let chain = self.chain(account);
        if chain.has_had(device) {
            return;
        }
        let approver = chain
            .devices()
            .iter()
            .find_map(|known| Some((known.device, self.signers.get(&known.device)?.clone())));
        let statement = match (chain.serial(), approver) {
            (0, _) => chain.next(device, key, How::First, self.at_ms),
            (_, Some((by, signs))) => approved(&chain, device, key, by, &signs),
            (_, None) => chain.next(device, key, How::Reset, self.at_ms),
        };
        self.write(statement);
        if let Some(signer) = signer {
            self.signers.insert(device, signer.clone());
        }
    }

    /// A device comes by a reset.
    pub(crate) fn reset(&mut self, account: AccountId, device: DeviceId, key: [u8; 32]) {
        let chain = self.chain(account);
        self.write(chain.next(device, key, How::Reset, self.at_ms));
    }

    /// A device goes.
    pub(crate) fn remove(&mut self, account: AccountId, device: DeviceId) {
        let chain = self.chain(account);
        let key = chain.device(device).unwrap().key;
        self.write(chain.next(device, key, How::Removed, self.at_ms));
    }

    pub(crate) fn head(&self) -> SignedHead {
        let tree = Tree::new(self.leaves.clone());
        let key = IssuingKey::from_pkcs8(&self.issuing_key, &SystemRandom::new()).unwrap();
        Head {
            server: self.server.clone(),
            size: u64::try_from(tree.size()).unwrap(),
            root: tree.root(),
            at_ms: self.at_ms,
        }
        .sign(self.issuing.clone().into(), &key, &SystemRandom::new())
        .unwrap()
    }

    pub(crate) fn history(&self, account: AccountId, known: &[u64]) -> DeviceHistory {
        let tree = Tree::new(self.leaves.clone());
        let chain = self.chain(account);
        let mut statements = chain.statements().to_vec();
        let of_it = self.unchecked.iter().filter(|s| s.account == account);
        statements.extend(of_it.cloned());
        let newest = match statements.last() {
            Some(last) => last.hash().unwrap(),
            None => chain.last_hash(),
        };
        let index = self
            .leaves
            .iter()
            .position(|leaf| *leaf == newest)
            .unwrap_or(0);
        DeviceHistory {
            statements,
            index: u64::try_from(index).unwrap(),
            path: tree.path(index),
            head: self.head(),
            growth: known
                .iter()
                .filter(|from| **from < u64::try_from(tree.size()).unwrap())
                .map(|from| Growth {
                    from: *from,
                    path: tree.consistency(usize::try_from(*from).unwrap()),
                })
                .collect(),
        }
    }
}

/// The statement by which a device approves another one.
pub(crate) fn approved(
    chain: &DeviceChain,
    device: DeviceId,
    key: [u8; 32],
    by: DeviceId,
    signs: &DeviceKey,
) -> DeviceStatement {
    let unsigned = How::Approved {
        by,
        signature: [0; 64],
    };
    let mut statement = chain.next(device, key, unsigned, 0);
    let signature = signs.sign(&statement.approval_bytes().unwrap()).unwrap();
    statement.how = How::Approved { by, signature };
    statement
}
