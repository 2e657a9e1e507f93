#![no_main]
//! Whatever a device sends is a frame that survives a second encoding, or an error.

use homeserver_api::session::ClientFrame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(frame) = ClientFrame::decode(bytes) {
        let again = frame.encode().unwrap();
        assert_eq!(ClientFrame::decode(&again).unwrap(), frame);
    }
});
