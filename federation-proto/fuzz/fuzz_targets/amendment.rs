#![no_main]
//! Opening an amendment reads certificates, a manifest and signatures of anybody's making: it never
//! panics, and what opens is what came.

use bytes::Bytes;
use federation_proto::agreement::Amendment;
use libfuzzer_sys::fuzz_target;

/// 2026-11-22 10:15 UTC, when the golden vectors are valid.
const NOW_MS: u64 = 1_795_342_500_000;

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(amendment) = Amendment::open(bytes.clone(), NOW_MS) {
        assert_eq!(*amendment.bytes(), bytes);
    }
});
