//! Key packages that peers claim.

use homeserver_api::session::KeyMaterial;

use super::*;
use crate::delivery::limits::{PEER_KEY_PACKAGES_MAX, PEER_KEY_PACKAGES_MS};
use crate::identity::key_packages;

/// `who` at `from` asks `times` times for the keys of alice at `at`; what the answers hold.
async fn claimed(who: &mut Person, from: &Side, at: &Side, first: u8, times: u8) -> Vec<Bytes> {
    for n in first..first + times {
        let claim = SubmissionBody::ClaimKeys {
            request: RequestId::from_bytes([n; 16]),
            address: "alice@a.example".parse().unwrap(),
            known: Vec::new(),
        };
        let outcome = who.submit(from, claim).await;
        assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
    }
    drain(&mut worker(from, at)).await;
    drain(&mut worker(at, from)).await;
    let inbox = who.inbox(from).await;
    let answers = inbox.into_iter().filter_map(|body| match body {
        InboxBody::KeyMaterial { request, result } => (first..first + times)
            .contains(&request.as_bytes()[0])
            .then_some(result),
        _ => None,
    });
    answers
        .map(|result| {
            let claimed: KeyMaterial = result.unwrap();
            claimed.devices[0].key_package.clone()
        })
        .collect()
}

/// Goal: a peer that claims and claims gets its share of a device's single-use key packages and then the
/// last-resort one, which stays; another peer finds the rest, and a day later there is a new share. By
/// claims in one transaction and in several.
#[tokio::test]
async fn each_peer_has_its_share() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    peered(&a, &b).await;
    peered(&a, &c).await;
    let alice = person(&a, "alice").await;
    let (mut bob, mut carol) = (person(&b, "bob").await, person(&c, "carol").await);
    let single = (0..40_u8).map(|n| Bytes::from(vec![n; 3])).collect();
    let last = Bytes::from_static(b"last");
    key_packages::publish(&a.node, alice.of.device, single, Some(last.clone()))
        .await
        .unwrap();
    let share = u8::try_from(PEER_KEY_PACKAGES_MAX).unwrap();
    let first = claimed(&mut bob, &b, &a, 1, share - 1).await;
    let second = claimed(&mut bob, &b, &a, share, 6).await;
    let distinct: std::collections::HashSet<_> = first.iter().chain(&second).collect();
    assert_eq!(
        distinct.len(),
        usize::from(share) + 1,
        "its share and the last one"
    );
    assert_eq!(second.iter().filter(|package| **package == last).count(), 5);
    let other = claimed(&mut carol, &c, &a, 1, 1).await;
    assert!(other[0] != last && !distinct.contains(&other[0]));
    let page = crate::audit::page(&a.node.store, 0, 1000).await.unwrap();
    let limited = page
        .entries
        .iter()
        .filter(|entry| entry.action == "keys.limited");
    assert_eq!(limited.count(), 1);

    for side in [&a, &b] {
        side.clock.advance_ms(PEER_KEY_PACKAGES_MS);
    }
    assert_ne!(claimed(&mut bob, &b, &a, 100, 1).await[0], last);
}
