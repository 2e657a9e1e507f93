//! A federated homeserver for one organisation.

pub mod node;
pub mod store;
