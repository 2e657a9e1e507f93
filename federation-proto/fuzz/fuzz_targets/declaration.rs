#![no_main]
//! What decodes as a declaration is what came.

use bytes::Bytes;
use federation_proto::agreement::Declaration;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(declaration) = Declaration::decode(bytes.clone()) {
        assert_eq!(*declaration.bytes(), bytes);
    }
});
