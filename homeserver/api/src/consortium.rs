//! Consortia in the admin API: one charter that many organisations sign, and the peers that follow.
//!
//! | method and path | request | answer |
//! |---|---|---|
//! | `POST /admin/v1/consortia/introductions` | [`IntroductionRequest`] | 201 [`PeeringDocument`]; changes nothing |
//! | `POST /admin/v1/consortia/charters` | [`CharterRequest`] | 201 [`PeeringDocument`]; changes nothing |
//! | `POST /admin/v1/consortia/inspections` | [`PeeringDocument`] | [`CharterSummary`]; changes nothing |
//! | `POST /admin/v1/consortia/merges` | [`MergeRequest`] | 201 [`PeeringDocument`]; changes nothing |
//! | `POST /admin/v1/consortia/signatures` | [`SignCharterRequest`] | 201 [`PeeringDocument`] |
//! | `POST /admin/v1/consortia/peers` | [`PeeringDocument`] | [`Joined`]; may be asked again and again |
//! | `GET /admin/v1/consortia` | – | [`Consortia`] |

use federation_proto::ids::{ConsortiumId, ServerName};
use serde::{Deserialize, Serialize};

#[cfg(doc)]
use crate::admin::PeeringDocument;
use crate::admin::{PeerState, Terms};

/// Introduce this homeserver to a consortium.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntroductionRequest {
    /// Where the others reach this homeserver, `host:port` each; absent: as configured.
    #[serde(default)]
    pub endpoints: Vec<String>,
    /// Whom the others' administrators turn to.
    #[serde(default)]
    pub contact: String,
}

/// Make a charter that nobody has signed yet. This homeserver is a member of it, newly introduced.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CharterRequest {
    /// What the consortium is called; absent: as in `former`.
    #[serde(default)]
    pub name: Option<String>,
    /// What each member states to each other; absent: as in `former`, else everything. A charter without
    /// terms of its own is valid for a year.
    #[serde(default)]
    pub terms: Option<Terms>,
    /// The other members' introductions, armored. One of a member of `former` takes the place of the
    /// earlier one.
    #[serde(default)]
    pub introductions: Vec<String>,
    /// The charter that this one follows, armored; absent: it is the first of a new consortium.
    #[serde(default)]
    pub former: Option<String>,
    /// Members of `former` that are members no more.
    #[serde(default)]
    pub without: Vec<ServerName>,
    /// Where the others reach this homeserver, `host:port` each; absent: as configured.
    #[serde(default)]
    pub endpoints: Vec<String>,
    /// Whom the others' administrators turn to.
    #[serde(default)]
    pub contact: String,
}

/// Sign a charter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignCharterRequest {
    /// The charter, armored.
    pub document: String,
    /// The charter's fingerprint as the administrators of all members have read it to each other: the
    /// `fingerprint` of [`CharterSummary`], or its words. A wrong one is refused.
    pub fingerprint: String,
}

/// Put the signatures of several files of one charter into one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MergeRequest {
    /// The files, armored; at least one.
    pub documents: Vec<String>,
}

/// A charter in plain language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CharterSummary {
    /// Which consortium.
    pub consortium: ConsortiumId,
    /// What it is called.
    pub name: String,
    /// Counts its charters.
    pub serial: u64,
    /// The charter's fingerprint, to compare with all members.
    pub fingerprint: String,
    /// The same as words to read aloud.
    pub words: String,
    /// When what follows from it ends, milliseconds since the Unix epoch.
    pub expires_ms: u64,
    /// Its members, by server name.
    pub members: Vec<CharterMember>,
    /// Peers whose agreement a former charter has made, and who are no members by this one.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
    /// What it states, a sentence a line.
    pub lines: Vec<String>,
}

/// A peer that was a member by a former charter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The peer.
    pub server: ServerName,
    /// When our agreement with it ends, milliseconds since the Unix epoch.
    pub expires_ms: u64,
}

/// A member of a consortium.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CharterMember {
    /// The member.
    pub server: ServerName,
    /// Fingerprint of its root.
    pub fingerprint: String,
    /// Whether it has signed.
    pub signed: bool,
    /// Where our agreement with it stands; absent: there is none, or it is this homeserver.
    pub peer: Option<PeerState>,
    /// What its introduction says, a sentence a line.
    pub lines: Vec<String>,
    /// What changes in our agreement with it, which a former charter has made, once both have signed this one: in
    /// what either side states, a change a line.
    #[serde(default)]
    pub changes: Vec<String>,
}

/// What has become of each pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Which consortium.
    pub consortium: ConsortiumId,
    /// Counts its charters.
    pub serial: u64,
    /// By server name; this homeserver is not among them.
    pub pairs: Vec<JoinedPair>,
}

/// What has become of the agreement with one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinedPair {
    /// The member.
    pub server: ServerName,
    /// What came of it.
    pub outcome: JoinOutcome,
    /// That in words, and what to do.
    pub detail: String,
}

/// What came of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JoinOutcome {
    /// The agreement is in force from now on.
    Made,
    /// It had been made from this charter before.
    Known,
    /// An agreement that a former charter had made goes on by this one.
    Renewed,
    /// It will, when the other has done its part.
    Renewing,
    /// Another agreement stands, or a ceremony is under way: it was left as it is.
    Kept,
    /// The other has not signed yet.
    NotSigned,
    /// This side ended it after it had signed.
    Left,
    /// It can't be made.
    Refused,
}

/// The consortia whose charters this homeserver has signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consortia {
    /// By id.
    pub consortia: Vec<Consortium>,
}

/// A consortium whose charter this homeserver has signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consortium {
    /// The newest charter that was signed here, with the signatures that are known here.
    pub charter: CharterSummary,
    /// When it was signed here, milliseconds since the Unix epoch.
    pub signed_ms: u64,
}
