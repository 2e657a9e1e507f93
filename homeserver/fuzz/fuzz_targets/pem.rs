#![no_main]
//! What is read out of a text armour is read out of it again when it is put into a new one.

use homeserver::organisation::pem;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // A request for an issuing CA, of anybody's making, is read or refused.
    let _ = homeserver::organisation::issuing::is_request(text);
    let _ = homeserver::organisation::root_change::is_signed(text);
    if let Some(bytes) = pem::decode("PRIVATE KEY", text) {
        assert_eq!(
            pem::decode("PRIVATE KEY", &pem::encode("PRIVATE KEY", &bytes)),
            Some(bytes)
        );
    }
});
