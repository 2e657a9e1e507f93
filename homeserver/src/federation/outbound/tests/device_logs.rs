//! Device logs between homeservers: heads are told, histories answered, forks noted with both heads.

use federation_proto::codec::Wire as _;
use federation_proto::device_log::{DeviceHistory, Growth, Head, SignedHead};
use federation_proto::hash::Digest;
use federation_proto::payload::{KeyResponse, LogHead, Payload};
use homeserver_api::session::KeyMaterial;

use super::bad_peers::envelope;
use super::*;
use crate::delivery::limits::{KEY_REQUEST_TTL_MS, LOG_HEAD_TTL_MS, LOG_HEADS_PAUSE_MS};
use crate::delivery::log_heads;
use crate::store::log_heads as stored;

/// What `at` knows of the log of `of`.
pub(super) async fn known(at: &Side, of: &Side) -> Option<Head> {
    let known = stored::known(&at.node.store, &of.node.server)
        .await
        .unwrap();
    known.map(|(known, _)| known.head.claims().clone())
}

/// Tells `to` how the log of `from` stands, and lets it arrive.
pub(super) async fn tell(from: &Side, to: &Side) {
    log_heads::tell(&from.node, &to.node.server).await.unwrap();
    drain(&mut worker(from, to)).await;
}

pub(super) async fn faults(at: &Side) -> Vec<String> {
    let page = crate::audit::page(&at.node.store, at.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    page.entries
        .into_iter()
        .filter(|entry| entry.action == "device-log.fault")
        .map(|entry| entry.detail)
        .collect()
}

/// A head of `of`'s organisation, whatever its log says.
fn head(of: &Side, size: u64, root: Digest) -> SignedHead {
    let node = &of.node;
    Head {
        server: node.server.clone(),
        size,
        root,
        at_ms: node.clock.now_ms(),
    }
    .sign(
        Bytes::copy_from_slice(&node.keys.issuing()),
        &node.keys.issuing_key(),
        node.random.as_ref(),
    )
    .unwrap()
}

/// Goal: a peer hears of each growth of our log once, not more often than once a minute, and keeps the newest head; by
/// people who get devices.
#[tokio::test]
async fn heads_are_told() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    person(&a, "alice").await;
    tell(&a, &b).await;
    assert_eq!(known(&b, &a).await.unwrap().size, 1);
    person(&a, "carol").await;
    tell(&a, &b).await;
    assert_eq!(known(&b, &a).await.unwrap().size, 1, "a minute has to pass");
    for side in [&a, &b] {
        side.clock.advance_ms(LOG_HEADS_PAUSE_MS);
    }
    tell(&a, &b).await;
    assert_eq!(known(&b, &a).await.unwrap().size, 2);
    for side in [&a, &b] {
        side.clock.advance_ms(LOG_HEADS_PAUSE_MS);
    }
    log_heads::tell(&a.node, &b.node.server).await.unwrap();
    assert_eq!(waiting(&a, &b).await, 0, "nothing has come since");
    assert!(faults(&b).await.is_empty());
}

/// Goal: a log that forks or goes back is noted with both signed heads, once an hour, and what was known stays; by
/// heads that a peer signs which are not its log's.
#[tokio::test]
async fn forks_are_noted() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    person(&a, "alice").await;
    tell(&a, &b).await;
    let before = known(&b, &a).await.unwrap();
    // The head that was told had the first place.
    let mut at = 1;
    for (size, root) in [(1, Digest::of(b"another")), (2, Digest::of(b"longer"))] {
        for side in [&a, &b] {
            side.clock.advance_ms(61 * 60 * 1000);
        }
        let forked = head(&a, size, root);
        let said = Payload::LogHead(LogHead {
            head: forked.clone(),
            growth: (size > 1).then(|| Growth {
                from: 1,
                path: vec![Digest::of(b"made up")],
            }),
        });
        let noted = faults(&b).await.len();
        for _ in 0..2 {
            at += 1;
            exchange(&a, &b, vec![envelope(&a, Lane::CONTROL, at, &said)]).await;
        }
        let faults = faults(&b).await;
        assert_eq!(faults.len(), noted + 2, "{faults:?}");
        let evidence = faults[noted + 1].rsplit(' ').next().unwrap();
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, evidence);
        assert_eq!(SignedHead::from_bytes(bytes.unwrap()).unwrap(), forked);
        assert_eq!(known(&b, &a).await.unwrap(), before);
    }
}

/// Goal: a head whose predecessor never arrived is no fork: it counts once an answer has shown that the log has grown from
/// what was known and to it; and is a fork when the answer has not. By a LogHead that expires on its way, and an answer of a
/// true log and of another one.
#[tokio::test]
async fn lost_heads_are_no_forks() {
    for forks in [false, true] {
        let [a, b] = sides(["a.example", "b.example"]);
        let (mut alice, bob) = acquainted(&a, &b).await;
        tell(&b, &a).await;
        assert_eq!(known(&a, &b).await.unwrap().size, 1);
        let later = async |name: &str| {
            person(&b, name).await;
            for side in [&a, &b] {
                side.clock.advance_ms(LOG_HEADS_PAUSE_MS);
            }
            log_heads::tell(&b.node, &a.node.server).await.unwrap();
        };
        later("dave").await;
        // It waits for a month, and is given up.
        for side in [&a, &b] {
            side.clock.advance_ms(LOG_HEAD_TTL_MS + 1);
        }
        later("eve").await;
        drain(&mut worker(&b, &a)).await;
        assert_eq!(known(&a, &b).await.unwrap().size, 1, "it is not shown yet");
        assert!(faults(&a).await.is_empty());
        if forks {
            let (stored, read) = stored::known(&a.node.store, &b.node.server)
                .await
                .unwrap()
                .unwrap();
            let mut part = crate::store::Part::default();
            let other = stored::Known {
                heard: Some(head(&b, 3, Digest::of(b"another"))),
                ..stored
            };
            stored::put_known(&mut part, &b.node.server, &other, Some(read)).unwrap();
            a.node.store.commit(part).await.unwrap();
        }
        let ask = SubmissionBody::AskDevices {
            request: RequestId::from_bytes([1; 16]),
            server: b.node.server.clone(),
            account: bob.of.account,
            known: Vec::new(),
        };
        alice.submit(&a, ask).await;
        drain(&mut worker(&a, &b)).await;
        drain(&mut worker(&b, &a)).await;
        let (expected, noted) = if forks { (1, 2) } else { (3, 0) };
        assert_eq!(known(&a, &b).await.unwrap().size, expected);
        assert_eq!(faults(&a).await.len(), noted);
    }
}

/// Goal: a device has the history of a partner's account by its opaque id, with the growth from what it and its homeserver
/// knew; one that nobody has gets a refusal, and the history of a device that has gone says so. By asking.
#[tokio::test]
async fn histories_are_answered() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    tell(&b, &a).await;
    person(&b, "dave").await;
    let ask = |n: u8, account, known: &[u64]| SubmissionBody::AskDevices {
        request: RequestId::from_bytes([n; 16]),
        server: b.node.server.clone(),
        account,
        known: known.to_vec(),
    };
    alice.submit(&a, ask(1, bob.of.account, &[])).await;
    let nobody = federation_proto::ids::AccountId::from_bytes([9; 16]);
    alice.submit(&a, ask(2, nobody, &[1])).await;
    let refused = alice.submit(&a, ask(3, bob.of.account, &[2, 1])).await;
    assert!(matches!(refused, Outcome::Refused(_)), "{refused:?}");
    drain(&mut worker(&a, &b)).await;
    drain(&mut worker(&b, &a)).await;
    let mut answers = alice
        .inbox(&a)
        .await
        .into_iter()
        .filter_map(|body| match body {
            InboxBody::KeyMaterial { result, .. } => Some(result),
            _ => None,
        });
    let KeyMaterial { devices, history } = answers.next().unwrap().unwrap();
    assert!(devices.is_empty());
    let history = DeviceHistory::from_bytes(history).unwrap();
    let root = Bytes::from(b.node.keys.root().to_vec());
    let now_ms = a.node.clock.now_ms();
    let (chain, head) = history
        .verify(&b.node.server, bob.of.account, &root, &[], now_ms)
        .unwrap();
    assert!(chain.device(bob.of.device).is_some());
    let told = known(&a, &b).await.unwrap();
    assert_eq!((told.size, head.size), (1, 2));
    head.follows(&told, history.growth_from(1)).unwrap();
    let refusal = answers.next().unwrap().unwrap_err();
    assert_eq!(refusal.code, RefusalCode::UnknownRecipient);
}

/// Goal: heads that were only heard of, and sizes that a question named, are held to as well, with the right two heads as
/// evidence. Method: a head beside one whose predecessor was lost, and an answer that leaves out the growth it was asked for.
#[tokio::test]
async fn nothing_is_passed_over() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    tell(&b, &a).await;
    let ask = SubmissionBody::AskDevices {
        request: RequestId::from_bytes([1; 16]),
        server: b.node.server.clone(),
        account: bob.of.account,
        known: Vec::new(),
    };
    alice.submit(&a, ask).await;
    person(&b, "dave").await;
    let reader = crate::identity::device_log::Reader::Peer(&a.node.server);
    let history = b
        .node
        .device_log
        .history(&b.node, reader, bob.of.account, &[])
        .await
        .unwrap()
        .unwrap();
    assert!(history.growth.is_empty());
    let answer = Payload::KeyResponse(KeyResponse {
        request: RequestId::from_bytes([1; 16]),
        device: alice.of.device,
        result: Ok(federation_proto::payload::KeyMaterial {
            keys: Vec::new(),
            history,
        }),
    });
    exchange(&b, &a, vec![envelope(&b, Lane::CONTROL, 2, &answer)]).await;
    assert_eq!(faults(&a).await.len(), 2);

    for side in [&a, &b] {
        side.clock.advance_ms(61 * 60 * 1000);
    }
    let told = |size, root: &[u8]| {
        let head = head(&b, size, Digest::of(root));
        let said = LogHead {
            head: head.clone(),
            growth: None,
        };
        (head, Payload::LogHead(said))
    };
    let (heard, first) = told(5, b"five");
    let (_, other) = told(5, b"another five");
    exchange(&b, &a, vec![envelope(&b, Lane::CONTROL, 3, &first)]).await;
    assert_eq!(faults(&a).await.len(), 2, "it may have grown");
    exchange(&b, &a, vec![envelope(&b, Lane::CONTROL, 4, &other)]).await;
    let faults = faults(&a).await;
    assert_eq!(faults.len(), 4);
    let before = faults[2].rsplit(' ').next().unwrap();
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, before);
    assert_eq!(SignedHead::from_bytes(bytes.unwrap()).unwrap(), heard);
}

/// Goal: a device hears that its question was not answered, instead of waiting for ever; by a peer that is away until the
/// answer's time is over.
#[tokio::test]
async fn unanswered_questions_are_told() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    let request = RequestId::from_bytes([1; 16]);
    let ask = SubmissionBody::AskDevices {
        request,
        server: b.node.server.clone(),
        account: bob.of.account,
        known: Vec::new(),
    };
    alice.submit(&a, ask).await;
    drain(&mut worker(&a, &b)).await;
    for (later_ms, told) in [(2 * KEY_REQUEST_TTL_MS - 1, 0), (1, 1)] {
        a.clock.advance_ms(later_ms);
        crate::delivery::expiry::sweep(&a.node).await.unwrap();
        let unanswered = |body: &InboxBody| {
            matches!(body, InboxBody::KeyMaterial { request: of, result: Err(refusal) }
                if *of == request && refusal.code == RefusalCode::Unavailable)
        };
        let inbox = alice.inbox(&a).await;
        assert_eq!(inbox.iter().filter(|body| unanswered(body)).count(), told);
    }
}
