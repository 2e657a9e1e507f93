#![no_main]
//! What is typed in `chat talk`: any bytes are keys, the same wherever they are cut.

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the program uses more of it")]
#[path = "../../chat/src/talk/keys.rs"]
mod keys;

fuzz_target!(|bytes: &[u8]| {
    let Some((cut, bytes)) = bytes.split_first() else {
        return;
    };
    let (before, after) = bytes.split_at(usize::from(*cut).min(bytes.len()));
    let mut pieces = keys::Keys::default();
    let mut got = pieces.take(before);
    got.extend(pieces.take(after));
    assert_eq!(got, keys::Keys::default().take(bytes));
});
