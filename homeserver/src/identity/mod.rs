//! Accounts, devices and how they sign in.

pub mod passwords;
