//! The devices that an account's statements amount to.
//!
//! The statements are judged from the first to the last, and one that does not fit makes all of them void: an
//! organisation that writes such a thing shows that it can't be believed about this account.

use std::collections::BTreeSet;

use crate::codec::EncodeError;
use crate::device_log::statement::{DeviceStatement, How};
use crate::hash::Digest;
use crate::ids::{AccountId, DeviceId};
use crate::limits::ACCOUNT_STATEMENTS_MAX;

/// Why statements are not an account's history.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// There is none.
    #[error("the account's device history is empty")]
    Empty,
    /// Too many.
    #[error("an account's device history has at most {ACCOUNT_STATEMENTS_MAX} statements")]
    TooLong,
    /// A statement about another account.
    #[error("statement {0} of the device history is of another account")]
    OtherAccount(u64),
    /// A statement that does not follow the one before.
    #[error("statement {0} of the device history does not follow the one before it")]
    Broken(u64),
    /// A first device that is not the first one, or a first statement that is something else.
    #[error("statement {0} of the device history is out of place")]
    OutOfPlace(u64),
    /// A device or a key that the account has had before.
    #[error(
        "statement {0} of the device history brings back a device or a key that the account has had before"
    )]
    Again(u64),
    /// A removal of what is not there.
    #[error("statement {0} of the device history removes a device that the account does not have")]
    NotThere(u64),
    /// An approval by nobody who could give it.
    #[error(
        "statement {0} of the device history is a device that no device of the account has approved"
    )]
    NotApproved(u64),
    /// Never: a statement has no part that could be over a limit.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// A device that an account has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// The device.
    pub device: DeviceId,
    /// Its Ed25519 public key.
    pub key: [u8; 32],
    /// The statement that brought it.
    pub serial: u64,
    /// The reset that it goes back to, through those who approved it; `None`: it goes back to the account's first
    /// device.
    pub reset: Option<u64>,
    /// When it came, milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// An account's statements, found to follow from each other, and what they amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceChain {
    account: AccountId,
    statements: Vec<DeviceStatement>,
    hashes: Vec<Digest>,
    devices: Vec<Device>,
    ids: BTreeSet<DeviceId>,
    keys: BTreeSet<[u8; 32]>,
}

impl DeviceChain {
    /// An account without any device yet.
    #[must_use]
    pub const fn new(account: AccountId) -> Self {
        Self {
            account,
            statements: Vec::new(),
            hashes: Vec::new(),
            devices: Vec::new(),
            ids: BTreeSet::new(),
            keys: BTreeSet::new(),
        }
    }

    /// Judges an account's statements, of which there is at least one.
    ///
    /// # Errors
    /// When one of them does not fit.
    pub fn judge(
        account: AccountId,
        statements: impl IntoIterator<Item = DeviceStatement>,
    ) -> Result<Self, ChainError> {
        let mut chain = Self::new(account);
        for statement in statements {
            chain.push(statement)?;
        }
        if chain.statements.is_empty() {
            return Err(ChainError::Empty);
        }
        Ok(chain)
    }

    /// Adds the account's next statement.
    ///
    /// # Errors
    /// When it does not fit; then nothing has changed.
    pub fn push(&mut self, statement: DeviceStatement) -> Result<(), ChainError> {
        let serial = statement.serial;
        if self.statements.len() >= ACCOUNT_STATEMENTS_MAX {
            return Err(ChainError::TooLong);
        }
        if statement.account != self.account {
            return Err(ChainError::OtherAccount(serial));
        }
        if serial != self.serial().saturating_add(1) || statement.previous != self.last_hash() {
            return Err(ChainError::Broken(serial));
        }
        let hash = statement.hash()?;
        if statement.how == How::Removed {
            let at = self
                .devices
                .iter()
                .position(|known| known.device == statement.device && known.key == statement.key)
                .ok_or(ChainError::NotThere(serial))?;
            self.devices.remove(at);
        } else {
            let reset = self.origin(&statement)?;
            if self.ids.contains(&statement.device) || self.keys.contains(&statement.key) {
                return Err(ChainError::Again(serial));
            }
            self.ids.insert(statement.device);
            self.keys.insert(statement.key);
            self.devices.push(Device {
                device: statement.device,
                key: statement.key,
                serial,
                reset,
                since_ms: statement.at_ms,
            });
        }
        self.hashes.push(hash);
        self.statements.push(statement);
        Ok(())
    }

    /// The reset that a new device goes back to.
    fn origin(&self, statement: &DeviceStatement) -> Result<Option<u64>, ChainError> {
        let serial = statement.serial;
        match &statement.how {
            How::First if serial == 1 => Ok(None),
            How::Reset if serial > 1 => Ok(Some(serial)),
            How::Approved { by, .. } => {
                let approver = self.device(*by).ok_or(ChainError::NotApproved(serial))?;
                if statement.is_approved_by(&approver.key) {
                    Ok(approver.reset)
                } else {
                    Err(ChainError::NotApproved(serial))
                }
            }
            How::First | How::Reset | How::Removed => Err(ChainError::OutOfPlace(serial)),
        }
    }

    /// The account.
    #[must_use]
    pub const fn account(&self) -> AccountId {
        self.account
    }

    /// The number of the newest statement; 0 while there is none.
    #[must_use]
    pub fn serial(&self) -> u64 {
        u64::try_from(self.statements.len()).unwrap_or(u64::MAX)
    }

    /// The hash of the newest statement; zeros while there is none.
    #[must_use]
    pub fn last_hash(&self) -> Digest {
        self.hashes.last().copied().unwrap_or(Digest::ZERO)
    }

    /// The statements.
    #[must_use]
    pub fn statements(&self) -> &[DeviceStatement] {
        &self.statements
    }

    /// The devices that the account has, in the order in which they came.
    #[must_use]
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// A device that the account has.
    #[must_use]
    pub fn device(&self, device: DeviceId) -> Option<&Device> {
        self.devices.iter().find(|known| known.device == device)
    }

    /// Whether the account has ever had this device.
    #[must_use]
    pub fn has_had(&self, device: DeviceId) -> bool {
        self.ids.contains(&device)
    }

    /// Whether one of the two histories is the other one's beginning. Two that are not can't both be true.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.account == other.account
            && self
                .hashes
                .iter()
                .zip(&other.hashes)
                .all(|(ours, theirs)| ours == theirs)
    }

    /// The statement with which a device would come to the account next.
    #[must_use]
    pub fn next(&self, device: DeviceId, key: [u8; 32], how: How, at_ms: u64) -> DeviceStatement {
        DeviceStatement {
            account: self.account,
            device,
            key,
            serial: self.serial().saturating_add(1),
            previous: self.last_hash(),
            at_ms,
            how,
        }
    }
}
