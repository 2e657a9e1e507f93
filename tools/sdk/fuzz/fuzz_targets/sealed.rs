#![no_main]
//! No bytes open as a sealed record or as the file `unlock`.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| entente_sdk::fuzzing::sealed(bytes));
