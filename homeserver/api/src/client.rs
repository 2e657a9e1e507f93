//! HTTP + JSON of the client API.
//!
//! | method and path | request | answer |
//! |---|---|---|
//! | `GET /v1/server` | – | [`ServerInfo`]; needs no token |
//! | `POST /v1/devices` | [`EnrolRequest`] | 201 [`EnrolResponse`], or 202 [`EnrolPending`]; needs no token |
//! | `POST /v1/devices/waiting` | – | 201 [`EnrolResponse`], or 202 [`EnrolPending`]; with the token of [`EnrolPending`] |
//! | `POST /v1/devices/waiting/{device}` | [`ApproveRequest`] | 204; one of [`AccountInfo::waiting`] |
//! | `DELETE /v1/devices/waiting/{device}` | – | 204; it is turned away |
//! | `GET /v1/account` | – | [`AccountInfo`] |
//! | `PUT /v1/account/rules` | [`OwnRules`] | 204; tighter than the user type, or refused |
//! | `POST /v1/account/sign-in` | [`SignInAgainRequest`] | 204; this device's sign-in counts anew |
//! | `POST /v1/account/banner` | [`AgreeRequest`] | 204; this device may act when nothing else is missing |
//! | `POST /v1/account/password` | [`crate::password::ChangePasswordRequest`] | 204; devices stay signed in |
//! | `DELETE /v1/devices/{device}` | – | 204; one of the account's own devices |
//! | `POST /v1/certificate` | [`RenewRequest`] | [`RenewResponse`]; this device |
//! | `PUT /v1/key-packages` | [`KeyPackages`] | [`KeyPackageCount`]; this device, adds to what waits; a renewed certificate takes all back |
//! | `GET /v1/key-packages` | – | [`KeyPackageCount`] |
//! | `GET`, `PUT`, `DELETE /v1/contacts…` | see [`crate::contacts`] | |
//! | `GET /v1/anchors` | – | [`Anchors`] |
//! | `GET /v1/room-certificate` | – | [`RoomCertificate`] |
//! | `GET /v1/device-log/head/{from}` | – | [`LogHead`] |
//! | `GET /v1/device-log/accounts/{account}/{known}` | – | [`AccountHistory`] of one of the organisation's accounts |
//! | `GET /v1/device-log/statements/{after}` | – | [`LogStatements`], at most 1,000 |
//! | `POST /v1/files` | the encrypted bytes; `Content-Length` and [`TTL_HEADER`] | 201 [`FileInfo`] |
//! | `GET /v1/files/{server}/{file}` | – | 200 the bytes, or 202 with `Retry-After` while the homeserver fetches them from the peer |
//! | `GET /v1/session` | WebSocket upgrade | see [`crate::session`] |
//!
//! Every other request carries `Authorization: Bearer TOKEN` with the token of [`EnrolResponse`]. Where the user type asks for
//! the password again, or for consent to a notice, and it is missing, a device may read its account, do what is missing, and
//! remove a device; anything else is answered 403.

use federation_proto::ids::{AccountId, Address, DeviceId, FileId, Handle, ServerName};
use serde::{Deserialize, Serialize};

use crate::Base64;
use crate::password::Password;
use crate::policy::{OwnRules, UserTypePolicy};

/// Header of an upload: how many seconds the file is kept.
pub const TTL_HEADER: &str = "entente-ttl-seconds";
/// Header of a session's beginning: which version of which program the client is, as [`crate::policy::ClientVersion`].
pub const CLIENT_VERSION_HEADER: &str = "entente-client-version";
/// Most key packages that wait for one device, the last-resort one apart.
pub const KEY_PACKAGES_MAX: usize = 100;
/// Longest name of a device, in bytes.
pub const DEVICE_NAME_BYTES_MAX: usize = 64;

/// Who this homeserver is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Its server name.
    pub server: ServerName,
    /// Its software version.
    pub version: String,
    /// SHA-256 of the organisation's root certificate (DER), lower-case hexadecimal.
    pub root_sha256: String,
    /// Its clock, milliseconds since the Unix epoch.
    pub server_time_ms: u64,
}

/// A new device signs in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// The account's handle.
    pub handle: Handle,
    /// The account's password.
    pub password: Password,
    /// PKCS#10 request (DER) for the device's Ed25519 key, which is its MLS signature key.
    pub csr: Base64,
    /// What the user calls the device.
    pub device_name: String,
    /// Whether it comes without the approval of another device of the account. Has no effect for the first one.
    #[serde(default)]
    pub reset: bool,
}

impl std::fmt::Debug for EnrolRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EnrolRequest({}, {})", self.handle, self.device_name)
    }
}

/// The device is enrolled.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolResponse {
    /// The account's address.
    pub address: Address,
    /// The account.
    pub account: AccountId,
    /// The new device.
    pub device: DeviceId,
    /// Bearer token of the device; keep it secret.
    pub token: String,
    /// The device's certificate and the issuing CA's (DER), in this order.
    pub chain: Vec<Base64>,
    /// The organisation's root certificate (DER).
    pub root: Base64,
    /// The end of the certificate's validity, milliseconds since the Unix epoch.
    pub not_after_ms: u64,
}

impl std::fmt::Debug for EnrolResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EnrolResponse({}, {})", self.address, self.device)
    }
}

/// The password was right, and a device of the account has to approve this one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolPending {
    /// The account's address.
    pub address: Address,
    /// The account.
    pub account: AccountId,
    /// The device that waits.
    pub device: DeviceId,
    /// Bearer token with which it asks how it stands, and which is the device's once it is approved; keep it
    /// secret.
    pub token: String,
    /// The organisation's root certificate (DER).
    pub root: Base64,
    /// Until when it waits, milliseconds since the Unix epoch.
    pub until_ms: u64,
}

impl std::fmt::Debug for EnrolPending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EnrolPending({}, {})", self.address, self.device)
    }
}

/// A device of the account approves one that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApproveRequest {
    /// The account's next device statement, with the approval (protocol section 15).
    pub statement: Base64,
}

/// A device that waits for approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingDevice {
    /// Its id.
    pub device: DeviceId,
    /// What the user calls it.
    pub name: String,
    /// Its Ed25519 public key.
    pub public_key: Base64,
    /// When it signed in, milliseconds since the Unix epoch.
    pub asked_ms: u64,
    /// Until when it waits, milliseconds since the Unix epoch.
    pub until_ms: u64,
}

/// How a device came to its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Came {
    /// As its first one.
    First,
    /// Approved by a device of the account.
    Approved {
        /// That device.
        by: DeviceId,
    },
    /// By a reset.
    Reset,
}

/// The organisation's device log as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHead {
    /// Its signed head (protocol section 15).
    pub head: Base64,
    /// What shows its growth from the size that was named, when it is larger.
    pub growth: Option<Base64>,
}

/// An account's devices, with their proofs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountHistory {
    /// The device history (protocol section 15).
    pub history: Base64,
}

/// Most statements in one answer.
pub const LOG_STATEMENTS_MAX: usize = 1000;

/// A stretch of the organisation's device log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStatements {
    /// Statements, in the log's order.
    pub statements: Vec<Base64>,
}

/// The account as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountInfo {
    /// Its address.
    pub address: Address,
    /// Its id.
    pub account: AccountId,
    /// Its user type's name.
    pub user_type: String,
    /// What its user type allows, and its owner leaves of it.
    pub policy: UserTypePolicy,
    /// What its owner has chosen.
    #[serde(default)]
    pub own: OwnRules,
    /// SHA-256 of the notice in `policy`, lower-case hexadecimal.
    #[serde(default)]
    pub banner_sha256: Option<String>,
    /// Its devices.
    pub devices: Vec<DeviceInfo>,
    /// Devices that wait for one of them to approve them.
    pub waiting: Vec<WaitingDevice>,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// Its id.
    pub device: DeviceId,
    /// What the user calls it.
    pub name: String,
    /// When it was enrolled, milliseconds since the Unix epoch.
    pub enrolled_ms: u64,
    /// The end of its certificate's validity, milliseconds since the Unix epoch.
    pub not_after_ms: u64,
    /// How it came to the account.
    pub came: Came,
}

/// A device's user types the password again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignInAgainRequest {
    /// The account's password.
    pub password: Password,
}

/// A device's user agrees to the organisation's notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgreeRequest {
    /// SHA-256 of the text that was read, lower-case hexadecimal.
    pub banner_sha256: String,
}

/// A device asks for a new certificate for a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// PKCS#10 request (DER) for the device's Ed25519 key.
    pub csr: Base64,
}

/// The new certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewResponse {
    /// The device's certificate and the issuing CA's (DER), in this order.
    pub chain: Vec<Base64>,
    /// The end of the certificate's validity, milliseconds since the Unix epoch.
    pub not_after_ms: u64,
}

/// Key packages for others to claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPackages {
    /// Each is claimed once (MLS key package messages).
    pub single_use: Vec<Base64>,
    /// Handed out when no other is left; replaces the former one. Absent: keep the former one.
    pub last_resort: Option<Base64>,
}

/// What waits to be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPackageCount {
    /// Single-use key packages left.
    pub single_use: usize,
    /// Whether there is a last-resort one.
    pub last_resort: bool,
}

/// The roots that device certificates of each organisation must chain to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchors {
    /// The own organisation's, and each peer's with an active or suspended agreement.
    pub anchors: Vec<Anchor>,
    /// Those of organisations with which the agreement has ended, for 90 days from then, without a head of their
    /// logs: by them members are judged in rooms that the device is in, and nobody anywhere else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<Anchor>,
}

/// One organisation's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The organisation's homeserver: the root vouches for device certificates of this name only.
    pub server: ServerName,
    /// The root certificate (DER).
    pub root: Base64,
    /// Roots that the organisation had before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<FormerAnchor>,
    /// Of the own organisation: the root, certified by the one before it (DER), while devices may know that one alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover: Option<Base64>,
    /// The newest head of its device log that is known here (protocol section 15).
    pub log_head: Option<Base64>,
}

/// A root that an organisation had before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerAnchor {
    /// The root certificate (DER).
    pub root: Base64,
    /// It vouches for device certificates that end no later than this, milliseconds since the Unix epoch.
    pub until_ms: u64,
}

/// What names this homeserver as the hub of the rooms that its people create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomCertificate {
    /// Its room certificate and the issuing CA's (DER), in this order.
    pub chain: Vec<Base64>,
}

/// An uploaded file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Where it lies.
    pub server: ServerName,
    /// Its id there.
    pub file: FileId,
    /// Its length, encrypted.
    pub bytes: u64,
    /// When it is deleted, milliseconds since the Unix epoch.
    pub expires_ms: u64,
}
