#![no_main]
//! What the server under test sends: any bytes are a transaction, to the last byte, or none; and what is taken of it
//! gets a receipt.

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the suite uses more of it")]
#[path = "../../src/arrived.rs"]
mod arrived;
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
    if let Some(sent) = arrived::Sent::decode(bytes) {
        let _ = sent.is_signed_by(&sent.root);
        assert!(arrived::Sent::decode(&bytes[..bytes.len() - 1]).is_none());
        assert!(arrived::Sent::decode(&[bytes, &[0]].concat()).is_none());
        let (body, taken) = arrived::Lanes::default().take(&sent, [0; 8], 1);
        assert!(taken.len() <= sent.envelopes.len());
        let receipt = receipt::Receipt::decode(&[&body[..], &[0; 64]].concat()).unwrap();
        assert_eq!(receipt.answers.len(), sent.envelopes.len());
    }
});
