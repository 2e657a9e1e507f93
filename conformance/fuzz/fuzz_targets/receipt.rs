#![no_main]
//! Receipts: any bytes are one, to the last byte, or none.

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the suite uses more of it")]
#[path = "../../src/receipt.rs"]
mod receipt;
#[allow(dead_code, reason = "the suite uses more of it")]
#[path = "../../src/transaction.rs"]
mod transaction;
#[allow(dead_code, reason = "the suite uses more of it")]
#[path = "../../src/wire.rs"]
mod wire;

fuzz_target!(|bytes: &[u8]| {
    if let Some(receipt) = receipt::Receipt::decode(bytes) {
        let _ = receipt.is_signed_by(&receipt.root);
        assert!(receipt::Receipt::decode(&bytes[..bytes.len() - 1]).is_none());
        assert!(receipt::Receipt::decode(&[bytes, &[0]].concat()).is_none());
    }
});
