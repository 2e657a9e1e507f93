#![no_main]
//! The history of an account's devices as a server sends it: any bytes are one, to the last byte, or none; and each is judged.

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the suite uses more of it")]
#[path = "../../src/device_log.rs"]
mod device_log;
#[allow(dead_code, reason = "the suite uses more of it")]
#[path = "../../src/failure.rs"]
mod failure;
#[allow(dead_code, reason = "the suite uses more of it")]
#[path = "../../src/organisation.rs"]
mod organisation;
#[allow(dead_code, reason = "the suite uses more of it")]
#[path = "../../src/transaction.rs"]
mod transaction;
#[allow(dead_code, reason = "the suite uses more of it")]
#[path = "../../src/wire.rs"]
mod wire;

fuzz_target!(|bytes: &[u8]| {
    let mut input = wire::Decoder::new(bytes);
    if let Some(history) = device_log::History::read(&mut input) {
        let _ = (history.is_a_chain(), history.is_signed());
        let _ = history.at_its_newest();
        let held = history.is_in_the_log();
        assert!(!held || !history.statements.is_empty());
        assert!(history.size == 0 || history.has_grown_from((history.size, history.root)));
    }
});
