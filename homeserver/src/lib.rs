//! A federated homeserver for one organisation.

pub mod admin;
pub mod audit;
pub mod backup;
pub mod ciphertext;
pub mod client_api;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod delivery;
#[cfg(feature = "faults")]
pub mod faults;
pub mod federation;
pub mod http_client;
pub mod identity;
pub mod node;
pub mod organisation;
pub mod policy;
pub mod rooms;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod tls;
