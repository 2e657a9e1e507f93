#![no_main]
//! Times and sizes as people type them, for `hsctl` and for `chat`: any text is a value, or an error that quotes it.

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the program uses more of it")]
#[path = "../../chat/src/show/duration.rs"]
mod duration;
#[allow(dead_code, reason = "the program uses more of it")]
#[path = "../../admin/src/values.rs"]
mod values;

fuzz_target!(|text: &str| {
    let errors = [
        duration::parse_seconds(text).err(),
        values::parse_seconds(text).err(),
        values::parse_bytes(text).err(),
    ];
    for error in errors.into_iter().flatten() {
        assert!(error.contains(text));
    }
    if let Ok(seconds) = values::parse_seconds(text) {
        assert!(!values::duration(u64::from(seconds)).is_empty());
    }
    if let Ok(bytes) = values::parse_bytes(text) {
        assert!(!values::size(bytes).is_empty());
    }
});
