#![no_main]
//! What a server answers to an offer: any bytes are an acceptance, armor or a manifest, or none.

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the suite uses more of it")]
#[path = "../../src/agreement.rs"]
mod agreement;
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
    let armored = agreement::armored("ACCEPTANCE", bytes);
    assert!(agreement::unarmored("ACCEPTANCE", &armored).is_some_and(|read| read == bytes));
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = agreement::unarmored("ACCEPTANCE", text);
    }
    if let Some((manifest, _)) = agreement::parse_acceptance(bytes) {
        let _ = agreement::server_keys(&manifest);
        assert!(agreement::parse_acceptance(&bytes[..bytes.len() - 1]).is_none());
        assert!(agreement::parse_acceptance(&[bytes, &[0]].concat()).is_none());
    }
    let _ = agreement::server_keys(bytes);
});
