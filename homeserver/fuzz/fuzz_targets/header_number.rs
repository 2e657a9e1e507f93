#![no_main]
//! A header of a peer's holds a whole number or none.

use homeserver::federation::paths;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = HeaderValue::from_bytes(bytes) else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.insert(paths::EXPIRES_HEADER, value);
    if let Some(number) = paths::number(&headers, paths::EXPIRES_HEADER) {
        assert_eq!(number, number.to_string().parse::<u64>().expect("a number"));
        assert!(bytes.iter().all(u8::is_ascii_digit));
    }
});
