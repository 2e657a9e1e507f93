//! The audit log, of the admin API.

use std::collections::BTreeMap;

use federation_proto::audit_log::{Entry, SignedAuditHead, SignedSighting};
use federation_proto::codec::{DecodeError, EncodeError, Wire as _};
use federation_proto::hash::Digest;
use federation_proto::ids::{Address, ServerName};
use serde::{Deserialize, Serialize};

use crate::Base64;

/// A page of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPage {
    /// Oldest first.
    pub entries: Vec<AuditEntry>,
    /// Who the pseudonyms in these entries are, as far as the homeserver still knows.
    #[serde(default)]
    pub people: BTreeMap<String, Address>,
    /// Pass it as `after` for the next page; absent: no more now.
    pub next_after: Option<u64>,
}

impl AuditPage {
    /// The text of an entry with addresses in place of the pseudonyms that are known.
    #[must_use]
    pub fn named(&self, text: &str) -> String {
        self.people
            .iter()
            .filter(|(pseudonym, _)| text.contains(pseudonym.as_str()))
            .fold(text.to_owned(), |text, (pseudonym, address)| {
                text.replace(pseudonym, &address.to_string())
            })
    }
}

/// One entry of the audit log. People stand in it under pseudonyms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its number, from 1; no holes.
    pub number: u64,
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Who: `admin:NAME`, `local:UID`, `device:ID`, `peer:SERVER` or `system`.
    pub actor: String,
    /// What: a stable name such as `user.created` or `message.refused`.
    pub action: String,
    /// On what: a person, a server name, a room.
    pub subject: String,
    /// More, in words; never message content.
    pub detail: String,
    /// The hash of its leaf in the log's tree (RFC 9162), lower-case hexadecimal.
    pub hash: String,
}

impl AuditEntry {
    /// The hash of the leaf that everything else in the entry makes.
    ///
    /// # Errors
    /// When a text is longer than any in a log.
    pub fn leaf(&self) -> Result<Digest, EncodeError> {
        let entry = Entry {
            number: self.number,
            at_ms: self.at_ms,
            actor: &self.actor,
            action: &self.action,
            subject: &self.subject,
            detail: &self.detail,
        };
        entry.leaf()
    }
}

/// How long the audit log is and what its root is, signed by the organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// Whose log.
    pub server: ServerName,
    /// How many entries it has.
    pub size: u64,
    /// The root of the tree over them, lower-case hexadecimal.
    pub root: String,
    /// When this was signed, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The same with the signature, as the protocol encodes it. This alone counts.
    pub signed: Base64,
}

impl AuditHead {
    /// What the head says.
    ///
    /// # Errors
    /// When it does not encode, which no head does that was made or read.
    pub fn of(signed: &SignedAuditHead) -> Result<Self, EncodeError> {
        let head = signed.claims();
        Ok(Self {
            server: head.server.clone(),
            size: head.size,
            root: head.root.to_string(),
            at_ms: head.at_ms,
            signed: signed.to_bytes()?.to_vec().into(),
        })
    }

    /// The head that was signed.
    ///
    /// # Errors
    /// When there is none in it.
    pub fn signed(&self) -> Result<SignedAuditHead, DecodeError> {
        SignedAuditHead::from_bytes(self.signed.0.clone())
    }
}

/// An entry, and what shows that it is in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditProof {
    /// The entry.
    pub entry: AuditEntry,
    /// How many entries the log has that the path leads to the root of.
    pub size: u64,
    /// The hashes from the entry's leaf to that root, each in lower-case hexadecimal.
    pub path: Vec<String>,
    /// The log's head: of this size, unless an earlier size was asked for.
    pub head: AuditHead,
}

/// What shows that the log has only grown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditGrowth {
    /// The earlier size.
    pub from: u64,
    /// The hashes of the proof, each in lower-case hexadecimal; none when the log has not grown since.
    pub path: Vec<String>,
    /// The log's head.
    pub head: AuditHead,
}

/// What a witness has seen of an audit log, signed by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditSighting {
    /// Who has seen it.
    pub witness: ServerName,
    /// Whose log.
    pub server: ServerName,
    /// How many entries it had.
    pub size: u64,
    /// The root of the tree over them, lower-case hexadecimal.
    pub root: String,
    /// When it was seen, milliseconds since the Unix epoch.
    pub seen_ms: u64,
    /// The same with the signature, as the protocol encodes it. This alone counts.
    pub signed: Base64,
}

impl AuditSighting {
    /// What the sighting says.
    ///
    /// # Errors
    /// When it does not encode, which no sighting does that was made or read.
    pub fn of(signed: &SignedSighting) -> Result<Self, EncodeError> {
        let seen = signed.claims();
        Ok(Self {
            witness: seen.witness.clone(),
            server: seen.server.clone(),
            size: seen.size,
            root: seen.root.to_string(),
            seen_ms: seen.seen_ms,
            signed: signed.to_bytes()?.to_vec().into(),
        })
    }

    /// The sighting that was signed.
    ///
    /// # Errors
    /// When there is none in it.
    pub fn signed(&self) -> Result<SignedSighting, DecodeError> {
        SignedSighting::from_bytes(self.signed.0.clone())
    }
}

/// What a peer has seen of our audit log, and what is known of its.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditWitness {
    /// The peer.
    pub server: ServerName,
    /// How long our log was when the peer was told last.
    pub told_size: u64,
    /// When that was, milliseconds since the Unix epoch; 0: never.
    pub told_ms: u64,
    /// What it has seen last.
    pub seen: Option<AuditSighting>,
    /// What it has seen that our log never was.
    pub contradiction: Option<AuditSighting>,
    /// The newest head of the peer's own log that has grown from the one before.
    pub theirs: Option<AuditHead>,
    /// A head of the peer's log that has not.
    pub fault: Option<AuditHead>,
}

/// What peers have seen of audit logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditWitnesses {
    /// One for each peer.
    pub witnesses: Vec<AuditWitness>,
}

/// The first line of an exported log; each further one is an [`AuditEntry`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditExport {
    /// The form of the file: 1.
    pub audit_export: u8,
    /// The head of what follows: as many entries as it says.
    pub head: AuditHead,
}

impl AuditExport {
    /// The form that this version writes and reads.
    pub const VERSION: u8 = 1;
}

/// Whom nobody is to find behind his pseudonym any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EraseRequest {
    /// His address: somebody of this organisation whose account is deleted, or somebody of another one.
    pub address: Address,
}
