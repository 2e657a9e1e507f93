#![no_main]
//! No text makes the reader of key files panic.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| entente_sdk::fuzzing::key_file(text));
