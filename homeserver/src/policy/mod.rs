//! What the organisation's rules allow: pure functions of rules and input.
//!
//! Deliberately absent: HTTP and storage.
