//! What the fuzz targets in `fuzz/` call: each decoder of this crate, without its types.

use bytes::Bytes;
use federation_proto::codec::Wire as _;

use crate::certificate::{self, AnchorSet, Validity};
use crate::settings::RoomSettings;
use crate::{Observed, leaves_in, parse, removal};

/// The room's own extension has one encoding.
#[expect(clippy::expect_used, reason = "fuzzing stops at the first surprise")]
pub fn settings(bytes: &[u8]) {
    if let Ok(settings) = RoomSettings::from_bytes(Bytes::copy_from_slice(bytes)) {
        assert_eq!(settings.to_bytes().expect("it can be written"), bytes);
    }
}

/// The hub's removals.
pub fn removal(bytes: &[u8]) {
    if let Ok(read) = removal::read(bytes) {
        assert_eq!(bytes.get(5..21), Some(&read.room.as_bytes()[..]));
    }
}

/// Certificates, their names, and chains of two, of an organisation whose root is such bytes as well.
pub fn certificates(bytes: &[u8]) {
    let _ = (certificate::read(bytes), certificate::read_hub(bytes));
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = (
            certificate::parse_uri(text),
            certificate::parse_hub_uri(text),
        );
    }
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let _ = certificate::check_handover(first, first, second, 1_800_000_000);
    if let Ok(server) = "a.example".parse() {
        let anchors = AnchorSet::own(server, second.to_vec());
        let chain = [first, second];
        assert!(anchors.verify(&chain, Validity::NotJudged).is_err());
        assert!(anchors.verify_hub(&chain).is_err());
    }
}

/// Group infos and commits, as a hub reads them.
pub fn mls_message(bytes: &[u8]) {
    let _ = (parse(bytes), leaves_in(bytes));
    assert!(Observed::open(bytes, AnchorSet::default(), None).is_err());
}
