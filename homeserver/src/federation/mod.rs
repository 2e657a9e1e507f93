//! Federation: agreements with peers, what comes in from them and what goes out to them.

pub mod discovery;
pub mod files;
pub mod inbound;
pub mod outbound;
pub mod paths;
pub mod peers;
pub mod quarantine;

/// Everything of federation that goes on in the background: what waits is sent, files that are asked for
/// are fetched, agreements expire.
pub use outbound::run;

#[cfg(test)]
pub(crate) mod testing;
