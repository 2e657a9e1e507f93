//! Rooms: the order that a hub gives, and what a follower keeps of it.
//!
//! Deliberately absent: HTTP, and anything that could hold a plaintext.
