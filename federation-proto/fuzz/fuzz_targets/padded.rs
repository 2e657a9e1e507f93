#![no_main]
//! What is taken as a padded body has one encoding: the bytes that it was read from.

use bytes::Bytes;
use federation_proto::padding;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(content) = padding::unpad(&bytes, 1 << 20) {
        assert_eq!(padding::pad(&content), bytes);
    }
});
