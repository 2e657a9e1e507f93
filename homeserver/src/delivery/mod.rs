//! A message's way through this homeserver: submit, receive, deliver, acknowledge, expire.
//!
//! Deliberately absent: HTTP, and anything that could hold a plaintext.

pub mod outbox;
