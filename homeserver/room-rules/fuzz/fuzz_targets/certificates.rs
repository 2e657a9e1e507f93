#![no_main]
//! No bytes are a chain that anybody vouches for.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| room_rules::fuzzing::certificates(bytes));
