//! A device's session, without MLS and without a store: open, submit, receive, acknowledge.
//!
//! [`crate::Client`] runs one by itself; the load generator opens many by hand.

use std::sync::Arc;

use homeserver_api::ids::ServerName;
use homeserver_api::session::{ClientFrame, Hello, ServerFrame};

use crate::error::Error;

/// A homeserver as a client reaches it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Where: `host:port`.
    pub address: String,
    /// Its server name, which is its name in TLS.
    pub server: ServerName,
    #[expect(dead_code, reason = "read when a session opens")]
    tls: Arc<rustls::ClientConfig>,
}

impl Endpoint {
    /// A homeserver whose certificate must lead to the root with this SHA-256 (64 hexadecimal
    /// digits; spaces and colons between them don't matter).
    ///
    /// # Errors
    /// When the fingerprint is not one.
    pub fn new(address: &str, server: ServerName, root_sha256: &str) -> Result<Self, Error> {
        let _ = (address, server, root_sha256);
        unimplemented!()
    }
}

/// An open session.
#[derive(Debug)]
pub struct Session {
    _private: (),
}

/// The sending half of a session.
#[derive(Debug)]
pub struct Sender {
    _private: (),
}

/// The receiving half of a session.
#[derive(Debug)]
pub struct Receiver {
    _private: (),
}

impl Session {
    /// Opens a session with a device's token.
    ///
    /// # Errors
    /// When the homeserver can't be reached, is not the pinned one, or refuses the token.
    pub async fn open(endpoint: &Endpoint, token: &str) -> Result<(Self, Hello), Error> {
        let _ = (endpoint, token);
        unimplemented!()
    }

    /// Both halves, to be used at the same time.
    #[must_use]
    pub fn split(self) -> (Sender, Receiver) {
        unimplemented!()
    }

    /// See [`Sender::send`].
    ///
    /// # Errors
    /// When the session has ended or the frame is too long.
    pub async fn send(&mut self, frame: &ClientFrame) -> Result<(), Error> {
        let _ = frame;
        unimplemented!()
    }

    /// See [`Receiver::next`].
    ///
    /// # Errors
    /// When the session broke or the homeserver sent something else than a frame.
    pub async fn next(&mut self) -> Result<Option<ServerFrame>, Error> {
        unimplemented!()
    }
}

impl Sender {
    /// Sends one frame.
    ///
    /// # Errors
    /// When the session has ended or the frame is too long.
    pub async fn send(&mut self, frame: &ClientFrame) -> Result<(), Error> {
        let _ = frame;
        unimplemented!()
    }

    /// Sends one frame that was encoded beforehand.
    ///
    /// # Errors
    /// When the session has ended.
    pub async fn send_encoded(&mut self, frame: bytes::Bytes) -> Result<(), Error> {
        let _ = frame;
        unimplemented!()
    }

    /// Ends the session.
    ///
    /// # Errors
    /// When it had ended otherwise.
    pub async fn close(&mut self) -> Result<(), Error> {
        unimplemented!()
    }
}

impl Receiver {
    /// The next frame; `None` when the homeserver ended the session.
    ///
    /// # Errors
    /// When the session broke or the homeserver sent something else than a frame.
    pub async fn next(&mut self) -> Result<Option<ServerFrame>, Error> {
        unimplemented!()
    }

    /// The next frame's bytes, not decoded; `None` when the homeserver ended the session.
    ///
    /// # Errors
    /// When the session broke.
    pub async fn next_encoded(&mut self) -> Result<Option<bytes::Bytes>, Error> {
        unimplemented!()
    }
}
