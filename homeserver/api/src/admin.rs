//! HTTP + JSON of the admin API.
//!
//! Served on the homeserver's local socket (whoever may open the socket is the local operator) and
//! under the same paths on the client listener, there with `Authorization: Bearer TOKEN` from
//! `POST /admin/v1/sessions`.
//!
//! | method and path | request | answer |
//! |---|---|---|
//! | `POST /admin/v1/sessions` | [`SignInRequest`] | 201 [`SignInResponse`]; needs no token |
//! | `DELETE /admin/v1/sessions` | – | 204; ends the session of this token |
//! | `POST /admin/v1/password` | [`crate::password::ChangePasswordRequest`] | 204; the administrator's own, over the network; the other sessions end |
//! | `GET /admin/v1/server` | – | [`ServerStatus`] |
//! | `GET /admin/v1/user-types` | – | [`UserTypes`] |
//! | `PUT /admin/v1/user-types/{name}` | [`UserTypePolicy`] | [`UserType`] |
//! | `DELETE /admin/v1/user-types/{name}` | – | 204; refused while accounts use it |
//! | `GET /admin/v1/segments` | – | [`BarriersState`] |
//! | `PUT /admin/v1/segments` | [`BarriersRequest`] | [`BarriersChanged`]; only says what would change when asked so |
//! | `POST /admin/v1/explanations` | [`ExplainRequest`] | [`Explanation`]; asks the partner too, where the agreement grants it |
//! | `GET /admin/v1/explanations/{explanation}` | – | [`PartnerHalf`] |
//! | `GET /admin/v1/users` | – | [`Users`] |
//! | `POST /admin/v1/users` | [`CreateUserRequest`] | 201 [`CreatedUser`] |
//! | `GET /admin/v1/users/{handle}` | – | [`UserDetail`] |
//! | `PATCH /admin/v1/users/{handle}` | [`ChangeUserRequest`] | [`UserDetail`] |
//! | `DELETE /admin/v1/users/{handle}` | – | 204 |
//! | `POST /admin/v1/users/{handle}/password` | [`ResetPasswordRequest`] | [`CreatedUser`] |
//! | `POST /admin/v1/users/{handle}/device-reset` | – | 204; once, within 24 hours |
//! | `DELETE /admin/v1/users/{handle}/devices/{device}` | – | 204; its session is cut |
//! | `GET /admin/v1/peers` | – | [`Peers`] |
//! | `GET /admin/v1/peers/{server}` | – | [`PeerDetail`] |
//! | `POST /admin/v1/peers/offers` | [`OfferRequest`] | 201 [`PeeringDocument`] |
//! | `POST /admin/v1/peers/inspections` | [`PeeringDocument`] | [`DocumentSummary`]; changes nothing |
//! | `POST /admin/v1/peers/acceptances` | [`AcceptRequest`] | 201 [`PeeringDocument`] |
//! | `POST /admin/v1/peers/countersignatures` | [`CountersignRequest`] | 201 [`PeeringDocument`] |
//! | `POST /admin/v1/peers/activations` | [`PeeringDocument`] | [`PeerDetail`]; a countersignature, amendment, consent or declaration that can't arrive online |
//! | `POST /admin/v1/peers/{server}/amendments` | [`AmendRequest`] | 201 [`Amended`]; 200 when it only says what would change |
//! | `POST /admin/v1/peers/{server}/consents` | [`ConsentRequest`] | 201 [`PeeringDocument`] |
//! | `POST /admin/v1/peers/{server}/amendment-refusals` | [`RefuseAmendmentRequest`] | [`PeerDetail`] |
//! | `POST /admin/v1/peers/{server}/suspend` | [`ReasonRequest`] | [`PeerDetail`] |
//! | `POST /admin/v1/peers/{server}/resume` | – | [`PeerDetail`] |
//! | `POST /admin/v1/peers/{server}/revoke` | [`ReasonRequest`] | [`PeerDetail`] |
//! | `GET /admin/v1/keys` | – | [`KeysStatus`] |
//! | `POST /admin/v1/keys/envelope/rotate` | [`RotateKeyRequest`] | [`KeysStatus`] |
//! | `POST /admin/v1/keys/envelope/revoke` | [`RevokeEnvelopeKeyRequest`] | [`KeysStatus`] |
//! | `POST /admin/v1/keys/tls/rotate` | [`RotateKeyRequest`] | [`KeysStatus`] |
//! | `POST /admin/v1/keys/tls/revoke` | [`RevokeTlsKeyRequest`] | [`KeysStatus`] |
//! | `GET /admin/v1/quarantine` | – | [`Quarantine`], oldest first |
//! | `GET /admin/v1/quarantine/{document}` | – | [`QuarantinedDetail`] |
//! | `POST /admin/v1/quarantine/{document}/take` | – | [`PeeringDocument`]; it is no longer there |
//! | `DELETE /admin/v1/quarantine/{document}` | – | 204 |
//! | `POST /admin/v1/backups` | [`BackupRequest`] | the backup, sealed; over the local socket alone |
//! | `GET /admin/v1/restored` | – | [`RestoredStatus`]; 404 when it was never restored |
//! | `POST /admin/v1/restored/confirm` | – | 204; from now on everybody is served |
//! | `GET /admin/v1/outbox` | – | [`Outbox`] |
//! | `POST /admin/v1/outbox/{server}/retry` | – | 202; tries at once |
//! | `GET /admin/v1/dead-letters` | `?limit=` | [`DeadLetters`], newest first |
//! | `GET /admin/v1/reports` | `?state=&before=&limit=` | [`Reports`], newest first |
//! | `GET /admin/v1/reports/{report}` | – | [`ReportDetail`]; that it was read is audited |
//! | `POST /admin/v1/reports/{report}/close` | [`CloseReportRequest`] | [`ReportSummary`] |
//! | `GET /admin/v1/evidence`, `/evidence/{evidence}`, `/evidence/{evidence}/document` | | see [`crate::evidence`] |
//! | `GET /admin/v1/audit` | `?after=&limit=&since=&until=&action=&actor=&subject=` | [`AuditPage`], oldest first |
//! | `GET /admin/v1/audit/head` | – | [`AuditHead`], signed |
//! | `GET /admin/v1/audit/entries/{number}` | `?size=` | [`AuditProof`] |
//! | `GET /admin/v1/audit/growth/{from}` | – | [`AuditGrowth`] |
//! | `GET /admin/v1/audit/witnesses` | – | [`AuditWitnesses`] |
//! | `POST /admin/v1/audit/witnesses/{server}/settle` | – | 204; logs that contradict what was seen of them are no longer warned of |
//! | `POST /admin/v1/audit/erasures` | [`EraseRequest`] | 204; nobody can tell any more who a pseudonym was |
//!
//! [`KeysStatus`]: crate::keys::KeysStatus
//! [`RotateKeyRequest`]: crate::keys::RotateKeyRequest
//! [`RevokeEnvelopeKeyRequest`]: crate::keys::RevokeEnvelopeKeyRequest
//! [`RevokeTlsKeyRequest`]: crate::keys::RevokeTlsKeyRequest
//! [`UserTypePolicy`]: crate::policy::UserTypePolicy

use federation_proto::ids::{Handle, ServerName};
use serde::{Deserialize, Serialize};

pub use self::amendments::{
    AmendRequest, Amended, AmendmentEffect, ConsentRequest, Proposal, RefuseAmendmentRequest,
};
pub use self::audit::{
    AuditEntry, AuditExport, AuditGrowth, AuditHead, AuditPage, AuditProof, AuditSighting,
    AuditWitness, AuditWitnesses, EraseRequest,
};
pub use self::barriers::{
    BarrierChange, BarriersChanged, BarriersRequest, BarriersState, ExplainRequest,
    ExplainedContact, Explanation, PartnerHalf, PartnerState, PeopleOf,
};
pub use self::dead_letters::{DeadCount, DeadLetter, DeadLetters};
pub use self::quarantine::{Quarantine, Quarantined, QuarantinedDetail};
pub use self::reports::{
    CloseReportRequest, DisclosedMessage, ReportClosed, ReportDetail, ReportState, ReportSummary,
    Reports, Told,
};
pub use self::server::{
    BackupRequest, NodeStatus, RestoredAgreement, RestoredStatus, ServerStatus, StoreKeys,
};
pub use self::users::{
    AccountUsage, Amount, ChangeUserRequest, CreateUserRequest, CreatedUser, ResetPasswordRequest,
    UserDetail, UserSummary, UserType, UserTypes, Users,
};

mod amendments;
mod audit;
mod barriers;
mod dead_letters;
mod quarantine;
mod reports;
mod server;
mod users;

use crate::Base64;
use crate::password::Password;
use crate::policy::Bounds;

/// Most entries in one page of a list.
pub const PAGE_ENTRIES_MAX: usize = 1000;

/// An administrator signs in over the network.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignInRequest {
    /// The administrator's name.
    pub name: Handle,
    /// The administrator's password.
    pub password: Password,
}

/// A session of an administrator.
#[derive(Clone, Serialize, Deserialize)]
pub struct SignInResponse {
    /// Bearer token; keep it secret.
    pub token: String,
    /// When it ends, milliseconds since the Unix epoch.
    pub expires_ms: u64,
}

/// What one side grants the other's people, or claims for its own: see [`Terms`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Exchange messages in a room.
    Message,
    /// Ask for key packages and add people to a room.
    Invite,
    /// Look people up.
    Directory,
    /// Send files.
    Files,
}

/// One permission: this operation, for these user types of the stating side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The operation.
    pub operation: Operation,
    /// Names of the stating organisation's user types; empty: all of them.
    #[serde(default)]
    pub user_types: Vec<String>,
}

/// What one side states in an offer or an acceptance. Both sides' statements together decide: what
/// is allowed is their intersection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// What the stating side's people may do towards the partner's.
    pub outbound: Vec<Grant>,
    /// What the partner's people may do towards the stating side's.
    pub inbound: Vec<Grant>,
    /// Bounds of a message's time-to-live on this link; `default_seconds` is not used.
    pub ttl: Bounds,
    /// Most bytes that the partner may have waiting here.
    pub waiting_bytes_max: u64,
    /// Largest file, in bytes.
    pub file_bytes_max: u64,
    /// Highest classification label of a message; absent: any.
    #[serde(default = "any_label")]
    pub label_max: u8,
    /// Days until the agreement expires.
    pub valid_days: u32,
}

impl Default for Terms {
    fn default() -> Self {
        let all = || {
            [
                Operation::Message,
                Operation::Invite,
                Operation::Directory,
                Operation::Files,
            ]
            .into_iter()
            .map(|operation| Grant {
                operation,
                user_types: Vec::new(),
            })
            .collect()
        };
        Self {
            outbound: all(),
            inbound: all(),
            ttl: Bounds {
                min_seconds: 1,
                max_seconds: 30 * 24 * 60 * 60,
                default_seconds: 7 * 24 * 60 * 60,
            },
            waiting_bytes_max: 1024 * 1024 * 1024,
            file_bytes_max: 100 * 1024 * 1024,
            label_max: any_label(),
            valid_days: 365,
        }
    }
}

const fn any_label() -> u8 {
    u8::MAX
}

/// Ask for an offer to a partner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfferRequest {
    /// The partner.
    pub server: ServerName,
    /// What this side states; absent: everything, for a year.
    #[serde(default)]
    pub terms: Option<Terms>,
    /// Where the partner reaches this homeserver, `host:port` each; absent: as configured.
    #[serde(default)]
    pub endpoints: Vec<String>,
    /// Whom the partner's administrator turns to.
    #[serde(default)]
    pub contact: String,
}

/// Accept an offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptRequest {
    /// The offer, armored.
    pub document: String,
    /// The fingerprint of the offering organisation as its administrator read it aloud: the
    /// `fingerprint` of [`DocumentSummary`]. A wrong one is refused.
    pub fingerprint: String,
    /// What this side states; absent: everything, for a year.
    #[serde(default)]
    pub terms: Option<Terms>,
    /// Where the partner reaches this homeserver, `host:port` each; absent: as configured.
    #[serde(default)]
    pub endpoints: Vec<String>,
    /// Whom the partner's administrator turns to.
    #[serde(default)]
    pub contact: String,
}

/// Countersign an acceptance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountersignRequest {
    /// The acceptance, armored.
    pub document: String,
    /// The fingerprint of the accepting organisation as its administrator read it aloud: the
    /// `fingerprint` of [`DocumentSummary`]. A wrong one is refused: else whoever carries the
    /// documents could accept in the partner's name.
    pub fingerprint: String,
}

/// An armored document of two peers: an offer, an acceptance, or what follows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeeringDocument {
    /// Text between `-----BEGIN ENTENTE …-----` and `-----END ENTENTE …-----`.
    pub document: String,
    /// In an answer: what whoever made it should look at, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl PeeringDocument {
    /// A document without warnings.
    #[must_use]
    pub const fn new(document: String) -> Self {
        Self {
            document,
            warnings: Vec::new(),
        }
    }
}

/// A peering document in plain language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentSummary {
    /// `offer`, `acceptance`, `countersignature`, `amendment`, `consent` or `declaration`.
    pub kind: String,
    /// Who made it.
    pub from: ServerName,
    /// For whom.
    pub to: ServerName,
    /// Fingerprint of the maker's root, to compare over the telephone.
    pub fingerprint: String,
    /// The same as words to read aloud; none in a document that shows no root.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub words: String,
    /// What it states, a sentence a line.
    pub lines: Vec<String>,
    /// Why an offer or an acceptance can't be taken here, so that nobody compares fingerprints in vain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<String>,
}

/// Where an agreement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerState {
    /// We made an offer.
    Offered,
    /// We accepted their offer and wait for the countersignature.
    Accepted,
    /// Both signed; traffic flows.
    Active,
    /// One side paused it.
    Suspended,
    /// Past its last day.
    Expired,
    /// Ended by one side.
    Revoked,
}

/// All peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    /// By server name.
    pub peers: Vec<PeerSummary>,
}

/// What became of the last attempt to reach a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reachability {
    /// Whether it answered.
    pub answers: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl From<Result<(), String>> for Reachability {
    fn from(outcome: Result<(), String>) -> Self {
        Self {
            answers: outcome.is_ok(),
            reason: outcome.err(),
        }
    }
}

/// A peer in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerSummary {
    /// The peer.
    pub server: ServerName,
    /// Where its agreement stands.
    pub state: PeerState,
    /// Whether the link answered last time; absent: never tried.
    pub reachable: Option<Reachability>,
    /// When the agreement expires, milliseconds since the Unix epoch.
    pub expires_ms: Option<u64>,
    /// What an administrator should look at, a sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// A peer in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerDetail {
    /// What the list shows.
    #[serde(flatten)]
    pub summary: PeerSummary,
    /// Fingerprint of its root.
    pub fingerprint: Option<String>,
    /// Where it is reached.
    pub endpoints: Vec<String>,
    /// What both statements together allow, a sentence a line.
    pub lines: Vec<String>,
    /// Why it was suspended or revoked, and by which side.
    pub reason: Option<String>,
    /// What the partner proposes, and what waits for a consent here.
    #[serde(default)]
    pub proposal: Option<Proposal>,
    /// What we propose.
    #[serde(default)]
    pub own_proposal: Option<Proposal>,
}

/// Why an administrator does something; goes into the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReasonRequest {
    /// The reason.
    #[serde(default)]
    pub reason: String,
}

/// What waits for each peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbox {
    /// By server name.
    pub destinations: Vec<OutboxState>,
}

/// What waits for one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxState {
    /// The peer.
    pub server: ServerName,
    /// Envelopes that wait.
    pub waiting: u64,
    /// Their stored bytes, which the agreement bounds.
    pub waiting_bytes: u64,
    /// When the oldest was queued, milliseconds since the Unix epoch.
    pub oldest_ms: Option<u64>,
    /// What went wrong last, until something goes right.
    pub last_error: Option<String>,
    /// When it is tried next, milliseconds since the Unix epoch.
    pub next_attempt_ms: Option<u64>,
    /// Lanes whose mail waits because the peer is ahead of them, until what waits is numbered anew.
    #[serde(default)]
    pub held_lanes: u64,
    /// Envelopes that the peer has acknowledged since this process started.
    pub acknowledged: u64,
}

/// The last receipts of the links with one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipts {
    /// Newest first.
    pub receipts: Vec<ReceiptState>,
}

/// Who signed a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptDirection {
    /// The peer, for what it was sent.
    Given,
    /// This homeserver, for what the peer has sent.
    Signed,
}

/// One transaction and its receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptState {
    /// Who signed it.
    pub direction: ReceiptDirection,
    /// When, by the clock of whoever signed, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The link epoch.
    pub link_epoch: u64,
    /// The root of the transaction.
    pub transaction: String,
    /// Envelopes that were taken, now or before.
    pub taken: u64,
    /// Envelopes that were refused.
    pub refused: u64,
    /// Envelopes that were put off.
    pub deferred: u64,
    /// Lanes whose position it states.
    pub lanes: u64,
    /// The proof for a stranger who has both key manifests: the origin's signature and the receipt, as
    /// the protocol encodes them.
    pub proof: Base64,
}
