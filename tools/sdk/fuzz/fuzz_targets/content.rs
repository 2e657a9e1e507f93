#![no_main]
//! What decodes as a message's content has one encoding: the bytes that it was read from.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| entente_sdk::fuzzing::content(bytes));
