#![no_main]
//! What decodes as a countersignature is what came.

use bytes::Bytes;
use federation_proto::agreement::Countersignature;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(countersignature) = Countersignature::decode(bytes.clone()) {
        assert_eq!(*countersignature.bytes(), bytes);
    }
});
