//! Device logs as an organisation of good will, or of ill will, may show them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests fail by panicking"
)]

mod support;

use federation_proto::codec::Wire;
use federation_proto::device_log::{
    ChainError, DeviceChain, DeviceHistory, DeviceStatement, Growth, Head, HistoryError, How,
    LogError,
};
use federation_proto::hash::Digest;
use federation_proto::ids::AccountId;
use federation_proto::manifest::FormerRoot;
use federation_proto::merkle::Tree;
use support::golden::{approved, device, device_pair};
use support::{NOW_MS, Organisation, random, server};

const BOB: AccountId = AccountId::from_bytes([0xb0; 16]);

fn key(number: u8) -> [u8; 32] {
    use ring::signature::KeyPair as _;
    device_pair(number)
        .public_key()
        .as_ref()
        .try_into()
        .unwrap()
}

/// Device 1 first, 2 approved by 1, 1 removed, 3 approved by 2.
fn honest() -> DeviceChain {
    let mut chain = DeviceChain::new(BOB);
    chain
        .push(chain.next(device(1), key(1), How::First, NOW_MS))
        .unwrap();
    chain.push(approved(&chain, 2, 1)).unwrap();
    chain
        .push(chain.next(device(1), key(1), How::Removed, NOW_MS))
        .unwrap();
    chain.push(approved(&chain, 3, 2)).unwrap();
    chain
}

/// Goal: an account's devices are those that came and did not leave, each with the reset that it goes back to; by
/// a history with every kind of statement.
#[test]
fn devices_of_a_history() {
    let mut chain = honest();
    chain
        .push(chain.next(device(4), key(4), How::Reset, NOW_MS))
        .unwrap();
    chain.push(approved(&chain, 5, 4)).unwrap();
    chain.push(approved(&chain, 6, 3)).unwrap();
    let devices: Vec<_> = chain
        .devices()
        .iter()
        .map(|known| (known.device, known.reset))
        .collect();
    assert_eq!(
        devices,
        [
            (device(2), None),
            (device(3), None),
            (device(4), Some(5)),
            (device(5), Some(5)),
            (device(6), None)
        ]
    );
    assert!(chain.has_had(device(1)) && chain.device(device(1)).is_none());
    assert!(chain.agrees_with(&honest()) && honest().agrees_with(&chain));
}

/// Goal: statements that don't follow from each other are refused, each kind for its reason; by a table of what a
/// server could write down for a device of its own making.
#[test]
fn what_a_server_could_make_up() {
    let chain = honest();
    let ghost = |how| chain.next(device(9), key(9), how, NOW_MS);
    let by = |by: u8| How::Approved {
        by: device(by),
        signature: [7; 64],
    };
    let stolen = match approved(&chain, 8, 2).how {
        how @ How::Approved { .. } => how,
        _ => panic!("an approval"),
    };
    let by_the_removed = approved(&chain, 9, 1);
    let swapped = DeviceStatement {
        key: key(8),
        ..approved(&chain, 9, 2)
    };
    let late = DeviceStatement {
        previous: Digest::ZERO,
        ..ghost(How::Reset)
    };
    let other = DeviceStatement {
        account: AccountId::from_bytes([1; 16]),
        ..ghost(How::Reset)
    };
    let skipping = DeviceStatement {
        serial: 6,
        ..ghost(How::Reset)
    };
    let again = DeviceStatement {
        device: device(1),
        ..ghost(How::Reset)
    };
    let old_key = DeviceStatement {
        key: key(1),
        ..ghost(How::Reset)
    };
    let table = [
        (
            "a second first device",
            ghost(How::First),
            ChainError::OutOfPlace(5),
        ),
        (
            "an approval with no signature that holds",
            ghost(by(2)),
            ChainError::NotApproved(5),
        ),
        (
            "an approval by a device that is not there",
            ghost(by(9)),
            ChainError::NotApproved(5),
        ),
        (
            "an approval of another device",
            ghost(stolen),
            ChainError::NotApproved(5),
        ),
        (
            "an approval by a removed device",
            by_the_removed,
            ChainError::NotApproved(5),
        ),
        (
            "a key in place of the approved one",
            swapped,
            ChainError::NotApproved(5),
        ),
        ("a statement after another one", late, ChainError::Broken(5)),
        (
            "a statement of another account",
            other,
            ChainError::OtherAccount(5),
        ),
        (
            "a statement that leaves one out",
            skipping,
            ChainError::Broken(6),
        ),
        ("a device that was removed", again, ChainError::Again(5)),
        ("a key that was removed", old_key, ChainError::Again(5)),
        (
            "a removal of nothing",
            ghost(How::Removed),
            ChainError::NotThere(5),
        ),
    ];
    for (what, statement, expected) in table {
        let mut tried = chain.clone();
        assert_eq!(tried.push(statement), Err(expected), "{what}");
        assert_eq!(tried, chain, "{what}");
    }
    let reset = DeviceStatement {
        serial: 1,
        previous: Digest::ZERO,
        ..ghost(How::Reset)
    };
    assert_eq!(
        DeviceChain::judge(BOB, [reset]),
        Err(ChainError::OutOfPlace(1))
    );
    assert_eq!(DeviceChain::judge(BOB, []), Err(ChainError::Empty));
}

/// A log with Bob's statements among others.
struct Log {
    organisation: Organisation,
    leaves: Vec<Digest>,
}

impl Log {
    fn new() -> Self {
        Self {
            organisation: Organisation::new("b.example", 2),
            leaves: Vec::new(),
        }
    }

    fn head(&self) -> Head {
        let tree = Tree::new(self.leaves.clone());
        Head {
            server: server("b.example"),
            size: u64::try_from(tree.size()).unwrap(),
            root: tree.root(),
            at_ms: NOW_MS,
        }
    }

    fn history(&self, chain: &DeviceChain, known: &[usize]) -> DeviceHistory {
        let tree = Tree::new(self.leaves.clone());
        let index = self
            .leaves
            .iter()
            .position(|leaf| *leaf == chain.last_hash())
            .unwrap();
        let Organisation {
            issuing,
            issuing_key,
            ..
        } = &self.organisation;
        DeviceHistory {
            statements: chain.statements().to_vec(),
            index: u64::try_from(index).unwrap(),
            path: tree.path(index),
            head: self
                .head()
                .sign(issuing.clone(), issuing_key, &random())
                .unwrap(),
            growth: known
                .iter()
                .map(|from| Growth {
                    from: u64::try_from(*from).unwrap(),
                    path: tree.consistency(*from),
                })
                .collect(),
        }
    }
}

/// Goal: a true history is believed, and none in which the newest statement is not where the signed head has it,
/// or whose head another organisation, nobody, or nobody yet has signed; by a table of changes to a true one.
#[test]
fn what_a_head_vouches_for() {
    let mut log = Log::new();
    let chain = honest();
    log.leaves.push(Digest::of(b"somebody else's"));
    for statement in chain.statements() {
        log.leaves.push(statement.hash().unwrap());
        log.leaves.push(Digest::of(b"somebody else's, too"));
    }
    let b = &log.organisation;
    let verify = |history: &DeviceHistory, now_ms| {
        history
            .verify(&server("b.example"), BOB, &b.root, &[], now_ms)
            .map(|(chain, head)| (chain, head.clone()))
    };
    let history = log.history(&chain, &[3]);
    assert_eq!(
        history.verify(&b.name, BOB, &b.root, &[], NOW_MS).unwrap(),
        (chain.clone(), &log.head())
    );
    let read = DeviceHistory::from_bytes(history.to_bytes().unwrap()).unwrap();
    assert_eq!(read, history);

    let mut elsewhere = history.clone();
    elsewhere.index -= 1;
    assert_eq!(verify(&elsewhere, NOW_MS), Err(HistoryError::NotInLog));
    let mut other_leaf = history.clone();
    other_leaf.path = Tree::new(log.leaves.clone()).path(2);
    assert_eq!(verify(&other_leaf, NOW_MS), Err(HistoryError::NotInLog));
    let mut ghost = chain.clone();
    ghost
        .push(ghost.next(device(9), key(9), How::Reset, NOW_MS))
        .unwrap();
    let mut unlogged = history.clone();
    unlogged.statements = ghost.statements().to_vec();
    assert_eq!(verify(&unlogged, NOW_MS), Err(HistoryError::NotInLog));
    let stranger = Organisation::new("b.example", 3);
    let mut forged = history.clone();
    forged.head = log
        .head()
        .sign(stranger.issuing.clone(), &stranger.issuing_key, &random())
        .unwrap();
    assert!(matches!(
        verify(&forged, NOW_MS),
        Err(HistoryError::Log(LogError::Certificate(_)))
    ));
    forged.head = log
        .head()
        .sign(b.issuing.clone(), &stranger.issuing_key, &random())
        .unwrap();
    assert_eq!(
        verify(&forged, NOW_MS),
        Err(HistoryError::Log(LogError::BadSignature))
    );
    assert_eq!(
        verify(&history, NOW_MS - 10 * 60 * 1000),
        Err(HistoryError::Log(LogError::FromTheFuture))
    );
    // The organisation has another root since: the one before vouches for what was signed until its end.
    let until = |until_ms| FormerRoot {
        root: b.root.clone(),
        until_ms,
    };
    let signed_ms = log.head().at_ms;
    for (until_ms, holds) in [(signed_ms, true), (signed_ms - 1, false)] {
        let former = [until(until_ms)];
        let verified = history.verify(&b.name, BOB, &stranger.root, &former, NOW_MS);
        assert_eq!(verified.is_ok(), holds, "{verified:?}");
    }
    let other = history.verify(&server("c.example"), BOB, &b.root, &[], NOW_MS);
    assert!(matches!(
        other,
        Err(HistoryError::Log(LogError::WrongServer { .. }))
    ));
}

/// Goal: a head follows another one only when its log has grown from it: a shorter log, another one of the same
/// size, and one that grew from something else are told apart; by four logs.
#[test]
fn which_head_follows() {
    let mut log = Log::new();
    log.leaves = (0..7_u8).map(|n| Digest::of(&[n])).collect();
    let seven = log.head();
    log.leaves.truncate(5);
    let five = log.head();
    log.leaves.extend([Digest::of(&[5]), Digest::of(&[6])]);
    assert_eq!(log.head(), seven);
    let path = Tree::new(log.leaves.clone()).consistency(5);
    let growth = Growth { from: 5, path };
    assert_eq!(seven.follows(&five, Some(&growth)), Ok(()));
    assert_eq!(seven.follows(&seven, None), Ok(()));
    let nothing = Head {
        size: 0,
        root: Digest::ZERO,
        ..five.clone()
    };
    assert_eq!(seven.follows(&nothing, None), Ok(()));
    let gone_back = LogError::GoneBack {
        server: server("b.example"),
        known: 7,
        found: 5,
    };
    assert_eq!(five.follows(&seven, None), Err(gone_back));
    let forked = |known| {
        Err(LogError::Forked {
            server: server("b.example"),
            known,
        })
    };
    assert_eq!(seven.follows(&five, None), forked(5));
    let elsewhere = Growth {
        from: 4,
        ..growth.clone()
    };
    assert_eq!(seven.follows(&five, Some(&elsewhere)), forked(5));
    log.leaves[4] = Digest::of(b"another history");
    let other_seven = log.head();
    assert_eq!(other_seven.follows(&seven, None), forked(7));
    let path = Tree::new(log.leaves.clone()).consistency(5);
    let own = Growth { from: 5, path };
    assert_eq!(other_seven.follows(&five, Some(&own)), forked(5));
    assert_eq!(other_seven.follows(&five, Some(&growth)), forked(5));
}
