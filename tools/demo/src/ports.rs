//! Free ports of the loopback interface.
//!
//! Below the range that the system hands out to outgoing connections: a homeserver that was killed
//! must find its port free when it comes back.

use std::net::{Ipv4Addr, TcpListener};

use crate::failure::{Failure, Result};

/// Linux hands out ports from 32768 on.
const FIRST: u16 = 18_000;
const LAST: u16 = 31_999;

/// Hands out ports that nobody listens on.
pub(crate) struct Ports {
    next: u16,
}

impl Ports {
    /// Starts at a place that differs between processes, so that demonstrations side by side do not
    /// race for the same ports.
    pub(crate) fn new() -> Self {
        let spread = u32::from(LAST - FIRST);
        let offset = std::process::id().wrapping_mul(2_654_435_761) % spread;
        Self {
            next: FIRST + u16::try_from(offset).unwrap_or(0),
        }
    }

    /// A port that is free now.
    pub(crate) fn free(&mut self) -> Result<u16> {
        for _ in FIRST..=LAST {
            let port = self.next;
            self.next = if port == LAST { FIRST } else { port + 1 };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(port);
            }
        }
        Err(Failure::new(format!(
            "can't find a free port between {FIRST} and {LAST} on 127.0.0.1"
        )))
    }
}
