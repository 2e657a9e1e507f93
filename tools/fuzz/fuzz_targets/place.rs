#![no_main]
//! Where a message goes, as people write it for `chat`: any text is a place, kept as it was written, or an error.

// The client library's identifiers are the interface's own: the target needs nothing else of it.
extern crate homeserver_api as entente_sdk;

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the program uses more of it")]
#[path = "../../chat/src/place/written.rs"]
mod written;

use written::Place;

fuzz_target!(|text: &str| match text.parse() {
    Ok(Place::Room(digits)) => assert_eq!(digits, text.to_ascii_lowercase()),
    Ok(Place::With(address)) => assert_eq!(address.to_string(), text),
    Err(error) => assert!(!error.is_empty()),
});
