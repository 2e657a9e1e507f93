#![no_main]
//! Whatever claims to be an MLS message is read or refused, never trusted with a length.

use homeserver::rooms::mls_framing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = mls_framing::application(bytes);
    let _ = mls_framing::commit(bytes);
    let _ = mls_framing::welcome(bytes);
    let _ = mls_framing::group_info(bytes);
    if mls_framing::external_commit(bytes).is_ok() {
        assert!(mls_framing::comes_from_outside(bytes) && mls_framing::commit(bytes).is_err());
    }
});
