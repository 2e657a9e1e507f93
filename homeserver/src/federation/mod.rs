//! Federation: agreements with peers, what comes in from them and what goes out to them.

pub mod files;
pub mod inbound;
pub mod outbound;
pub mod paths;
pub mod peers;

#[cfg(test)]
mod testing;
