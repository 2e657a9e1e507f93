//! Accounts, devices and how they sign in.
