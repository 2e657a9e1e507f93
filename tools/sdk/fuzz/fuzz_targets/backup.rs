#![no_main]
//! No bytes make the reader of backup files panic, nor that of what is inside of one.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| entente_sdk::fuzzing::backup(bytes));
