#![no_main]
//! What reads as a record of the store is the same when it is written and read again.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| entente_sdk::fuzzing::records(bytes));
