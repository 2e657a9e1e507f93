#![no_main]
//! A text that reads as a fingerprint prints as one that reads the same.

use federation_proto::fingerprint::Fingerprint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(fingerprint) = text.parse::<Fingerprint>() {
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
    }
});
