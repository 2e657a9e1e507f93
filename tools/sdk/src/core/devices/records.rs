//! What is kept of people's devices.

use std::collections::BTreeSet;

use bytes::Bytes;
use homeserver_api::Digest;
use homeserver_api::device_log::Head;
use homeserver_api::ids::{AccountId, Address, RequestId, ServerName};
use homeserver_api::limits::LOG_SIZES_KNOWN_MAX;
use homeserver_api::merkle::Frontier;
use serde::{Deserialize, Serialize};

/// An account that this device has met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PersonRecord {
    pub(super) server: ServerName,
    pub(super) account: AccountId,
    /// The address that it was met under, or that a person has confirmed since.
    pub(super) address: Address,
    /// The addresses that it had here before: certificates of then still have them.
    pub(super) former: BTreeSet<Address>,
    /// The address that it is certified for, when that is another one and nobody has confirmed it here.
    pub(super) called: Option<Called>,
    /// The statements about its devices, oldest first.
    pub(super) statements: Vec<Bytes>,
    /// The number of the newest statement up to which resets are taken for good.
    pub(super) confirmed: u64,
}

/// An address that an account is certified for, and that it is not known by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Called {
    pub(super) address: Address,
    /// The beginning of the certificate's validity, seconds since the Unix epoch.
    pub(super) since: u64,
    /// That of a newer one with an address that the account is known by: then this one is an older one's.
    pub(super) over: Option<u64>,
}

/// A head of a log, believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KnownHead {
    pub(super) size: u64,
    pub(super) root: Digest,
    pub(super) at_ms: u64,
}

/// An organisation's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogRecord {
    pub(super) server: ServerName,
    /// Its number among the records.
    pub(super) number: u64,
    /// The newest head that has grown from every one before.
    pub(super) proved: Option<KnownHead>,
    /// Heads that were heard of since, and from which the next answer has to have grown too.
    pub(super) heard: Vec<KnownHead>,
    /// Of the own organisation: how far its statements have been read.
    pub(super) read: Option<Frontier>,
}

/// A question about an account's devices that is not answered yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) request: RequestId,
    pub(super) server: ServerName,
    /// The account; `None` for a question by address, for key packages.
    pub(super) account: Option<AccountId>,
    pub(super) address: Address,
    /// The heads that were known when it was asked, whose sizes it named.
    pub(super) heads: Vec<KnownHead>,
}

impl KnownHead {
    pub(super) fn of(head: &Head) -> Self {
        Self {
            size: head.size,
            root: head.root,
            at_ms: head.at_ms,
        }
    }

    pub(super) fn head(&self, server: &ServerName) -> Head {
        Head {
            server: server.clone(),
            size: self.size,
            root: self.root,
            at_ms: self.at_ms,
        }
    }
}

impl LogRecord {
    /// Nothing is known of it; `number` is its place among the records.
    pub(super) fn new(server: &ServerName, number: usize) -> Self {
        Self {
            server: server.clone(),
            number: u64::try_from(number).unwrap_or(u64::MAX),
            proved: None,
            heard: Vec::new(),
            read: None,
        }
    }

    /// Every head that the next answer is held to.
    pub(super) fn heads(&self) -> Vec<KnownHead> {
        self.proved.iter().chain(&self.heard).cloned().collect()
    }

    /// Notes a head that was heard of, as far as there is room: what is dropped comes again. Of each size one is enough, for they
    /// were held to each other; and a question names no size twice.
    pub(super) fn hear(&mut self, head: KnownHead) {
        let mut known = self.proved.iter().chain(&self.heard);
        if known.all(|known| known.size != head.size) && self.heard.len() < LOG_SIZES_KNOWN_MAX - 1
        {
            self.heard.push(head);
        }
    }
}

/// Reads bytes as each kind of record: what is one keeps its value when it is written and read again.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_any(bytes: &[u8]) {
    use crate::store::survives_writing;
    survives_writing::<PersonRecord>(bytes);
    survives_writing::<LogRecord>(bytes);
    survives_writing::<Question>(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a question names each size once, as the homeserver demands, whatever was heard of the log. Method: answers of one size that
    /// come while others are on their way, a proved one's too, and more than there is room for.
    #[test]
    fn sizes_are_heard_once() {
        let head = |size, at_ms| KnownHead {
            size,
            root: Digest::ZERO,
            at_ms,
        };
        let server: ServerName = "a.example".parse().unwrap();
        let mut log = LogRecord::new(&server, 0);
        log.proved = Some(head(5, 1));
        for (size, at_ms) in [(7, 2), (7, 3), (5, 4), (9, 5), (9, 6), (11, 7), (12, 8)] {
            log.hear(head(size, at_ms));
        }
        let sizes: Vec<u64> = log.heads().iter().map(|head| head.size).collect();
        assert_eq!(sizes, [5, 7, 9, 11]);
    }
}
