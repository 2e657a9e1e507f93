#![no_main]
//! An organisation's certificates, of anybody's making, never panic; and what is taken is kept as it
//! came. The first two bytes say where the root ends.

use bytes::Bytes;
use federation_proto::organisation::{OrganisationIdentity, tls_pin};
use libfuzzer_sys::fuzz_target;

/// 2026-11-22 10:15 UTC, when the golden vectors are valid.
const NOW_MS: u64 = 1_795_342_500_000;

fuzz_target!(|bytes: &[u8]| {
    let _ = tls_pin(bytes);
    let Some((length, rest)) = bytes.split_at_checked(2) else {
        return;
    };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    let Some((root, issuing)) = rest.split_at_checked(length) else {
        return;
    };
    let (root, issuing) = (
        Bytes::copy_from_slice(root),
        Bytes::copy_from_slice(issuing),
    );
    if let Ok(identity) = OrganisationIdentity::parse(root.clone(), issuing.clone(), NOW_MS) {
        assert_eq!((identity.root(), identity.issuing()), (&root, &issuing));
    }
});
