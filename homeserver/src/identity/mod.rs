//! Accounts, their devices, how they sign in, and the key packages that others add them with.
//!
//! Deliberately absent: HTTP.

pub mod accounts;
mod accounts_cache;
pub mod devices;
mod error;
pub mod key_packages;
pub mod passwords;
pub mod user_types;

pub use accounts_cache::{AccountsCache, LocalAccount};
pub use error::IdentityError;
pub use passwords::SignInGuard;
