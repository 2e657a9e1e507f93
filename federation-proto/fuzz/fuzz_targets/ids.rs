#![no_main]
//! A text that reads as an identifier or an endpoint prints as itself.

use federation_proto::agreement::Endpoint;
use federation_proto::ids::{Address, Handle, RoomId, ServerName};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(id) = text.parse::<ServerName>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(id) = text.parse::<Handle>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(id) = text.parse::<Address>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(id) = text.parse::<RoomId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(endpoint) = text.parse::<Endpoint>() {
        assert_eq!(endpoint.to_string(), text);
    }
});
