#![no_main]
//! A device's certificate request of anybody's making is read or refused.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = homeserver::organisation::request_key(bytes);
});
