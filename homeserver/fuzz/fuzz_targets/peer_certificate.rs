#![no_main]
//! A certificate of anybody's making names a server or is refused.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = homeserver::tls::server_of(bytes);
});
