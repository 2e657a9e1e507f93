use super::*;
use crate::content::Order;
use crate::message::MessageId;

pub(crate) fn message(text: &str, label: u8, sha256: Option<Digest>) -> PastMessage {
    PastMessage {
        room: RoomId::from_bytes([1; 16]),
        device: Member {
            server: "b.example".parse().unwrap(),
            account: AccountId::from_bytes([2; 16]),
            device: DeviceId::from_bytes([3; 16]),
        },
        handle: "bob".parse().unwrap(),
        accepted_ms: 1,
        expires_ms: 2,
        order_ms: 3,
        message_sha256: sha256,
        content: Content {
            id: MessageId::from_bytes([4; 16]),
            sent_ms: 5,
            ttl_seconds: 6,
            burn_seconds: 7,
            label,
            order: Order {
                number: 9,
                in_epoch: 2,
                recent: vec![8],
                older: 7,
            },
            part: Part::Text(text.to_owned()),
        },
    }
}

fn entries(text: &str, label: u8, statement: &[u8]) -> Vec<Entry> {
    vec![
        Entry::Conversation(Conversation {
            room: RoomId::from_bytes([1; 16]),
            hub: "a.example".parse().unwrap(),
            addresses: vec!["bob@b.example".parse().unwrap()],
        }),
        Entry::Message(Box::new(message(text, label, None))),
        Entry::Message(Box::new(message(text, 0, Some(Digest::of(b"x"))))),
        Entry::Person(PastPerson {
            server: "b.example".parse().unwrap(),
            account: AccountId::from_bytes([2; 16]),
            handle: "bob".parse().unwrap(),
            confirmed: 9,
            statements: vec![statement.to_vec(), Vec::new()],
        }),
    ]
}

fn encoded(entries: &[Entry]) -> Vec<(u8, Vec<u8>)> {
    let label = |entry: &Entry| match entry {
        Entry::Message(message) => message.content.label,
        _ => 0,
    };
    let encode = |entry| (label(entry), entry.encode().unwrap());
    entries.iter().map(encode).collect()
}

/// Goal: the encoding is what the protocol's text says; by bytes written out by hand.
#[test]
fn known_bytes() {
    let entry = Entry::Message(Box::new(message("hi", 0, None)));
    let expected = [
        "02",
        &"01".repeat(16),
        "09622e6578616d706c65",
        &"02".repeat(16),
        &"03".repeat(16),
        "03626f62",
        "0000000000000001",
        "0000000000000002",
        "0000000000000003",
        "00",
        // Its order stays in it: a number, one in the epoch before, when that one and the older ones end.
        "003c",
        "01",
        &"04".repeat(16),
        "0000000000000005",
        "00000006",
        "00000007",
        "00",
        "0000000000000009",
        "00000002",
        "01",
        "00000008",
        "00000007",
        "01",
        "0002",
        "6869",
    ]
    .concat();
    assert_eq!(hex::encode(entry.encode().unwrap()), expected);
    let conversation = &entries("", 0, b"")[0];
    let expected = [
        "01",
        &"01".repeat(16),
        "09612e6578616d706c65",
        "0001",
        "09622e6578616d706c65",
        "03626f62",
    ]
    .concat();
    assert_eq!(hex::encode(conversation.encode().unwrap()), expected);
    let person = &entries("", 0, b"ab")[3];
    let expected = [
        "03",
        "09622e6578616d706c65",
        &"02".repeat(16),
        "03626f62",
        "0000000000000009",
        "0002",
        "00026162",
        "0000",
    ]
    .concat();
    assert_eq!(hex::encode(person.encode().unwrap()), expected);
}

/// Goal: the longest message fits a part, parts are as full as they may be and no fuller, and a part's label is the
/// highest in it. Method: many entries of all sizes, read again part by part.
#[test]
fn parts() {
    let longest = "x".repeat(crate::content::TEXT_BYTES_MAX);
    let mut all = Vec::new();
    for length in [1, 20_000, 30_000, 40_000, longest.len(), 5] {
        all.extend(entries(&longest[..length], 3, b"statement"));
    }
    let parts = cut(encoded(&all));
    assert!(parts.len() > 3);
    let of = u32::try_from(parts.len()).unwrap();
    let mut read = Vec::new();
    for (number, (label, entries)) in (0..).zip(&parts) {
        let bytes = encode_part([8; 16], number, of, entries);
        assert!(bytes.len() <= HISTORY_PART_BYTES_MAX);
        let part = HistoryPart::decode(&bytes).unwrap();
        assert_eq!((part.number, part.of), (number, of));
        let highest = encoded(&part.entries).iter().map(|(label, _)| *label).max();
        assert_eq!(Some(*label), highest);
        read.extend(part.entries);
    }
    assert_eq!(read, all);
    assert_eq!(cut(Vec::new()).len(), 1, "nothing is told too");
}

/// Goal: a part that is none of its transfer's, a history in a history, and another version are refused.
#[test]
fn what_is_refused() {
    let bytes = |number, of| encode_part([8; 16], number, of, &[]);
    assert!(HistoryPart::decode(&bytes(0, 1)).is_ok());
    for (number, of) in [(0, 0), (1, 1), (0, PARTS_MAX + 1)] {
        assert!(HistoryPart::decode(&bytes(number, of)).is_err());
    }
    let mut other = bytes(0, 1);
    other[0] = 2;
    assert!(HistoryPart::decode(&other).is_err());
    let mut nested = message("", 0, None);
    nested.content.part = Part::History(Vec::new());
    assert!(Entry::Message(Box::new(nested)).encode().is_err());
}

proptest::proptest! {
    /// Goal: entries come back as they were, and a changed bit is refused or gives something else.
    #[test]
    fn round_trip(
        text in ".{0,200}",
        label in 0_u8..,
        statement in proptest::collection::vec(0_u8.., 0..200),
        flip in 0_usize..5000,
    ) {
        let all = entries(&text, label, &statement);
        let (_, entries) = cut(encoded(&all)).remove(0);
        let bytes = encode_part([8; 16], 0, 1, &entries);
        let part = HistoryPart::decode(&bytes).unwrap();
        proptest::prop_assert_eq!(&part.entries, &all);
        let mut flipped = bytes.clone();
        let at = flip % flipped.len();
        flipped[at] ^= 1;
        proptest::prop_assert_ne!(HistoryPart::decode(&flipped).ok(), Some(part));
        proptest::prop_assert!(HistoryPart::decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    /// Goal: no bytes make the reader panic, and what is read has one encoding.
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(0_u8.., 0..600), kind in 1_u8..4) {
        read_any_part(&bytes);
        let headed = [&encode_part([0; 16], 0, 1, &[kind])[..], &bytes].concat();
        read_any_part(&headed);
    }
}
