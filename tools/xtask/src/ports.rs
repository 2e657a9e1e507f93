//! Free ports of the loopback interface.
//!
//! Below the range that the system hands out to outgoing connections: a homeserver that was killed
//! must find its port free when it comes back.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::failure::{Failure, Result};

/// Linux hands out ports from 32768 on.
const FIRST: u16 = 18_000;
const COUNT: u16 = 14_000;
/// How many were handed out by this process.
static HANDED_OUT: AtomicU32 = AtomicU32::new(0);

/// An address on loopback that nobody listens on now, and that this process hands out once. Processes side
/// by side start at places of their own.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let start = std::process::id().wrapping_mul(2_654_435_761) % u32::from(COUNT);
    for _ in 0..COUNT {
        let place = start.wrapping_add(HANDED_OUT.fetch_add(1, Ordering::Relaxed));
        let offset = u16::try_from(place % u32::from(COUNT)).unwrap_or(0);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST.saturating_add(offset)));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(Failure::Missing(format!(
        "no port from {FIRST} on is free on 127.0.0.1: end what listens there"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a port is below those for outgoing connections, is free, and is not handed out twice.
    /// Method: take some.
    #[test]
    fn ports_stay_free_for_a_restart() {
        let one = free_address().unwrap();
        let _held = TcpListener::bind(one).unwrap();
        for _ in 0..20 {
            let other = free_address().unwrap();
            assert_ne!(one, other);
            assert!((FIRST..32_000).contains(&other.port()), "{other}");
        }
    }
}
