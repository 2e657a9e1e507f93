//! Key packages that peers claim.

use homeserver_api::session::KeyMaterial;

use super::*;
use crate::delivery::limits::{KEY_PACKAGES_SHARE_MAX, KEY_PACKAGES_SHARE_MS};
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
    let share = u8::try_from(KEY_PACKAGES_SHARE_MAX).unwrap();
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
    let page = crate::audit::page(&a.node.store, a.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    let limited = page
        .entries
        .iter()
        .filter(|entry| entry.action == "keys.limited");
    assert_eq!(limited.count(), 1);

    for side in [&a, &b] {
        side.clock.advance_ms(KEY_PACKAGES_SHARE_MS);
    }
    assert_ne!(claimed(&mut bob, &b, &a, 100, 1).await[0], last);
}

/// The key packages of alice that answers `first` to the last hold, which an own person asked for.
async fn claimed_at_home(who: &mut Person, at: &Side, first: u8, times: u8) -> Vec<Bytes> {
    for n in first..first + times {
        let claim = SubmissionBody::ClaimKeys {
            request: RequestId::from_bytes([n; 16]),
            address: "alice@a.example".parse().unwrap(),
            known: Vec::new(),
        };
        let outcome = who.submit(at, claim).await;
        assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
    }
    let inbox = who.inbox(at).await;
    let answers = inbox.into_iter().filter_map(|body| match body {
        InboxBody::KeyMaterial { request, result } => (first..first + times)
            .contains(&request.as_bytes()[0])
            .then_some(result),
        _ => None,
    });
    let answers = answers.map(|result| result.unwrap().devices[0].key_package.clone());
    answers.collect()
}

/// Goal: an own user who claims and claims uses up his share of a colleague's key packages and gets the last-resort one then, which
/// stays; colleagues and partners find theirs; the audit log names him. Method: claims at home, then by another user and by a
/// partner; the next day.
#[tokio::test]
async fn own_users_have_their_share() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let alice = person(&a, "alice").await;
    let (mut mallory, mut dave) = (person(&a, "mallory").await, person(&a, "dave").await);
    let mut bob = person(&b, "bob").await;
    let single = (0..40_u8).map(|n| Bytes::from(vec![n; 3])).collect();
    let last = Bytes::from_static(b"last");
    key_packages::publish(&a.node, alice.of.device, single, Some(last.clone()))
        .await
        .unwrap();
    let share = u8::try_from(KEY_PACKAGES_SHARE_MAX).unwrap();
    let taken = claimed_at_home(&mut mallory, &a, 1, share + 5).await;
    let distinct: std::collections::HashSet<_> = taken.iter().collect();
    assert_eq!(distinct.len(), usize::from(share) + 1);
    assert_eq!(taken.iter().filter(|package| **package == last).count(), 5);
    for other in [
        claimed_at_home(&mut dave, &a, 1, 1).await,
        claimed(&mut bob, &b, &a, 1, 1).await,
    ] {
        assert!(other[0] != last && !distinct.contains(&other[0]));
    }
    let page = crate::audit::page(&a.node.store, a.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    let limited = page.entries.iter().filter(|e| e.action == "keys.limited");
    let details: Vec<String> = limited.map(|entry| format!("{entry:?}")).collect();
    assert_eq!(details.len(), 1);
    assert!(
        details[0].contains(&mallory.of.account.to_string()),
        "{details:?}"
    );
    a.clock.advance_ms(KEY_PACKAGES_SHARE_MS);
    assert_ne!(claimed_at_home(&mut mallory, &a, 100, 1).await[0], last);
}
