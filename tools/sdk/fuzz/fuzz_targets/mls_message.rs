#![no_main]
//! No bytes make the parser of MLS messages panic.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| entente_sdk::fuzzing::mls_message(bytes));
