#![no_main]
//! No bytes make the parser of MLS messages panic, and none are a room that a hub could keep.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| room_rules::fuzzing::mls_message(bytes));
