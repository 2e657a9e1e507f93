//! Entente's server-to-server protocol, without I/O.

pub mod ids;
pub mod limits;
pub mod refusal;
