#![no_main]
//! No bytes open as a chunk of a file, whatever the length that its message claims.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| entente_sdk::fuzzing::file_chunks(bytes));
