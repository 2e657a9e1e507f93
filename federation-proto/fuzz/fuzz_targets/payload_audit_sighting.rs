#![no_main]
//! What decodes as a SignedSighting has one encoding: the bytes that it was read from.

use bytes::Bytes;
use federation_proto::audit_log::SignedSighting;
use federation_proto::codec::Wire;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(value) = SignedSighting::from_bytes(bytes.clone()) {
        assert_eq!(value.to_bytes().unwrap(), bytes);
    }
});
