#![no_main]
//! What reads as a hub's removal is one whole message.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| room_rules::fuzzing::removal(bytes));
