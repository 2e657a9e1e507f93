#![no_main]
//! `hsctl`'s session file: any bytes are sessions that survive a second writing, or an error.

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the program uses more of it")]
#[path = "../../admin/src/connection/sessions.rs"]
mod sessions;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(read) = sessions::read(bytes) {
        let written = sessions::write(&read).unwrap();
        assert!(sessions::read(&written).unwrap() == read);
    }
});
