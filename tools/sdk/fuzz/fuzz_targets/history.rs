#![no_main]
//! What decodes as a part of a history has one encoding: the bytes that it was read from.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| entente_sdk::fuzzing::history(bytes));
