#![no_main]
//! What decodes as SignedEvidence has one encoding, the bytes that it was read from, and is judged without a panic.

use bytes::Bytes;
use federation_proto::codec::Wire;
use federation_proto::deprovisioning::{Pages, SignedEvidence};
use libfuzzer_sys::fuzz_target;

const ROOT: &[u8] = include_bytes!("../../testdata/a-root.der");
const NOW_MS: u64 = 1_795_342_500_000;

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(value) = SignedEvidence::from_bytes(bytes.clone()) {
        assert_eq!(value.to_bytes().unwrap(), bytes);
        let _ = Pages::default().take(&value, &Bytes::from_static(ROOT), NOW_MS);
    }
});
