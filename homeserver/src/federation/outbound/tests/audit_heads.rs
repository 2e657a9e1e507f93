//! Audit logs between homeservers: heads are told and signed as seen, a rewrite is noted with both heads.

use federation_proto::audit_log::{Sighting, SignedAuditHead};
use federation_proto::codec::Wire as _;
use federation_proto::device_log::{Growth, Head};
use federation_proto::hash::Digest;
use federation_proto::payload::{AuditHead, Payload};

use super::bad_peers::envelope;
use super::*;
use crate::audit;
use crate::delivery::audit_heads::{self, Settled};
use crate::delivery::limits::{AUDIT_FAULT_NOTED_MS, AUDIT_HEADS_PAUSE_MS};
use crate::identity::device_log::Reader;
use crate::store::audit_heads as stored;

/// Tells `to` how the log of `from` stands, lets it arrive, and what was seen come back.
async fn tell(from: &Side, to: &Side) {
    audit_heads::tell(&from.node, &to.node.server)
        .await
        .unwrap();
    drain(&mut worker(from, to)).await;
    drain(&mut worker(to, from)).await;
}

async fn known(at: &Side, of: &Side) -> Option<Head> {
    let (_, known) = audit_heads::between(&at.node, &of.node.server)
        .await
        .unwrap();
    known.map(|known| known.head.claims().clone())
}

/// How long the log of `of` was when `by` has seen it last, as `of` knows.
async fn seen(of: &Side, by: &Side) -> Option<u64> {
    let (told, _) = audit_heads::between(&of.node, &by.node.server)
        .await
        .unwrap();
    told.sighting.map(|sighting| sighting.claims().size)
}

async fn noted(at: &Side, action: &str) -> Vec<String> {
    let page = audit::page(&at.node.store, at.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    page.entries
        .into_iter()
        .filter(|entry| entry.action == action)
        .map(|entry| entry.detail)
        .collect()
}

fn pass(sides: [&Side; 2], by_ms: u64) {
    for side in sides {
        side.clock.advance_ms(by_ms);
    }
}

/// A head of `of`'s organisation, whatever its log says.
fn signed(of: &Side, size: u64, root: Digest) -> SignedAuditHead {
    let node = &of.node;
    let head = Head {
        server: node.server.clone(),
        size,
        root,
        at_ms: node.clock.now_ms(),
    };
    SignedAuditHead::sign(
        head,
        Bytes::copy_from_slice(&node.keys.issuing()),
        &node.keys.issuing_key(),
        node.random.as_ref(),
    )
    .unwrap()
}

/// Goal: a peer hears how our log has grown, not more often than once an hour, holds it to what it saw before and signs that,
/// and we know what it has seen. Method: a log that grows by people.
#[tokio::test]
async fn heads_are_witnessed() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    tell(&a, &b).await;
    let first = known(&b, &a).await.unwrap();
    assert_eq!(seen(&a, &b).await, Some(first.size));
    person(&a, "alice").await;
    tell(&a, &b).await;
    assert_eq!(known(&b, &a).await.unwrap(), first, "an hour has to pass");
    for name in ["carol", "dave"] {
        pass([&a, &b], AUDIT_HEADS_PAUSE_MS);
        person(&a, name).await;
        tell(&a, &b).await;
        let now = known(&b, &a).await.unwrap();
        let head = audit_heads::head(&a.node, Reader::Own).await.unwrap();
        assert_eq!((now.size, now.root), {
            let head = head.claims();
            (head.size, head.root)
        });
        assert_eq!(seen(&a, &b).await, Some(now.size));
    }
    pass([&a, &b], AUDIT_HEADS_PAUSE_MS);
    audit_heads::tell(&a.node, &b.node.server).await.unwrap();
    assert_eq!(waiting(&a, &b).await, 0, "nothing has come since");
    for side in [&a, &b] {
        let warned = audit_heads::warnings(&side.node).await.unwrap();
        assert_eq!(warned, Vec::<String>::new());
    }
}

/// Goal: a log that forks or goes back is noted at the partner with both signed heads, once a day, and warned of until an
/// administrator settles it; what was known stays until then, and nothing of the fork is signed as seen. Method: heads that
/// an organisation signs which are not its log's.
#[tokio::test]
async fn a_rewrite_is_seen_outside() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    tell(&a, &b).await;
    let before = known(&b, &a).await.unwrap();
    // The head that was told had the first place.
    let mut at = 1;
    let growth = Growth {
        from: before.size,
        path: vec![Digest::of(b"made up")],
    };
    for (size, growth) in [
        (before.size, None),
        (before.size + 1, Some(growth)),
        (before.size - 1, None),
    ] {
        pass([&a, &b], AUDIT_FAULT_NOTED_MS + 1);
        let forked = signed(&a, size, Digest::of(b"another"));
        let said = Payload::AuditHead(AuditHead {
            head: forked.clone(),
            growth,
        });
        let already = noted(&b, "audit-log.fault").await.len();
        for _ in 0..2 {
            at += 1;
            let results = exchange(&a, &b, vec![envelope(&a, Lane::CONTROL, at, &said)]).await;
            assert_eq!(results, [ItemResult::Accepted]);
        }
        let faults = noted(&b, "audit-log.fault").await;
        assert_eq!(faults.len(), already + 2, "{faults:?}");
        let evidence = faults[already + 1].rsplit(' ').next().unwrap();
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, evidence);
        assert_eq!(SignedAuditHead::from_bytes(bytes.unwrap()).unwrap(), forked);
        assert_eq!(known(&b, &a).await.unwrap(), before);
        assert_eq!(waiting(&b, &a).await, 0, "nothing is signed as seen");
    }
    let warned = audit_heads::warnings(&b.node).await.unwrap();
    assert!(
        matches!(&warned[..], [warning] if warning.contains("a.example is not what it was")),
        "{warned:?}"
    );
    for settled in [Settled::Done, Settled::Nothing] {
        let done = audit_heads::settle(&b.node, &admin(), &a.node.server).await;
        assert_eq!(done.unwrap(), settled);
        assert!(audit_heads::warnings(&b.node).await.unwrap().is_empty());
    }
    assert_eq!(known(&b, &a).await.unwrap().size, before.size - 1);
}

/// Goal: a head whose predecessor never arrived is no fork: the sender hears what was seen, and its next head grows from that.
/// Method: a head that grows from one which the partner does not know.
#[tokio::test]
async fn lost_heads_are_no_forks() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    tell(&a, &b).await;
    let before = known(&b, &a).await.unwrap();
    pass([&a, &b], AUDIT_HEADS_PAUSE_MS);
    let said = Payload::AuditHead(AuditHead {
        head: signed(&a, before.size + 9, Digest::of(b"not shown to have grown")),
        growth: Some(Growth {
            from: before.size + 4,
            path: vec![Digest::ZERO],
        }),
    });
    let results = exchange(&a, &b, vec![envelope(&a, Lane::CONTROL, 2, &said)]).await;
    assert_eq!(results, [ItemResult::Accepted]);
    assert_eq!(known(&b, &a).await.unwrap(), before);
    assert!(noted(&b, "audit-log.fault").await.is_empty());
    assert_eq!(waiting(&b, &a).await, 1, "what is known is told");
}

/// Goal: a partner that was restored, and knows less of our log than it did, witnesses it again from what it knows. Method: what
/// it knows is put back.
#[tokio::test]
async fn a_restored_witness_goes_on() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    tell(&a, &b).await;
    let (_, before) = audit_heads::between(&b.node, &a.node.server).await.unwrap();
    let before = before.unwrap();
    let grow = async |name: &str| {
        pass([&a, &b], AUDIT_HEADS_PAUSE_MS);
        person(&a, name).await;
        tell(&a, &b).await;
    };
    grow("alice").await;
    let (_, read) = stored::witnessed(&b.node.store, &a.node.server)
        .await
        .unwrap()
        .unwrap();
    let mut part = Part::default();
    stored::put_witnessed(&mut part, &a.node.server, &before, Some(read)).unwrap();
    b.node.store.commit(part).await.unwrap();
    grow("carol").await;
    let size = before.head.claims().size;
    assert_eq!(known(&b, &a).await.unwrap().size, size);
    assert_eq!(seen(&a, &b).await, Some(size), "what it knows now");
    grow("dave").await;
    let now = known(&b, &a).await.unwrap().size;
    assert!(now > size);
    assert_eq!(seen(&a, &b).await, Some(now));
    assert!(noted(&b, "audit-log.fault").await.is_empty());
}

/// Goal: a partner that has seen what our log never was is noted and warned of; sightings of others' logs, and by others, are
/// refused. Method: sightings that the partner signs.
#[tokio::test]
async fn a_log_that_was_put_back_is_noticed() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let sighting = |witness: &Side, server: &Side, size| {
        let node = &b.node;
        let sighting = Sighting {
            witness: witness.node.server.clone(),
            server: server.node.server.clone(),
            size,
            root: Digest::of(b"what is gone"),
            seen_ms: node.clock.now_ms(),
        };
        let issuing = Bytes::copy_from_slice(&node.keys.issuing());
        let key = node.keys.issuing_key();
        let signed = sighting.sign(issuing, &key, node.random.as_ref());
        Payload::AuditSighting(signed.unwrap())
    };
    let mut at = 0;
    let mut say = async |payload: Payload| {
        at += 1;
        let said = exchange(&b, &a, vec![envelope(&b, Lane::CONTROL, at, &payload)]).await;
        matches!(said[..], [ItemResult::Accepted])
    };
    assert!(!say(sighting(&a, &a, 2)).await, "by another");
    assert!(!say(sighting(&b, &b, 2)).await, "of another's");
    for _ in 0..2 {
        assert!(say(sighting(&b, &a, 2)).await);
    }
    assert!(say(sighting(&b, &a, 2000)).await);
    assert_eq!(noted(&a, "audit-log.contradicted").await.len(), 1);
    let warned = audit_heads::warnings(&a.node).await.unwrap();
    assert!(warned[0].contains("rewritten or restored"), "{warned:?}");
    let done = audit_heads::settle(&a.node, &admin(), &b.node.server).await;
    assert_eq!(done.unwrap(), Settled::Done);
    assert!(audit_heads::warnings(&a.node).await.unwrap().is_empty());
}
