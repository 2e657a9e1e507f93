//! What an answer about an account carries: its statements, the newest one's place in the log, the log's head.

use bytes::Bytes;

use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::device_log::chain::{ChainError, DeviceChain};
use crate::device_log::head::{Growth, Head, LogError, SignedHead, read_path, write_path};
use crate::device_log::statement::DeviceStatement;
use crate::hash::Digest;
use crate::ids::{AccountId, ServerName};
use crate::limits::{ACCOUNT_STATEMENTS_MAX, DEVICE_HISTORY_BYTES_MAX, LOG_SIZES_KNOWN_MAX};
use crate::manifest::FormerRoot;
use crate::merkle;

/// An account's devices, with their proofs. [`DeviceHistory::verify`] judges it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceHistory {
    /// Every statement about the account, oldest first.
    pub statements: Vec<DeviceStatement>,
    /// The newest statement's place in the log, from 0.
    pub index: u64,
    /// The path from the newest statement to the head's root (RFC 9162, section 2.1.3).
    pub path: Vec<Digest>,
    /// The log's head.
    pub head: SignedHead,
    /// What shows that the log has grown from each of the sizes that the question named and that are
    /// smaller than the head's.
    pub growth: Vec<Growth>,
}

/// Why an account's history is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// The log's head does not hold.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The statements do not follow from each other.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The newest statement is not in the log, or not there.
    #[error(
        "the account's newest device statement is not in the device log that the organisation has signed"
    )]
    NotInLog,
}

impl DeviceHistory {
    /// The account's devices, and the head that holds them, when everything stands: the head is the
    /// organisation's, the newest statement is in that log, and all before follow from each other.
    /// Whether the log has grown from an earlier head is for [`Head::follows`].
    ///
    /// # Errors
    /// When something does not.
    pub fn verify(
        &self,
        server: &ServerName,
        account: AccountId,
        root: &Bytes,
        former: &[FormerRoot],
        now_ms: u64,
    ) -> Result<(DeviceChain, &Head), HistoryError> {
        let head = self.head.verify(server, root, former, now_ms)?;
        let chain = DeviceChain::judge(account, self.statements.iter().cloned())?;
        let leads_to = merkle::root_from_path(chain.last_hash(), self.index, head.size, &self.path);
        if leads_to != Some(head.root) {
            return Err(HistoryError::NotInLog);
        }
        Ok((chain, head))
    }

    /// What shows that the log has grown from this size.
    #[must_use]
    pub fn growth_from(&self, size: u64) -> Option<&Growth> {
        self.growth.iter().find(|growth| growth.from == size)
    }
}

impl Wire for DeviceHistory {
    const BYTES_MAX: usize = DEVICE_HISTORY_BYTES_MAX;
    const NAME: &'static str = "device history";

    fn write(&self, writer: &mut Writer) {
        writer.list(
            "statements",
            ACCOUNT_STATEMENTS_MAX,
            &self.statements,
            |writer, statement| statement.write(writer),
        );
        writer.u64(self.index);
        write_path(writer, &self.path);
        self.head.write(writer);
        writer.list(
            "growth",
            LOG_SIZES_KNOWN_MAX,
            &self.growth,
            |writer, growth| {
                growth.write(writer);
            },
        );
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            statements: reader.list("statements", ACCOUNT_STATEMENTS_MAX, DeviceStatement::read)?,
            index: reader.u64("place in the log")?,
            path: read_path(reader)?,
            head: SignedHead::read(reader)?,
            growth: reader.list("growth", LOG_SIZES_KNOWN_MAX, Growth::read)?,
        })
    }
}
