#![no_main]
//! No text makes the reader of typed recovery codes panic, and what it reads it reads again as the same.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| entente_sdk::fuzzing::recovery_code(text));
