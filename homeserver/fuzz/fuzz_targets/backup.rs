#![no_main]
//! Whatever a backup's header asks is bounded, and what it holds is pieces of one encoding, in their order, or refused. Opening
//! it is left out: deriving a key from each input would take too long, and no input gets past a seal.

use homeserver::backup::contents::{Order, Pieces};
use homeserver::backup::sealing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if sealing::is_well_formed(bytes) {
        let (start, _) = bytes.split_first_chunk().unwrap();
        assert_eq!(sealing::header_bytes(start), Ok(bytes.len()));
    }
    let (mut pieces, mut order) = (Pieces::default(), Order::default());
    let mut again = Vec::new();
    pieces.feed(bytes);
    while let Ok(Some(piece)) = pieces.next_piece() {
        piece.encode(&mut again).unwrap();
        let _ = order.take(&piece);
    }
    assert!(bytes.starts_with(&again));
});
