#![no_main]
//! Whatever claims to be an MLS message is read or refused, never trusted with a length.

use homeserver::rooms::mls_framing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = mls_framing::application(bytes);
    let _ = mls_framing::commit(bytes);
    let _ = mls_framing::welcome(bytes);
});
