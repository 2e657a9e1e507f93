#![no_main]
//! What comes out of a padded body, padded again, is the same body.

use bytes::Bytes;
use federation_proto::padding::{pad, unpad};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(content) = unpad(bytes.clone(), bytes.len()) {
        assert_eq!(pad(&content), bytes);
    }
});
