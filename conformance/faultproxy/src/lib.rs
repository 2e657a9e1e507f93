//! A TCP proxy that spoils what passes through it, on command and in each direction apart.
//!
//! It knows nothing of what it carries, so tests, trials and the conformance suite can all put it between any
//! two programs. What a fault does to bytes is decided in [`Line`], without I/O and with time as an
//! argument; [`Proxy`] does the listening and the copying.
//!
//! Deliberately absent: lost packets, which TCP hides (network namespaces with nftables lose them), and
//! randomness: the same bytes under the same faults come out the same.

mod fault;
mod line;
mod proxy;
mod tape;

pub use fault::{Fault, FaultError};
pub use line::{Line, Next};
pub use proxy::{Direction, Proxy};
pub use tape::Seen;
