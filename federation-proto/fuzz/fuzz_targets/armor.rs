#![no_main]
//! A text that reads as a document in armor writes as one that reads the same.

use federation_proto::armor::{self, Kind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for kind in Kind::ALL {
        if let Ok(document) = armor::read(kind, text) {
            let again = armor::write(kind, &document);
            assert_eq!(armor::read(kind, &again), Ok(document));
        }
    }
});
