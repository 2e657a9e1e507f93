#![no_main]
//! A relay's proof and inner envelope, of anybody's making, never panic; and what verifies is what
//! came.

use std::sync::LazyLock;

use bytes::Bytes;
use federation_proto::codec::Wire;
use federation_proto::ids::ServerName;
use federation_proto::manifest::{self, Manifest};
use federation_proto::payload::Relay;
use libfuzzer_sys::fuzz_target;

/// 2026-11-22 10:15 UTC, when the golden vectors are valid.
const NOW_MS: u64 = 1_795_342_500_000;

static NAMES: LazyLock<[ServerName; 2]> =
    LazyLock::new(|| ["a.example", "b.example"].map(|name| name.parse().unwrap()));
static MANIFEST: LazyLock<Manifest> = LazyLock::new(|| {
    let root = Bytes::from_static(include_bytes!("../../testdata/a-root.der"));
    let bytes = Bytes::from_static(include_bytes!("../../testdata/a-manifest.bin"));
    let decoded = manifest::decode(bytes).unwrap();
    decoded.verify(&NAMES[0], &root, None, NOW_MS).unwrap()
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(relay) = Relay::from_bytes(Bytes::copy_from_slice(bytes)) else {
        return;
    };
    let [a, b] = &*NAMES;
    let envelope = relay.envelope.clone();
    if let Ok(verified) = relay.proof.verify(envelope, &MANIFEST, a, b, NOW_MS) {
        assert_eq!(*verified.bytes(), relay.envelope);
        assert_eq!(verified.proof(), relay.proof);
    }
});
