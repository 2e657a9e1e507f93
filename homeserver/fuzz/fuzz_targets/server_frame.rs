#![no_main]
//! Whatever a homeserver sends is a frame that survives a second encoding, or an error.

use homeserver_api::session::ServerFrame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(frame) = ServerFrame::decode(bytes) {
        let again = frame.encode().unwrap();
        assert_eq!(ServerFrame::decode(&again).unwrap(), frame);
    }
});
