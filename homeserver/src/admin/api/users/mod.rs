//! Accounts.

pub(super) mod allow_reset;
pub(super) mod change;
pub(super) mod create;
pub(super) mod delete;
pub(super) mod list;
pub(super) mod remove_device;
pub(super) mod reset_password;
pub(super) mod show;
