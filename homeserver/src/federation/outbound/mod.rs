//! What goes out to peers: one task for each, which sends what waits in the outbox.

mod backoff;
mod links;
mod network;
mod resolver;

pub use links::{LinkStatus, Links};
pub use network::{Network, ResponseBody, TlsNetwork};
