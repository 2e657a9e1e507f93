#![no_main]
//! Opening a charter reads introductions, certificates and signatures of anybody's making: it never
//! panics, what opens is what came, and whatever follows from it restores and is covered by it.

use bytes::Bytes;
use federation_proto::agreement::{Agreement, Charter};
use libfuzzer_sys::fuzz_target;

/// 2026-11-22 10:15 UTC, when the golden vectors are valid.
const NOW_MS: u64 = 1_795_342_500_000;

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(charter) = Charter::open(bytes.clone(), NOW_MS) {
        assert_eq!(charter.to_bytes().unwrap(), bytes);
        let _ = charter.summary();
        let [first, second, ..] = charter.body().members.as_slice() else {
            panic!("a charter of one");
        };
        if let Ok(active) = charter.pair(&first.server, &second.server, NOW_MS) {
            let signed = active.signed();
            assert_eq!(signed.chartered().as_ref(), Some(charter.body()));
            // A charter renews what earlier ones have made, and covers no more than it says.
            assert!(charter.would_renew(signed).is_err());
            assert!(charter.covers(signed, &charter.renewed(signed.theirs()).unwrap()));
            let agreement = Agreement::Active(active);
            assert_eq!(Agreement::restore(&agreement.record()), Ok(agreement));
        }
    }
});
