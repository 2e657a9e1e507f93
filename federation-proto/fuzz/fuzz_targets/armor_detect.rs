#![no_main]
//! A text that reads as a document of a kind is one that is recognised as that kind.

use federation_proto::armor::{self, Kind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let detected = armor::detect(text);
    for kind in Kind::ALL {
        if armor::read(kind, text).is_ok() {
            assert_eq!(detected, Ok(kind));
        }
    }
});
