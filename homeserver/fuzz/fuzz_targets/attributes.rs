#![no_main]
//! What decodes as message attributes has one encoding: the bytes that it was read from.

use homeserver_api::attributes::MessageAttributes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(attributes) = MessageAttributes::decode(bytes) {
        assert_eq!(attributes.encode().as_slice(), bytes);
    }
});
