#![no_main]
//! What decodes as a room's extension has one encoding: the bytes that it was read from.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| room_rules::fuzzing::settings(bytes));
