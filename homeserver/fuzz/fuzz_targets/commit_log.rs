#![no_main]
//! Whatever a segment of the commit log holds is records of its own, or none. What gets past a checksum is
//! the one encoding of what it says.

use bytes::Bytes;
use homeserver::store::engine::log::record::{self, Body, Frame, Head, Header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // As a disk may hold it: no chance to be right, and none to do harm.
    if let Ok(Some(header)) = Header::read(bytes) {
        assert_eq!(Header::read(&header.encode()).unwrap(), Some(header));
    }
    let header = Header {
        log: *b"the id of a log.",
        segment: 1,
        bytes: 4096,
    };
    let all = Bytes::copy_from_slice(bytes);
    for at in (0..bytes.len()).step_by(record::ALIGNMENT) {
        let _ = Frame::read(&all, at, header.seed());
    }
    // With a head whose checksum holds, whatever it says.
    let mut sealed = bytes.to_vec();
    record::seal(&mut sealed, header.seed());
    let sealed = Bytes::from(sealed);
    let head = Head::read(&sealed, header.seed());
    if let Some(frame) = Frame::read(&sealed, 0, header.seed()) {
        assert_eq!(head.map(|head| head.sequence), Some(frame.sequence));
        assert!(frame.end >= record::HEAD_BYTES + frame.body.len());
    }
    // With both checksums right: as the body of a record.
    if let Some(body) = Body::decode(all.clone()) {
        assert_eq!(body.encode().unwrap(), bytes);
        if let Body::Batch(changes) = &body {
            let mut again = record::batch(7, changes).unwrap();
            record::seal(&mut again, header.seed());
            let frame = Frame::read(&Bytes::from(again), 0, header.seed()).unwrap();
            assert_eq!((frame.sequence, frame.body), (7, all));
        }
    }
});
