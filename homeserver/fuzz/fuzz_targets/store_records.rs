#![no_main]
//! Whatever the disk holds is a record that survives a second writing, or an error. The first byte tells how
//! many of the next are the end of every key.

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

#[path = "../every_record.rs"]
mod every_record;

static RECORDS: LazyLock<every_record::Records> = LazyLock::new(every_record::Records::default);

fuzz_target!(|bytes: &[u8]| {
    let Some((length, rest)) = bytes.split_first() else {
        return;
    };
    let (suffix, value) = rest
        .split_at_checked(usize::from(*length))
        .unwrap_or((&[], rest));
    RECORDS.read_every(suffix, value);
});
