//! Reading the own organisation's log: a statement about the own account that the history does not show.
//!
//! A history ends where its homeserver says that it ends. One that was taken over could show correspondents a further
//! device, and its owner a history without it. But it has signed one log for all, and every head of it is compared; so
//! the owner reads on from his account's newest statement.

use homeserver_api::codec::Wire as _;
use homeserver_api::device_log::{DeviceStatement, Head, How};
use homeserver_api::ids::AccountId;
use homeserver_api::limits::ACCOUNT_STATEMENTS_MAX;
use homeserver_api::merkle::Frontier;

use crate::core::Core;
use crate::error::Error;

/// Most statements that are read at once: more than any organisation writes while a device is away.
const READ_AT_ONCE_MAX: u64 = 1 << 20;

/// Statements that are being read, to be held to a head.
pub(crate) struct Reading {
    head: Head,
    account: AccountId,
    read: Frontier,
    own: Vec<DeviceStatement>,
}

impl Reading {
    /// After how many statements it goes on; `None`: all up to the head have been read.
    pub(crate) fn after(&self) -> Option<u64> {
        (self.read.size() < self.head.size).then(|| self.read.size())
    }

    /// Whether the own account is named: its newest history has to say the same.
    pub(crate) fn names_own(&self) -> bool {
        !self.own.is_empty()
    }

    /// The next statements.
    pub(crate) fn take(
        &mut self,
        statements: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<(), Error> {
        let before = self.read.size();
        for bytes in statements {
            if self.after().is_none() {
                break;
            }
            let malformed = |e: &dyn std::fmt::Display| Error::Protocol(e.to_string());
            let statement = DeviceStatement::from_bytes(bytes).map_err(|e| malformed(&e))?;
            self.read.push(statement.hash().map_err(|e| malformed(&e))?);
            if statement.account == self.account {
                if self.own.len() >= ACCOUNT_STATEMENTS_MAX {
                    return Err(Error::Protocol(
                        "the device log says more of this account than an account may have"
                            .to_owned(),
                    ));
                }
                self.own.push(statement);
            }
        }
        if self.read.size() == before {
            return Err(Error::Protocol(
                "the homeserver lists fewer statements than its device log has".to_owned(),
            ));
        }
        Ok(())
    }
}

impl Core {
    /// How far the own organisation's log has been read; `None` before the own history is known.
    pub(crate) fn log_read_to(&self) -> Option<u64> {
        let log = self.known.logs.get(&self.identity.member.server)?;
        log.read.as_ref().map(Frontier::size)
    }

    /// Begins to read up to this head; `None` when there is nothing to read, or it is not believed.
    pub(crate) fn begin_reading(&mut self, head: &[u8]) -> Result<Option<Reading>, Error> {
        let own = self.identity.member.clone();
        let Some(head) = self.hear_head(&own.server, head)? else {
            return Ok(None);
        };
        let Some(read) = self.log_of(&own.server).read else {
            return Ok(None);
        };
        if head.size < read.size() || (head.size == read.size() && head.root != read.root()) {
            let reason = "its device log is another one than this device has read";
            self.tell_refused(&own.server, None, reason.to_owned());
            return Ok(None);
        }
        if head.size.saturating_sub(read.size()) > READ_AT_ONCE_MAX {
            let reason = "its device log has grown by more than any organisation's does";
            self.tell_refused(&own.server, None, reason.to_owned());
            return Ok(None);
        }
        let reading = Reading {
            head,
            account: own.account,
            read,
            own: Vec::new(),
        };
        Ok(reading.after().is_some().then_some(reading))
    }

    /// Holds what was read to the head, and to the own account's history.
    pub(crate) fn end_reading(&mut self, reading: Reading) -> Result<(), Error> {
        let own = self.identity.member.clone();
        if reading.read.root() != reading.head.root {
            let reason = "the statements that it lists are not the device log that it has signed";
            self.tell_refused(&own.server, None, reason.to_owned());
            return Ok(());
        }
        let known = self.known.person(&own.server, own.account);
        let known = known.map_or(&[][..], |person| person.chain.statements());
        let hidden: Vec<String> = reading
            .own
            .iter()
            .filter(|statement| !known.contains(statement))
            .map(|statement| {
                let how = match statement.how {
                    How::Removed => "was removed",
                    How::Reset => "came by a reset",
                    How::First | How::Approved { .. } => "came",
                };
                format!(
                    "the device log says that the device {} {how}, and the homeserver keeps that from this \
                     account's history: others may take it for yours; tell your administrator and \
                     whom you write with",
                    statement.device
                )
            })
            .collect();
        let address = self.own_address().clone();
        for reason in hidden {
            self.tell_refused(&own.server, Some(&address), reason);
        }
        let mut log = self.log_of(&own.server);
        log.read = Some(reading.read);
        self.put_log(log)
    }
}
