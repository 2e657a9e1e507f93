#![no_main]
//! A text that reads as a refusal code prints as itself, and its number stands for it.

use federation_proto::refusal::RefusalCode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(code) = text.parse::<RefusalCode>() {
        assert_eq!(code.as_str(), text);
        assert_eq!(RefusalCode::from_number(code.number()), Some(code));
    }
});
