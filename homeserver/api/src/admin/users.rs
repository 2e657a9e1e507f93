//! Accounts and their user types.

use federation_proto::ids::{AccountId, Address, Handle};
use serde::{Deserialize, Serialize};

use crate::client::DeviceInfo;
use crate::password::Password;
use crate::policy::UserTypePolicy;

/// A named policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserType {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub policy: UserTypePolicy,
}

/// All user types.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserTypes {
    /// By name.
    pub user_types: Vec<UserType>,
}

/// A new account.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateUserRequest {
    /// Its handle; never one that somebody else had.
    pub handle: Handle,
    /// Its user type; absent: `standard`.
    #[serde(default)]
    pub user_type: Option<String>,
    /// Its first password; absent: the homeserver makes one.
    #[serde(default)]
    pub password: Option<Password>,
}

/// An account and the password to hand to its owner.
#[derive(Clone, Serialize, Deserialize)]
pub struct CreatedUser {
    /// Its address.
    pub address: Address,
    /// Its id.
    pub account: AccountId,
    /// Its user type.
    pub user_type: String,
    /// The password, when the homeserver made it.
    pub password: Option<Password>,
}

/// A change to an account; what is absent stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeUserRequest {
    /// Its new user type.
    #[serde(default)]
    pub user_type: Option<String>,
    /// Whether it is suspended: sessions are cut, nothing is sent or received.
    #[serde(default)]
    pub suspended: Option<bool>,
}

/// A new password for an account.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetPasswordRequest {
    /// The password; absent: the homeserver makes one.
    #[serde(default)]
    pub password: Option<Password>,
}

/// All accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Users {
    /// By handle.
    pub users: Vec<UserSummary>,
}

/// An account in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSummary {
    /// Its address.
    pub address: Address,
    /// Its id.
    pub account: AccountId,
    /// Its user type.
    pub user_type: String,
    /// Whether it is suspended.
    pub suspended: bool,
    /// How many devices it has.
    pub devices: usize,
}

/// An account in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserDetail {
    /// What the list shows.
    #[serde(flatten)]
    pub summary: UserSummary,
    /// Its devices.
    pub device_list: Vec<DeviceInfo>,
    /// When it was created, milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// What it takes up; absent from an older homeserver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<AccountUsage>,
}

/// How much there is of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Amount {
    /// Messages.
    pub messages: u64,
    /// Their bytes, as stored.
    pub bytes: u64,
}

/// What an account takes up, and may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AccountUsage {
    /// Messages that wait for the one of its devices for which most wait.
    pub inbox: Amount,
    /// So many may wait for each of its devices.
    pub inbox_max: Amount,
    /// What it has sent and waits here for other organisations.
    pub outbox: Amount,
    /// So much may.
    pub outbox_max: Amount,
    /// Bytes of files that it has here.
    pub file_bytes: u64,
    /// So many may be.
    pub file_bytes_max: u64,
}
