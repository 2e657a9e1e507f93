//! The composition root: opens the store, loads the keys, starts listeners and tasks, ends them.

use std::net::SocketAddr;

/// Where a request came from; an extension of every request on the client listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote(pub SocketAddr);
