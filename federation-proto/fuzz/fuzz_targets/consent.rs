#![no_main]
//! What decodes as a consent is what came.

use bytes::Bytes;
use federation_proto::agreement::Consent;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(consent) = Consent::decode(bytes.clone()) {
        assert_eq!(*consent.bytes(), bytes);
    }
});
