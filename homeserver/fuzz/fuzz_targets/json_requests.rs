#![no_main]
//! Whatever comes as JSON, from either side, is a value that survives a second writing, or an error.

use libfuzzer_sys::fuzz_target;

#[path = "../every_json.rs"]
mod every_json;

fuzz_target!(|bytes: &[u8]| {
    for (_, reads) in every_json::EVERY_TYPE {
        reads(bytes);
    }
});
