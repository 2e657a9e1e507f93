//! Two changes of roots: of both sides at once, and one after the other.

use federation_proto::fingerprint::Fingerprint;
use homeserver_api::keys::PartnerRootStanding;

use super::keys::{change, learn_issuing_ca};
use super::roots::{announce, consent, prepare, standing, switch, take_over};
use super::*;
use crate::federation::peers::{PeeringError, root};
use crate::organisation::{Asked, root_change};

const HOUR_MS: u64 = 60 * 60 * 1000;

async fn delivered(a: &Side, b: &Side) {
    drain(&mut worker(a, b)).await;
    drain(&mut worker(b, a)).await;
}

/// Goal: two sides that change their roots at the same time get through: they would wait for each other if both consented,
/// so the one whose name comes first does so first. Method: both announce, and consent while the network is away.
#[tokio::test]
async fn both_change_at_once() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    for side in [&a, &b] {
        side.clock.advance_ms(HOUR_MS);
    }
    let (new_a, new_b) = (prepare(&a), prepare(&b));
    learn_issuing_ca(&a, &b).await;
    learn_issuing_ca(&b, &a).await;
    announce(&a).await;
    announce(&b).await;
    delivered(&a, &b).await;
    for side in [&a, &b] {
        side.network.set_down(true);
    }
    match consent(&b, &a, &new_a).await {
        Err(PeeringError::State(said)) => assert!(said.contains("a.example has to"), "{said}"),
        other => panic!("{other:?}"),
    }
    consent(&a, &b, &new_b).await.unwrap();
    for side in [&a, &b] {
        side.network.set_down(false);
    }
    delivered(&a, &b).await;
    assert_eq!(standing(&b, &a), PartnerRootStanding::Consented);
    consent(&b, &a, &new_a).await.unwrap();
    delivered(&a, &b).await;
    assert_eq!(standing(&a, &b), PartnerRootStanding::Consented);
    take_over(&a, &switch(&new_a, &[])).await;
    take_over(&b, &switch(&new_b, &[])).await;
}

/// Goal: another change can be given up although a partner still goes by a root that is forgotten. Method: one change
/// without the partner, another one that is announced to it and withdrawn.
#[tokio::test]
async fn a_change_after_one_without_a_partner_is_given_up() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    a.clock.advance_ms(HOUR_MS);
    let (keys, random) = (&a.node.keys, a.node.random.as_ref());
    let first = root_change::prepare_in_memory(keys, &a.root_key, now(&a), random).unwrap();
    take_over(&a, &switch(&first.fingerprint, &[&b])).await;
    change(&a, Asked::ForgetRoot).await;
    a.clock.advance_ms(HOUR_MS);
    root_change::prepare_in_memory(keys, &first.root_key, now(&a), random).unwrap();
    announce(&a).await;
    assert_eq!(standing(&a, &b), PartnerRootStanding::Announced);
    root::withdraw(&a.node, &admin()).await.unwrap();
    change(&a, Asked::CancelRoot).await;
    assert_eq!(Fingerprint::of_root(&keys.root()), first.fingerprint);
    assert_eq!(
        standing(&a, &b),
        PartnerRootStanding::Announced,
        "the present one"
    );
}
