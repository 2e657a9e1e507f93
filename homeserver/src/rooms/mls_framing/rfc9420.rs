//! The vectors of RFC 9420 that our own parser can read: what every implementation agrees on. See `tests/vectors/rfc9420`.

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Header {
    vlbytes_header: String,
    length: usize,
}

#[derive(Deserialize)]
struct Messages {
    mls_welcome: String,
    mls_group_info: String,
    mls_key_package: String,
    public_message_application: String,
    public_message_proposal: String,
    public_message_commit: String,
    private_message: String,
}

fn messages() -> Messages {
    let text = include_str!("../../../tests/vectors/rfc9420/messages.json");
    serde_json::from_str(text).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

/// Where a message's authenticated data begin: behind version, wire format, group id, epoch, a member's index and, in a private
/// message, the content type in place of the sender.
const PUBLIC_DATA: usize = 4 + 17 + 8 + 5;
const PRIVATE_DATA: usize = 4 + 17 + 8 + 1;
/// What the vectors have as authenticated data.
const DATA: &[u8] = b"\x03aad";

/// Goal: lengths are read as all implementations do. Method: the vectors, and each length in a longer form.
#[test]
fn rfc9420_lengths() {
    let text = include_str!("../../../tests/vectors/rfc9420/deserialization.json");
    let headers: Vec<Header> = serde_json::from_str(text).unwrap();
    assert!(headers.len() >= 14);
    for Header {
        vlbytes_header,
        length,
    } in headers
    {
        let header = bytes(&vlbytes_header);
        let mut reader = Reader(&header);
        assert_eq!(reader.length(), Ok(length), "{vlbytes_header}");
        assert_eq!(reader.end(), Ok(()));
        if header.len() == 1 {
            let longer = [0x40, header[0]];
            assert_eq!(Reader(&longer).length(), Err(FramingError::Length));
        }
    }
}

/// Goal: our parser finds in messages of another implementation what is in them, to their last byte, and takes none for another
/// kind. Method: the vectors, whose group ids are as long as ours; where our messages have other authenticated data these are put in; every cut.
#[test]
fn rfc9420_messages() {
    let messages = messages();
    let room = RoomId::from_bytes(
        bytes("1f0242827f9c9d803bc5593fee9b8032")
            .try_into()
            .unwrap(),
    );
    let welcome_bytes = bytes(&messages.mls_welcome);
    assert_eq!(welcome(&welcome_bytes), Ok(()));
    let info = bytes(&messages.mls_group_info);
    assert_eq!(group_info(&info), Ok(GroupInfoFrame { room, epoch: 0 }));

    let theirs = bytes(&messages.public_message_commit);
    assert_eq!(commit(&theirs), Err(FramingError::Attributes));
    assert!(!comes_from_outside(&theirs));
    let ours = with_data(&theirs, PUBLIC_DATA, &[]);
    let frame = commit(&ours).unwrap();
    assert_eq!((frame.room, frame.epoch), (room, 0));

    let attributes = MessageAttributes {
        ttl_seconds: 60,
        burn_seconds: 0,
        label: 3,
        file: false,
    };
    let theirs = bytes(&messages.private_message);
    let mut ours = with_data(&theirs, PRIVATE_DATA, &attributes.encode());
    assert_eq!(application(&ours), Err(FramingError::Kind), "a proposal");
    ours[PRIVATE_DATA - 1] = APPLICATION;
    let frame = ApplicationFrame {
        room,
        epoch: 0,
        attributes,
    };
    assert_eq!(application(&ours), Ok(frame));

    for whole in [&welcome_bytes, &info, &ours] {
        let read = |bytes: &[u8]| {
            welcome(bytes).is_ok() || group_info(bytes).is_ok() || application(bytes).is_ok()
        };
        assert!(read(whole));
        assert!((0..whole.len()).all(|end| !read(&whole[..end])));
        assert!(!read(&[&whole[..], &[0]].concat()));
    }
    for other in [
        &messages.mls_key_package,
        &messages.public_message_application,
        &messages.public_message_proposal,
    ] {
        let other = bytes(other);
        assert!(commit(&other).is_err() && application(&other).is_err());
        assert!(welcome(&other).is_err() && group_info(&other).is_err());
    }
}

/// A message with other authenticated data than the vectors have.
fn with_data(message: &[u8], at: usize, data: &[u8]) -> Vec<u8> {
    assert_eq!(&message[at..at + DATA.len()], DATA);
    [
        &message[..at],
        &outside::vector(data),
        &message[at + DATA.len()..],
    ]
    .concat()
}
