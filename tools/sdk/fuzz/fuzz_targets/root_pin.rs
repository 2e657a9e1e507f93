#![no_main]
//! No text makes the reader of typed fingerprints panic.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| entente_sdk::fuzzing::root_pin(text));
